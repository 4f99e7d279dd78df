"""Glimpses: windows cut from an image at learned places."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers.sampling import sample_axes


@keras.saving.register_keras_serializable("medkeras")
class Glimpse(keras.layers.Layer):
    """Cuts a window of fixed size out of a 2D or 3D image, differentiably in its place.

    The window is read by linear interpolation, so the gradient reaches the place. Places are scaled such that
    any value in [-1, 1] keeps the window inside the image.

    Args:
        extent: Edge of the window as a share of the image edge, in (0, 1].
        size: Pixels per edge of the result; by default the window's own, so that nothing is resampled in scale.

    Input shape:
        `[images, places]`: `(batch, *spatial, channels)` with two or three spatial axes, and `(batch, rank)` in
        [-1, 1], in the order of the axes.

    Output shape:
        `(batch, *window, channels)`.

    Raises:
        ValueError: If `extent` is outside (0, 1] or `size` is below 1.

    Reference:
        Mnih et al., Recurrent Models of Visual Attention, arXiv 1406.6247; the sampling is that of Jaderberg et
        al., Spatial Transformer Networks, arXiv 1506.02025, restricted to axis-aligned windows.

    Example:
        >>> images = ops.reshape(ops.arange(16.0), (1, 4, 4, 1))
        >>> corner = Glimpse(0.5)([images, ops.array([[-1.0, -1.0]])])
        >>> ops.convert_to_numpy(corner[0, ..., 0]).tolist()
        [[0.0, 1.0], [4.0, 5.0]]
    """

    def __init__(self, extent: float = 0.5, *, size: int | None = None, **kwargs: Any) -> None:
        # Places stay in float32: in half precision they would be off by pixels in a large image.
        super().__init__(autocast=False, **kwargs)
        if not 0 < extent <= 1:
            raise InputError(f"`extent` must be in (0, 1]. Received: extent={extent}")
        if size is not None and size < 1:
            raise InputError(f"`size` must be at least 1. Received: size={size}")
        self.extent, self.size = extent, size

    def window(self, length: int) -> tuple[int, int]:
        """Returns, for an axis of `length` pixels, the samples of the result and the pixels that they span."""
        span = max(round(self.extent * length), 1)
        return self.size or span, span

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """Cuts one window per image."""
        images, places = ops.cast(inputs[0], self.compute_dtype), ops.cast(inputs[1], "float32")
        positions = []
        for axis in range(places.shape[-1]):
            length = images.shape[1 + axis]
            samples, span = self.window(length)
            centre = (length - 1) / 2 + places[:, axis : axis + 1] * ((length - span) / 2)
            steps = (ops.arange(samples, dtype="float32") - (samples - 1) / 2) * (span / samples)
            positions.append(centre + steps)
        return sample_axes(images, positions)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns `(batch, *window, channels)`."""
        images = input_shape[0]
        return (images[0], *(self.window(n)[0] for n in images[1:-1]), images[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"extent": self.extent, "size": self.size}
