"""Attention-guided data augmentation (AADA): zooming to what the model attends to, and hiding it."""

import dataclasses
from typing import ClassVar

import keras
import tensorflow as tf

from medkeras.errors import InputError
from medkeras.layers import attention_box, attention_drop, crop_to_boxes
from pipelines.augment.augmenter import Batch
from pipelines.augment.geometric.boxes import boxes_of_map
from pipelines.augment.geometric.resample import warp
from pipelines.augment.random_numbers import uniform


@dataclasses.dataclass(frozen=True)
class AttentionCrop:
    """Zooms to the box that the record's attention map chooses; masks, boxes and attention go along.

    The map is the batch's `attention`, see `pipelines.augment.attention.store`. A map without a peak, such as
    those before the model was ever asked, chooses the whole image. A following `AttentionDrop` sees the map of
    the cropped image.

    Args:
        threshold: The box holds what reaches this share of the map's maximum, drawn in (low, high) for each
            record, in [0, 1].
        padding: Margin on each side, as a share of the image's axis, in [0, 1).
        probability: How often a record is cropped, in [0, 1].
        peak: Where the maximum is taken, `map` or `image`, see `medkeras.layers.attention_box`.

    Raises:
        ValueError: If an argument is out of its range, or when applied, the batch has no attention.

    Reference:
        Hu et al., See Better Before Looking Closer: Weakly Supervised Data Augmentation Network for Fine-Grained
        Visual Classification, arXiv 1901.09891.

    Example:
        >>> AttentionCrop.dual_attend_med()
        AttentionCrop(threshold=(0.5, 0.5), padding=0.1, probability=0.5, peak='map')
    """

    threshold: tuple[float, float] = (0.4, 0.6)
    padding: float = 0.1
    probability: float = 0.5
    peak: str = "map"
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)
        if not 0 <= self.padding < 1:
            raise InputError(f"`padding` must be in [0, 1). Received: padding={self.padding}")

    @classmethod
    def ws_dan(cls, *, probability: float = 0.5) -> "AttentionCrop":
        """Returns the crop of WS-DAN: threshold drawn in (0.4, 0.6), of the maximum on the image grid.

        Example:
            >>> AttentionCrop.ws_dan().threshold
            (0.4, 0.6)
        """
        return cls((0.4, 0.6), padding=0.1, probability=probability, peak="image")

    @classmethod
    def dual_attend_med(cls, *, probability: float = 0.5) -> "AttentionCrop":
        """Returns the crop of DualAttendMed: threshold 0.5.

        Example:
            >>> AttentionCrop.dual_attend_med(probability=1.0).probability
            1.0
        """
        return cls((0.5, 0.5), padding=0.1, probability=probability)

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> dict[str, tf.Tensor]:
        """Returns `threshold` and whether to crop, `chosen`, scalars."""
        return _draw(self, key)

    def apply_batch(self, batch: Batch, parameters: dict[str, tf.Tensor]) -> Batch:
        """Crops the images, and what belongs to them, as drawn."""
        attention, sizes = _attention(batch, self), tuple(batch["image"].shape[1:-1])
        threshold = parameters["threshold"]
        crops = attention_box(attention, image_size=sizes, threshold=threshold, padding=self.padding, peak=self.peak)
        crops = tf.where(parameters["chosen"][:, None], crops, tf.constant([0] * len(sizes) + list(sizes)))
        moved = {
            "image": crop_to_boxes(batch["image"], crops),
            "attention": warp(attention[..., None], _cell_coordinates(crops, sizes, attention.shape[1:]))[..., 0],
        }
        if "mask" in batch:
            moved["mask"] = crop_to_boxes(batch["mask"][..., None], crops, interpolation="nearest")[..., 0]
        if "boxes" in batch:
            moved["boxes"] = boxes_of_map(batch["boxes"], _on_grid(_pixel_positions(crops, sizes, sizes)), sizes)
        return dict(batch) | moved


