"""What validation says of how sure a model is: its scaling, its prediction sets, and what it refers.

Everything here is fitted to the validation images, from which the best epoch was chosen too. A temperature is one
number and bends the promise of the sets little; it is approximate all the same, and `evaluate` measures what is kept.
"""

import dataclasses
import math
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from medkeras.errors import InputError
from medkeras.evaluation import (
    OperatingPoint,
    choose_operating_point,
    expected_calibration_error,
    negative_log_likelihood,
)
from medkeras.tasks import is_multilabel
from medkeras.uncertainty import ConformalSets, LogitScaling, fit_conformal, fit_scaling, referral_threshold
from pipelines.inference.answers import Answers
from pipelines.io.json_types import Measured

MEASURED_BY = "normalized_entropy"


class ReachedJson(TypedDict):
    """Of `operating_point.json`: what a threshold reached on validation."""

    sensitivity: Measured
    specificity: Measured
    positives: int
    negatives: int


class PointJson(TypedDict):
    """What `operating_point.json` holds."""

    task: str
    thresholds: list[float] | None
    rule: str
    chosen_on: NotRequired[str | None]
    reached: NotRequired[list[ReachedJson | None] | None]


class ScalingJson(TypedDict):
    """Of `calibration.json`."""

    task: str
    scale: list[float]
    shift: list[float]


class SetsJson(TypedDict):
    """Of `calibration.json`."""

    task: str
    method: str
    coverage: float
    limits: list[Measured]
    penalty: NotRequired[float]
    free: NotRequired[int]


class ReferralJson(TypedDict):
    """Of `calibration.json`."""

    threshold: Measured
    risk: float


