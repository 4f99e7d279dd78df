"""Attributions to pixels by the gradient of a class's logit: integrated gradients and SmoothGrad."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from medkeras.backend.gradients import compiled, input_gradient
from medkeras.errors import InputError
from medkeras.explain.methods.class_map import class_targets, one_hot_targets
from medkeras.explain.methods.feature_maps import BATCH, image_batches, to_numpy
from medkeras.models import ImageClassifier


def integrated_gradients(
    model: ImageClassifier, images: Any, *, target: Any = None, steps: int = 32, baseline: Any = None
) -> np.ndarray:
    """Shares the rise of a class's logit from a baseline to the image out to the pixels: integrated gradients.

    The gradient is integrated along the straight line from the baseline to the image by Gauss and Legendre's rule, and
    multiplied by their difference. The map sums to the logit of the image less that of the baseline, as far as the
    number of steps allows.

    Args:
        model: Any model of this package.
        images: `(batch, *model.image_shape)` in [0, 1].
        target: Index of a class or label, one for all images or one per image; by default the one with the
            largest logit.
        steps: Points on the line, at least 1.
        baseline: An image without what is looked for, a number, one per channel, or `image_shape`; by default
            `model.mean_pixel`, which the model's own normalisation turns to 0.

    Returns:
        Float32 `(batch, *image grid)`, in logits, summed over channels: positive where a pixel speaks for the class.

    Raises:
        ValueError: If the images do not fit the model, or an argument is out of range.

    Reference:
        Sundararajan et al., Axiomatic Attribution for Deep Networks, arXiv 1703.01365, equation 1.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> integrated_gradients(model, np.ones((1, 32, 32, 3)), target=1, steps=4).shape
        (1, 32, 32)
    """
    if steps < 1:
        raise InputError(f"`steps` must be at least 1. Received: steps={steps}")
    start = baseline_image(model, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    places = ((nodes + 1) / 2).reshape(-1, *[1] * len(model.image_shape))

    def share(image: np.ndarray, gradients: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        mean = np.tensordot(weights / 2, gradients(start + places * (image - start)), axes=1)
        return (mean * (image - start)).sum(axis=-1)

    return _attributions(model, images, target, share)


def smooth_grad(
    model: ImageClassifier,
    images: Any,
    *,
    target: Any = None,
    samples: int = 32,
    noise: float = 0.15,
    seed: int = 0,
    signed: bool = False,
) -> np.ndarray:
    """Maps how much a class's logit depends on each pixel, averaged over noisy copies of the image: SmoothGrad.

    The noise is the same for all images, so that the map of one does not depend on the others.

    Args:
        model: Any model of this package.
        images: `(batch, *model.image_shape)` in [0, 1].
        target: As for `integrated_gradients`.
        samples: Noisy copies of each image, at least 1.
        noise: Standard deviation of the noise, as share of the range of the image's values, >= 0.
        seed: Seed of the noise.
        signed: Whether to sum the mean gradient over channels as it is, positive where a brighter pixel raises the
            logit; by default its absolute value is summed.

    Returns:
        Float32 `(batch, *image grid)`, logits per unit of the pixel's value.

    Raises:
        ValueError: If the images do not fit the model, or an argument is out of range.

    Reference:
        Smilkov et al., SmoothGrad: removing noise by adding noise, arXiv 1706.03825.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> smooth_grad(model, np.ones((1, 32, 32, 3)), target=1, samples=4).shape
        (1, 32, 32)
    """
    if samples < 1 or not 0 <= noise < np.inf:
        raise InputError(
            f"`samples` must be at least 1, and `noise` at least 0. Received: samples={samples}, noise={noise}"
        )
    drawn = noise * np.random.default_rng(seed).standard_normal((samples, *model.image_shape), np.float32)

    def smooth(image: np.ndarray, gradients: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        mean = gradients(image + drawn * (image.max() - image.min())).mean(axis=0)
        return (mean if signed else np.abs(mean)).sum(axis=-1)

    return _attributions(model, images, target, smooth)


def baseline_image(model: ImageClassifier, baseline: Any) -> np.ndarray:
    """Returns a baseline as float32 that broadcasts to an image of the model.

    Args:
        model: Any model of this package.
        baseline: As for `integrated_gradients`.

    Raises:
        ValueError: If it does not broadcast, or is not finite.

    Example:
        >>> from medkeras.models import create
        >>> baseline_image(create("vit_tiny", num_classes=2), None).tolist()
        [0.5, 0.5, 0.5]
    """
    values = np.asarray(model.mean_pixel if baseline is None else baseline, np.float32)
    shape = model.image_shape
    fits = values.shape in ((), shape[-1:], shape)
    if not fits or not np.isfinite(values).all():
        raise InputError(
            f"`baseline` must be a finite number, {shape[-1]} of them, or an image {shape}. "
            f"Received: baseline of shape {values.shape}"
        )
    return values


def most_probable(model: ImageClassifier, images: Any, target: Any) -> np.ndarray:
    """Returns one class per image, int32: the target, or the one with the largest logit where there is none.

    Raises:
        ValueError: If the images do not fit the model, or a target is no class.

    Example:
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(32, 32, 3), num_classes=3)
        >>> most_probable(model, np.ones((2, 32, 32, 3)), 1).tolist()
        [1, 1]
    """
    batches = image_batches(model, images)
    targets = class_targets(target, len(images), model.num_classes)
    if (targets < 0).any():
        return np.concatenate([logits_of(model, batch).argmax(axis=-1) for batch in batches]).astype(np.int32)
    return targets


def logits_of(model: ImageClassifier, batch: np.ndarray) -> np.ndarray:
    """Returns the logits of one batch, by a program that the model keeps.

    Args:
        model: Any model of this package.
        batch: Float32 `(batch, *model.image_shape)`.

    Returns:
        Float32 `(batch, classes)`.

    Example:
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(32, 32, 3), num_classes=3)
        >>> logits_of(model, np.ones((2, 32, 32, 3), "float32")).shape
        (2, 3)
    """
    return to_numpy(compiled(model, "logits", lambda: lambda x: model(x, training=False))(batch))


def _attributions(model: ImageClassifier, images: Any, target: Any, attribute: Callable[..., np.ndarray]) -> np.ndarray:
    """Returns what `attribute` makes of each image and of the gradients at any views of it."""
    targets = most_probable(model, images, target)
    program = compiled(model, "gradient of a logit", lambda: _logit_gradient(model))
    maps = []
    for image, wanted in zip(np.asarray(images, np.float32), targets, strict=True):

        def gradients(views: np.ndarray, wanted: int = wanted) -> np.ndarray:
            batches = [views[i : i + BATCH].astype(np.float32) for i in range(0, len(views), BATCH)]
            return np.concatenate([to_numpy(program(b, np.full(len(b), wanted, np.int32))) for b in batches])

        maps.append(attribute(image, gradients))
    return np.stack(maps).astype(np.float32)


def _logit_gradient(model: ImageClassifier) -> Callable[[Any, Any], Any]:
    """Returns the function from images and targets to the gradient of the target's logit by the image."""

    def run(images: Any, targets: Any) -> Any:
        def logit(images: Any) -> Any:
            logits = model(images, training=False)
            return ops.sum(logits * one_hot_targets(logits, targets), axis=-1)

        return input_gradient(logit, images)[1]

    return run
