"""Occlusion: how much an answer falls when a part of the image is covered."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.explain.methods.feature_maps import BATCH
from medkeras.explain.methods.input_gradients import baseline_image, logits_of, most_probable
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel


def occlusion(
    model: ImageClassifier,
    images: Any,
    *,
    target: Any = None,
    patch: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    baseline: Any = None,
) -> np.ndarray:
    """Maps how much the odds of a class fall when a patch is covered: occlusion sensitivity.

    Each pixel gets the mean, over the patches that cover it, of the fall of the log-odds `log(p / (1 - p))` of the
    class's probability. They fall by 0 where the answer stays, and have no ceiling where it is sure, as the probability
    itself has. Several labels are each taken by itself. No gradient is needed.

    Args:
        model: Any model of this package.
        images: `(batch, *model.image_shape)` in [0, 1].
        target: Index of a class or label, one for all images or one per image; by default the one with the
            largest logit.
        patch: Edge of the patch in pixels, one for all axes or one per axis; by default an eighth of each axis.
        stride: Pixels from one patch to the next, at most the patch; by default the patch.
        baseline: What the patch is filled with: as for `integrated_gradients`.

    Returns:
        Float32 `(batch, *image grid)`, in log-odds: positive where the covered place spoke for the class.

    Raises:
        ValueError: If the images do not fit the model, or an argument is out of range.

    Reference:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901, section 4.2.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> occlusion(model, np.ones((1, 32, 32, 3)), target=1, patch=16).shape
        (1, 32, 32)
    """
    grid = model.image_shape[:-1]
    size, step = _sizes(grid, patch, stride)
    fill = np.broadcast_to(baseline_image(model, baseline), model.image_shape)
    starts = itertools.product(*(range(0, n - s + d, d) for n, s, d in zip(grid, size, step, strict=True)))
    places = [tuple(slice(i, i + s) for i, s in zip(start, size, strict=True)) for start in starts]
    targets = most_probable(model, images, target)
    pairs = zip(np.asarray(images, np.float32), targets, strict=True)
    return np.stack([_map(model, image, int(wanted), places, fill) for image, wanted in pairs])


def log_odds(logits: np.ndarray, target: int, task: str) -> np.ndarray:
    """Returns the log-odds of a class's probability: of a label its logit, else less the logsumexp of the others.

    Args:
        logits: `(batch, classes)`.
        target: Index of the class or label.
        task: One of `medkeras.tasks.TASKS`.

    Returns:
        `(batch,)`.

    Example:
        >>> log_odds(np.array([[0.0, 3.0, -np.inf]]), 1, "multiclass").tolist()
        [3.0]
    """
    if is_multilabel(task):
        return logits[:, target]
    return logits[:, target] - np.logaddexp.reduce(np.delete(logits, target, axis=1), axis=1)


def _map(
    model: ImageClassifier, image: np.ndarray, target: int, places: list[tuple[slice, ...]], fill: np.ndarray
) -> np.ndarray:
    """Returns the map of one image, `(*image grid)`."""

    def odds(batch: np.ndarray) -> np.ndarray:
        return log_odds(logits_of(model, batch), target, model.task)

    whole = odds(image[None])
    total, count = np.zeros(image.shape[:-1], np.float64), np.zeros(image.shape[:-1], np.float64)
    for first in range(0, len(places), BATCH):
        part = places[first : first + BATCH]
        covered = np.repeat(image[None], len(part), axis=0)
        for view, place in zip(covered, part, strict=True):
            view[place] = fill[place]
        for place, fall in zip(part, whole - odds(covered), strict=True):
            total[place] += fall
            count[place] += 1
    return (total / count).astype(np.float32)


def _sizes(grid: tuple[int, ...], patch: Any, stride: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns edge and stride of the patch on each axis."""
    size = _per_axis([-(-n // 8) for n in grid] if patch is None else patch, len(grid))
    step = size if stride is None else _per_axis(stride, len(grid))
    if not all(1 <= d <= s <= n for n, s, d in zip(grid, size, step, strict=True)):
        raise InputError(
            f"`patch` must be from 1 to the image's {grid}, and `stride` from 1 to the patch, whole pixels. "
            f"Received: patch={patch}, stride={stride}"
        )
    return size, step


def _per_axis(value: Any, rank: int) -> tuple[int, ...]:
    """Returns one whole number per axis, 0 where there is none."""
    given = np.asarray(value)
    is_one_per_axis = given.dtype.kind in "iu" and given.shape in ((), (rank,))
    return tuple(np.broadcast_to(given, rank).tolist()) if is_one_per_axis else (0,) * rank
