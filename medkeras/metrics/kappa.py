"""Agreement on an ordered scale."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.labels import class_indices


@keras.saving.register_keras_serializable("medkeras")
class QuadraticWeightedKappa(keras.metrics.Metric):
    """Cohen's kappa with quadratic weights, for ordered classes: 1 is full agreement, 0 is chance.

    A confusion matrix is gathered over the batches, so the result is that of the whole data set. It is NaN
    while labels and predictions hold one and the same class.

    Args:
        num_classes: Number of ordered classes, at least 2.
        name: Name in logs.
        **kwargs: `dtype` of a Keras metric.

    Input shape:
        Labels `(batch,)` or `(batch, 1)`, class indices, or `(batch, num_classes)`, shares; logits or
        probabilities `(batch, num_classes)`. Of shares and logits the largest counts.

    Raises:
        ValueError: If `num_classes` is below 2.

    Reference:
        Cohen, Weighted kappa, Psychological Bulletin 70(4), 1968.

    Example:
        >>> metric = QuadraticWeightedKappa(3)
        >>> metric.update_state([0, 1, 2], [[9.0, 0, 0], [0, 9, 0], [0, 0, 9]])
        >>> float(metric.result())
        1.0
    """

    def __init__(self, num_classes: int, *, name: str = "kappa", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if num_classes < 2:
            raise InputError(f"`num_classes` must be >= 2. Received: num_classes={num_classes}")
        self.num_classes = num_classes
        self.confusion = self.add_variable((num_classes, num_classes), "zeros", name="confusion")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; `sample_weight` is `(batch,)`."""
        predicted = ops.one_hot(ops.argmax(y_pred, axis=-1), self.num_classes, dtype=self.dtype)
        true = ops.one_hot(class_indices(y_true, self.num_classes), self.num_classes, dtype=self.dtype)
        if sample_weight is not None:
            true = true * ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        self.confusion.assign_add(ops.matmul(ops.transpose(true), predicted))

    def result(self) -> Any:
        """Returns kappa, a scalar in [-1, 1] or NaN."""
        places = ops.arange(self.num_classes, dtype=self.dtype)
        penalty = ops.square(places[:, None] - places)
        true, predicted = ops.sum(self.confusion, axis=1), ops.sum(self.confusion, axis=0)
        by_chance = ops.sum(penalty * true[:, None] * predicted) / ops.sum(true)
        return 1.0 - ops.sum(penalty * self.confusion) / by_chance

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return super().get_config() | {"num_classes": self.num_classes}
