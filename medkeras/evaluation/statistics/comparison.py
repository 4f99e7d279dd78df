"""Two models on the same images: what differs, by how much, and how far chance goes."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.calibration import brier_score
from medkeras.evaluation.checks import check_class_names, check_decisions, check_predictions, group_index
from medkeras.evaluation.classification import measure_decisions
from medkeras.evaluation.measures import RANKINGS, headline, one_vs_rest, rank_classes
from medkeras.evaluation.ranking import roc_auc
from medkeras.evaluation.statistics.bootstrap import bootstrap_all
from medkeras.evaluation.statistics.delong import delong_test
from medkeras.evaluation.thresholds import OperatingPoint
from medkeras.tasks import is_multilabel

DECIDED = ("sensitivity", "specificity")


@dataclasses.dataclass(frozen=True)
class McNemar:
    """On how many images only one of two models is right.

    Attributes:
        only_first: Images that only the first decides rightly.
        only_second: Images that only the second decides rightly.
        p_value: How often chance alone would set equally good models so far apart.
    """

    only_first: int
    only_second: int
    p_value: float

    def to_dict(self) -> dict[str, float]:
        """Returns `only_first`, `only_second` and `p_value`."""
        return dataclasses.asdict(self)


def mcnemar(first_is_right: Any, second_is_right: Any, *, groups: Any = None) -> McNemar:
    """Tests whether two models decide equally many images rightly; only images that they disagree on tell.

    Args:
        first_is_right: Boolean `(n,)`.
        second_is_right: Boolean `(n,)`.
        groups: `(n,)` patient of each image. Where patients have several, their images are not independent, and the
            test is that of the sums of each patient, for a few dozen patients or more; else the exact one.

    Raises:
        ValueError: If lengths differ.

    Reference:
        McNemar, Psychometrika 12:153, 1947; Yang et al., Biometrical Journal 52:638, 2010, for patients.

    Example:
        >>> mcnemar([1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 1])
        McNemar(only_first=5, only_second=0, p_value=0.0625)
    """
    first, second = np.asarray(first_is_right, dtype=bool), np.asarray(second_is_right, dtype=bool)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"Both models decide the same images. Received: shapes {first.shape} and {second.shape}")
    better, worse = int((first & ~second).sum()), int((second & ~first).sum())
    group = np.arange(len(first)) if groups is None else group_index(groups, len(first))
    if len(first) == 0 or group.max() + 1 == len(first):
        return McNemar(better, worse, _exact_p(better, worse))
    apart = np.bincount(group, weights=first.astype(float) - second)
    spread = math.sqrt((apart**2).sum())
    return McNemar(better, worse, math.erfc(abs(apart.sum()) / spread / math.sqrt(2)) if spread else 1.0)


def holm(p_values: Any) -> np.ndarray:
    """Returns p values for several questions asked at once: any of them below 0.05 is then a finding of the whole.

    Args:
        p_values: `(k,)`; NaN, for what could not be tested, stays and does not count.

    Reference:
        Holm, Scandinavian Journal of Statistics 6:65, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted, tested = np.full(p_values.shape, np.nan), np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested])]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def compare(
    labels: Any,
    first: Any,
    second: Any,
    *,
    task: str,
    class_names: Sequence[str],
    decisions: tuple[Any, Any] | None = None,
    groups: Any = None,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares two models on the same images, with 95 % intervals.

    Differences are the first model's value less the second's. Of the Brier score less is better, of all others more.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN for a `multilabel` task.
        first: Probabilities `(n, classes)` of the first model.
        second: Probabilities `(n, classes)` of the second model.
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        decisions: What each decides at its own operating point, as `OperatingPoint.apply` returns it; by default at
            0.5, or the most probable class.
        groups: `(n,)` patient of each image; by default each image is its own.
        repeats: Draws of the bootstrap.
        seed: Seed of the bootstrap.

    Returns:
        - `count`, the images;
        - `measures`: for `auc`, `average_precision`, `brier`, `accuracy`, `sensitivity`, `specificity`, and `kappa` of
          an `ordinal` task, the values `first` and `second` and their `difference` with `low` and `high`, by paired
          bootstrap over patients; over classes as `evaluate` takes them;
        - `auc`: DeLong's test for class 1 of a `binary` task, else for each class: `first`, `second`, `difference`,
          `low`, `high`, `p_value`, and `p_holm`, adjusted for the number of classes;
        - `mcnemar`: `only_first`, `only_second`, `p_value`, of decisions; of several labels for each, with `p_holm`.

    Raises:
        ValueError: If labels, probabilities, decisions or names do not fit the task or each other.

    Example:
        >>> first, second = [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]], [[0.4, 0.6], [0.3, 0.7], [0.6, 0.4]]
        >>> found = compare([0, 1, 1], first, second, task="binary", class_names=["well", "ill"], repeats=20)
        >>> found["measures"]["accuracy"]["first"], found["mcnemar"]["only_first"], found["mcnemar"]["p_value"]
        (1.0, 2, 0.5)
    """
    labels, first = check_predictions(labels, first, task=task)
    _, second = check_predictions(labels, second, task=task)
    if first.shape != second.shape:
        raise InputError(f"Both models have the same classes. Received: shapes {first.shape} and {second.shape}")
    names = check_class_names(class_names, num_classes=first.shape[1])
    if decisions is None:
        point = OperatingPoint.default(task, len(names))
        decisions = point.apply(first), point.apply(second)
    decisions = [check_decisions(each, labels, classes=2 if is_multilabel(task) else len(names)) for each in decisions]
    return {
        "count": len(labels),
        "measures": _differences(labels, (first, second), decisions, task, groups, repeats, seed),
        "auc": _auc_tests(labels, (first, second), task, names, groups),
        "mcnemar": _decision_tests(labels, decisions, task, names, groups),
    }


def _exact_p(better: int, worse: int) -> float:
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5))) if better + worse else 1.0


def _differences(
    labels: np.ndarray,
    probabilities: tuple[np.ndarray, np.ndarray],
    decisions: Sequence[np.ndarray],
    task: str,
    groups: Any,
    repeats: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    def both(labels: np.ndarray, *arrays: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
        return _measures(labels, arrays[0], arrays[2], task), _measures(labels, arrays[1], arrays[3], task)

    def difference(*arrays: np.ndarray) -> dict[str, float]:
        first, second = both(*arrays)
        return {name: first[name] - second[name] for name in first}

    arrays = [labels, *probabilities, *decisions]
    first, second = both(*arrays)
    found = bootstrap_all(difference, arrays, groups=groups, repeats=repeats, seed=seed)
    return {name: _row(first[name], second[name], each.to_dict()) for name, each in found.items()}


def _row(first: float, second: float, found: dict[str, float]) -> dict[str, float]:
    return {"first": first, "second": second, "difference": found.pop("value")} | found


def _measures(labels: np.ndarray, probabilities: np.ndarray, decisions: np.ndarray, task: str) -> dict[str, float]:
    overall, rates, _ = measure_decisions(labels, decisions, task=task, num_classes=probabilities.shape[1])
    found = {
        name: headline(rank_classes(ranking, labels, probabilities, task=task), task=task)
        for name, ranking in RANKINGS.items()
    }
    found |= {"brier": brier_score(labels, probabilities, task=task), "accuracy": overall["accuracy"]}
    found |= {name: headline(rates[name], task=task) for name in DECIDED}
    return found | ({"kappa": overall["kappa"]} if task == "ordinal" else {})


def _auc_tests(
    labels: np.ndarray,
    probabilities: tuple[np.ndarray, np.ndarray],
    task: str,
    names: list[str],
    groups: Any,
) -> dict[str, dict[str, float]]:
    rows = {}
    pairs = zip(*(one_vs_rest(labels, each, task=task) for each in probabilities), strict=True)
    for k, ((positive, first), (_, second)) in enumerate(pairs):
        if task == "binary" and k == 0:
            continue
        found = delong_test(positive, first, second, groups=_known(groups, labels, task, k))
        rows[names[k]] = _row(roc_auc(positive, first), roc_auc(positive, second), found.to_dict())
    return _with_holm(rows)


def _decision_tests(
    labels: np.ndarray, decisions: Sequence[np.ndarray], task: str, names: list[str], groups: Any
) -> dict[str, Any]:
    first, second = (each == labels for each in decisions)
    if not is_multilabel(task):
        return mcnemar(first, second, groups=groups).to_dict()
    rows = {}
    for k, name in enumerate(names):
        known = ~np.isnan(labels[:, k])
        of = _known(groups, labels, task, k)
        rows[name] = mcnemar(first[known, k], second[known, k], groups=of).to_dict()
    return _with_holm(rows)


def _known(groups: Any, labels: np.ndarray, task: str, label: int) -> np.ndarray | None:
    """Returns the groups of the images whose label is known."""
    if groups is None or not is_multilabel(task):
        return groups
    return np.asarray(groups)[~np.isnan(labels[:, label])]


def _with_holm(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    adjusted: Iterator[float] = iter(holm([row["p_value"] for row in rows.values()]).tolist())
    return {name: row | {"p_holm": next(adjusted)} for name, row in rows.items()}
