"""The rules that labels and probabilities must keep before anything is measured on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.tasks import check_task, is_multilabel


def check_predictions(labels: Any, probabilities: Any, *, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels (int64 or, for `multilabel`, float64) and float64 probabilities.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN for a `multilabel` task.
        probabilities: `(n, classes)` in [0, 1]; rows of a single-label task sum to 1.
        task: One of `medkeras.tasks.TASKS`.

    Raises:
        ValueError: If a shape or a value breaks these rules.

    Example:
        >>> labels, probabilities = check_predictions([1], [[0.2, 0.8]], task="binary")
        >>> labels.shape, probabilities.shape
        ((1,), (1, 2))
    """
    probabilities = check_probabilities(probabilities, task=task)
    labels = np.asarray(labels)
    expected = probabilities.shape if is_multilabel(task) else probabilities.shape[:1]
    if labels.shape != expected:
        raise InputError(
            f"Labels of a {task} task beside probabilities {probabilities.shape} have shape {expected}. "
            f"Received: labels.shape={labels.shape}"
        )
    if not (np.issubdtype(labels.dtype, np.number) or labels.dtype == bool):
        raise InputError(f"`labels` must be numbers. Received: labels.dtype={labels.dtype}")
    if is_multilabel(task):
        labels = labels.astype(np.float64)
        valid = np.isnan(labels) | _is_binary(labels)
        _refuse("Labels of a multilabel task are 0, 1 or NaN", labels, ~valid)
        return labels, probabilities
    classes = probabilities.shape[1]
    valid = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    _refuse(f"Labels of a {task} task are class indices from 0 to {classes - 1}", labels, ~valid)
    return labels.astype(np.int64), probabilities


def check_probabilities(probabilities: Any, *, task: str) -> np.ndarray:
    """Returns probabilities as float64 `(n, classes)`.

    Raises:
        ValueError: If the shape does not fit the task, there are no rows, a value is NaN or outside [0, 1],
            or a row of a single-label task does not sum to 1 within 0.001.

    Example:
        >>> check_probabilities([[0.25, 0.75]], task="binary").tolist()
        [[0.25, 0.75]]
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or len(probabilities) == 0:
        raise InputError(
            "`probabilities` must be (n, classes) with at least one row. "
            f"Received: probabilities.shape={probabilities.shape}"
        )
    check_task(task, probabilities.shape[1])
    _refuse("Probabilities lie in [0, 1]", probabilities, ~((probabilities >= 0) & (probabilities <= 1)))
    if not is_multilabel(task):
        sums = probabilities.sum(axis=1)
        rule = f"The probabilities of an image in a {task} task sum to 1; turn logits into them by a softmax"
        _refuse(rule, sums, np.abs(sums - 1) > 1e-3, "sum")
    return probabilities


def check_class_names(class_names: Sequence[str], *, num_classes: int) -> list[str]:
    """Returns the names as a list of strings.

    Raises:
        ValueError: If they are not `num_classes` distinct names.

    Example:
        >>> check_class_names(("normal", "ill"), num_classes=2)
        ['normal', 'ill']
    """
    names = [str(name) for name in class_names]
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise InputError(f"`class_names` must be {num_classes} distinct names. Received: class_names={names}")
    return names


def check_scores(positive: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns which images are positive, boolean `(n,)`, and their float64 scores `(n,)`.

    Raises:
        ValueError: If they are not of one length, a label is not 0 or 1, or a score is NaN.

    Example:
        >>> check_scores([0, 1], [0.2, 0.7])[0].tolist()
        [False, True]
    """
    positive, scores = np.asarray(positive), np.asarray(scores, dtype=np.float64)
    if positive.ndim != 1 or positive.shape != scores.shape:
        raise InputError(
            "Each image has one label and one score. "
            f"Received: positive.shape={positive.shape}, scores.shape={scores.shape}"
        )
    if positive.dtype != bool:
        rule = "An image is positive, 1, or negative, 0; unknown ones are left out before"
        _refuse(rule, positive, ~_is_binary(positive))
    _refuse("Scores are numbers", scores, np.isnan(scores))
    return positive == 1, scores


def check_decisions(decisions: Any, labels: np.ndarray, *, classes: int) -> np.ndarray:
    """Returns decisions as int64, one for each label.

    Args:
        decisions: Class indices `(n,)`, or `(n, labels)` of 0 and 1.
        labels: As `check_predictions` returns them.
        classes: Number of classes; 2 for labels.

    Raises:
        ValueError: If they are not of the labels' shape, or none of the classes.

    Example:
        >>> check_decisions([True, False], np.array([1, 1]), classes=2).tolist()
        [1, 0]
    """
    decisions = np.asarray(decisions)
    if decisions.shape != labels.shape:
        raise InputError(f"Decisions are of the labels' shape, {labels.shape}. Received: shape {decisions.shape}")
    _refuse(f"Decisions are from 0 to {classes - 1}", decisions, ~np.isin(decisions, np.arange(classes)))
    return decisions.astype(np.int64)


def check_level(level: float) -> float:
    """Returns the level of an interval.

    Raises:
        ValueError: If it does not lie in (0, 1).

    Example:
        >>> check_level(0.95)
        0.95
    """
    if not 0 < level < 1:
        raise InputError(f"`level` must be in (0, 1). Received: level={level}")
    return level


def group_index(groups: Any, count: int) -> np.ndarray:
    """Returns the number of each image's group, int64 `(count,)`, from 0 without a gap.

    Raises:
        ValueError: If there is not one group per image.

    Example:
        >>> group_index(["b", "a", "b"], 3).tolist()
        [1, 0, 1]
    """
    if len(groups) != count:
        raise InputError(f"`groups` must have one entry per image, {count}. Received: {len(groups)}")
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _is_binary(values: np.ndarray) -> np.ndarray:
    return (values == 0) | (values == 1)


def _refuse(rule: str, values: np.ndarray, wrong: np.ndarray, name: str = "value") -> None:
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        raise InputError(f"{rule}. Received: {name}={values[place]:.6g} in row {place[0]}")
