"""Attention-guided cropping and dropping as layers, for models that look again."""

from collections.abc import Sequence
from typing import Any

import keras

from medkeras.errors import InputError
from medkeras.layers.attention.crop_drop import PEAKS, attention_crop, attention_drop


class _AttentionView(keras.layers.Layer):
    """What both layers share: a threshold on the attention map, and images whose shape does not change."""

    def __init__(self, threshold: float, peak: str, **kwargs: Any) -> None:
        # A map in half precision would move the edges of what it marks.
        super().__init__(autocast=False, **kwargs)
        if not 0 <= threshold <= 1:
            raise InputError(f"`threshold` must be in [0, 1]. Received: threshold={threshold}")
        if peak not in PEAKS:
            raise InputError(f"`peak` must be one of {PEAKS}. Received: peak={peak!r}")
        self.threshold, self.peak = threshold, peak

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape of the images."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"threshold": self.threshold, "peak": self.peak}


@keras.saving.register_keras_serializable("medkeras")
class AttentionCrop(_AttentionView):
    """Zooms each image to the box that its attention map chooses; see `medkeras.layers.attention_crop`.

    Args:
        threshold: Share of the map's maximum that the box holds, in [0, 1].
        padding: Rim about it, as a share of the image, in [0, 1).
        peak: Where the maximum is taken, `map` or `image`.

    Input shape:
        Two tensors, `(batch, *sizes, channels)` and `(batch, *cells)`, with two or three sizes.

    Output shape:
        That of the images.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Hu et al., See Better Before Looking Closer: Weakly Supervised Data Augmentation Network for Fine-Grained
        Visual Classification, arXiv 1901.09891.

    Example:
        >>> tuple(AttentionCrop(0.5)([keras.ops.ones((2, 8, 8, 3)), keras.ops.ones((2, 4, 4))]).shape)
        (2, 8, 8, 3)
    """

    def __init__(self, threshold: float = 0.5, *, padding: float = 0.1, peak: str = "map", **kwargs: Any) -> None:
        super().__init__(threshold, peak, **kwargs)
        if not 0 <= padding < 1:
            raise InputError(f"`padding` must be in [0, 1). Received: padding={padding}")
        self.padding = padding

    def call(self, inputs: Any) -> Any:
        """Returns the zoomed images."""
        images, attention = inputs
        return attention_crop(images, attention, threshold=self.threshold, padding=self.padding, peak=self.peak)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"padding": self.padding}


@keras.saving.register_keras_serializable("medkeras")
class AttentionDrop(_AttentionView):
    """Erases from each image what its attention map marks; see `medkeras.layers.attention_drop`.

    Args:
        threshold: Share of the map's maximum from which on pixels are erased, in [0, 1].
        fill: The value of erased pixels, one or one per channel.
        peak: Where the maximum is taken, `map` or `image`.

    Input shape:
        Two tensors, `(batch, *sizes, channels)` and `(batch, *cells)`, with two or three sizes.

    Output shape:
        That of the images.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Hu et al., arXiv 1901.09891.

    Example:
        >>> attention = keras.ops.reshape(keras.ops.array([1.0, 0.4, 0.2]), (1, 1, 3))
        >>> keras.ops.convert_to_numpy(AttentionDrop(0.3)([keras.ops.ones((1, 1, 3, 1)), attention])).ravel().tolist()
        [0.0, 0.0, 1.0]
    """

    def __init__(
        self, threshold: float = 0.5, *, fill: float | Sequence[float] = 0.0, peak: str = "map", **kwargs: Any
    ) -> None:
        super().__init__(threshold, peak, **kwargs)
        self.fill = fill if isinstance(fill, (int, float)) else tuple(fill)

    def call(self, inputs: Any) -> Any:
        """Returns the images without what is marked."""
        images, attention = inputs
        return attention_drop(images, attention, threshold=self.threshold, peak=self.peak, fill=self.fill)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"fill": self.fill}
