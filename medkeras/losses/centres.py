"""Centre loss: features of a class gather about a centre that follows them."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.losses.replicas import replica_share


@keras.saving.register_keras_serializable("medkeras")
class CentreLoss(keras.layers.Layer):
    """Distance of unit features from the centre of their class; calling it in training moves the centres.

    The distance is taken from the centre before it moves, scaled to length 1, and no gradient flows into it.
    Each image then pulls its class's centre a step towards itself; images of one class in a batch add up, and
    classes without an image stay where they are. Replicas of a distributed training keep the same centres.

    Args:
        num_classes: Number of classes, at least 2.
        rate: Step of a centre, as a share of the distance, in (0, 1].
        margin: Distance that costs nothing, >= 0.
        **kwargs: `name` of a Keras layer. The layer works in float32.

    Input shape:
        Features `(batch, size)` of length 1, and class indices `(batch,)`.

    Output shape:
        A scalar, the mean over the batch.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Hu et al., See Better Before Looking Closer (WS-DAN), arXiv 1901.09891, the update; the distance with a
        margin is that of DualAttendMed. With `margin=0` the distance is WS-DAN's, not squared.

    Example:
        >>> loss, feature, label = CentreLoss(2, margin=0.0), ops.array([[1.0, 0.0]]), ops.array([1])
        >>> float(loss(feature, label, training=True)), round(float(loss(feature, label)), 5)
        (1.0, 0.0)
    """

    def __init__(self, num_classes: int, *, rate: float = 0.05, margin: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**(kwargs | {"dtype": "float32", "trainable": False}))
        if num_classes < 2:
            raise InputError(f"`num_classes` must be >= 2. Received: num_classes={num_classes}")
        if not 0 < rate <= 1:
            raise InputError(f"`rate` must be in (0, 1]. Received: rate={rate}")
        if margin < 0:
            raise InputError(f"`margin` must be >= 0. Received: margin={margin}")
        self.num_classes, self.rate, self.margin = num_classes, rate, margin

    def build(self, features_shape: tuple[int | None, ...], labels_shape: Any = None) -> None:
        """Makes the centres, all at the origin."""
        shape = (self.num_classes, features_shape[-1])
        self.centres = self.add_weight(
            name="centres", shape=shape, initializer="zeros", trainable=False, aggregation="mean"
        )

    def call(self, features: Any, labels: Any, training: bool = False) -> Any:
        """Returns the loss; in training, moves the centres too."""
        features = ops.cast(features, "float32")
        hot = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), self.num_classes, dtype="float32")
        centres = ops.stop_gradient(ops.convert_to_tensor(self.centres))
        own = ops.matmul(hot, ops.normalize(centres, axis=-1))
        apart = features - own
        if training:
            step = ops.matmul(ops.transpose(hot), ops.stop_gradient(apart))
            # Replicas write the mean of what each wants to write, and it shall be the sum of all steps.
            self.centres.assign(centres + self.rate * step / replica_share())
        # The root of 0 has no gradient; a distance this small costs nothing anyway.
        distance = ops.sqrt(ops.maximum(ops.sum(ops.square(apart), axis=-1), 1e-12))
        return ops.mean(ops.relu(distance - self.margin))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {"num_classes": self.num_classes, "rate": self.rate, "margin": self.margin}
        return {"name": self.name} | own
