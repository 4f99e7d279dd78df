"""2D and 3D building blocks that every target runs, LiteRT's builtin operators included.

LiteRT has neither 3D pooling nor grouped 3D convolution; both are composed here of operators that it has,
with the same results.
"""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError


def conv(rank: int, filters: int, kernel_size: int, **kwargs: Any) -> keras.layers.Layer:
    """Returns a `Conv2D` or `Conv3D` layer.

    Example:
        >>> type(conv(3, 4, 3)).__name__
        'Conv3D'
    """
    layer = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[rank]
    return layer(filters, kernel_size, **kwargs)


def global_average(features: Any) -> Any:
    """Averages `(batch, *spatial, channels)` over its spatial axes.

    Example:
        >>> tuple(global_average(ops.ones((2, 3, 3, 3, 5))).shape)
        (2, 5)
    """
    return ops.mean(features, axis=tuple(range(1, len(features.shape) - 1)))


@keras.saving.register_keras_serializable("medkeras")
class HalvingMaxPool(keras.layers.Layer):
    """Max pooling of 2 by 2 (by 2) without overlap, for images and volumes; an odd last row is left out.

    A volume is pooled slice by slice and then along its depth, both as 2D pooling.

    Input shape:
        `(batch, *spatial, channels)` with two or three spatial axes, each of at least 2.

    Output shape:
        `(batch, *(spatial // 2), channels)`.

    Example:
        >>> tuple(HalvingMaxPool()(ops.ones((1, 8, 7, 6, 2))).shape)
        (1, 4, 3, 3, 2)
    """

    def call(self, inputs: Any) -> Any:
        """Pools every spatial axis by two."""
        if len(inputs.shape) == 4:
            return ops.max_pool(inputs, 2, 2, padding="valid", data_format="channels_last")
        depth, height, width, channels = inputs.shape[1:]
        slices = ops.reshape(inputs, (-1, height, width, channels))
        slices = ops.max_pool(slices, 2, 2, padding="valid", data_format="channels_last")
        height, width = height // 2, width // 2
        stacks = ops.reshape(slices, (-1, depth, height * width, channels))
        stacks = ops.max_pool(stacks, (2, 1), (2, 1), padding="valid", data_format="channels_last")
        return ops.reshape(stacks, (-1, depth // 2, height, width, channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape with its spatial axes halved."""
        return (input_shape[0], *(n // 2 for n in input_shape[1:-1]), input_shape[-1])


@keras.saving.register_keras_serializable("medkeras")
class GroupedConv(keras.layers.Layer):
    """A convolution in independent groups of channels, for images and volumes, stride 1, same size.

    Args:
        filters: Output channels, a multiple of `groups`.
        kernel_size: Edge of the kernel, in pixels.
        groups: Number of groups.
        kernel_initializer: Keras initialiser of the kernels.
        bias_initializer: Keras initialiser of the biases.

    Input shape:
        `(batch, *spatial, channels)` with two or three spatial axes, channels a multiple of `groups`.

    Output shape:
        `(batch, *spatial, filters)`.

    Raises:
        ValueError: If the channels cannot be divided into the groups.

    Example:
        >>> tuple(GroupedConv(8, kernel_size=3, groups=2)(ops.ones((1, 5, 5, 4))).shape)
        (1, 5, 5, 8)
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int,
        groups: int,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if groups < 1 or filters % groups:
            raise InputError(f"`filters` must be a multiple of `groups`. Received: filters={filters}, groups={groups}")
        self.filters, self.kernel_size, self.groups = filters, kernel_size, groups
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes one convolution per group."""
        channels, rank = input_shape[-1], len(input_shape) - 2
        if channels % self.groups:
            raise InputError(
                f"Channels must be a multiple of `groups`. Received: channels={channels}, groups={self.groups}"
            )
        self.convs = [
            conv(
                rank,
                self.filters // self.groups,
                self.kernel_size,
                padding="same",
                kernel_initializer=self.kernel_initializer.clone(),
                bias_initializer=self.bias_initializer.clone(),
                dtype=self.dtype_policy,
                name=f"group_{i}",
            )
            for i in range(self.groups)
        ]
        for layer in self.convs:
            layer.build((*input_shape[:-1], channels // self.groups))

    def call(self, inputs: Any) -> Any:
        """Convolves each group by itself."""
        parts = ops.split(inputs, self.groups, axis=-1)
        return ops.concatenate([layer(part) for layer, part in zip(self.convs, parts, strict=True)], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape with `filters` channels."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "groups": self.groups,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
