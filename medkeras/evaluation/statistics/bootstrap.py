"""Bootstrap confidence intervals, by patient where images of one patient are not independent."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_predictions, group_index
from medkeras.evaluation.measures import Measure, named_measure
from medkeras.tasks import default_task


@dataclasses.dataclass(frozen=True)
class Interval:
    """A measured value with its confidence interval.

    Attributes:
        value: The measure on all images.
        low: Lower end of the interval.
        high: Upper end of the interval.

    Example:
        >>> str(Interval(0.9, 0.85, 0.94))
        '0.900 (0.850 to 0.940)'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_dict(self) -> dict[str, float]:
        """Returns `value`, `low` and `high`."""
        return dataclasses.asdict(self)


def bootstrap(
    measure: str | Measure,
    labels: Any,
    probabilities: Any,
    *,
    task: str | None = None,
    groups: Any = None,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns a measure with its percentile bootstrap interval.

    Images, or whole groups of images, are drawn with replacement as often as there are. Draws on which the
    measure is undefined (a single class, say) are left out of the interval.

    Args:
        measure: A name that `named_measure` knows, or a function of `(labels, probabilities)`, arrays of
            equal length.
        labels: `(n,)` or `(n, labels)`.
        probabilities: `(n, classes)`.
        task: Needed only with a name; by default `multilabel` for labels of rank 2, else the task that fits
            the number of classes.
        groups: `(n,)` patient of each image, anything hashable; by default each image is its own.
        repeats: Number of draws.
        level: Share of draws inside the interval, in (0, 1).
        seed: Seed of the draws.

    Raises:
        ValueError: If lengths differ, an option is out of range, or (with a name) labels or probabilities
            break the rules of the task.

    Example:
        >>> scores = np.array([0.1, 0.3, 0.35, 0.8])
        >>> interval = bootstrap("auc", [0, 0, 1, 1], np.stack([1 - scores, scores], 1), repeats=200)
        >>> interval.value, interval.high
        (1.0, 1.0)
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    function, (labels, probabilities) = _prepare(measure, labels, [probabilities], task)
    return _interval(
        lambda rows: function(labels[rows], probabilities[rows]), len(labels), groups, repeats, level, seed
    )


def paired_bootstrap(
    measure: str | Measure,
    labels: Any,
    first: Any,
    second: Any,
    *,
    task: str | None = None,
    groups: Any = None,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns how much better the first model is than the second, on the same images, with its interval.

    Both are measured on the same draws, so what makes an image hard for both does not widen the interval. An
    interval without 0 is a difference that chance alone would seldom give.

    Args:
        measure: As for `bootstrap`.
        labels: `(n,)` or `(n, labels)`.
        first: Probabilities `(n, classes)` of the first model.
        second: Probabilities `(n, classes)` of the second model.
        task: As for `bootstrap`.
        groups: As for `bootstrap`.
        repeats: Number of draws.
        level: Share of draws inside the interval, in (0, 1).
        seed: Seed of the draws.

    Raises:
        ValueError: As for `bootstrap`.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
        >>> paired_bootstrap("accuracy", [0, 1, 0, 1], p, p, repeats=50)
        Interval(value=0.0, low=0.0, high=0.0)
    """
    arrays = [np.asarray(first), np.asarray(second)]
    function, (labels, first, second) = _prepare(measure, np.asarray(labels), arrays, task)

    def difference(rows: Any) -> float:
        return function(labels[rows], first[rows]) - function(labels[rows], second[rows])

    return _interval(difference, len(labels), groups, repeats, level, seed)


def bootstrap_all(
    measures: Callable[..., Mapping[str, float]],
    arrays: Sequence[Any],
    *,
    groups: Any = None,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns several measures with percentile bootstrap intervals, all from the same draws of patients.

    Args:
        measures: A function of the arrays that returns `{name: value}`, the same names for every draw.
        arrays: Arrays of equal length `n`: labels, probabilities of one model or of two, decisions, ...
        groups: As for `bootstrap`.
        repeats: Number of draws.
        level: Share of draws inside each interval, in (0, 1).
        seed: Seed of the draws.

    Raises:
        ValueError: If lengths differ, there are no images, or an option is out of range.

    Example:
        >>> found = bootstrap_all(lambda x: {"mean": x.mean(), "largest": x.max()}, [[1, 2, 3]], repeats=20)
        >>> found["mean"].value, found["largest"].high
        (2.0, 3.0)
    """
    _check_draws(repeats, level)
    arrays = [np.asarray(array) for array in arrays]
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise InputError(f"`arrays` must be of one length, at least 1. Received: lengths {lengths}")
    values = measures(*arrays)
    rows = resamples(lengths[0], groups=groups, repeats=repeats, seed=seed)
    draws = [list(measures(*(array[r] for array in arrays)).values()) for r in rows]
    columns = np.array(draws, dtype=np.float64).T
    return {name: _interval_of(values[name], column, level) for name, column in zip(values, columns, strict=True)}


def _prepare(
    measure: str | Measure, labels: np.ndarray, probabilities: list[np.ndarray], task: str | None
) -> tuple[Measure, list[np.ndarray]]:
    """Returns the measure as a function, then the labels and each array of probabilities, checked."""
    if callable(measure):
        for array in probabilities:
            if len(array) != len(labels):
                raise InputError(
                    "Labels and probabilities must have equal lengths. "
                    f"Received: {len(labels)} labels, {len(array)} probabilities"
                )
        return measure, [labels, *probabilities]
    if task is None:
        task = "multilabel" if labels.ndim == 2 else default_task(probabilities[0].shape[-1])
    checked = [check_predictions(labels, array, task=task) for array in probabilities]
    return named_measure(measure, task=task), [checked[0][0], *(array for _, array in checked)]


def _interval(
    measure: Callable[[Any], float], count: int, groups: Any, repeats: int, level: float, seed: int
) -> Interval:
    _check_draws(repeats, level)
    draws = np.array([measure(rows) for rows in resamples(count, groups=groups, repeats=repeats, seed=seed)])
    return _interval_of(float(measure(slice(None))), draws, level)


def _interval_of(value: float, draws: np.ndarray, level: float) -> Interval:
    draws = draws[~np.isnan(draws)]
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]) if draws.size else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


def _check_draws(repeats: int, level: float) -> None:
    if repeats < 1 or not 0 < level < 1:
        raise InputError(f"`repeats` must be >= 1 and `level` in (0, 1). Received: repeats={repeats}, level={level}")


# scipy.stats.bootstrap refuses a single patient and gives NaN where one draw is undefined:
# test_scipy_takes_no_single_patient_and_no_undefined_draw.
def resamples(count: int, *, groups: Any = None, repeats: int = 1000, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields the rows of each draw: as many images as there are, or as many whole groups, with replacement.

    Args:
        count: Number of images.
        groups: `(count,)` patient of each image; by default each image is its own.
        repeats: Number of draws.
        seed: Seed of the draws.

    Raises:
        ValueError: If there is not one group per image.

    Example:
        >>> [sorted(rows.tolist()) for rows in resamples(3, groups=["a", "a", "a"], repeats=1)]
        [[0, 1, 2]]
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(repeats):
            yield rng.integers(count, size=count)
        return
    group = group_index(groups, count)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    for _ in range(repeats):
        yield np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
