"""Share of images whose most likely class is the true one."""

from typing import Any

import keras
from keras import ops

from medkeras.labels import class_indices


@keras.saving.register_keras_serializable("medkeras")
class Accuracy(keras.metrics.Mean):
    """Share of right answers; of mixed images, the class of the largest share counts as the true one.

    Args:
        name: Name in logs.
        **kwargs: `dtype` of a Keras metric.

    Input shape:
        Labels `(batch,)` or `(batch, 1)`, class indices, or `(batch, classes)`, shares; logits or probabilities
        `(batch, classes)`, of which the largest counts.

    Example:
        >>> metric = Accuracy()
        >>> metric.update_state([0, 1], [[2.0, 0.0], [3.0, 0.0]])
        >>> float(metric.result())
        0.5
    """

    def __init__(self, *, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; `sample_weight` is `(batch,)`."""
        y_pred = ops.convert_to_tensor(y_pred)
        right = ops.equal(class_indices(y_true, y_pred.shape[-1]), ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        super().update_state(ops.cast(right, self.dtype), sample_weight)
