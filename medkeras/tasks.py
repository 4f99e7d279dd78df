"""The four kinds of question a model can answer, and what follows from each.

The task selects the activation that turns logits into probabilities, the loss, the metrics, the thresholds
and the report. Single-label tasks (`binary`, `multiclass`, `ordinal`) have one logit per class and a softmax;
`multilabel` has one logit per label and a sigmoid.
"""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError

TASKS = ("binary", "multiclass", "multilabel", "ordinal")


def check_task(task: str, num_classes: int) -> str:
    """Returns `task` if it exists and fits the number of classes.

    Args:
        task: One of `binary`, `multiclass`, `multilabel`, `ordinal`.
        num_classes: Number of classes, or of labels for `multilabel`.

    Raises:
        ValueError: If the task is unknown, if `binary` does not have two classes, or if a single-label task
            has fewer than two.

    Example:
        >>> check_task("binary", 2)
        'binary'
    """
    if task not in TASKS:
        raise InputError(f"`task` must be one of {', '.join(TASKS)}. Received: task={task!r}")
    if task == "binary" and num_classes != 2:
        raise InputError(f"A binary task has 2 classes. Received: num_classes={num_classes}")
    if num_classes < (1 if task == "multilabel" else 2):
        raise InputError(f"A {task} task needs at least two classes. Received: num_classes={num_classes}")
    return task


def default_task(num_classes: int) -> str:
    """Returns the single-label task for a number of classes: `binary` for two, else `multiclass`.

    Example:
        >>> default_task(2), default_task(5)
        ('binary', 'multiclass')
    """
    return "binary" if num_classes == 2 else "multiclass"


def is_multilabel(task: str) -> bool:
    """Says whether one image can carry several labels.

    Example:
        >>> is_multilabel("ordinal")
        False
    """
    return task == "multilabel"


def to_probabilities(logits: Any, task: str) -> Any:
    """Turns logits `(batch, num_classes)` into probabilities of the same shape.

    Example:
        >>> to_probabilities(ops.zeros((1, 2)), "binary").shape
        TensorShape([1, 2])
    """
    logits = ops.cast(logits, "float32")
    return ops.sigmoid(logits) if is_multilabel(task) else ops.softmax(logits, axis=-1)


def default_loss(task: str) -> keras.losses.Loss:
    """Returns the cross-entropy that fits the task, on logits; NaN labels of `multilabel` are left out.

    Example:
        >>> default_loss("multiclass").name
        'cross_entropy'
    """
    from medkeras.losses import CrossEntropy, MaskedBinaryCrossentropy

    return MaskedBinaryCrossentropy() if is_multilabel(task) else CrossEntropy()
