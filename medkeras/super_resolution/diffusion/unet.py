"""The denoiser: a U-Net that knows at which time of the diffusion it is."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.super_resolution.blocks import GroupNorm, SpatialAttention, conv3, double, halve, residual
from medkeras.super_resolution.network import Network, check_widths

EPSILON = 1e-5
PERIOD = 10_000.0


@keras.saving.register_keras_serializable("medkeras")
class UNet(Network):
    """Predicts the noise in a latent image from the latent, an image that guides it, and the time.

    The defaults are the denoiser of CompVis/ldm-super-resolution-4x-openimages.

    Args:
        in_channels: Channels of the input: those of the latent and those of the guiding image.
        out_channels: Channels of the predicted noise.
        widths: Channels of each level, multiples of `groups`; each level has half the edge of the one before.
        depth: Residual blocks of each level on the way down; one more on the way up.
        attention_levels: Levels, from 0, whose blocks are followed by attention. The middle always has it.
        head_channels: Channels of an attention head; divides the widths where there is attention.
        groups: Groups of the norms.
        name: Name of the model.

    Attributes:
        factor: By how much the innermost level is smaller; edges of the input are multiples of it.

    Input shape:
        A list of `(batch, height, width, in_channels)` and the times `(batch,)`, of any number type.

    Output shape:
        `(batch, height, width, out_channels)`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022.

    Example:
        >>> unet = UNet(widths=(8, 16), depth=1, attention_levels=(1,), head_channels=8, groups=4)
        >>> tuple(unet([ops.ones((2, 8, 12, 6)), ops.ones((2,))]).shape)
        (2, 8, 12, 3)
    """

    def __init__(
        self,
        *,
        in_channels: int = 6,
        out_channels: int = 3,
        widths: Sequence[int] = (160, 320, 320, 640),
        depth: int = 2,
        attention_levels: Sequence[int] = (3,),
        head_channels: int = 32,
        groups: int = 32,
        name: str = "unet",
    ) -> None:
        check_widths(widths, depth, groups)
        check_attention(widths, attention_levels, head_channels)
        image = keras.Input((None, None, in_channels), name="image")
        times = keras.Input((), name="times")
        build = _Builder(tuple(widths), depth, tuple(attention_levels), head_channels, groups)
        super().__init__([image, times], build(image, times, out_channels), name=name)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.widths, self.depth, self.groups = tuple(widths), depth, groups
        self.attention_levels, self.head_channels = tuple(attention_levels), head_channels


@keras.saving.register_keras_serializable("medkeras")
class TimeEmbedding(keras.layers.Layer):
    """Turns a time into cosines and sines of falling frequency.

    Args:
        channels: Numbers per time, even: first the cosines, then the sines.

    Input shape:
        `(batch,)`.

    Output shape:
        `(batch, channels)`.

    Raises:
        ValueError: If `channels` is odd or not positive.

    Example:
        >>> np.asarray(TimeEmbedding(4)(np.zeros(1, "float32"))).tolist()
        [[1.0, 1.0, 0.0, 0.0]]
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if channels < 2 or channels % 2:
            raise InputError(f"`channels` must be even and positive. Received: channels={channels}")
        self.channels = channels

    def call(self, inputs: Any) -> Any:
        """Returns the cosines and sines, taken in float32."""
        half = self.channels // 2
        frequencies = np.exp(-np.log(PERIOD) * np.arange(half) / half).astype(np.float32)
        phase = ops.cast(inputs, "float32")[:, None] * frequencies
        return ops.cast(ops.concatenate([ops.cos(phase), ops.sin(phase)], axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns `(batch, channels)`."""
        return (*input_shape, self.channels)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"channels": self.channels}


class _Builder:
    """Lays out the graph of a UNet."""

    def __init__(
        self, widths: tuple[int, ...], depth: int, attention_levels: tuple[int, ...], head_channels: int, groups: int
    ) -> None:
        self.widths, self.depth, self.groups = widths, depth, groups
        self.attention_levels, self.head_channels = attention_levels, head_channels

    def __call__(self, image: Any, times: Any, out_channels: int) -> Any:
        self.time = self._embed(times)
        x = conv3(image, self.widths[0], name="conv_in")
        x, skips = self._down(x)
        x = self._residual(x, self.widths[-1], name="mid_block.resnets.0")
        x = self._attention(x, name="mid_block.attentions.0")
        x = self._residual(x, self.widths[-1], name="mid_block.resnets.1")
        x = self._up(x, skips)
        x = GroupNorm(self.groups, epsilon=EPSILON, activation="silu", name="conv_norm_out")(x)
        return conv3(x, out_channels, name="conv_out")

    def _embed(self, times: Any) -> Any:
        """Returns the activated embedding that all residual blocks take."""
        units = 4 * self.widths[0]
        x = TimeEmbedding(self.widths[0], name="time")(times)
        for i in (1, 2):
            x = keras.layers.Dense(units, activation="silu", name=f"time_embedding.linear_{i}")(x)
        return x

    def _down(self, x: Any) -> tuple[Any, list[Any]]:
        skips = [x]
        for level, width in enumerate(self.widths):
            name = f"down_blocks.{level}"
            for i in range(self.depth):
                x = self._block(x, width, level, i, name=name)
                skips.append(x)
            if level < len(self.widths) - 1:
                x = halve(x, name=f"{name}.downsamplers.0", symmetric=True)
                skips.append(x)
        return x, skips

    def _up(self, x: Any, skips: list[Any]) -> Any:
        for i, level in enumerate(reversed(range(len(self.widths)))):
            name = f"up_blocks.{i}"
            for j in range(self.depth + 1):
                x = keras.layers.Concatenate(name=f"{name}.skip_{j}")([x, skips.pop()])
                x = self._block(x, self.widths[level], level, j, name=name)
            if level:
                x = double(x, name=f"{name}.upsamplers.0")
        return x

    def _block(self, x: Any, width: int, level: int, i: int, *, name: str) -> Any:
        x = self._residual(x, width, name=f"{name}.resnets.{i}")
        return self._attention(x, name=f"{name}.attentions.{i}") if level in self.attention_levels else x

    def _residual(self, x: Any, width: int, *, name: str) -> Any:
        return residual(x, width, groups=self.groups, epsilon=EPSILON, name=name, time=self.time)

    def _attention(self, x: Any, *, name: str) -> Any:
        heads = x.shape[-1] // self.head_channels
        return SpatialAttention(heads, groups=self.groups, epsilon=EPSILON, name=name)(x)


def check_attention(widths: Sequence[int], levels: Sequence[int], head_channels: int) -> None:
    """Holds attention to its rule.

    Raises:
        ValueError: If there is no such level, or the heads do not divide its width.
    """
    if any(not 0 <= level < len(widths) for level in levels):
        raise InputError(f"`attention_levels` must be from 0 to {len(widths) - 1}. Received: {tuple(levels)}")
    if head_channels < 1 or any(widths[level] % head_channels for level in (*levels, -1)):
        raise InputError(
            f"`head_channels` must divide the widths where there is attention. Received: head_channels={head_channels}"
        )
