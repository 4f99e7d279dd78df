"""A dense layer over the channels of a map, as one product of matrices."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("medkeras")
class ChannelDense(keras.layers.Dense):
    """Maps the channels of each place; as `Dense`, with a quarter of its operations in the graph.

    `Dense` on a map computes the shape of its product step by step when the batch size is unknown. Here the places
    are joined into one axis, so that one product is left, to which TensorFlow joins the bias.

    Args:
        units: Channels of the output.
        **kwargs: As of `keras.layers.Dense`.

    Input shape:
        `(batch, *spatial, channels)`, spatial sizes known.

    Output shape:
        `(batch, *spatial, units)`.

    Example:
        >>> tuple(ChannelDense(5)(ops.ones((2, 3, 4, 6))).shape)
        (2, 3, 4, 5)
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Maps the channels."""
        *places, channels = inputs.shape[1:]
        outputs = super().call(ops.reshape(inputs, (-1, channels)), training=training)
        return ops.reshape(outputs, (-1, *places, self.units)) if places else outputs
