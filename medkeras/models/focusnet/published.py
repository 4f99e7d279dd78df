"""The published FocusNet's own parts, as repaired: kept so that its weights give its answers."""

import math
from typing import Any

import keras
from keras import ops

from medkeras.layers import global_average, sample_axes
from medkeras.models.focusnet.pathways import Conv

CHANNELS = {2: 24, 3: 16}  # by rank
CROP = 14  # pixels, 2D
GRID = 28  # voxels, 3D
SHARE = 0.25  # of GRID: the largest offset in 3D
POOLED = 7  # cells of the pooled 2D grid


def published_stages(rank: int, channels: int) -> dict[str, list[list[Conv]]]:
    """Returns the published pathways, one stage each.

    Example:
        >>> published_stages(2, 24)["magno"]
        [[(7, 24, 1)]]
    """
    if rank == 2:
        return {
            "magno": [[(7, channels, 1)]],
            "parvo": [[(3, 2 * channels, 1), (3, channels, 1)]],
            "konio": [[(5, channels, 1), (3, channels, 2)]],
        }
    return {
        "magno": [[(5, 2 * channels, 1), (3, channels, 1)]],
        "parvo": [[(3, 2 * channels, 1), (3, channels, 1)]],
        "konio": [[(3, channels, 1), (3, channels, 2)]],
    }


@keras.saving.register_keras_serializable("medkeras")
class OffsetHead(keras.layers.Layer):
    """Reads the next offset, in pixels and unbounded, from the features of the last glimpse.

    Images are flattened, so the place of a feature counts; volumes are averaged first, so it does not.

    Args:
        units: Hidden units.
        bias_initializer: Keras initialiser of biases.
        kernel_initializer: Keras initialiser of kernels.

    Input shape:
        `(batch, *grid, channels)`.

    Output shape:
        `(batch, rank)`.

    Example:
        >>> tuple(OffsetHead()(ops.ones((2, 7, 7, 4))).shape)
        (2, 2)
    """

    def __init__(
        self,
        units: int = 32,
        *,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the two dense layers."""
        *grid, channels = input_shape[1:]
        self.rank = len(grid)
        options = {
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "dtype": self.dtype_policy,
        }
        self.hidden = keras.layers.Dense(self.units, "relu", name="hidden", **options)
        self.offset = keras.layers.Dense(self.rank, name="offset", **options)
        self.hidden.build((None, channels * (math.prod(grid) if self.rank == 2 else 1)))
        self.offset.build((None, self.units))

    def call(self, inputs: Any) -> Any:
        """Returns one offset per image."""
        x = ops.reshape(inputs, (-1, math.prod(inputs.shape[1:]))) if self.rank == 2 else global_average(inputs)
        return self.offset(self.hidden(x))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns `(batch, rank)`."""
        return (input_shape[0], len(input_shape) - 2)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "units": self.units,
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
        }


@keras.saving.register_keras_serializable("medkeras")
class HardCrop(keras.layers.Layer):
    """Cuts 14x14 pixels at a rounded offset from the centre, clamped into the image; no gradient to the offset.

    Input shape:
        `[images, offsets]`: `(batch, height, width, channels)` and `(batch, 2)` in pixels, rows first.

    Output shape:
        `(batch, 14, 14, channels)`, or the whole image where it is smaller than that.

    Example:
        >>> tuple(HardCrop()([ops.ones((1, 28, 28, 1)), ops.zeros((1, 2))]).shape)
        (1, 14, 14, 1)
    """

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """Cuts one window per image."""
        images, offsets = inputs[0], ops.cast(inputs[1], "float32")
        if min(images.shape[1:3]) < CROP:
            return images
        positions = []
        for axis in range(2):
            free = images.shape[1 + axis] - CROP
            start = ops.clip(ops.round(free // 2 + ops.stop_gradient(offsets[:, axis : axis + 1])), 0, free)
            positions.append(start + ops.arange(CROP, dtype="float32"))
        return sample_axes(images, positions)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape of the window."""
        images = input_shape[0]
        return tuple(images) if min(images[1:3]) < CROP else (images[0], CROP, CROP, images[-1])


@keras.saving.register_keras_serializable("medkeras")
class ShiftedVolume(keras.layers.Layer):
    """Samples the whole volume on a 28^3 grid shifted by an offset of at most 7: a translation, not a crop.

    Input shape:
        `[volumes, offsets]`: `(batch, depth, height, width, channels)` and `(batch, 3)` in voxels.

    Output shape:
        `(batch, 28, 28, 28, channels)`.

    Example:
        >>> tuple(ShiftedVolume()([ops.ones((1, 32, 32, 32, 1)), ops.zeros((1, 3))]).shape)
        (1, 28, 28, 28, 1)
    """

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """Shifts and resamples each volume."""
        volumes, offsets = inputs[0], ops.cast(inputs[1], "float32")
        limit = int(GRID * SHARE)
        offsets = ops.clip(offsets, -limit, limit)
        positions = []
        for axis in range(3):
            length = volumes.shape[1 + axis]
            grid = ops.linspace(0.0, length - 1.0, GRID, dtype="float32")
            positions.append(grid + offsets[:, axis : axis + 1] * ((length - 1) / length))
        return sample_axes(volumes, positions)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape of the resampled volume."""
        volumes = input_shape[0]
        return (volumes[0], GRID, GRID, GRID, volumes[-1])


def centres(offsets: list[Any], spatial: tuple[int, ...]) -> tuple[Any, tuple[float, ...]]:
    """Returns where the glimpses at `offsets` lie, `(batch, count, rank)` in [-1, 1], and their extents.

    Example:
        >>> places, extents = centres([ops.zeros((1, 2))], (28, 56))
        >>> tuple(places.shape), extents
        ((1, 1, 2), (0.5, 0.25))
    """
    if len(spatial) == 3:
        limit = int(GRID * SHARE)
        places = ops.clip(ops.cast(ops.stack(offsets, axis=1), "float32"), -limit, limit)
        return places * ops.convert_to_tensor([2 / n for n in spatial], "float32"), (1.0, 1.0, 1.0)
    edges = spatial if min(spatial) < CROP else (CROP, CROP)
    axes = []
    for axis, (length, edge) in enumerate(zip(spatial, edges, strict=True)):
        steps = ops.cast(ops.stack([offset[:, axis] for offset in offsets], axis=1), "float32")
        start = ops.clip(ops.round((length - edge) // 2 + steps), 0, length - edge)
        axes.append(2 * (start + (edge - 1) / 2) / max(length - 1, 1) - 1)
    return ops.stack(axes, axis=-1), tuple(edge / n for edge, n in zip(edges, spatial, strict=True))
