"""The operating point: how probabilities become decisions, chosen on validation images and then frozen."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_predictions, check_probabilities
from medkeras.evaluation.classification import rates
from medkeras.tasks import TASKS, is_multilabel


@dataclasses.dataclass(frozen=True)
class Reached:
    """What a threshold reached on the images that it was chosen on: hopeful for others, since it was chosen there.

    Attributes:
        sensitivity: Share of the positive images above the threshold.
        specificity: Share of the negative images at or below it.
        positives: Number of positive images.
        negatives: Number of negative images.
    """

    sensitivity: float
    specificity: float
    positives: int
    negatives: int


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """The thresholds of a model: an image is positive where its probability is above, not at, the threshold.

    Attributes:
        task: One of `medkeras.tasks.TASKS`.
        thresholds: One for P(class 1) of a `binary` task, one per label of a `multilabel` task; None for
            tasks that take the most probable class.
        rule: How it was chosen, for the record.
        chosen_on: The images it was chosen on, for the record: `val`, say. Not compared.
        reached: What each threshold reached there, None where there was nothing to choose from. Not compared.

    Raises:
        ValueError: If the task is unknown, or the thresholds do not fit it.

    Example:
        >>> point = OperatingPoint("binary", (0.3,), "by hand")
        >>> point.apply([[0.6, 0.4], [0.8, 0.2]]).tolist()
        [1, 0]
        >>> OperatingPoint.from_dict(point.to_dict()) == point
        True
    """

    task: str
    thresholds: tuple[float, ...] | None
    rule: str
    chosen_on: str | None = dataclasses.field(default=None, compare=False)
    reached: tuple[Reached | None, ...] | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"`task` must be one of {', '.join(TASKS)}. Received: task={self.task!r}")
        fits = {
            "binary": self.thresholds is not None and len(self.thresholds) == 1,
            "multilabel": bool(self.thresholds),
        }.get(self.task, self.thresholds is None)
        if not fits or not np.all(np.isfinite(self.thresholds or 0)):
            raise InputError(
                "A binary task has one finite threshold, a multilabel task one per label, others have None. "
                f"Received: task={self.task!r}, thresholds={self.thresholds}"
            )

    @classmethod
    def default(cls, task: str, num_classes: int) -> "OperatingPoint":
        """Returns the point that uses no data: 0.5, or the most probable class.

        Example:
            >>> OperatingPoint.default("multilabel", 2).thresholds
            (0.5, 0.5)
        """
        if task == "binary":
            return cls(task, (0.5,), "0.5")
        return cls(task, (0.5,) * num_classes, "0.5") if is_multilabel(task) else cls(task, None, "argmax")

    def apply(self, probabilities: Any) -> np.ndarray:
        """Returns the decisions, int64.

        Args:
            probabilities: `(n, classes)` in [0, 1].

        Returns:
            Class indices `(n,)`, or 0 and 1 `(n, labels)` for a `multilabel` task.

        Raises:
            ValueError: If the probabilities break the rules of the task or do not fit the thresholds.
        """
        probabilities = check_probabilities(probabilities, task=self.task)
        if self.thresholds is None:
            return probabilities.argmax(axis=1)
        if self.task == "binary":
            return (probabilities[:, 1] > self.thresholds[0]).astype(np.int64)
        if probabilities.shape[1] != len(self.thresholds):
            raise InputError(
                f"The operating point has {len(self.thresholds)} thresholds. "
                f"Received: probabilities.shape={probabilities.shape}"
            )
        return (probabilities > np.array(self.thresholds)).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Returns the point as JSON can hold it; what is not known of how it was chosen is left out."""
        known = {
            "chosen_on": self.chosen_on,
            "reached": self.reached and [each and dataclasses.asdict(each) for each in self.reached],
        }
        return {
            "task": self.task,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "rule": self.rule,
        } | {name: value for name, value in known.items() if value is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "OperatingPoint":
        """Returns the point that `to_dict` described, of this version or of one that kept less."""
        thresholds, reached = values["thresholds"], values.get("reached")
        return cls(
            values["task"],
            None if thresholds is None else tuple(thresholds),
            values["rule"],
            values.get("chosen_on"),
            None if reached is None else tuple(each and Reached(**each) for each in reached),
        )


def choose_operating_point(
    labels: Any, probabilities: Any, *, task: str, rule: str = "youden", chosen_on: str | None = None
) -> OperatingPoint:
    """Chooses the thresholds on labelled images that are not the test images.

    A threshold lies midway between two neighbouring scores, so rounding or a slightly different runtime does
    not move an image across it. Of cuts that are equally good by the rule, the one with more sensitivity is
    taken, or with more specificity where the rule is already about sensitivity. A label that the images do
    not show both present and absent keeps 0.5, with a warning. Tasks that take the most probable class have
    nothing to choose.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        probabilities: `(n, classes)` in [0, 1].
        task: One of `medkeras.tasks.TASKS`.
        rule: `"youden"` (largest sensitivity + specificity), `"f1"` (largest F1), `"sensitivity:0.95"`
            (largest specificity with at least this sensitivity) or `"specificity:0.90"` (the reverse).
        chosen_on: What the images are called, for the record.

    Returns:
        The point, with what each threshold reached on these images.

    Raises:
        ValueError: If the rule is unknown, or labels or probabilities break the rules of the task.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
        >>> point = choose_operating_point([0, 0, 1, 1], np.stack([1 - scores, scores], 1), task="binary")
        >>> point.thresholds, point.reached[0].sensitivity
        ((0.5,), 1.0)
    """
    name, bound = _parse(rule)
    labels, probabilities = check_predictions(labels, probabilities, task=task)
    if is_multilabel(task):
        pairs = list(zip(labels.T, probabilities.T, strict=True))
    elif task == "binary":
        pairs = [(labels, probabilities[:, 1])]
    else:
        return dataclasses.replace(OperatingPoint.default(task, probabilities.shape[1]), chosen_on=chosen_on)
    thresholds = tuple(_choose(label, scores, name, bound) for label, scores in pairs)
    undecided = [i for i, t in enumerate(thresholds) if t is None]
    if undecided:
        warnings.warn(
            f"A threshold needs positive and negative images; 0.5 is kept for label {undecided}",
            stacklevel=2,
        )
    reached = tuple(None if t is None else _reached(*pair, t) for pair, t in zip(pairs, thresholds, strict=True))
    return OperatingPoint(task, tuple(0.5 if t is None else t for t in thresholds), rule, chosen_on, reached)


def _reached(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Reached:
    above, is_positive, is_negative = scores > threshold, labels == 1, labels == 0
    return Reached(
        float(above[is_positive].mean()),
        float(1 - above[is_negative].mean()),
        int(is_positive.sum()),
        int(is_negative.sum()),
    )


def _parse(rule: str) -> tuple[str, float]:
    name, separator, bound = rule.partition(":")
    try:
        if not separator and name in ("youden", "f1"):
            return name, 0.0
        if name in ("sensitivity", "specificity") and 0 < float(bound) <= 1:
            return name, float(bound)
    except ValueError:
        pass
    raise InputError(
        f"`rule` must be youden, f1, sensitivity:X or specificity:X with X in (0, 1]. Received: rule={rule!r}"
    )


def _choose(labels: np.ndarray, scores: np.ndarray, name: str, bound: float) -> float | None:
    known = ~np.isnan(labels)
    positives, negatives = np.sort(scores[known & (labels == 1)]), np.sort(scores[known & (labels == 0)])
    if len(positives) == 0 or len(negatives) == 0:
        return None
    cuts = _cuts(np.concatenate([positives, negatives]))
    missed, rejected = np.searchsorted(positives, cuts), np.searchsorted(negatives, cuts)
    hit, false = len(positives) - missed, len(negatives) - rejected
    measured = rates(np.stack([rejected, false, missed, hit], -1).reshape(-1, 2, 2))
    sensitivity, specificity = measured["sensitivity"], measured["specificity"]
    first, second = {
        "youden": (sensitivity + specificity, sensitivity),
        "f1": (measured["f1"], sensitivity),
        "sensitivity": (np.where(sensitivity >= bound - 1e-12, specificity, -1.0), sensitivity),
        "specificity": (np.where(specificity >= bound - 1e-12, sensitivity, -1.0), specificity),
    }[name]
    return float(cuts[np.lexsort((second, first.round(12)))[-1]])


def _cuts(scores: np.ndarray) -> np.ndarray:
    """Midpoints between neighbouring scores, and one cut on either side of all of them."""
    # A little beyond 0 and 1, so that an image with a score of exactly 0 or 1 can fall on either side too.
    levels = np.unique(np.concatenate([[-1e-6], scores, [1 + 1e-6]]))
    return (levels[1:] + levels[:-1]) / 2
