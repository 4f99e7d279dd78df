"""Calibration after training: logits stretched, and perhaps shifted, until they are as sure as they are right."""

import dataclasses
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_predictions
from medkeras.tasks import TASKS, is_multilabel

KINDS = ("temperature", "vector")
LARGEST = np.log(1000.0)  # Of a temperature, or of its inverse: beyond it logits say nothing, or all.


@dataclasses.dataclass(frozen=True)
class LogitScaling:
    """What calibrates logits: `scale * logits + shift`, class by class.

    Attributes:
        task: One of `medkeras.tasks.TASKS`.
        scale: One factor for all classes, the inverse of the temperature, or one per class; positive.
        shift: One per class, or `(0.0,)`.

    Raises:
        ValueError: If the task is unknown, a factor is not positive or a value is not finite.

    Example:
        >>> cooler = LogitScaling("binary", scale=(0.5,))
        >>> cooler.apply([[0.0, 4.0]]).tolist()
        [[0.0, 2.0]]
        >>> LogitScaling.from_dict(cooler.to_dict()) == cooler
        True
    """

    task: str
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"`task` must be one of {', '.join(TASKS)}. Received: task={self.task!r}")
        if not all(0 < s < np.inf for s in self.scale) or not np.isfinite(self.shift).all():
            raise InputError(
                f"`scale` must be positive and `shift` finite. Received: scale={self.scale}, shift={self.shift}"
            )

    def apply(self, logits: Any) -> np.ndarray:
        """Returns calibrated logits, float64 `(n, classes)`.

        Raises:
            ValueError: If there is another number of classes.
        """
        logits = np.asarray(logits, np.float64)
        for values in (self.scale, self.shift):
            if len(values) not in (1, logits.shape[-1]):
                raise InputError(f"The scaling is of {len(values)} classes. Received: logits of shape {logits.shape}")
        return logits * self.scale + self.shift

    def probabilities(self, logits: Any) -> np.ndarray:
        """Returns calibrated probabilities, float64 `(n, classes)`."""
        return _probabilities(self.apply(logits), self.task)

    def to_dict(self) -> dict[str, Any]:
        """Returns the scaling as JSON can hold it."""
        return {"task": self.task, "scale": list(self.scale), "shift": list(self.shift)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LogitScaling":
        """Returns the scaling that `to_dict` described."""
        return cls(values["task"], tuple(values["scale"]), tuple(values["shift"]))


def fit_scaling(labels: Any, logits: Any, *, task: str, kind: str = "temperature") -> LogitScaling:
    """Fits a scaling to labelled images that are neither training nor test images, by the likelihood.

    A temperature changes no decision by the most probable class and no ranking within a label. A vector has a factor
    and a shift for each class, and may change both: it needs more images.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN for a `multilabel` task.
        logits: `(n, classes)`, finite.
        task: One of `medkeras.tasks.TASKS`.
        kind: `temperature` or `vector`.

    Raises:
        ValueError: If the kind is unknown, there is no image, a logit is not finite, probabilities are given in place
            of logits, a label breaks the rules of the task, a class or a label's value has no image to fit to, or
            no image is decided wrongly: the likelihood then rises with the scale for ever.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599; Platt, 1999, for one label.

    Example:
        >>> logits = [[0.0, 6.0], [6.0, 0.0], [0.0, 6.0], [0.0, 6.0]]
        >>> sure = fit_scaling([1, 0, 1, 0], logits, task="binary")
        >>> sure.probabilities([[0.0, 6.0]]).round(2).tolist()
        [[0.25, 0.75]]
    """
    if kind not in KINDS:
        raise InputError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind={kind!r}")
    logits = _checked_logits(logits)
    labels, _ = check_predictions(labels, _probabilities(logits, task), task=task)
    classes = logits.shape[1]
    _check_classes(labels, classes, task)
    target = labels if is_multilabel(task) else np.eye(classes)[labels]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shift = _unpack(parameters, classes, kind)
        value, slope = _loss(logits * scale + shift, target, task)
        by_scale = (slope * logits * scale).sum(axis=0)
        return value, np.array([by_scale.sum()]) if kind == "temperature" else np.r_[by_scale, slope.sum(axis=0)]

    count = 1 if kind == "temperature" else classes
    bounds = [(-LARGEST, LARGEST)] * count + [(None, None)] * (0 if kind == "temperature" else classes)
    found = scipy.optimize.minimize(loss, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds)
    scale, shift = _unpack(found.x, classes, kind)
    _check_wrong(labels, logits * scale + shift, task, kind)
    return LogitScaling(task, tuple(np.atleast_1d(scale).tolist()), tuple(np.atleast_1d(shift).tolist()))


def _unpack(parameters: np.ndarray, classes: int, kind: str) -> tuple[Any, Any]:
    """Returns scale and shift; the scale's logarithm is what is fitted, so that it stays positive."""
    if kind == "temperature":
        return np.exp(parameters), 0.0
    return np.exp(parameters[:classes]), parameters[classes:]


def _loss(logits: np.ndarray, target: np.ndarray, task: str) -> tuple[float, np.ndarray]:
    """Returns the mean cross-entropy of known labels, and its gradient by the logits."""
    if is_multilabel(task):
        known = ~np.isnan(target)
        wanted = np.where(known, target, 0)
        value = np.where(known, np.logaddexp(0, logits) - wanted * logits, 0).sum() / known.sum()
        return value, np.where(known, scipy.special.expit(logits) - wanted, 0) / known.sum()
    log = scipy.special.log_softmax(logits, axis=1)
    return -(target * log).sum() / len(target), (np.exp(log) - target) / len(target)


def _probabilities(logits: np.ndarray, task: str) -> np.ndarray:
    return scipy.special.expit(logits) if is_multilabel(task) else scipy.special.softmax(logits, axis=1)


def _checked_logits(logits: Any) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or not len(logits):
        raise InputError(f"`logits` must be (n, classes), at least one row. Received: logits of shape {logits.shape}")
    if not np.isfinite(logits).all():
        row = int(np.argwhere(~np.isfinite(logits))[0][0])
        raise InputError(f"`logits` must be finite. Received: {logits[row].tolist()} in row {row}")
    is_positive, sums = (logits >= 0).all() and (logits <= 1).all(), logits.sum(axis=1)
    if is_positive and logits.shape[1] > 1 and np.allclose(sums, 1, atol=1e-3):
        raise InputError("Scaling is of logits, not of probabilities. Received: rows in [0, 1] that sum to 1")
    return logits


def _check_classes(labels: np.ndarray, classes: int, task: str) -> None:
    if is_multilabel(task):
        absent = [i for i in range(classes) if not {0.0, 1.0} <= set(labels[:, i])]
        rule = "Every label is both present and absent in some image"
    else:
        absent = sorted(set(range(classes)) - set(labels.tolist()))
        rule = "Every class has an image"
    if absent:
        raise InputError(f"{rule} to calibrate on. Received: none for {absent}")


def _check_wrong(labels: np.ndarray, logits: np.ndarray, task: str, kind: str) -> None:
    """Refuses to stretch what is always right: of several labels with a factor each, each label by itself."""
    rule = "A scaling needs an image that is decided wrongly"
    if is_multilabel(task):
        is_right = (np.isnan(labels) | ((logits > 0) == (labels == 1))).all(axis=0)
        if kind == "vector" and is_right.any():
            raise InputError(f"{rule} for each label. Received: none for {np.flatnonzero(is_right).tolist()}")
    else:
        is_right = logits.argmax(axis=1) == labels
    if is_right.all():
        raise InputError(f"{rule}. Received: none among {len(labels)}")
