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


def class_map(model: ImageClassifier, images: Any, *, method: str = "grad_cam", target: Any = None) -> np.ndarray:
    """Maps which places of the features spoke for a class, by the gradient of its logit there.

    At each place the features are summed over their channels, each with a weight; the negative part of the sum is cut
    off. Glimpses are held at the image, but move with the features. The methods differ in the weight:

    - `grad_cam`: the mean over places of the channel's gradient.
    - `grad_cam_plus_plus`: the sum over places of the positive gradient `g`, each divided by `2 + g` times the
      channel's sum: equation 19 of the paper, in which several places of one class count alike. The paper's features
      are positive; the sum is taken over the positive ones.
    - `layer_cam`: the gradient at the place itself, where it is positive, so that the map is as fine as the features.
    - `hires_cam`: the gradient at the place itself, of the logit less the mean of all classes' logits, since a softmax
      goes by differences alone; of several labels, each is taken by itself. No weight is averaged over places, so the
      map also holds for models that do not end in a mean of the features, such as DualAttendMed.

    Args:
        model: A model with the explain point `features`.
        images: `(batch, *model.image_shape)` in [0, 1].
        method: One of `CLASS_MAP_METHODS`.
        target: Index of a class or label, one for all images or one per image; by default the one with the
            largest logit.

    Returns:
        Float32 `(batch, *image grid)` in [0, 1], each map divided by its maximum; a map without any positive
        place is 0.

    Raises:
        ValueError: If there is no such method, the model has no such point, the images do not fit it, or a target is
            no class of it.

    Reference:
        `grad_cam`: Selvaraju et al., arXiv 1610.02391. `grad_cam_plus_plus`: Chattopadhyay et al., arXiv 1710.11063.
        `layer_cam`: Jiang et al., IEEE TIP 30, 2021. `hires_cam`: Draelos and Carin, arXiv 2011.08891.

    Example:
        >>> from medkeras.models import create
        >>> model, images = create("focusnet2d_tiny", num_classes=2), np.ones((1, 28, 28, 1), "float32")
        >>> class_map(model, images, target=1).shape, class_map(model, images, method="hires_cam").shape
        ((1, 28, 28), (1, 28, 28))
    """
    if method not in CLASS_MAP_METHODS:
        raise InputError(f"`method` must be one of {', '.join(CLASS_MAP_METHODS)}. Received: method={method!r}")
    weigh, targets = CLASS_MAP_METHODS[method], class_targets(target, len(images), model.num_classes)
    # What each class is lessened by.
    contrast = 1 / model.num_classes if method == "hires_cam" and not is_multilabel(model.task) else 0.0
    seen, maps = compiled(model, "features and gradient", lambda: _features_and_gradient(model)), []
    for batch in image_batches(model, images):
        wanted, targets = targets[: len(batch)], targets[len(batch) :]
        features, gradient = map(to_numpy, seen(batch, wanted, np.full(len(batch), contrast, np.float32)))
        maps.append(np.maximum((weigh(features, gradient) * features).sum(axis=-1, keepdims=True), 0))
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


def _mean_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return gradient.mean(axis=_places(gradient), keepdims=True)


def _shared_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    positive, total = np.maximum(gradient, 0), np.maximum(features, 0).sum(axis=_places(features), keepdims=True)
    return (positive / (2 + positive * total)).sum(axis=_places(features), keepdims=True)


def _positive_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return np.maximum(gradient, 0)


def _own_gradient(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return gradient


def _places(features: np.ndarray) -> tuple[int, ...]:
    return tuple(range(1, features.ndim - 1))


# From features and gradient, `(batch, *grid, channels)`, to the weight of each channel, at each place or at all.
CLASS_MAP_METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "grad_cam": _mean_gradient,
    "grad_cam_plus_plus": _shared_gradient,
    "layer_cam": _positive_gradient,
    "hires_cam": _own_gradient,
}
