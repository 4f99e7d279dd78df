"""The four kinds of question a model can answer, and what follows from each.

The task selects the activation that turns logits into probabilities, the loss, the metrics, the thresholds
and the report. Single-label tasks (`binary`, `multiclass`, `ordinal`) have one logit per class and a softmax;
`multilabel` has one logit per label and a sigmoid.
"""

from typing import Any

import keras
from keras import ops

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
        raise ValueError(f"`task` must be one of {', '.join(TASKS)}. Received: task={task!r}")
    if task == "binary" and num_classes != 2:
        raise ValueError(f"A binary task has 2 classes. Received: num_classes={num_classes}")
    if num_classes < (1 if task == "multilabel" else 2):
        raise ValueError(f"A {task} task needs at least two classes. Received: num_classes={num_classes}")
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


def are_shares(labels: Any, num_classes: int) -> bool:
    """Says whether labels of a single-label task are shares of classes, and not class indices.

    Args:
        labels: `(batch,)` or `(batch, 1)`, class indices, or `(batch, num_classes)`, shares.
        num_classes: Number of classes, at least 2.

    Raises:
        ValueError: If the labels have none of these forms.

    Example:
        >>> are_shares([[0.25, 0.75]], 2), are_shares([1, 0], 2)
        (True, False)
    """
    shape = ops.convert_to_tensor(labels).shape
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return False
    if len(shape) == 2 and shape[1] == num_classes:
        return True
    raise ValueError(
        f"Labels must be class indices, (batch,) or (batch, 1), or shares of classes, (batch, {num_classes}). "
        f"Received: labels of shape {tuple(shape)}"
    )


def class_shares(labels: Any, num_classes: int) -> Any:
    """Returns the share of each class in each image, float32 `(batch, num_classes)`; see `are_shares`.

    Example:
        >>> class_shares([1, 0], 2).numpy().tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    if are_shares(labels, num_classes):
        return ops.cast(labels, "float32")
    return ops.one_hot(class_indices(labels, num_classes), num_classes, dtype="float32")


def class_indices(labels: Any, num_classes: int) -> Any:
    """Returns the class of each image, int32 `(batch,)`; of shares, the largest one; see `are_shares`.

    Example:
        >>> class_indices([[0.25, 0.75], [0.5, 0.5]], 2).numpy().tolist()
        [1, 0]
    """
    if are_shares(labels, num_classes):
        return ops.cast(ops.argmax(labels, axis=-1), "int32")
    return ops.cast(ops.reshape(labels, (-1,)), "int32")
