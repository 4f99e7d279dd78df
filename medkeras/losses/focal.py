"""Focal losses: cross-entropy that fades on examples that are already right."""

import numbers
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.labels import are_shares, class_shares
from medkeras.losses.masked import checked_weights, known_labels, known_mean, per_class


class _Focal(keras.losses.Loss):
    """Holds the two arguments of every focal loss."""

    def __init__(self, *, alpha: float | Sequence[float], gamma: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= gamma < float("inf"):
            raise InputError(f"`gamma` must be >= 0 and finite. Received: gamma={gamma}")
        is_scalar = isinstance(alpha, numbers.Real)
        values = checked_weights("alpha", [alpha] if is_scalar else alpha)
        self.alpha, self.gamma = values[0] if is_scalar else values, float(gamma)

    def _class_weights(self, logits: Any) -> Any:
        weights = [self.alpha] * logits.shape[-1] if isinstance(self.alpha, float) else self.alpha
        return per_class("alpha", weights, logits)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return super().get_config() | {"dtype": self.dtype, "alpha": self.alpha, "gamma": self.gamma}


@keras.saving.register_keras_serializable("medkeras")
class FocalLoss(_Focal):
    """Focal loss of a single-label task, `alpha * (1 - p)^gamma * -log(p)`, p the true class's probability.

    For shares of several classes, it is the mean of the classes' losses by their shares.

    Args:
        alpha: One positive factor, or one per class.
        gamma: How fast the loss fades as p grows, >= 0; 0 is plain cross-entropy.
        **kwargs: `name`, `reduction` and `dtype` of a Keras loss. The loss is computed in float32.

    Input shape:
        Labels `(batch,)` or `(batch, 1)`, class indices, or `(batch, classes)`, shares that sum to 1; logits
        `(batch, classes)`, at least two classes.

    Raises:
        ValueError: If `gamma` is negative, `alpha` is not positive or does not have one value per class, or
            labels have neither form.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, arXiv 1708.02002; FocusNet uses alpha 1, gamma 2.

    Example:
        >>> round(float(FocalLoss()([1], [[0.0, 0.0]])), 4)
        0.1733
    """

    def __init__(self, *, alpha: float | Sequence[float] = 1.0, gamma: float = 2.0, **kwargs: Any) -> None:
        super().__init__(alpha=alpha, gamma=gamma, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each image, `(batch,)`."""
        logits = ops.cast(y_pred, "float32")
        shares = class_shares(y_true, logits.shape[-1])
        log_p = ops.log_softmax(logits)
        if are_shares(y_true, logits.shape[-1]):
            own = ops.eye(logits.shape[-1])
            log_q = _log_of_others(logits[:, None], own)
        else:  # Only the true class counts; it needs no table of class by class.
            log_q = _log_of_others(logits, shares)[:, None]
        return -ops.sum(shares * self._class_weights(logits) * ops.exp(self.gamma * log_q) * log_p, axis=-1)


def _log_of_others(logits: Any, own: Any) -> Any:
    """Returns log(1 - p) of the class that `own` marks, from the other classes' logits.

    It is exact where p rounds to 1, and its power has a finite gradient there for every gamma.
    """
    others = ops.where(own > 0, -1e9, logits)
    return ops.logsumexp(others, axis=-1) - ops.logsumexp(logits, axis=-1)


@keras.saving.register_keras_serializable("medkeras")
class BinaryFocalLoss(_Focal):
    """Focal loss of a multi-label task that leaves out NaN labels.

    Each label is its own yes-or-no question with `alpha * (1 - p)^gamma * -log(p)`, p the probability of the
    true answer; an image's loss is the mean over its known labels, as in `MaskedBinaryCrossentropy`.

    Args:
        alpha: One positive factor, or one per label.
        gamma: How fast the loss fades as p grows, >= 0; 0 is `MaskedBinaryCrossentropy`.
        **kwargs: `name`, `reduction` and `dtype` of a Keras loss. The loss is computed in float32.

    Input shape:
        Labels `(batch, labels)` with values in [0, 1] or NaN for unknown; logits of the same shape.

    Raises:
        ValueError: If `gamma` is negative, or `alpha` is not positive or does not have one value per label.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, arXiv 1708.02002.

    Example:
        >>> round(float(BinaryFocalLoss()([[1.0, float("nan")]], [[0.0, 9.0]])), 4)
        0.1733
    """

    def __init__(self, *, alpha: float | Sequence[float] = 1.0, gamma: float = 2.0, **kwargs: Any) -> None:
        super().__init__(alpha=alpha, gamma=gamma, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each image, `(batch,)`."""
        labels, known, logits = known_labels(y_true, y_pred)
        minus_log_yes, minus_log_no = ops.softplus(-logits), ops.softplus(logits)
        yes = labels * ops.exp(-self.gamma * minus_log_no) * minus_log_yes
        no = (1 - labels) * ops.exp(-self.gamma * minus_log_yes) * minus_log_no
        return known_mean(self._class_weights(logits) * (yes + no), known)
