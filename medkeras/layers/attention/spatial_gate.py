"""Spatial gate: which places of the features matter for this image."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers.steady_max import steady_max


@keras.saving.register_keras_serializable("medkeras")
class SpatialGate(keras.layers.Layer):
    """Returns one gate per place, from the mean and the maximum over the channels.

    Mean and maximum, in this order, pass one convolution without bias and a sigmoid. The gate itself is returned,
    so that it can be looked at; multiply the features by it.

    Args:
        kernel_size: Rows and columns of the convolution, odd and positive.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, 1)`, in (0, 1).

    Raises:
        ValueError: If `kernel_size` is even or below 1.

    Reference:
        Woo et al., CBAM: Convolutional Block Attention Module, arXiv 1807.06521, its spatial part.

    Example:
        >>> tuple(SpatialGate(7)(ops.ones((2, 8, 8, 16))).shape)
        (2, 8, 8, 1)
    """

    def __init__(self, kernel_size: int = 7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(f"`kernel_size` must be odd and positive. Received: kernel_size={kernel_size}")
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the convolution."""
        self.conv = keras.layers.Conv2D(
            1,
            self.kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build((*input_shape[:-1], 2))

    def call(self, inputs: Any) -> Any:
        """Returns the gate."""
        # The sum over many channels can leave the range of float16; their mean cannot.
        mean = ops.cast(ops.mean(ops.cast(inputs, "float32"), axis=-1, keepdims=True), inputs.dtype)
        return ops.sigmoid(self.conv(ops.concatenate([mean, steady_max(inputs, (len(inputs.shape) - 1,))], axis=-1)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns `(batch, height, width, 1)`."""
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"kernel_size": self.kernel_size}
