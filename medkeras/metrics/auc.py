"""Area under the ROC curve while a model trains on logits."""

from typing import Any

import keras
from keras import ops

from medkeras.labels import class_indices
from medkeras.tasks import check_task, is_multilabel

LIMIT = 16.0
BINS = 512


@keras.saving.register_keras_serializable("medkeras")
class AUC(keras.metrics.Metric):
    """Area under the ROC curve of a model that gives logits: of class 1, or the mean over classes or labels.

    The class is compared with the rest (`multiclass`, `ordinal`), labels that are NaN are left out
    (`multilabel`), and a class without a positive or without a negative image takes no part in the mean. NaN
    where no class can be judged.

    It is an approximation: scores are counted in 512 bins of log-odds between -16 and 16, and scores in one
    bin tie. Even bins of probability, as in `keras.metrics.AUC`, cannot rank the images of a confident model,
    whose probabilities crowd at 0 and 1. `medkeras.evaluation.evaluate` is exact.

    Args:
        task: One of `medkeras.tasks.TASKS`.
        num_classes: Number of classes, or of labels.
        name: Name in logs.
        **kwargs: `dtype` of a Keras metric.

    Input shape:
        Labels `(batch,)` or `(batch, 1)`, class indices, or `(batch, num_classes)`, shares, of which the largest
        counts; for several labels `(batch, labels)`, each in [0, 1] or NaN, a share counting as so much of a
        positive image. Logits `(batch, num_classes)`.

    Raises:
        ValueError: If the task is unknown or does not fit `num_classes`.

    Example:
        >>> metric = AUC("binary", 2)
        >>> metric.update_state([0, 1, 1], [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
        >>> float(metric.result())
        0.5
    """

    def __init__(self, task: str, num_classes: int, *, name: str = "auc", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.task, self.num_classes = check_task(task, num_classes), num_classes
        shape = (1 if task == "binary" else num_classes, BINS)
        self.positives = self.add_variable(shape, "zeros", name="positives")
        self.negatives = self.add_variable(shape, "zeros", name="negatives")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; `sample_weight` is `(batch,)`."""
        labels = self._one_vs_rest(y_true)
        known = 1.0 - ops.cast(ops.isnan(labels), self.dtype)
        labels = ops.where(known > 0, labels, 0.0)
        if sample_weight is not None:
            known = known * ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        place = ops.floor((self._log_odds(y_pred) + LIMIT) * (BINS / (2 * LIMIT)))
        bins = ops.one_hot(ops.cast(ops.clip(place, 0, BINS - 1), "int32"), BINS, dtype=self.dtype)
        self.positives.assign_add(ops.einsum("nc,ncb->cb", known * labels, bins))
        self.negatives.assign_add(ops.einsum("nc,ncb->cb", known * (1.0 - labels), bins))

    def _one_vs_rest(self, y_true: Any) -> Any:
        if is_multilabel(self.task):
            return ops.cast(y_true, self.dtype)
        hot = ops.one_hot(class_indices(y_true, self.num_classes), self.num_classes, dtype=self.dtype)
        return hot[:, 1:] if self.task == "binary" else hot

    def _log_odds(self, logits: Any) -> Any:
        logits = ops.cast(logits, self.dtype)
        if is_multilabel(self.task):
            return logits
        if self.task == "binary":
            return logits[:, 1:] - logits[:, :1]
        log_p = ops.log_softmax(logits, axis=-1)
        return log_p - ops.log(ops.maximum(-ops.expm1(log_p), 1e-9))

    def result(self) -> Any:
        """Returns the mean area, a scalar in [0, 1] or NaN."""
        negatives_below = ops.cumsum(self.negatives, axis=1) - self.negatives / 2
        won = ops.sum(self.positives * negatives_below, axis=1)
        pairs = ops.sum(self.positives, axis=1) * ops.sum(self.negatives, axis=1)
        areas = won / ops.where(pairs > 0, pairs, 1.0)
        return ops.sum(areas) / ops.sum(ops.cast(pairs > 0, self.dtype))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return super().get_config() | {"task": self.task, "num_classes": self.num_classes}
