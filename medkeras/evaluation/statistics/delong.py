"""Intervals and tests of areas under ROC curves by DeLong, without resampling, and by patient.

An area is a mean over pairs. Its variance follows from what each image contributes: a positive image the share of the
negatives below it, a negative one the share of the positives above it.
"""

import dataclasses
import math
from statistics import NormalDist
from typing import Any

import numpy as np

from medkeras.evaluation.checks import check_level, check_scores, group_index
from medkeras.evaluation.statistics.bootstrap import Interval


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far two models are apart on the same images.

    Attributes:
        interval: The first model's value less the second's.
        p_value: How often chance alone would set equal models so far apart; NaN where it cannot be told.

    Example:
        >>> str(Difference(Interval(0.02, -0.01, 0.05), 0.19))
        '0.020 (-0.010 to 0.050), p = 0.19'
    """

    interval: Interval
    p_value: float

    def __str__(self) -> str:
        return f"{self.interval}, p = {self.p_value:.2g}"

    def to_dict(self) -> dict[str, float]:
        """Returns `value`, `low`, `high` and `p_value`."""
        return self.interval.to_dict() | {"p_value": self.p_value}


def delong_variance(positive: Any, scores: Any, *, groups: Any = None) -> float:
    """Returns the variance of the area under the ROC curve.

    Args:
        positive: Boolean `(n,)`.
        scores: `(n,)`, larger for more likely.
        groups: `(n,)` patient of each image, anything that sorts; by default each image is its own.

    Returns:
        NaN with fewer than two positive or two negative images, or patients that have them.

    Raises:
        ValueError: If lengths differ, or a label or score is NaN.

    Reference:
        DeLong et al., Biometrics 44:837, 1988; Obuchowski, Biometrics 53:567, 1997, for patients.

    Example:
        >>> round(delong_variance([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]), 3)
        0.125
    """
    positive, scores = check_scores(positive, scores)
    return _variance(positive, _contributions(positive, scores), groups)


def auc_interval(
    positive: Any, scores: Any, *, groups: Any = None, logit: bool = True, level: float = 0.95
) -> Interval:
    """Returns the area under the ROC curve with DeLong's interval.

    Args:
        positive: Boolean `(n,)`.
        scores: `(n,)`, larger for more likely.
        groups: `(n,)` patient of each image, anything that sorts; by default each image is its own.
        logit: Takes the interval on the scale of log(area / (1 - area)): it stays in [0, 1] and covers the truth more
            often where the area is large or the images are few. `False` is the interval of most programs, cut at 0
            and 1.
        level: How often the truth shall lie inside, in (0, 1).

    Returns:
        Ends are NaN where the variance is, and where it is 0, as for an area of 1: images without an error do not say
        how seldom errors are.

    Raises:
        ValueError: As `delong_variance`, or if the level is out of range.

    Reference:
        DeLong et al., Biometrics 44:837, 1988; Qin and Hotilovac, Stat Methods Med Res 17:207, 2008, for the logit.

    Example:
        >>> str(auc_interval([0, 0, 0, 1, 1, 1], [0.1, 0.3, 0.6, 0.4, 0.8, 0.9]))
        '0.889 (0.261 to 0.995)'
    """
    check_level(level)
    positive, scores = check_scores(positive, scores)
    contributions = _contributions(positive, scores)
    area = _area(positive, contributions)
    error = math.sqrt(_variance(positive, contributions, groups))
    if not error > 0:
        return Interval(area, math.nan, math.nan)
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    if not logit:
        return Interval(area, max(area - reach, 0.0), min(area + reach, 1.0))
    middle, reach = math.log(area / (1 - area)), reach / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-end)) for end in (middle - reach, middle + reach))
    return Interval(area, low, high)


def delong_test(positive: Any, first: Any, second: Any, *, groups: Any = None, level: float = 0.95) -> Difference:
    """Compares the areas under the ROC curves of two models on the same images.

    Args:
        positive: Boolean `(n,)`.
        first: Scores `(n,)` of the first model.
        second: Scores `(n,)` of the second model.
        groups: `(n,)` patient of each image, anything that sorts; by default each image is its own.
        level: Of the interval, in (0, 1).

    Returns:
        The first area less the second, its interval and the two-sided p value. Models that rank the images alike
        differ by exactly 0 with p = 1.

    Raises:
        ValueError: As `delong_variance`, or if the level is out of range.

    Reference:
        DeLong et al., Biometrics 44:837, 1988; Obuchowski, Biometrics 53:567, 1997, for patients.

    Example:
        >>> positive = [0, 0, 0, 0, 1, 1, 1, 1]
        >>> str(delong_test(positive, [1, 2, 3, 5, 4, 6, 7, 8], [1, 6, 3, 7, 4, 2, 5, 8]))
        '0.375 (-0.072 to 0.822), p = 0.1'
    """
    check_level(level)
    positive, first = check_scores(positive, first)
    positive, second = check_scores(positive, second)
    contributions = _contributions(positive, first) - _contributions(positive, second)
    difference = _area(positive, contributions)
    error = math.sqrt(_variance(positive, contributions, groups))
    if error == 0 and not contributions.any():
        return Difference(Interval(0.0, 0.0, 0.0), 1.0)
    if not error > 0:
        return Difference(Interval(difference, math.nan, math.nan), math.nan)
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    p_value = 2 * NormalDist().cdf(-abs(difference) / error)
    return Difference(Interval(difference, difference - reach, difference + reach), p_value)


def _contributions(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns, for each image, the share of the other kind that it is in the right order with; ties count one half."""
    found = np.full(len(scores), np.nan)
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    if len(positives) and len(negatives):
        found[positive] = _midranks(negatives, scores[positive]) / len(negatives)
        found[~positive] = 1 - _midranks(positives, scores[~positive]) / len(positives)
    return found


def _midranks(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


def _area(positive: np.ndarray, contributions: np.ndarray) -> float:
    return float(contributions[positive].mean()) if positive.any() else math.nan


def _variance(positive: np.ndarray, contributions: np.ndarray, groups: Any) -> float:
    """Returns the variance of a mean of contributions, over patients; with one image each it is DeLong's."""
    group = np.arange(len(positive)) if groups is None else group_index(groups, len(positive))
    count = np.array([positive.sum(), (~positive).sum()])
    if count.min() == 0:
        return math.nan
    apart = contributions - _area(positive, contributions)
    patients = int(group.max()) + 1
    sums = np.stack([np.bincount(group, apart * kind, patients) for kind in (positive, ~positive)]) / count[:, None]
    having = np.array([len(np.unique(group[kind])) for kind in (positive, ~positive)])
    if having.min() < 2:
        return math.nan
    own = (having / (having - 1) * (sums**2).sum(axis=1)).sum()
    both = 2 * patients / (patients - 1) * (sums[0] @ sums[1])
    return float(max(own + both, 0.0))
