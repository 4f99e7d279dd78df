"""The worst errors: wrong decisions at which the model gave the truth the least probability."""

from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_decisions, check_predictions
from medkeras.tasks import is_multilabel


def worst_errors(
    labels: Any, probabilities: Any, decisions: Any, *, task: str, count: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns which decisions are wrong, the one whose truth had the least probability first.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN for a `multilabel` task.
        probabilities: `(n, classes)` in [0, 1].
        decisions: As `OperatingPoint.apply` returns them.
        task: One of `medkeras.tasks.TASKS`.
        count: How many at most; by default all.

    Returns:
        Three arrays: the row of each error, the true class (of several labels, the label that is wrong), and the
        probability that the model gave the truth.

    Raises:
        ValueError: If labels, probabilities or decisions do not fit the task or each other, or `count` is negative.

    Example:
        >>> rows, classes, given = worst_errors([0, 1, 1], [[0.2, 0.8], [0.9, 0.1], [0.3, 0.7]], [1, 0, 1],
        ...                                     task="binary")
        >>> rows.tolist(), classes.tolist(), given.tolist()
        ([1, 0], [1, 0], [0.1, 0.2])
    """
    labels, probabilities = check_predictions(labels, probabilities, task=task)
    decisions = check_decisions(decisions, labels, classes=2 if is_multilabel(task) else probabilities.shape[1])
    if count is not None and count < 0:
        raise InputError(f"`count` must be at least 0. Received: count={count}")
    if is_multilabel(task):
        rows, classes = np.nonzero((decisions != labels) & ~np.isnan(labels))
        given = np.where(labels == 1, probabilities, 1 - probabilities)[rows, classes]
    else:
        rows = np.flatnonzero(decisions != labels)
        classes = labels[rows]
        given = probabilities[rows, classes]
    order = np.argsort(given, kind="stable")[:count]
    return rows[order], classes[order], given[order]
