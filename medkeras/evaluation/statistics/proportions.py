"""Intervals of shares, such as a sensitivity: Wilson's and the exact one, by patient where patients have several."""

from statistics import NormalDist
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_level, group_index
from medkeras.evaluation.statistics.bootstrap import Interval

METHODS = ("wilson", "exact")


def proportion_interval(hits: float, count: float, *, method: str = "wilson", level: float = 0.95) -> Interval:
    """Returns the share of hits among so many independent images, with its interval.

    Wilson's covers the truth about as often as it says, also near 0 and 1, where an interval of value and standard
    error leaves [0, 1]. The exact one (Clopper and Pearson) covers it at least as often, at the price of width: for a
    few dozen images, or where a promise has to be kept.

    Args:
        hits: How many, from 0 to `count`.
        count: Of how many; an effective number need not be whole.
        method: `wilson` or `exact`.
        level: How often the truth shall lie inside, in (0, 1).

    Returns:
        The share and its ends in [0, 1]; all NaN where `count` is 0.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Wilson, 1927; Clopper and Pearson, 1934; compared by Newcombe, Statistics in Medicine 17:857, 1998.

    Example:
        >>> str(proportion_interval(81, 263)), str(proportion_interval(81, 263, method="exact"))
        ('0.308 (0.255 to 0.366)', '0.308 (0.253 to 0.368)')
    """
    check_level(level)
    if method not in METHODS:
        raise InputError(f"`method` must be one of {', '.join(METHODS)}. Received: method={method!r}")
    if not 0 <= hits <= count < np.inf:
        raise InputError(f"`hits` must lie from 0 to `count`. Received: hits={hits}, count={count}")
    if count == 0:
        return Interval(np.nan, np.nan, np.nan)
    ends = _wilson(hits, count, level) if method == "wilson" else _exact(hits, count, level)
    return Interval(float(hits / count), *ends)


def share_interval(happened: Any, *, groups: Any = None, method: str = "wilson", level: float = 0.95) -> Interval:
    """Returns the share of images on which something happened, with its interval, by patient.

    Images of one patient resemble each other, so they tell less than as many patients would: the interval is that of
    the effective number of images, the actual one over the design effect (the variance of the share by patients over
    that of independent images, at least 1). Where all images agree that effect is unknown and patients are counted.

    Args:
        happened: Boolean `(n,)`.
        groups: `(n,)` patient of each image, anything that sorts; by default each image is its own.
        method: As for `proportion_interval`.
        level: As for `proportion_interval`.

    Raises:
        ValueError: If an argument is out of range, or `groups` has another length.

    Reference:
        Korn and Graubard, Survey Methodology 24:193, 1998; Dean and Pagano, J Surv Stat Methodol 3:484, 2015.

    Example:
        >>> happened = [1, 1, 1, 0, 0, 1, 1, 1]
        >>> str(share_interval(happened)), str(share_interval(happened, groups=[0, 0, 0, 1, 1, 2, 2, 2]))
        ('0.750 (0.409 to 0.929)', '0.750 (0.241 to 0.966)')
    """
    happened = np.asarray(happened, dtype=np.float64).ravel()
    count = len(happened)
    effective = count if groups is None or not count else _effective_count(happened, group_index(groups, count))
    share = happened.mean() if count else 0.0
    return proportion_interval(share * effective, effective, method=method, level=level)


def difference_of(first: Interval, second: Interval) -> Interval:
    """Returns how much larger the first value is than the second, from the intervals of two separate sets of images.

    It takes each end from the intervals' own ends, so it keeps their lack of symmetry. Where the sets share patients,
    it is too wide rather than too narrow, since images of one patient go the same way.

    Reference:
        Newcombe, Statistics in Medicine 17:873, 1998, method 10; Zou and Donner, Statistics in Medicine 27:1693, 2008.

    Example:
        >>> str(difference_of(proportion_interval(56, 70), proportion_interval(48, 80)))
        '0.200 (0.052 to 0.334)'
    """
    value = first.value - second.value
    below = np.hypot(first.value - first.low, second.high - second.value)
    above = np.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, float(value - below), float(value + above))


# scipy.stats.binomtest takes whole numbers only; the effective number of images is not one:
# test_scipy_takes_no_effective_numbers.
def _wilson(hits: float, count: float, level: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (hits + z**2 / 2) / (count + z**2)
    half = z / (count + z**2) * np.sqrt(hits * (1 - hits / count) + z**2 / 4)
    # At 0 and 1 the two terms are equal, up to rounding.
    return (
        0.0 if hits == 0 else float(max(middle - half, 0.0)),
        1.0 if hits == count else float(min(middle + half, 1.0)),
    )


def _exact(hits: float, count: float, level: float) -> tuple[float, float]:
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    return (
        0.0 if hits == 0 else float(betaincinv(hits, count - hits + 1, tail)),
        1.0 if hits == count else float(betaincinv(hits + 1, count - hits, 1 - tail)),
    )


def _effective_count(happened: np.ndarray, group: np.ndarray) -> float:
    count, patients, share = len(happened), int(group.max()) + 1, happened.mean()
    if share in (0, 1) or patients == 1:
        return patients
    apart = np.bincount(group, weights=happened - share)
    variance = patients / (patients - 1) * np.sum(apart**2) / count**2
    effect = variance * (count - 1) / (share * (1 - share))
    return count / max(effect, 1.0)
