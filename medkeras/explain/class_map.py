"""Class maps: which places of the whole view spoke for a class."""

from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.explain.maps import image_batches, maps_on_image, to_numpy
from medkeras.gradients import input_gradient
from medkeras.models import ImageClassifier


def class_map(model: ImageClassifier, images: Any, *, target: Any = None) -> np.ndarray:
    """Maps how much each place of the features raises the logit of a class: Grad-CAM.

    A channel's weight is the mean over places of the logit's gradient; the map is the weighted sum of the
    channels, its negative part cut off. Glimpses are held at the image, but move with the features.

    Args:
        model: A model with the explain point `features`.
        images: `(batch, *model.image_shape)` in [0, 1].
        target: Index of a class or label, one for all images or one per image; by default the one with the
            largest logit.

    Returns:
        Float32 `(batch, *image grid)` in [0, 1], each map divided by its maximum; a map without any positive
        place is 0.

    Raises:
        ValueError: If the model has no such point, the images do not fit it, or a target is no class of it.

    Reference:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks, arXiv 1610.02391.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> class_map(model, np.ones((1, 28, 28, 1), "float32"), target=1).shape
        (1, 28, 28)
    """
    whole = model.tensors("features", "logits")
    point = model.explain_points["features"]
    rest = keras.Model([model.input, point.tensor], model.output)
    targets = _targets(target, len(images), model.num_classes)
    maps = []
    for batch in image_batches(model, images):
        seen = whole(batch, training=False)
        wanted, targets = targets[: len(batch)], targets[len(batch) :]
        wanted = np.where(wanted < 0, to_numpy(seen["logits"]).argmax(axis=-1), wanted)
        gradient = _logit_gradient(
            rest, ops.convert_to_tensor(batch), seen["features"], ops.one_hot(wanted, model.num_classes)
        )
        maps.append(_weighted_sum(*(to_numpy(point.rule.fold(t)) for t in (seen["features"], gradient))))
    maps = maps_on_image(model, "features", np.concatenate(maps))[..., 0]
    largest = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def _targets(target: Any, count: int, classes: int) -> np.ndarray:
    """Returns one class per image, -1 standing for the one with the largest logit."""
    if target is None:
        return np.full(count, -1)
    targets = np.asarray(target)
    fits = targets.dtype.kind in "iu" and targets.shape in ((), (count,))
    if not fits or targets.min(initial=0) < 0 or targets.max(initial=0) >= classes:
        raise ValueError(
            f"`target` must be None, a class from 0 to {classes - 1}, or one per image. Received: target={target}"
        )
    return np.broadcast_to(targets, (count,))


def _logit_gradient(rest: keras.Model, images: Any, features: Any, wanted: Any) -> Any:
    def logit(features: Any) -> Any:
        return ops.sum(rest([images, features], training=False) * wanted, axis=-1)

    return input_gradient(logit, features)[1]


def _weighted_sum(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    weights = gradient.mean(axis=tuple(range(1, gradient.ndim - 1)), keepdims=True)
    return np.maximum((weights * features).sum(axis=-1, keepdims=True), 0)
