"""What the denoiser and the autoencoder are made of; each layer bears the name of the official tensors it holds."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError


@keras.saving.register_keras_serializable("medkeras")
class GroupNorm(keras.layers.Layer):
    """Normalises groups of channels over all places of an image, with a scale and an offset for each channel.

    Statistics are taken channel by channel in float32 and then pooled, so that no large squares are subtracted from
    each other and the map itself is read and written once.

    Args:
        groups: Number of groups; divides the channels.
        epsilon: Added to the variance, positive.
        activation: Name of a Keras activation applied to the result, or None.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: If an argument is out of range or `groups` does not divide the channels.

    Reference:
        Wu and He, Group Normalization, arXiv 1803.08494.

    Example:
        >>> tuple(GroupNorm(2)(ops.ones((1, 4, 5, 6))).shape)
        (1, 4, 5, 6)
    """

    def __init__(
        self, groups: int = 32, *, epsilon: float = 1e-5, activation: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if groups < 1 or epsilon <= 0:
            raise InputError(
                f"`groups` must be at least 1 and `epsilon` positive. Received: groups={groups}, epsilon={epsilon}"
            )
        self.groups, self.epsilon, self.activation = groups, epsilon, activation
        self._activate = keras.activations.get(activation)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes a scale and an offset for each channel."""
        channels = input_shape[-1]
        if channels % self.groups:
            raise InputError(f"`groups` must divide the {channels} channels. Received: groups={self.groups}")
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")

    def call(self, inputs: Any) -> Any:
        """Normalises, scales, shifts and activates."""
        channels = inputs.shape[-1]
        members = channels // self.groups
        mean, variance = ops.moments(ops.cast(inputs, "float32"), axes=(1, 2))
        means = ops.reshape(mean, (-1, self.groups, members))
        centre = ops.mean(means, axis=-1, keepdims=True)
        spread = ops.reshape(variance, (-1, self.groups, members)) + ops.square(means - centre)
        inverse = ops.rsqrt(ops.mean(spread, axis=-1, keepdims=True) + self.epsilon)
        gamma, beta = (ops.reshape(ops.cast(w, "float32"), (1, self.groups, members)) for w in (self.gamma, self.beta))
        scale = inverse * gamma
        scale, offset = (
            ops.cast(ops.reshape(w, (-1, 1, 1, channels)), inputs.dtype) for w in (scale, beta - centre * scale)
        )
        return self._activate(inputs * scale + offset)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        arguments = {"groups": self.groups, "epsilon": self.epsilon, "activation": self.activation}
        return super().get_config() | arguments


