"""The autoencoder: between images and the small latent images in which the diffusion works."""

from collections.abc import Sequence
from typing import Any

import keras

from medkeras.super_resolution.autoencoder.codebook import Codebook
from medkeras.super_resolution.blocks import GroupNorm, SpatialAttention, conv3, double, halve, residual
from medkeras.super_resolution.network import Network, check_widths

EPSILON = 1e-6
QUERIES = 1024  # attention's, at a time


@keras.saving.register_keras_serializable("medkeras")
class VQVAE(Network):
    """Encodes an image into a smaller latent image, takes the nearest vectors of a codebook, and decodes them.

    The defaults are the autoencoder of CompVis/ldm-super-resolution-4x-openimages. Super resolution needs the decoder
    alone; the encoder is for training.

    Args:
        channels: Channels of the image.
        latent_channels: Channels of the latent and of the codebook's vectors.
        widths: Channels of each level, multiples of `groups`; each level has half the edge of the one before.
        depth: Residual blocks of each level of the encoder; the decoder has one more.
        codebook_size: Vectors of the codebook.
        groups: Groups of the norms.
        name: Name of the model.

    Attributes:
        encoder: Model from images to latents, not quantised.
        decoder: Model from latents, which it quantises first, to images.
        factor: By how much a latent is smaller than its image.

    Input shape:
        `(batch, height, width, channels)`, in [-1, 1]; edges multiples of `factor`.

    Output shape:
        Same as the input; about [-1, 1], not clipped.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022.

    Example:
        >>> autoencoder = VQVAE(widths=(8, 16), depth=1, codebook_size=10, groups=4)
        >>> autoencoder.encoder.compute_output_shape((1, 16, 24, 3))
        (1, 8, 12, 3)
        >>> tuple(autoencoder.decoder(keras.ops.ones((1, 8, 12, 3))).shape)
        (1, 16, 24, 3)
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        latent_channels: int = 3,
        widths: Sequence[int] = (128, 256, 512),
        depth: int = 2,
        codebook_size: int = 8192,
        groups: int = 32,
        name: str = "vqvae",
    ) -> None:
        check_widths(widths, depth, groups)
        widths = tuple(widths)
        image = keras.Input((None, None, channels), name="image")
        latent = keras.Input((None, None, latent_channels), name="latent")
        encoded = _encode(image, latent_channels, widths=widths, depth=depth, groups=groups)
        quantized = Codebook(codebook_size, name="quantize")(latent)
        decoded = _decode(quantized, channels, widths=widths, depth=depth, groups=groups)
        encoder = keras.Model(image, encoded, name="encoder")
        decoder = keras.Model(latent, decoded, name="decoder")
        super().__init__(image, decoder(encoder(image)), name=name)
        self.channels, self.latent_channels, self.widths = channels, latent_channels, widths
        self.depth, self.codebook_size, self.groups = depth, codebook_size, groups

    @property
    def encoder(self) -> keras.Model:
        """Model from images to latents, not quantised."""
        return self.get_layer("encoder")

    @property
    def decoder(self) -> keras.Model:
        """Model from latents, which it quantises first, to images."""
        return self.get_layer("decoder")

    @property
    def codebook(self) -> Codebook:
        """The layer that quantises."""
        return self.decoder.get_layer("quantize")


def _encode(x: Any, latent_channels: int, *, widths: tuple[int, ...], depth: int, groups: int) -> Any:
    x = conv3(x, widths[0], name="encoder.conv_in")
    for level, width in enumerate(widths):
        name = f"encoder.down_blocks.{level}"
        for i in range(depth):
            x = residual(x, width, groups=groups, epsilon=EPSILON, name=f"{name}.resnets.{i}")
        if level < len(widths) - 1:
            x = halve(x, name=f"{name}.downsamplers.0", symmetric=False)
    x = _middle(x, groups, name="encoder")
    x = _out(x, latent_channels, groups, name="encoder")
    return keras.layers.Conv2D(latent_channels, 1, name="quant_conv")(x)


def _decode(x: Any, channels: int, *, widths: tuple[int, ...], depth: int, groups: int) -> Any:
    x = keras.layers.Conv2D(x.shape[-1], 1, name="post_quant_conv")(x)
    x = conv3(x, widths[-1], name="decoder.conv_in")
    x = _middle(x, groups, name="decoder")
    for level, width in enumerate(reversed(widths)):
        name = f"decoder.up_blocks.{level}"
        for i in range(depth + 1):
            x = residual(x, width, groups=groups, epsilon=EPSILON, name=f"{name}.resnets.{i}")
        if level < len(widths) - 1:
            x = double(x, name=f"{name}.upsamplers.0")
    return _out(x, channels, groups, name="decoder")


def _middle(x: Any, groups: int, *, name: str) -> Any:
    """Returns the map after residual block, attention, residual block."""
    name, settings = f"{name}.mid_block", {"groups": groups, "epsilon": EPSILON}
    x = residual(x, x.shape[-1], **settings, name=f"{name}.resnets.0")
    x = SpatialAttention(1, **settings, block=QUERIES, name=f"{name}.attentions.0")(x)
    return residual(x, x.shape[-1], **settings, name=f"{name}.resnets.1")


def _out(x: Any, channels: int, groups: int, *, name: str) -> Any:
    x = GroupNorm(groups, epsilon=EPSILON, activation="silu", name=f"{name}.conv_norm_out")(x)
    return conv3(x, channels, name=f"{name}.conv_out")
