"""Conformal prediction: sets of classes that hold the true one as often as promised."""

import dataclasses
import math
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_predictions, check_probabilities
from medkeras.tasks import is_multilabel

METHODS = ("aps", "raps", "threshold")


@dataclasses.dataclass(frozen=True)
class ConformalSets:
    """Turns probabilities into sets of classes.

    A class is in the set of an image where its score is at most the limit. The promise is kept on average over images
    that are drawn as those of the calibration were: not for a class or a hospital by itself, and not after a shift.

    Attributes:
        task: One of `medkeras.tasks.TASKS`.
        method: `aps`, `raps` or `threshold`.
        coverage: The promise, in (0, 1).
        limits: One, one per class, or of a `multilabel` task one per label; infinite where there were too few images
            for the promise, so that everything is in the set.
        penalty: `raps`: what each class beyond `free` adds to the score.
        free: `raps`: classes without penalty.
    """

    task: str
    method: str
    coverage: float
    limits: tuple[float, ...]
    penalty: float = 0.0
    free: int = 0

    def sets(self, probabilities: Any) -> np.ndarray:
        """Returns what is in the set of each image, bool.

        Args:
            probabilities: `(n, classes)` in [0, 1].

        Returns:
            `(n, classes)`; of a `multilabel` task `(n, labels, 2)`: whether the label may be absent, and whether it
            may be present.

        Raises:
            ValueError: If the probabilities break the rules of the task or do not fit the limits.
        """
        probabilities = check_probabilities(probabilities, task=self.task)
        limits = np.array(self.limits)
        if len(limits) not in (1, probabilities.shape[1]):
            raise InputError(
                f"The sets are of {len(limits)} classes. Received: probabilities of shape {probabilities.shape}"
            )
        if is_multilabel(self.task):
            return np.stack([probabilities <= limits, 1 - probabilities <= limits], axis=-1)
        return _scores(probabilities, self.method, self.penalty, self.free) <= limits

    def to_dict(self) -> dict[str, Any]:
        """Returns the sets' rule as JSON can hold it; an infinite limit is None."""
        limits = [limit if math.isfinite(limit) else None for limit in self.limits]
        return dataclasses.asdict(self) | {"limits": limits}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ConformalSets":
        """Returns the rule that `to_dict` described."""
        limits = tuple(math.inf if limit is None else limit for limit in values["limits"])
        return cls(**(values | {"limits": limits}))


def fit_conformal(
    labels: Any,
    probabilities: Any,
    *,
    task: str,
    coverage: float = 0.9,
    method: str = "aps",
    class_conditional: bool = False,
    penalty: float = 0.1,
    free: int = 1,
) -> ConformalSets:
    """Fits prediction sets to labelled images that are neither training nor test images: split conformal prediction.

    With n images the coverage lies between the promise and, without ties, the promise plus 1 / (n + 1). Nothing is
    drawn at random: the same image has the same set, at the price of sets that hold a little more than they must.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN for a `multilabel` task.
        probabilities: `(n, classes)` in [0, 1].
        task: One of `medkeras.tasks.TASKS`.
        coverage: The share of sets that shall hold the true class; of a `multilabel` task, for each label by itself.
        method: `aps`: a class's score is the probability of all that are more probable, so that no set is empty.
            `raps`: the same, and `penalty` for each class beyond the first `free`, itself included, for smaller sets.
            `threshold`: one less the probability, for the smallest sets on average, which may be empty. Labels have
            only that one.
        class_conditional: Whether to keep the promise for the images of each class; needs many images of each, and
            classes, not labels.
        penalty: See `method`; at least 0.
        free: See `method`; at least 0.

    Raises:
        ValueError: If an argument is out of range, a label or probability breaks the rules of the task, or a class or
            label has no image to calibrate on.

    Reference:
        Romano et al., Classification with Valid and Adaptive Coverage, arXiv 2006.02544; Angelopoulos et al.,
        arXiv 2009.14193, for `raps`; Sadinle et al., arXiv 1609.00451, for `threshold`.

    Example:
        >>> probabilities = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]
        >>> fitted = fit_conformal([0, 0, 1, 0], probabilities, task="binary", coverage=0.6, method="threshold")
        >>> fitted.sets([[0.75, 0.25], [0.5, 0.5]]).tolist()
        [[True, False], [False, False]]
    """
    rules = (
        ("coverage", 0 < coverage < 1, "be in (0, 1)", coverage),
        ("method", method in METHODS, f"be one of {', '.join(METHODS)}", method),
        ("penalty", penalty >= 0, "be at least 0", penalty),
        ("free", free >= 0, "be at least 0", free),
        ("class_conditional", not (class_conditional and is_multilabel(task)), "be False for labels", True),
    )
    for name, holds, rule, value in rules:
        if not holds:
            raise InputError(f"`{name}` must {rule}. Received: {name}={value!r}")
    labels, probabilities = check_predictions(labels, probabilities, task=task)
    if is_multilabel(task):
        method = "threshold"
    options = {"penalty": float(penalty), "free": int(free)} if method == "raps" else {}
    limits = tuple(
        _limit(scores, coverage, name)
        for name, scores in _own_scores(labels, probabilities, task, method, class_conditional, options)
    )
    return ConformalSets(task, method, float(coverage), limits, **options)


def _own_scores(
    labels: np.ndarray, probabilities: np.ndarray, task: str, method: str, class_conditional: bool, options: Any
) -> list[tuple[str, np.ndarray]]:
    """Returns the scores of the true classes, for each limit to be, and its name."""
    if is_multilabel(task):
        wrong = np.where(labels == 1, 1 - probabilities, probabilities)
        return [(f"label {i}", wrong[~np.isnan(labels[:, i]), i]) for i in range(labels.shape[1])]
    own = _scores(probabilities, method, **options)[np.arange(len(labels)), labels]
    if not class_conditional:
        return [("the images", own)]
    return [(f"class {k}", own[labels == k]) for k in range(probabilities.shape[1])]


def _limit(scores: np.ndarray, coverage: float, name: str) -> float:
    """Returns the score that the promised share of the next images stays within."""
    if not len(scores):
        raise InputError(f"Prediction sets are fitted to labelled images. Received: none for {name}")
    # Rounded first: 0.9 * (9 + 1) is a hair more than 9 in floating point.
    rank = math.ceil(round(coverage * (len(scores) + 1), 9))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def _scores(probabilities: np.ndarray, method: str, penalty: float = 0.0, free: int = 0) -> np.ndarray:
    """Returns the score of each class of each image, `(n, classes)`."""
    if method == "threshold":
        return 1 - probabilities
    ahead = probabilities[:, None, :] > probabilities[:, :, None]
    score = np.sum(ahead * probabilities[:, None, :], axis=-1)
    return score + penalty * np.maximum(ahead.sum(axis=-1) + 1 - free, 0)
