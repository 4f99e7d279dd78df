"""Resizing with aligned corners as a layer."""

from collections.abc import Sequence
from typing import Any

import keras

from medkeras.errors import InputError
from medkeras.layers.sampling import resize_aligned


@keras.saving.register_keras_serializable("medkeras")
class AlignedResizing(keras.layers.Layer):
    """Resizes linearly with aligned corners, which `keras.layers.Resizing` cannot; see `resize_aligned`.

    Args:
        size: New length of each spatial axis, in pixels.

    Input shape:
        `(batch, *spatial, channels)` with two or three spatial axes.

    Output shape:
        `(batch, *size, channels)`.

    Raises:
        ValueError: If `size` is no two or three positive lengths; when called, if it does not have the input's rank.

    Reference:
        `align_corners=True` of torch, by which the attention maps of WS-DAN, CAL and DualAttendMed are resized.

    Example:
        >>> keras.ops.convert_to_numpy(AlignedResizing((1, 3))(keras.ops.array([[[[0.0], [1.0]]]]))).ravel().tolist()
        [0.0, 0.5, 1.0]
    """

    def __init__(self, size: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(size) not in (2, 3) or min(size) < 1:
            raise InputError(f"`size` must be two or three positive lengths. Received: size={tuple(size)}")
        self.size = tuple(int(length) for length in size)

    def call(self, inputs: Any) -> Any:
        """Returns the resized images."""
        return resize_aligned(inputs, self.size)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Returns `(batch, *size, channels)`."""
        return (input_shape[0], *self.size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"size": list(self.size)}
