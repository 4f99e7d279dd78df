"""Cross-entropy for one class per image, or for shares of several."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.labels import class_shares


@keras.saving.register_keras_serializable("medkeras")
class CrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy on logits, for class indices and for shares of classes alike.

    Images that were mixed in training have shares, those of validation an index; both are the same loss, Keras'
    `CategoricalCrossentropy` and `SparseCategoricalCrossentropy`.

    Args:
        label_smoothing: Share of the label that is spread evenly over all classes, in [0, 1).
        **kwargs: `name`, `reduction` and `dtype` of a Keras loss. The loss is computed in float32.

    Input shape:
        Labels `(batch,)` or `(batch, 1)`, class indices, or `(batch, classes)`, shares that sum to 1; logits
        `(batch, classes)`, at least two classes.

    Raises:
        ValueError: If `label_smoothing` is out of its range, or labels have neither form.

    Reference:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, arXiv 1512.00567, for the
        smoothing.

    Example:
        >>> round(float(CrossEntropy()([1], [[0.0, 0.0]])), 4)
        0.6931
        >>> round(float(CrossEntropy()([[0.5, 0.5]], [[3.0, 3.0]])), 4)
        0.6931
    """

    def __init__(self, *, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing}")
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each image, `(batch,)`."""
        logits = ops.cast(y_pred, "float32")
        classes = logits.shape[-1]
        shares = class_shares(y_true, classes) * (1 - self.label_smoothing) + self.label_smoothing / classes
        return ops.categorical_crossentropy(shares, logits, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return super().get_config() | {"dtype": self.dtype, "label_smoothing": self.label_smoothing}
