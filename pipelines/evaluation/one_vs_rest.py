"""The yes-or-no questions in a task: class 1 of two, each of many classes against the rest, or each label."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from medkeras.evaluation import one_vs_rest
from medkeras.tasks import is_multilabel


@dataclasses.dataclass(frozen=True)
class Event:
    """One question, asked of the images for which the answer is known.

    Attributes:
        name: The class or label.
        rows: `(n,)`, where these images stand among all.
        positive: Boolean `(n,)`, whether it is so.
        scores: `(n,)`, its probability.
        decided: Boolean `(n,)`, whether the run said so at its operating point.
    """

    name: str
    rows: np.ndarray
    positive: np.ndarray
    scores: np.ndarray
    decided: np.ndarray


def events(
    labels: np.ndarray, probabilities: np.ndarray, decisions: np.ndarray, *, task: str, class_names: Sequence[str]
) -> list[Event]:
    """Returns the questions of a task, in the order of its classes.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        probabilities: `(n, classes)`.
        decisions: As `medkeras.evaluation.OperatingPoint.apply` returns them.
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.3, 0.7]])
        >>> (event,) = events(np.array([0, 1]), probabilities, np.array([1, 1]), task="binary", class_names=["a", "b"])
        >>> event.name, event.positive.tolist(), event.decided.tolist()
        ('b', [False, True], [True, True])
    """
    found = []
    for k, (positive, scores) in enumerate(one_vs_rest(labels, probabilities, task=task)):
        if is_multilabel(task):
            rows = np.flatnonzero(~np.isnan(labels[:, k]))
            decided = decisions[rows, k] == 1
        else:
            rows, decided = np.arange(len(labels)), decisions == k
        found.append(Event(class_names[k], rows, positive, scores, decided))
    return found[1:] if task == "binary" else found
