"""Class maps: which places of the whole view spoke for a class, by the gradient of its logit."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.explain.maps import image_batches, maps_on_image, to_numpy
from medkeras.gradients import input_gradient
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel


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
    return _gradient_maps(model, images, target, _by_mean_gradient, contrast=0.0)


def evidence_map(model: ImageClassifier, images: Any, *, target: Any = None) -> np.ndarray:
    """Maps how much each place of the features itself adds to a class: HiResCAM, against the other classes.

    At each place, every feature is multiplied by the gradient there of the logit, less the mean of all classes'
    logits, since a softmax goes by differences alone; of several labels, each is taken by itself. The map is the sum
    over channels, its negative part cut off. Unlike Grad-CAM, no weight is averaged over places, so the map also
    holds for models that do not end in a mean of the features, such as DualAttendMed.

    Args:
        model: A model with the explain point `features`.
        images: As for `class_map`.
        target: As for `class_map`.

    Returns:
        As `class_map`.

    Raises:
        ValueError: As `class_map`.

    Reference:
        Draelos and Carin, HiResCAM: Explainable Multi-Organ Multi-Abnormality Prediction, arXiv 2011.08891.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", num_classes=2)
        >>> evidence_map(model, np.ones((1, 64, 64, 3), "float32")).shape
        (1, 64, 64)
    """
    contrast = 0.0 if is_multilabel(model.task) else 1 / model.num_classes
    return _gradient_maps(model, images, target, _by_own_gradient, contrast=contrast)


def _gradient_maps(
    model: ImageClassifier,
    images: Any,
    target: Any,
    fold: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    contrast: float,
) -> np.ndarray:
    """Returns the maps that `fold` makes of features and gradient; `contrast` is what each class is lessened by."""
    whole = model.tensors("features", "logits")
    point = model.explain_points["features"]
    rest = keras.Model([model.input, point.tensor], model.output)
    targets = class_targets(target, len(images), model.num_classes)
    maps = []
    for batch in image_batches(model, images):
        seen = whole(batch, training=False)
        wanted, targets = targets[: len(batch)], targets[len(batch) :]
        wanted = np.where(wanted < 0, to_numpy(seen["logits"]).argmax(axis=-1), wanted)
        weights = ops.one_hot(wanted, model.num_classes) - contrast
        gradient = _logit_gradient(rest, ops.convert_to_tensor(batch), seen["features"], weights)
        maps.append(np.maximum(fold(*(to_numpy(point.rule.fold(t)) for t in (seen["features"], gradient))), 0))
    maps = maps_on_image(model, "features", np.concatenate(maps))[..., 0]
    largest = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def class_targets(target: Any, count: int, classes: int) -> np.ndarray:
    """Returns one class per image, -1 standing for the one with the largest logit.

    Raises:
        ValueError: If a target is no class.

    Example:
        >>> class_targets(1, 2, 3).tolist()
        [1, 1]
    """
    if target is None:
        return np.full(count, -1)
    targets = np.asarray(target)
    fits = targets.dtype.kind in "iu" and targets.shape in ((), (count,))
    if not fits or targets.min(initial=0) < 0 or targets.max(initial=0) >= classes:
        raise ValueError(
            f"`target` must be None, a class from 0 to {classes - 1}, or one per image. Received: target={target}"
        )
    return np.broadcast_to(targets, (count,))


def _logit_gradient(rest: keras.Model, images: Any, features: Any, weights: Any) -> Any:
    def logit(features: Any) -> Any:
        return ops.sum(rest([images, features], training=False) * weights, axis=-1)

    return input_gradient(logit, features)[1]


def _by_mean_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    weights = gradient.mean(axis=tuple(range(1, gradient.ndim - 1)), keepdims=True)
    return (weights * features).sum(axis=-1, keepdims=True)


def _by_own_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return (gradient * features).sum(axis=-1, keepdims=True)
