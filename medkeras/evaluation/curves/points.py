"""Single points of the ROC and precision-recall curves, and bands around whole curves.

The thresholds of these points lie where the images themselves would have them: they tell what a ranking is worth, and
are hopeful as a promise for new images. Decisions that are to be used have a frozen `OperatingPoint`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_level, check_scores
from medkeras.evaluation.statistics.bootstrap import resamples


def sensitivity_at(positive: Any, scores: Any, *, specificity: Any) -> Any:
    """Returns the largest sensitivity of a threshold that keeps a specificity.

    Args:
        positive: Boolean `(n,)`.
        scores: `(n,)`, larger for more likely.
        specificity: To keep at least, in [0, 1]: a number, or an array for as many points.

    Returns:
        In [0, 1], of the shape of `specificity`; NaN without a positive or without a negative.

    Raises:
        ValueError: If lengths differ, a label or score is NaN, or the specificity is out of range.

    Example:
        >>> sensitivity_at([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], specificity=1.0)
        0.5
    """
    positives, negatives, needed = _sorted(positive, scores, specificity, "specificity", of=0)
    if not (len(positives) and len(negatives)):
        return _shaped(np.full(needed.shape, np.nan))
    # All below or at the last of the negatives that have to be rejected is rejected.
    limit = np.concatenate([[-np.inf], negatives])[needed]
    return _shaped(1 - np.searchsorted(positives, limit, "right") / len(positives))


def specificity_at(positive: Any, scores: Any, *, sensitivity: Any) -> Any:
    """Returns the largest specificity of a threshold that keeps a sensitivity.

    Args:
        positive: Boolean `(n,)`.
        scores: `(n,)`, larger for more likely.
        sensitivity: To keep at least, in [0, 1]: a number, or an array for as many points.

    Returns:
        In [0, 1], of the shape of `sensitivity`; NaN without a positive or without a negative.

    Raises:
        ValueError: If lengths differ, a label or score is NaN, or the sensitivity is out of range.

    Example:
        >>> specificity_at([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], sensitivity=1.0)
        0.5
    """
    positives, negatives, needed = _sorted(positive, scores, sensitivity, "sensitivity", of=1)
    if not (len(positives) and len(negatives)):
        return _shaped(np.full(needed.shape, np.nan))
    limit = np.concatenate([[np.inf], positives[::-1]])[needed]
    return _shaped(np.searchsorted(negatives, limit, "left") / len(negatives))


def precision_at(positive: Any, scores: Any, *, recall: Any) -> Any:
    """Returns the precision where a recall is just reached.

    Args:
        positive: Boolean `(n,)`.
        scores: `(n,)`, larger for more likely.
        recall: To reach, in [0, 1]: a number, or an array; of 0, the precision at the first positive found.

    Returns:
        In [0, 1], of the shape of `recall`; NaN without a positive or without a negative.

    Raises:
        ValueError: If lengths differ, a label or score is NaN, or the recall is out of range.

    Example:
        >>> round(precision_at([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], recall=1.0), 3)
        0.667
    """
    positives, negatives, needed = _sorted(positive, scores, recall, "recall", of=1)
    if not (len(positives) and len(negatives)):
        return _shaped(np.full(needed.shape, np.nan))
    limit = positives[::-1][np.maximum(needed, 1) - 1]
    hit = len(positives) - np.searchsorted(positives, limit, "left")
    false = len(negatives) - np.searchsorted(negatives, limit, "left")
    return _shaped(hit / (hit + false))


def youden_index(positive: Any, scores: Any) -> float:
    """Returns the largest sensitivity + specificity - 1 of any threshold: 0 by chance, 1 without an error.

    Args:
        positive: Boolean `(n,)`.
        scores: `(n,)`, larger for more likely.

    Returns:
        In [0, 1]; NaN without a positive or without a negative.

    Raises:
        ValueError: If lengths differ, or a label or score is NaN.

    Reference:
        Youden, Cancer 3:32, 1950.

    Example:
        >>> youden_index([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        0.5
    """
    positive, scores = check_scores(positive, scores)
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    if not (len(positives) and len(negatives)):
        return np.nan
    cuts = np.concatenate([[-np.inf], negatives])
    missed = np.searchsorted(positives, cuts, "right") / len(positives)
    return float((np.searchsorted(negatives, cuts, "right") / len(negatives) - missed).max())


def curve_band(
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray],
    positive: Any,
    scores: Any,
    *,
    groups: Any = None,
    repeats: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower and upper edge of a curve's percentile bootstrap band, point by point.

    Each point of the true curve lies inside as often as `level` says; that all do at once is less often.

    Args:
        curve: A function of `(positive, scores)` that returns the curve's heights `(points,)` at fixed places.
        positive: Boolean `(n,)`.
        scores: `(n,)`.
        groups: `(n,)` patient of each image; by default each image is its own.
        repeats: Number of draws, at least 1.
        level: Share of draws inside the band at each point, in (0, 1).
        seed: Seed of the draws.

    Returns:
        Two arrays `(points,)`; NaN where no draw has the curve.

    Raises:
        ValueError: If lengths differ, a label or score is NaN, or an option is out of range.

    Example:
        >>> places = np.array([0.0, 0.5])
        >>> low, high = curve_band(lambda p, s: sensitivity_at(p, s, specificity=places), [0, 0, 1, 1], [1, 3, 2, 4])
        >>> low.tolist(), high.tolist()
        ([1.0, 0.0], [1.0, 1.0])
    """
    check_level(level)
    if repeats < 1:
        raise InputError(f"`repeats` must be at least 1. Received: repeats={repeats}")
    positive, scores = check_scores(positive, scores)
    rows = resamples(len(positive), groups=groups, repeats=repeats, seed=seed)
    draws = np.array([curve(positive[r], scores[r]) for r in rows])
    low, high = np.full((2, draws.shape[1]), np.nan)
    defined = ~np.isnan(draws).all(axis=0)
    tail = (1 - level) / 2
    if defined.any():
        low[defined], high[defined] = np.nanquantile(draws[:, defined], [tail, 1 - tail], axis=0)
    return low, high


def _sorted(positive: Any, scores: Any, bound: Any, name: str, *, of: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the sorted scores of positives and negatives, and how many of one kind the bound asks for."""
    positive, scores = check_scores(positive, scores)
    bound = np.asarray(bound, dtype=np.float64)
    if not ((bound >= 0) & (bound <= 1)).all():
        raise InputError(f"`{name}` must lie in [0, 1]. Received: {name}={bound.tolist()}")
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    # 0.9 of 10 images is 9 of them, whatever the rounding.
    needed = np.ceil(bound * len((negatives, positives)[of]) - 1e-9).astype(int)
    return positives, negatives, needed


def _shaped(values: np.ndarray) -> Any:
    return values if np.ndim(values) else float(values)
