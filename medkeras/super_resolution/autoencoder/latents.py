"""Latent images of an autoencoder: how images are shown to it, and in which units its latents come."""

from typing import Any

import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.super_resolution.autoencoder.vqvae import VQVAE


def show(images: Any, channels: int) -> Any:
    """Returns images in [0, 1] as an autoencoder sees them: in [-1, 1], grey ones as equal channels.

    Args:
        images: `(batch, height, width, channels)`, or with one channel.
        channels: Channels of the autoencoder's images.

    Raises:
        ValueError: If the images have other channels.

    Example:
        >>> np.asarray(show(np.full((1, 1, 1, 1), 0.75), 3)).tolist()
        [[[[0.5, 0.5, 0.5]]]]
    """
    if images.shape[-1] not in (1, channels):
        raise InputError(f"`images` must have 1 or {channels} channels. Received: shape={tuple(images.shape)}")
    shown = 2.0 * ops.cast(images, "float32") - 1.0
    return ops.repeat(shown, channels, axis=-1) if images.shape[-1] != channels else shown


def encode(vqvae: VQVAE, images: Any, *, batch_size: int = 16) -> np.ndarray:
    """Returns the latents of images before they are quantised, float32.

    Args:
        vqvae: The autoencoder.
        images: `(n, height, width, channels)`, float in [0, 1]; edges multiples of `vqvae.factor`.
        batch_size: Images at a time.

    Raises:
        ValueError: If the images break these rules.

    Example:
        >>> encode(VQVAE(widths=(8, 16), depth=1, codebook_size=10, groups=4), np.zeros((3, 4, 8, 1))).shape
        (3, 2, 4, 3)
    """
    images = check_images(images, vqvae.factor)
    parts = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    # Called as it is: a program for these shapes would take longer to make than it saves.
    latents = [vqvae.encoder(show(part, vqvae.channels), training=False) for part in parts]
    return np.concatenate([ops.convert_to_numpy(ops.cast(latent, "float32")) for latent in latents])


def standardize(vqvae: VQVAE, images: Any) -> tuple[np.ndarray, float]:
    """Gives the latents of images mean 0 in each channel and variance 1 in all, and changes nothing else.

    A diffusion adds noise of variance 1, so latents of another size see its times in another light. Offset and scale
    go into the last layer of the encoder, the codebook and the first layer of the decoder: images are encoded to
    the same vectors of the codebook and decoded as before.

    Args:
        vqvae: The autoencoder, changed in place.
        images: As for `encode`.

    Returns:
        The offset of each channel `(latent_channels,)` and the scale that were taken out.

    Raises:
        ValueError: If the images break the rules of `encode`, or their latents are all equal.

    Example:
        >>> vqvae = VQVAE(widths=(8, 16), depth=1, codebook_size=10, groups=4)
        >>> images = np.random.default_rng(0).random((2, 8, 8, 1))
        >>> offset, scale = standardize(vqvae, images)
        >>> round(float(encode(vqvae, images).std()), 3)
        1.0
    """
    latents = encode(vqvae, images)
    offset = latents.mean(axis=(0, 1, 2))
    scale = float((latents - offset).std())
    if not scale > 0:
        raise InputError(f"Latents must differ between places. Received: images whose latents deviate by {scale}")
    last, first = vqvae.encoder.get_layer("quant_conv"), vqvae.decoder.get_layer("post_quant_conv")
    kernel, bias = (np.asarray(w) for w in first.get_weights())
    first.set_weights([kernel * scale, bias + offset @ kernel[0, 0]])
    kernel, bias = (np.asarray(w) for w in last.get_weights())
    last.set_weights([kernel / scale, (bias - offset) / scale])
    vqvae.codebook.set_weights([(w - offset) / scale for w in vqvae.codebook.get_weights()])
    return offset, scale


def check_images(images: Any, multiple: int) -> np.ndarray:
    """Returns images as float32.

    Args:
        images: `(n, height, width, channels)`, float in [0, 1].
        multiple: What divides their edges.

    Raises:
        ValueError: If the images break these rules.

    Example:
        >>> check_images(np.zeros((2, 8, 6, 1)), 4)
        Traceback (most recent call last):
        ...
        medkeras.InputError: `images` must be (n, height, width, channels), ... of 4. Received: shape=(2, 8, 6, 1)
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.size or any(n % multiple for n in images.shape[1:3]):
        raise InputError(
            f"`images` must be (n, height, width, channels), with edges that are multiples of {multiple}. "
            f"Received: shape={images.shape}"
        )
    if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
        raise InputError(
            f"`images` must be float in [0, 1]. Received: {images.dtype} from {images.min()} to {images.max()}"
        )
    return images.astype("float32")
