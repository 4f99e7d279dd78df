"""The metrics to watch while training, by task."""

import keras

from medkeras.metrics.accuracy import Accuracy
from medkeras.metrics.auc import AUC
from medkeras.metrics.kappa import QuadraticWeightedKappa
from medkeras.tasks import is_multilabel


def default_metrics(task: str, num_classes: int) -> list[keras.metrics.Metric]:
    """Returns new metrics for `model.compile`, for a model that gives logits; labels may be shares of classes.

    `auc` always; `accuracy` for single-label tasks; `kappa`, quadratically weighted, for `ordinal`.

    Args:
        task: One of `medkeras.tasks.TASKS`.
        num_classes: Number of classes, or of labels.

    Raises:
        ValueError: If the task is unknown or does not fit `num_classes`.

    Example:
        >>> [metric.name for metric in default_metrics("ordinal", 5)]
        ['auc', 'accuracy', 'kappa']
    """
    metrics = [AUC(task, num_classes)]
    if not is_multilabel(task):
        metrics.append(Accuracy())
    if task == "ordinal":
        metrics.append(QuadraticWeightedKappa(num_classes))
    return metrics
