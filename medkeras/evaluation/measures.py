"""Measures by name: one number for a set of predictions."""

from collections.abc import Callable, Iterator

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.classification import AGREEMENTS, RATES, mean_of_defined, measure_decisions
from medkeras.evaluation.ranking import average_precision, roc_auc
from medkeras.evaluation.thresholds import OperatingPoint
from medkeras.tasks import is_multilabel

RANKINGS = {"auc": roc_auc, "average_precision": average_precision}
NAMES = (*RANKINGS, *AGREEMENTS, *RATES)

Measure = Callable[[np.ndarray, np.ndarray], float]


def named_measure(name: str, *, task: str, operating_point: OperatingPoint | None = None) -> Measure:
    """Returns a measure as `evaluate` reports it, overall or under `macro`.

    It is a function of labels and probabilities, checked ones, as `check_predictions` returns them.

    Args:
        name: `auc`, `average_precision`, `accuracy`, `balanced_accuracy`, `mcc`, `kappa`, `cohen_kappa`,
            `sensitivity`, `specificity`, `precision` or `f1`.
        task: One of `medkeras.tasks.TASKS`.
        operating_point: Where decisions are made; by default 0.5 or the most probable class.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> sensitivity = named_measure("sensitivity", task="binary")
        >>> sensitivity(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
        0.5
    """
    if name not in NAMES:
        raise InputError(f"`name` must be one of {', '.join(NAMES)}. Received: name={name!r}")

    def measure(labels: np.ndarray, probabilities: np.ndarray) -> float:
        if name in RANKINGS:
            return headline(rank_classes(RANKINGS[name], labels, probabilities, task=task), task=task)
        point = operating_point or OperatingPoint.default(task, probabilities.shape[1])
        overall, per_class, _ = measure_decisions(
            labels, point.apply(probabilities), task=task, num_classes=probabilities.shape[1]
        )
        return overall[name] if name in overall else headline(per_class[name], task=task)

    return measure


def headline(per_class: np.ndarray, *, task: str) -> float:
    """Returns the one number for values per class: class 1's for `binary`, else the mean of the defined.

    Example:
        >>> headline(np.array([1.0, 0.5]), task="binary"), headline(np.array([1.0, 0.5]), task="ordinal")
        (0.5, 0.75)
    """
    return float(per_class[1]) if task == "binary" else mean_of_defined(per_class)


def rank_classes(ranking: Measure, labels: np.ndarray, probabilities: np.ndarray, *, task: str) -> np.ndarray:
    """Returns a ranking measure of each class against the rest, or of each label, float64 `(classes,)`.

    Example:
        >>> labels, probabilities = np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]])
        >>> rank_classes(roc_auc, labels, probabilities, task="binary").tolist()
        [1.0, 1.0]
    """
    return np.array([ranking(*pair) for pair in one_vs_rest(labels, probabilities, task=task)])


def one_vs_rest(labels: np.ndarray, probabilities: np.ndarray, *, task: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields, for each class or label, which images are positive and their scores; unknown labels left out.

    Example:
        >>> pairs = one_vs_rest(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), task="binary")
        >>> [positive.tolist() for positive, _ in pairs]
        [[True, False], [False, True]]
    """
    for index, scores in enumerate(probabilities.T):
        if is_multilabel(task):
            known = ~np.isnan(labels[:, index])
            yield labels[known, index] == 1, scores[known]
        else:
            yield labels == index, scores
