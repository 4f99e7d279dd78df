"""Channel attention: which features matter for this image."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers.steady_max import steady_max


@keras.saving.register_keras_serializable("medkeras")
class ChannelAttention(keras.layers.Layer):
    """Reweights channels by a gate from their spatial mean and their spatial maximum.

    Mean and maximum pass the same two dense layers without bias; their sum goes through a sigmoid.

    Args:
        reduction: Channels per hidden unit, a positive integer; there is always at least one hidden unit.

    Input shape:
        `(batch, *spatial, channels)` with two or three spatial axes.

    Output shape:
        Same as the input.

    Raises:
        ValueError: If `reduction` is below 1.

    Reference:
        Woo et al., CBAM: Convolutional Block Attention Module, arXiv 1807.06521, its channel part.

    Example:
        >>> tuple(ChannelAttention(4)(ops.ones((2, 7, 7, 16))).shape)
        (2, 7, 7, 16)
    """

    def __init__(self, reduction: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reduction < 1:
            raise InputError(f"`reduction` must be at least 1. Received: reduction={reduction}")
        self.reduction = reduction

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the two dense layers."""
        channels = input_shape[-1]
        hidden = max(channels // self.reduction, 1)
        policy = self.dtype_policy
        self.squeeze = keras.layers.Dense(hidden, "relu", use_bias=False, dtype=policy, name="squeeze")
        self.excite = keras.layers.Dense(channels, use_bias=False, dtype=policy, name="excite")
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))

    def call(self, inputs: Any) -> Any:
        """Multiplies each channel by its gate."""
        axes = tuple(range(1, len(inputs.shape) - 1))
        # The sum over a map can leave the range of float16; its mean cannot.
        mean = ops.mean(ops.cast(inputs, "float32"), axis=axes, keepdims=True)
        pooled = (ops.cast(mean, inputs.dtype), steady_max(inputs, axes))
        gate = ops.sigmoid(sum(self.excite(self.squeeze(p)) for p in pooled))
        return inputs * gate

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"reduction": self.reduction}
