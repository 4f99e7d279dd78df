"""Class maps: which places of the whole view spoke for a class, by the gradient of its logit."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.backend.gradients import compiled, input_gradient
from medkeras.errors import InputError
from medkeras.explain.methods.feature_maps import image_batches, maps_on_image, to_numpy
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
    return _gradient_maps(model, images, target, _by_mean_gradient)


def evidence_map(model: ImageClassifier, images: Any, *, target: Any = None) -> np.ndarray:
    """Maps how much each place of the features itself adds to a class: HiResCAM, against the other classes.

    At each place, every feature is multiplied by the gradient there of the logit, less the mean of all classes'
    logits, since a softmax goes by differences alone; of several labels, each is taken by itself. The map is the sum
    over channels, its negative part cut off. Unlike Grad-CAM, no weight is averaged over places, so the map also
    holds for models that do not end in a mean of the features, such as DualAttendMed.

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
        Draelos and Carin, HiResCAM: Explainable Multi-Organ Multi-Abnormality Prediction, arXiv 2011.08891.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", num_classes=2)
        >>> evidence_map(model, np.ones((1, 64, 64, 3), "float32")).shape
        (1, 64, 64)
    """
    contrast = 0.0 if is_multilabel(model.task) else 1 / model.num_classes
    return _gradient_maps(model, images, target, _by_own_gradient, contrast=contrast)


def grad_cam_plus_plus(model: ImageClassifier, images: Any, *, target: Any = None) -> np.ndarray:
    """Maps how much each place of the features raises the logit of a class: Grad-CAM++.

    As the class map, but a channel's weight is the sum over places of the positive gradient `g`, each divided by
    `2 + g` times the channel's sum: equation 19 of the paper, in which several places of one class count alike. The
    paper's features are positive; the sum is taken over the positive ones.

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
        Chattopadhyay et al., Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks,
        arXiv 1710.11063.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> grad_cam_plus_plus(model, np.ones((1, 28, 28, 1), "float32"), target=1).shape
        (1, 28, 28)
    """
    return _gradient_maps(model, images, target, _by_shared_gradient)


def layer_cam(model: ImageClassifier, images: Any, *, target: Any = None) -> np.ndarray:
    """Maps which places of the features raise the logit of a class, each weighted by itself: Layer-CAM.

    As the class map, but each place of each channel is weighted by its own gradient, where that is positive; no weight
    is averaged over places, so that the map is as fine as the features.

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
        Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE TIP 30, 2021.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> layer_cam(model, np.ones((1, 28, 28, 1), "float32"), target=1).shape
        (1, 28, 28)
    """
    return _gradient_maps(model, images, target, _by_positive_gradient)


def _gradient_maps(
    model: ImageClassifier,
    images: Any,
    target: Any,
    fold: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    contrast: float = 0.0,
) -> np.ndarray:
    """Returns the maps that `fold` makes of features and gradient; `contrast` is what each class is lessened by."""
    targets = class_targets(target, len(images), model.num_classes)
    seen, maps = compiled(model, "features and gradient", lambda: _features_and_gradient(model)), []
    for batch in image_batches(model, images):
        wanted, targets = targets[: len(batch)], targets[len(batch) :]
        lessened = np.full(len(batch), contrast, np.float32)
        maps.append(np.maximum(fold(*map(to_numpy, seen(batch, wanted, lessened))), 0))
    maps = maps_on_image(model, "features", np.concatenate(maps))[..., 0]
    largest = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def _features_and_gradient(model: ImageClassifier) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Returns the function from images, targets and contrast to the folded features and the gradient there."""
    first, point = model.tensors("features"), model.explain_points["features"]
    rest = keras.Model([model.input, point.tensor], model.output)

    def run(images: Any, targets: Any, contrast: Any) -> tuple[Any, Any]:
        features = first(images, training=False)["features"]

        def logit(features: Any) -> Any:
            logits = rest([images, features], training=False)
            chosen = one_hot_targets(logits, targets) - contrast[:, None]
            return ops.sum(logits * chosen, axis=-1)

        _, gradient = input_gradient(logit, features)
        return point.rule.fold(features), point.rule.fold(gradient)

    return run


def class_targets(target: Any, count: int, classes: int) -> np.ndarray:
    """Returns one class per image, -1 standing for the one with the largest logit.

    Raises:
        ValueError: If a target is no class.

    Example:
        >>> class_targets(1, 2, 3).tolist()
        [1, 1]
    """
    if target is None:
        return np.full(count, -1, np.int32)
    targets = np.asarray(target)
    fits = targets.dtype.kind in "iu" and targets.shape in ((), (count,))
    if not fits or targets.min(initial=0) < 0 or targets.max(initial=0) >= classes:
        raise InputError(
            f"`target` must be None, a class from 0 to {classes - 1}, or one per image. Received: target={target}"
        )
    return np.broadcast_to(targets, (count,)).astype(np.int32)


def one_hot_targets(logits: Any, targets: Any) -> Any:
    """Returns one row of 0 and 1 per image, float32, with the class of the largest logit where the target is -1.

    Example:
        >>> to_numpy(one_hot_targets(np.array([[0.0, 2.0], [0.0, 2.0]]), np.array([-1, 0]))).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    best = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return ops.one_hot(ops.where(targets < 0, best, targets), logits.shape[-1], dtype="float32")


def _by_mean_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    weights = gradient.mean(axis=tuple(range(1, gradient.ndim - 1)), keepdims=True)
    return (weights * features).sum(axis=-1, keepdims=True)


def _by_own_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return (gradient * features).sum(axis=-1, keepdims=True)


def _by_positive_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return (np.maximum(gradient, 0) * features).sum(axis=-1, keepdims=True)


def _by_shared_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    places = tuple(range(1, features.ndim - 1))
    positive, total = np.maximum(gradient, 0), np.maximum(features, 0).sum(axis=places, keepdims=True)
    weights = (positive / (2 + positive * total)).sum(axis=places, keepdims=True)
    return (weights * features).sum(axis=-1, keepdims=True)