@dataclasses.dataclass(frozen=True)
class AttentionDrop:
    """Hides the pixels that the record's attention map chooses, so that the model looks elsewhere too.

    The map is that of `AttentionCrop`; without a peak, it hides nothing. Masks and boxes stay.

    Args:
        threshold: What reaches this share of the map's maximum is hidden, drawn in (low, high) for each record,
            in [0, 1].
        probability: How often a record is changed, in [0, 1].
        peak: Where the maximum is taken, `map` or `image`, see `medkeras.layers.attention_box`.
        fill: The value of hidden pixels in [0, 1], one or one per channel. The published systems put the mean of
            the data set; 0.5 is that of the normalisation `half`.

    Raises:
        ValueError: If an argument is out of its range, or when applied, the batch has no attention.

    Reference:
        Hu et al., arXiv 1901.09891.

    Example:
        >>> AttentionDrop.ws_dan(fill=(0.485, 0.456, 0.406)).threshold
        (0.2, 0.5)
    """

    threshold: tuple[float, float] = (0.2, 0.5)
    probability: float = 0.5
    peak: str = "map"
    fill: float | tuple[float, ...] = 0.5
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)
        values = self.fill if isinstance(self.fill, tuple) else (self.fill,)
        if not values or not all(0 <= value <= 1 for value in values):
            raise InputError(f"`fill` must be in [0, 1], one value or one per channel. Received: fill={self.fill}")

    @classmethod
    def ws_dan(cls, *, probability: float = 0.5, fill: float | tuple[float, ...] = 0.5) -> "AttentionDrop":
        """Returns the drop of WS-DAN: threshold drawn in (0.2, 0.5), of the maximum on the image grid.

        Example:
            >>> AttentionDrop.ws_dan().peak
            'image'
        """
        return cls((0.2, 0.5), probability=probability, peak="image", fill=fill)

    @classmethod
    def dual_attend_med(cls, *, probability: float = 0.5, fill: float | tuple[float, ...] = 0.5) -> "AttentionDrop":
        """Returns the drop of DualAttendMed: threshold 0.5.

        Example:
            >>> AttentionDrop.dual_attend_med().threshold
            (0.5, 0.5)
        """
        return cls((0.5, 0.5), probability=probability, fill=fill)

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> dict[str, tf.Tensor]:
        """Returns `threshold` and whether to hide anything, `chosen`, scalars."""
        if isinstance(self.fill, tuple) and len(self.fill) != image_shape[-1]:
            raise InputError(
                f"`fill` must have one value or one per channel. Received: fill={self.fill}, "
                f"image_shape={tuple(image_shape)}"
            )
        return _draw(self, key)

    def apply_batch(self, batch: Batch, parameters: dict[str, tf.Tensor]) -> Batch:
        """Hides the pixels as drawn."""
        attention = _attention(batch, self)
        # A map of zeros hides nothing.
        chosen = tf.reshape(parameters["chosen"], [-1] + [1] * (attention.shape.rank - 1))
        attention = tf.where(chosen, attention, 0.0)
        images = attention_drop(
            batch["image"], attention, threshold=parameters["threshold"], peak=self.peak, fill=self.fill
        )
        return dict(batch) | {"image": images}


def _check(augmentation: AttentionCrop | AttentionDrop) -> None:
    threshold, probability = augmentation.threshold, augmentation.probability
    if not (len(threshold) == 2 and 0 <= threshold[0] <= threshold[1] <= 1 and 0 <= probability <= 1):
        raise InputError(
            f"`threshold` must be (low, high) and `probability` a number, all in [0, 1]. Received: {augmentation}"
        )
    if augmentation.peak not in ("map", "image"):
        raise InputError(f"`peak` must be map or image. Received: peak={augmentation.peak!r}")
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"Attention crops in tf.data need Keras' backend tensorflow. Received: backend={keras.backend.backend()!r}"
        )


def _draw(augmentation: AttentionCrop | AttentionDrop, key: tf.Tensor) -> dict[str, tf.Tensor]:
    low, high = augmentation.threshold
    drawn = uniform(key, [2])
    return {"threshold": low + (high - low) * drawn[0], "chosen": drawn[1] < augmentation.probability}


def _attention(batch: Batch, augmentation: AttentionCrop | AttentionDrop) -> tf.Tensor:
    if "attention" not in batch:
        raise InputError(
            f"{type(augmentation).__name__} needs the maps of an `AttentionStore`, given to the input pipeline. "
            f"Received: a batch of {', '.join(sorted(batch))}"
        )
    return batch["attention"]


def _pixel_positions(crops: tf.Tensor, sizes: tuple[int, ...], samples: tuple[int, ...]) -> list[tf.Tensor]:
    """Returns, for each axis, where so many samples with aligned corners lie in the uncropped image, in pixels."""
    positions = []
    for axis, count in enumerate(samples):
        lower, upper = (tf.cast(crops[:, side + axis, None], tf.float32) for side in (0, len(sizes)))
        share = tf.range(count, dtype=tf.float32) / max(count - 1, 1)
        positions.append(lower + share * (upper - 1 - lower))
    return positions


def _cell_coordinates(crops: tf.Tensor, sizes: tuple[int, ...], cells: tuple[int, ...]) -> list[tf.Tensor]:
    positions = _pixel_positions(crops, sizes, cells)
    shares = [(count - 1) / max(size - 1, 1) for count, size in zip(cells, sizes, strict=True)]
    return _on_grid([p * share for p, share in zip(positions, shares, strict=True)])


def _on_grid(positions: list[tf.Tensor]) -> list[tf.Tensor]:
    """Spreads `(batch, samples)` of each axis over `(batch, *samples)`."""
    samples = [p.shape[1] for p in positions]
    shape = [tf.shape(positions[0])[0], *samples]
    grid = []
    for axis, position in enumerate(positions):
        own = [-1] + [count if other == axis else 1 for other, count in enumerate(samples)]
        grid.append(tf.broadcast_to(tf.reshape(position, own), shape))
    return grid