class CalibrationJson(TypedDict):
    """What `calibration.json` holds."""

    scaling: ScalingJson
    sets: SetsJson | None
    referral: ReferralJson | None
    left_out: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Referral:
    """Which images a model leaves to someone else: those whose normalised entropy is above the threshold.

    Attributes:
        threshold: In [0, 1]; minus infinity refers all.
        risk: The share of wrong decisions that what was kept of validation stays within.
    """

    threshold: float
    risk: float

    def refers(self, answers: Answers) -> np.ndarray:
        """Returns which images are referred, bool `(n,)`."""
        return answers.sureness()[MEASURED_BY].to_numpy() > self.threshold


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What makes the answers of a model honest; what could not be fitted is None, with the reason.

    Attributes:
        scaling: Of the logits; the identity where none was fitted.
        sets: The rule of the prediction sets, or None.
        referral: What is referred, or None.
        fitted: For the record: `method`, `images` and the measures on validation `before` and `after` scaling.
        left_out: `{what: why}`.
    """

    scaling: LogitScaling
    sets: ConformalSets | None = None
    referral: Referral | None = None
    fitted: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of `calibration.json`; a threshold that refers all is None."""
        referral = None
        if self.referral is not None:
            threshold = self.referral.threshold if math.isfinite(self.referral.threshold) else None
            referral = {"by": MEASURED_BY, "threshold": threshold, "risk": self.referral.risk}
        return {
            "split": "val",
            **self.fitted,
            "scaling": self.scaling.to_dict(),
            "sets": None if self.sets is None else self.sets.to_dict(),
            "referral": referral,
            "left_out": self.left_out,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Calibration":
        """Returns the calibration that `to_dict` described."""
        sets, referral = values["sets"], values["referral"]
        if referral is not None:
            threshold = -math.inf if referral["threshold"] is None else referral["threshold"]
            referral = Referral(threshold, referral["risk"])
        return cls(
            LogitScaling.from_dict(values["scaling"]),
            None if sets is None else ConformalSets.from_dict(sets),
            referral,
            {name: values[name] for name in ("method", "images", "before", "after") if name in values},
            values["left_out"],
        )


def fit_logits(labels: np.ndarray, logits: np.ndarray, *, task: str, method: str = "temperature") -> Calibration:
    """Fits the scaling to validation logits, and measures what it is worth there.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        logits: `(n, classes)` of the model itself.
        task: One of `medkeras.tasks.TASKS`.
        method: `temperature`, `vector` or `none`.

    Returns:
        A calibration without sets and referral. The scaling is left out where a class is missing, and where every
        image is decided rightly: the likelihood then rises with the scale for ever.

    Raises:
        ValueError: If a logit is not finite, or a label breaks the rules of the task.
    """
    identity, left_out = LogitScaling(task), {}
    if not np.isfinite(logits).all():
        raise InputError("A model gives finite logits. Received: NaN or infinity on validation; its training diverged")
    scaling = identity
    if method != "none":
        try:
            scaling = fit_scaling(labels, logits, task=task, kind=method)
        except ValueError as error:
            left_out["scaling"] = str(error)
    before, after = (_measures(labels, by.probabilities(logits), task) for by in (identity, scaling))
    fitted = {"method": method, "images": len(labels), "before": before, "after": after}
    return Calibration(scaling, fitted=fitted, left_out=left_out)


def _measures(labels: np.ndarray, probabilities: np.ndarray, task: str) -> dict[str, float]:
    if np.isnan(labels).all():
        return {"nll": math.nan, "ece": math.nan}
    return {
        "nll": negative_log_likelihood(labels, probabilities, task=task),
        "ece": expected_calibration_error(labels, probabilities, task=task),
    }


def fit_answers(
    calibration: Calibration, labels: np.ndarray, answers: Answers, *, coverage: float = 0.9, risk: float = 0.05
) -> tuple[Calibration, OperatingPoint]:
    """Chooses the operating point, the prediction sets and what is referred, from the answers for validation images.

    Args:
        calibration: With the scaling that the answers were made with.
        labels: As for `fit_logits`.
        answers: Of the calibrated model, by the way of sampling that all of this is for.
        coverage: The share of prediction sets that shall hold the true class, in (0, 1).
        risk: The share of wrong decisions that is wanted among what is not referred, in [0, 1].

    Raises:
        ValueError: If a label breaks the rules of the task.
    """
    task, left_out = answers.task, dict(calibration.left_out)
    point = choose_operating_point(labels, answers.probabilities, task=task, chosen_on="val")
    sets = referral = None
    try:
        sets = fit_conformal(labels, answers.probabilities, task=task, coverage=coverage)
    except ValueError as error:
        left_out["sets"] = str(error)
    losses = decision_losses(labels, point.apply(answers.probabilities), task=task)
    known = ~np.isnan(losses)
    if known.any():
        unsure = answers.sureness()[MEASURED_BY].to_numpy()[known]
        referral = Referral(_between(referral_threshold(losses[known], unsure, risk=risk), unsure), risk)
    else:
        left_out["referral"] = "Referral needs an image with a known label. Received: none"
    return dataclasses.replace(calibration, sets=sets, referral=referral, left_out=left_out), point


def decision_losses(labels: np.ndarray, decided: np.ndarray, *, task: str) -> np.ndarray:
    """Returns what is wrong of each image's decisions, `(n,)`: 0 or 1, or the share of its known labels.

    NaN where no label is known.

    Example:
        >>> decision_losses(np.array([0, 1]), np.array([0, 0]), task="binary").tolist()
        [0.0, 1.0]
        >>> decision_losses(np.array([[0, 1, np.nan]]), np.array([[0, 0, 1]]), task="multilabel").tolist()
        [0.5]
    """
    if not is_multilabel(task):
        return (decided != labels).astype(np.float64)
    known = ~np.isnan(labels)
    wrong = (known & (decided != labels)).sum(axis=1)
    return np.divide(wrong, known.sum(axis=1), out=np.full(len(labels), np.nan), where=known.any(axis=1))


def _between(threshold: float, unsure: np.ndarray) -> float:
    """Moves a threshold up, half way to the next image: rounding then moves no image across it."""
    above = unsure[unsure > threshold]
    return float((threshold + above.min()) / 2) if len(above) and math.isfinite(threshold) else threshold
