"""Means of per-image values with bootstrap intervals over patients, many columns on the same draws."""

from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.statistics.bootstrap import Interval


def mean_interval(values: Any, *, groups: Any = None, seed: int = 0) -> Interval:
    """Returns the mean of per-image values with its 95 % bootstrap interval over patients.

    Args:
        values: `(n,)`.
        groups: Patient of each image; by default each image is its own.
        seed: Seed of the bootstrap.

    Example:
        >>> mean_interval([0.5, 0.5, 0.5])
        Interval(value=0.5, low=0.5, high=0.5)
    """
    return mean_intervals(np.asarray(values)[:, None], groups=groups, seed=seed)[0]


def mean_intervals(values: Any, *, groups: Any = None, repeats: int = 1000, seed: int = 0) -> list[Interval]:
    """Returns the mean of each column with its 95 % interval, as `bootstrap` gives it, all on the same draws.

    Args:
        values: `(n, columns)`.
        groups: Patient of each image; by default each image is its own.
        repeats: Number of draws.
        seed: Seed of the draws.

    Raises:
        ValueError: If the groups are not one per image.

    Example:
        >>> [str(interval) for interval in mean_intervals([[0.5, 1.0], [0.5, 1.0]])]
        ['0.500 (0.500 to 0.500)', '1.000 (1.000 to 1.000)']
    """
    values = np.asarray(values, np.float64)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    if groups.shape != (len(values),):
        raise InputError(f"`groups` must have one entry per image, {len(values)}. Received: {len(groups)}")
    names, group = np.unique(groups, return_inverse=True)
    sizes, sums = np.bincount(group), np.zeros((len(names), values.shape[1]))
    np.add.at(sums, group, values)
    rng, draws = np.random.default_rng(seed), np.empty((repeats, values.shape[1]))
    for draw in draws:
        drawn = rng.integers(len(names), size=len(names))
        draw[:] = sums[drawn].sum(axis=0) / sizes[drawn].sum()
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return [Interval(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]
