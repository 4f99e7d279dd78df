"""Mixing the images of a batch, and their labels with them."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.augmenter import Batch
from pipelines.augment.photometric.intensity import per_image
from pipelines.augment.random_numbers import fold_in, uniform


@dataclasses.dataclass(frozen=True)
class MixUp:
    """Blends each image with the one before it in the batch, and their labels alike.

    The image's own share is drawn from Beta(alpha, alpha). The label becomes the shares of the classes; one
    that is NaN, unknown, in either image is unknown. Masks and attention blend like the images.

    Args:
        alpha: Above 0; the smaller, the nearer the shares are to 0 and 1.
        probability: How often a record is mixed at all, in (0, 1].

    Raises:
        ValueError: If an argument is out of its range, or when applied, labels are class indices or there are
            boxes, which cannot be blended.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, arXiv 1710.09412.

    Example:
        >>> batch = {"image": tf.reshape([0.0, 1.0], (2, 1, 1, 1)), "label": tf.eye(2)}
        >>> MixUp().apply_batch(batch, tf.constant([0.75, 1.0]))["label"].numpy()
        array([[0.75, 0.25],
               [0.  , 1.  ]], dtype=float32)
    """

    alpha: float = 0.2
    probability: float = 1.0
    compiled: ClassVar[bool] = True
    soft_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the image's own share, a scalar in [0, 1]."""
        return _draw_share(key, self.alpha, self.probability)

    def apply_batch(self, batch: Batch, parameters: tf.Tensor) -> Batch:
        """Blends as drawn."""
        _check_batch(batch)
        mixed = {name: _blend(batch[name], parameters) for name in batch if name in ("image", "mask", "attention")}
        return _with_label(dict(batch) | mixed, parameters)


@dataclasses.dataclass(frozen=True)
class CutMix:
    """Pastes a box from the image before it in the batch into each image, and mixes the labels by area.

    The share of the image that stays is drawn from Beta(alpha, alpha); the box has the image's proportions
    and a random place, cut off at the border, and the label follows what is seen of it. Masks and attention
    get the box too. A label that is NaN, unknown, in either image is unknown.

    Args:
        alpha: Above 0; 1 draws the share evenly.
        probability: How often a record is mixed at all, in (0, 1].

    Raises:
        ValueError: If an argument is out of its range, or when applied, labels are class indices or there are
            boxes, which the pasted region would cut.

    Reference:
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, arXiv
        1905.04899.

    Example:
        >>> batch = {"image": tf.reshape([0.0] * 4 + [1.0] * 4, (2, 1, 4, 1)), "label": tf.eye(2)}
        >>> mixed = CutMix().apply_batch(batch, tf.constant([[[0, 1], [0, 1]], [[0, 0], [0, 0]]]))
        >>> mixed["image"][0, 0, :, 0].numpy(), mixed["label"][0].numpy()
        (array([1., 0., 0., 0.], dtype=float32), array([0.75, 0.25], dtype=float32))
    """

    alpha: float = 1.0
    probability: float = 1.0
    compiled: ClassVar[bool] = True
    soft_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the box, first and last + 1 pixel of each axis, int32 `(axes, 2)`."""
        sizes = tf.constant(image_shape[:-1], tf.float32)
        rank = len(image_shape) - 1
        share = _draw_share(key, self.alpha, self.probability)
        length = sizes * (1 - share) ** (1 / rank)
        middle = sizes * uniform(fold_in(key, 3), [rank])
        edges = tf.stack([middle - length / 2, middle + length / 2], axis=-1)
        return tf.cast(tf.round(tf.clip_by_value(edges, 0.0, sizes[:, None])), tf.int32)

    def apply_batch(self, batch: Batch, parameters: tf.Tensor) -> Batch:
        """Pastes as drawn."""
        _check_batch(batch)
        batch, sizes = dict(batch), batch["image"].shape[1:-1]
        for name in ("image", "mask", "attention"):
            if name in batch:
                batch[name] = _paste(batch[name], parameters, sizes)
        area = tf.reduce_prod(tf.cast(parameters[..., 1] - parameters[..., 0], tf.float32), axis=-1)
        return _with_label(batch, 1 - area / sizes.num_elements())


def _check(alpha: float, probability: float) -> None:
    if not (alpha > 0 and 0 < probability <= 1):
        raise InputError(
            f"`alpha` must be > 0 and `probability` in (0, 1]. Received: alpha={alpha}, probability={probability}"
        )


def _check_batch(batch: Batch) -> None:
    if "boxes" in batch:
        raise InputError(f"Boxes cannot be mixed. Received: batch with {', '.join(batch)}")
    if "label" in batch and not batch["label"].dtype.is_floating:
        raise InputError(f"Mixing needs labels as shares, float. Received: label of dtype {batch['label'].dtype.name}")


def _draw_share(key: tf.Tensor, alpha: float, probability: float) -> tf.Tensor:
    """Returns a number from Beta(alpha, alpha), or 1 where the record is not mixed."""
    # In float64: with a small alpha both numbers are often below the least float32.
    first, second = (tf.random.stateless_gamma([], fold_in(key, i), alpha, dtype=tf.float64) for i in (0, 1))
    share = tf.cast(tf.math.divide_no_nan(first, first + second), tf.float32)
    return tf.where(uniform(fold_in(key, 2), []) < probability, share, 1.0)


def _partner(values: tf.Tensor) -> tf.Tensor:
    """Returns the values of the record before each; in shuffled batches that is a random one."""
    return tf.roll(values, 1, axis=0)


def _blend(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    share = per_image(share, values)
    return share * values + (1 - share) * _partner(values)


def _paste(values: tf.Tensor, boxes: tf.Tensor, sizes: tf.TensorShape) -> tf.Tensor:
    inside = True
    for axis, size in enumerate(sizes):
        cells = values.shape[axis + 1]
        # Middles of the cells, in pixels of the image; attention has fewer cells than pixels.
        middle = (tf.range(cells, dtype=tf.float32) + 0.5) * (size / cells)
        middle = tf.reshape(middle, [-1 if i == axis + 1 else 1 for i in range(values.shape.rank)])
        lower, upper = (per_image(tf.cast(boxes[:, axis, side], tf.float32), values) for side in (0, 1))
        inside &= (middle > lower) & (middle < upper)
    return tf.where(inside, _partner(values), values)


def _with_label(batch: Batch, share: tf.Tensor) -> Batch:
    if "label" not in batch:
        return batch
    label = batch["label"]
    # Without a part of the partner its unknown labels do not matter.
    alone = per_image(share, label) == 1
    return batch | {"label": tf.where(alone, label, _blend(label, share))}
