"""Labels of single-label tasks: class indices, or shares of classes, as mixing makes them."""

from typing import Any

from keras import ops

from medkeras.errors import InputError


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
    raise InputError(
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
