"""Cross-entropy for several labels per image, some of them unknown."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError


@keras.saving.register_keras_serializable("medkeras")
class MaskedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy on logits that leaves out NaN labels.

    The loss of an image is the mean over its known labels, 0 where it has none. So every image with a label
    counts the same, and the mean over a batch is a plain mean over images: its expectation is the loss of the
    whole data set, whatever the batch size and however a batch is cut between devices. (Dividing by the known
    labels of the batch instead would make the loss of an image depend on its neighbours.)

    Args:
        positive_weights: One positive factor per label for its positive term, to balance rare labels;
            all 1 by default.
        **kwargs: `name`, `reduction` and `dtype` of a Keras loss. The loss is computed in float32.

    Input shape:
        Labels `(batch, labels)` with values in [0, 1] or NaN for unknown; logits of the same shape.

    Raises:
        ValueError: If a weight is not positive, or labels and logits differ in their number.

    Example:
        >>> loss = MaskedBinaryCrossentropy()
        >>> round(float(loss([[1.0, float("nan")]], [[0.0, 80.0]])), 4)
        0.6931
    """

    def __init__(self, *, positive_weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.positive_weights = checked_weights("positive_weights", positive_weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each image, `(batch,)`."""
        labels, known, logits = known_labels(y_true, y_pred)
        weights = per_class("positive_weights", self.positive_weights, logits)
        losses = weights * labels * ops.softplus(-logits) + (1 - labels) * ops.softplus(logits)
        return known_mean(losses, known)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return super().get_config() | {"dtype": self.dtype, "positive_weights": self.positive_weights}


def known_labels(y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
    """Returns labels (0 where unknown), which of them are known (1 or 0), and logits, all float32."""
    labels, logits = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    if labels.shape[-1] != logits.shape[-1]:
        raise InputError(
            "Labels and logits must both be (batch, labels). "
            f"Received: y_true.shape={tuple(labels.shape)}, y_pred.shape={tuple(logits.shape)}"
        )
    unknown = ops.isnan(labels)
    return ops.where(unknown, 0.0, labels), 1.0 - ops.cast(unknown, "float32"), logits


def known_mean(losses: Any, known: Any) -> Any:
    """Returns the mean of each row over its known labels, 0 for a row without any, `(batch,)`."""
    return ops.sum(losses * known, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)


def checked_weights(name: str, weights: Sequence[float] | None) -> list[float] | None:
    """Returns the weights as plain floats, all of them positive."""
    if weights is None:
        return None
    values = [float(w) for w in weights]
    if not all(0 < w < float("inf") for w in values):
        raise InputError(f"`{name}` must be positive and finite. Received: {name}={values}")
    return values


def per_class(name: str, weights: list[float] | None, logits: Any) -> Any:
    """Returns one weight per column of `logits`, float32 `(classes,)`."""
    classes = logits.shape[-1]
    if weights is not None and len(weights) != classes:
        raise InputError(f"`{name}` must have one value for each of {classes} classes. Received: {name}={weights}")
    return ops.ones((classes,), "float32") if weights is None else ops.convert_to_tensor(weights, "float32")