@keras.saving.register_keras_serializable("medkeras")
class SpatialAttention(keras.layers.Layer):
    """Every place of a normalised map attends to all places; the input is added.

    Args:
        heads: Number of heads; divides the channels.
        groups: Groups of the norm; divides the channels.
        epsilon: Of the norm, positive.
        block: How many queries meet the keys at a time, or None for all at once. The weights of attention take
            `block * places` numbers instead of `places ** 2`: with 1024, for a map of 128 by 128 places, 64 MB
            instead of 1 GB.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: If an argument is out of range or `heads` does not divide the channels.

    Example:
        >>> tuple(SpatialAttention(2, groups=4)(ops.ones((1, 3, 5, 8))).shape)
        (1, 3, 5, 8)
    """

    def __init__(
        self, heads: int = 1, *, groups: int = 32, epsilon: float = 1e-5, block: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if heads < 1 or (block is not None and block < 1):
            raise InputError(f"`heads` and `block` must be at least 1. Received: heads={heads}, block={block}")
        self.heads, self.groups, self.epsilon, self.block = heads, groups, epsilon, block
        self.norm = GroupNorm(groups, epsilon=epsilon, dtype=self.dtype_policy, name="group_norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the norm and the four projections."""
        channels = input_shape[-1]
        if channels % self.heads:
            raise InputError(f"`heads` must divide the {channels} channels. Received: heads={self.heads}")
        self.norm.build(input_shape)
        for name in ("query", "key", "value", "project"):
            dense = keras.layers.Dense(channels, dtype=self.dtype_policy, name=name)
            dense.build(input_shape)
            setattr(self, name, dense)

    def call(self, inputs: Any) -> Any:
        """Adds what each place attends to."""
        shape = ops.shape(inputs)
        places = (-1, shape[1] * shape[2], self.heads, shape[3] // self.heads)
        x = self.norm(inputs)
        query, key, value = (
            ops.transpose(ops.reshape(f(x), places), (0, 2, 1, 3)) for f in (self.query, self.key, self.value)
        )
        key = ops.transpose(key, (0, 1, 3, 2)) * places[-1] ** -0.5
        x = in_blocks(lambda part: _attend(part, key, value), query, self.block)
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, *shape[1:]))
        return inputs + self.project(x)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        arguments = {"heads": self.heads, "groups": self.groups, "epsilon": self.epsilon, "block": self.block}
        return super().get_config() | arguments


def in_blocks(function: Callable[[Any], Any], x: Any, block: int | None) -> Any:
    """Returns `function(x)`, worked out for at most `block` places at a time, one block after the other.

    Args:
        function: From `(batch, heads, n, channels)` to the same shape, each place for itself.
        x: `(batch, heads, places, channels)`.
        block: Places of a block; None for all at once.

    Example:
        >>> tuple(in_blocks(lambda part: part + 1, ops.ones((2, 1, 7, 3)), 3).shape)
        (2, 1, 7, 3)
    """
    if block is None:
        return function(x)
    _, heads, places, channels = ops.shape(x)
    count = -(-places // block)
    size = -(-places // count)  # even blocks; the last repeats the last place at most `count - 1` times
    index = ops.minimum(ops.arange(count * size), places - 1)
    parts = ops.reshape(ops.take(x, index, axis=2), (-1, heads, count, size, channels))
    parts = ops.map(function, ops.moveaxis(parts, 2, 0))
    return ops.reshape(ops.moveaxis(parts, 0, 2), (-1, heads, count * size, channels))[:, :, :places]


def _attend(query: Any, key: Any, value: Any) -> Any:
    """Returns the values by the weights of attention; keys are transposed and scaled already."""
    weights = ops.softmax(ops.cast(ops.matmul(query, key), "float32"), axis=-1)
    return ops.matmul(ops.cast(weights, value.dtype), value)


def conv3(x: Any, channels: int, *, name: str) -> Any:
    """Returns the symbolic map after a 3x3 convolution of stride 1."""
    return keras.layers.Conv2D(channels, 3, padding="same", name=name)(x)


def residual(x: Any, channels: int, *, groups: int, epsilon: float, name: str, time: Any = None) -> Any:
    """Returns the symbolic map after two normalised, activated 3x3 convolutions, with the input added.

    Args:
        x: The symbolic map, `(batch, height, width, any)`.
        channels: Channels of the result; where the input has others, a 1x1 convolution makes them.
        groups: Groups of the norms.
        epsilon: Of the norms.
        name: Official name of the block.
        time: The activated embedding of the time, `(batch, any)`, added between the convolutions; or None.
    """
    y = GroupNorm(groups, epsilon=epsilon, activation="silu", name=f"{name}.norm1")(x)
    y = conv3(y, channels, name=f"{name}.conv1")
    if time is not None:
        shift = keras.layers.Dense(channels, name=f"{name}.time_emb_proj")(time)
        shift = keras.layers.Reshape((1, 1, channels), name=f"{name}.time")(shift)
        y = keras.layers.Add(name=f"{name}.shifted")([y, shift])
    y = GroupNorm(groups, epsilon=epsilon, activation="silu", name=f"{name}.norm2")(y)
    y = conv3(y, channels, name=f"{name}.conv2")
    if x.shape[-1] != channels:
        x = keras.layers.Conv2D(channels, 1, name=f"{name}.conv_shortcut")(x)
    return keras.layers.Add(name=name)([x, y])


def halve(x: Any, *, name: str, symmetric: bool) -> Any:
    """Returns the symbolic map at half its size, by a 3x3 convolution of stride 2.

    Args:
        x: The symbolic map, of even edges.
        name: Official name of the block.
        symmetric: Whether a zero is padded on each side, or none above and left and one below and right.
    """
    pad = ((1, 1), (1, 1)) if symmetric else ((0, 1), (0, 1))
    x = keras.layers.ZeroPadding2D(pad, name=f"{name}.pad")(x)
    return keras.layers.Conv2D(x.shape[-1], 3, strides=2, name=f"{name}.conv")(x)


def double(x: Any, *, name: str) -> Any:
    """Returns the symbolic map at twice its size: each place repeated, then a 3x3 convolution."""
    x = keras.layers.UpSampling2D(2, name=f"{name}.repeat")(x)
    return conv3(x, x.shape[-1], name=f"{name}.conv")
