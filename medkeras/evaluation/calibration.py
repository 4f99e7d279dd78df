"""Calibration: whether what is given a probability happens as often."""

import dataclasses
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_predictions
from medkeras.evaluation.measures import headline, one_vs_rest
from medkeras.tasks import is_multilabel

BINNINGS = ("width", "mass")
SMALLEST = np.finfo(np.float64).eps  # What a probability counts as at least, in a logarithm.


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Events sorted into bins by their probability: what a reliability diagram shows.

    Attributes:
        edges: `(bins + 1,)`, from 0 to 1; an event at an edge lies in the bin below.
        count: `(bins,)`, events.
        confidence: `(bins,)`, their mean probability; NaN in an empty bin.
        frequency: `(bins,)`, the share that happened; NaN in an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over events of how far confidence and frequency are apart."""
        share = self.count / self.count.sum()
        return float(np.nansum(share * np.abs(self.confidence - self.frequency)))

    @property
    def largest_error(self) -> float:
        """The largest such distance of any bin."""
        return float(np.nanmax(np.abs(self.confidence - self.frequency)))


def reliability(
    labels: Any, probabilities: Any, *, task: str, of: int | None = None, bins: int = 15, binning: str = "width"
) -> Reliability:
    """Sorts predictions into bins and compares probability with frequency.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN for a `multilabel` task.
        probabilities: `(n, classes)` in [0, 1].
        task: One of `medkeras.tasks.TASKS`.
        of: The class or label whose probability is looked at. By default class 1 of a `binary` task, the most
            probable class of others, being right the event, and all known labels together of a `multilabel` task.
        bins: Number of bins, at least 1.
        binning: `width`, all equally wide, or `mass`, all with as many events, equal probabilities staying together.

    Raises:
        ValueError: If an argument is out of range, there is no such class, a label or probability breaks the rules of
            the task, or no label is known.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.3, 0.7], [0.1, 0.9]])
        >>> found = reliability([0, 1, 1, 1], probabilities, task="binary", bins=2)
        >>> found.count.tolist(), found.confidence.round(2).tolist(), found.frequency.tolist()
        ([2, 2], [0.2, 0.8], [0.5, 1.0])
    """
    if bins < 1 or binning not in BINNINGS:
        raise InputError(
            f"`bins` must be at least 1 and `binning` one of {', '.join(BINNINGS)}. "
            f"Received: bins={bins}, binning={binning!r}"
        )
    happened, scores = _events(*check_predictions(labels, probabilities, task=task), task, of)
    edges = np.linspace(0, 1, bins + 1)
    if binning == "mass":
        inner = np.unique(np.quantile(scores, edges[1:-1]))
        edges = np.concatenate([[0.0], inner[(inner > 0) & (inner < 1)], [1.0]])
    place = np.searchsorted(edges[1:-1], scores)
    count = np.bincount(place, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, values, minlength=len(count)) / count for values in (scores, happened)]
    return Reliability(edges, count, *means)


def expected_calibration_error(labels: Any, probabilities: Any, *, task: str, **options: Any) -> float:
    """Returns the mean distance of probability and frequency over bins: see `reliability` for the arguments.

    It is biased upwards, the more the fewer images there are; `bootstrap` gives it an interval.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.3, 0.7], [0.1, 0.9]])
        >>> round(expected_calibration_error([0, 1, 1, 1], probabilities, task="binary", bins=2), 3)
        0.25
    """
    return reliability(labels, probabilities, task=task, **options).error


def brier_score(labels: Any, probabilities: Any, *, task: str) -> float:
    """Returns the mean squared distance of probabilities from what was.

    Of class 1 in a `binary` task, in [0, 1]; summed over the classes of other single-label tasks, in [0, 2]; the mean
    over the known labels of each label, then over labels, in a `multilabel` task.

    Args:
        labels: As for `reliability`.
        probabilities: As for `reliability`.
        task: One of `medkeras.tasks.TASKS`.

    Raises:
        ValueError: If a label or probability breaks the rules of the task.

    Reference:
        Brier, 1950.

    Example:
        >>> round(brier_score([0, 1], [[0.9, 0.1], [0.4, 0.6]], task="binary"), 3)
        0.085
    """
    pairs = one_vs_rest(*check_predictions(labels, probabilities, task=task), task=task)
    per_class = [np.mean((score - own) ** 2) if len(own) else np.nan for own, score in pairs]
    return _over_classes(np.array(per_class), task)


def brier_decomposition(
    labels: Any, probabilities: Any, *, task: str, bins: int = 15, binning: str = "width"
) -> dict[str, float]:
    """Returns what the Brier score is made of: `reliability - resolution + uncertainty + within_bins`.

    Args:
        labels: As for `reliability`.
        probabilities: As for `reliability`.
        task: One of `medkeras.tasks.TASKS`.
        bins: As for `reliability`.
        binning: As for `reliability`.

    Returns:
        `reliability`, the squared distance of probability and frequency, 0 when calibrated; `resolution`, how far the
        bins' frequencies lie from the overall one; `uncertainty`, the variance of what was, which no model changes;
        `within_bins`, what is lost because a bin joins different probabilities.

    Raises:
        ValueError: As `reliability`.

    Reference:
        Murphy, A New Vector Partition of the Probability Score, 1973; Stephenson et al., 2008, for the last term.

    Example:
        >>> probabilities = np.array([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]])
        >>> brier_decomposition([0, 1, 1, 1], probabilities, task="binary", bins=2)
        {'reliability': 0.0625, 'resolution': 0.0625, 'uncertainty': 0.1875, 'within_bins': 0.0}
    """
    labels, probabilities = check_predictions(labels, probabilities, task=task)
    rows = []
    for k, (own, score) in enumerate(one_vs_rest(labels, probabilities, task=task)):
        found = reliability(labels, probabilities, task=task, of=k, bins=bins, binning=binning)
        share = found.count / found.count.sum()
        apart = np.nansum(share * (found.confidence - found.frequency) ** 2)
        resolution = np.nansum(share * (found.frequency - own.mean()) ** 2)
        uncertainty = own.mean() * (1 - own.mean())
        within = np.mean((score - own) ** 2) - (apart - resolution + uncertainty)
        rows.append((apart, resolution, uncertainty, within))
    names = ("reliability", "resolution", "uncertainty", "within_bins")
    return {name: _over_classes(column, task) for name, column in zip(names, np.array(rows).T, strict=True)}


def negative_log_likelihood(labels: Any, probabilities: Any, *, task: str) -> float:
    """Returns the mean surprise at what was, in nats; of a `multilabel` task the mean over known labels.

    Probabilities count as at least 2.2e-16, so that being wrong for certain costs 36 nats and not infinitely many.

    Args:
        labels: As for `reliability`.
        probabilities: As for `reliability`.
        task: One of `medkeras.tasks.TASKS`.

    Raises:
        ValueError: If a label or probability breaks the rules of the task, or no label is known.

    Example:
        >>> round(negative_log_likelihood([1], [[0.5, 0.5]], task="binary"), 4)
        0.6931
    """
    labels, probabilities = check_predictions(labels, probabilities, task=task)
    if is_multilabel(task):
        happened, scores = _events(labels, probabilities, task, None)
        own = np.where(happened == 1, scores, 1 - scores)
    else:
        own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    return float(-np.log(np.maximum(own, SMALLEST)).mean())


def _events(labels: np.ndarray, probabilities: np.ndarray, task: str, of: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each event happened, as 0.0 and 1.0, and its probability."""
    classes = probabilities.shape[1]
    if of is not None and not 0 <= of < classes:
        raise InputError(f"`of` must be a class from 0 to {classes - 1}. Received: of={of}")
    if of is None and task == "binary":
        of = 1
    pairs = list(one_vs_rest(labels, probabilities, task=task))
    if of is not None:
        happened, scores = pairs[of]
    elif is_multilabel(task):
        happened, scores = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    else:
        happened, scores = labels == probabilities.argmax(axis=1), probabilities.max(axis=1)
    if not len(scores):
        raise InputError("Calibration is measured on known labels. Received: none that is known")
    return happened.astype(np.float64), scores


def _over_classes(per_class: np.ndarray, task: str) -> float:
    """Returns class 1's for `binary`, the mean of the defined for `multilabel`, else the sum."""
    if task == "binary" or is_multilabel(task):
        return headline(per_class, task=task)
    return float(per_class.sum())
