"""Norms that pass no gradient where there is nothing to normalise: where all values are the same."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("medkeras")
class SteadyLayerNorm(keras.layers.LayerNormalization):
    """Normalises each place over its channels; a place whose channels are all equal gets no gradient.

    The output is that of `LayerNormalization`. At a place without variance, as where an image is zero and biases
    are, the output is `beta` whatever the direction of the input; there the usual gradient is the incoming one
    divided by the root of epsilon: 1,000 times as large after one norm, and infinite after twelve.

    Args:
        **kwargs: As of `keras.layers.LayerNormalization`, over the last axis, with scale and centre.

    Input shape:
        `(batch, ..., channels)`.

    Output shape:
        Same as the input.

    Reference:
        Ba et al., Layer Normalization, arXiv 1607.06450.

    Example:
        >>> tuple(SteadyLayerNorm()(ops.ones((2, 3, 4))).shape)
        (2, 3, 4)
    """

    def call(self, inputs: Any) -> Any:
        """Normalises each place, in float32 whatever the policy."""
        x = ops.cast(inputs, "float32")
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        gain = ops.where(variance > 0, ops.rsqrt(variance + self.epsilon), 0.0)
        normal = centred * gain * ops.cast(self.gamma, "float32") + ops.cast(self.beta, "float32")
        return ops.cast(normal, self.compute_dtype)


@keras.saving.register_keras_serializable("medkeras")
class SteadyBatchNorm(keras.layers.BatchNormalization):
    """Normalises each channel over the batch; a channel that is the same everywhere in it gets no gradient.

    Outputs and gradients are those of `BatchNormalization`, but for channels without variance, as in a batch of
    black images: their output is `beta`. The usual one adds a rounding error to it, divided by the root of epsilon,
    which the next norms make as large as any feature, and the gradient grows by that factor at each of them.

    Args:
        **kwargs: As of `keras.layers.BatchNormalization`, over all but the last axis, with scale and centre.

    Input shape:
        `(batch, ..., channels)`.

    Output shape:
        Same as the input.

    Reference:
        Ioffe and Szegedy, Batch Normalization, arXiv 1502.03167.

    Example:
        >>> tuple(SteadyBatchNorm()(ops.ones((2, 4, 4, 3)), training=True).shape)
        (2, 4, 4, 3)
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises each channel: by the batch in training, else by what was seen in training."""
        outputs = super().call(inputs, training=training, mask=mask)
        if not (training and self.trainable):
            return outputs
        return ops.where(self.constant_channels(inputs), ops.cast(self.beta, outputs.dtype), outputs)

    def constant_channels(self, inputs: Any) -> Any:
        """Returns whether each channel has one value everywhere in the batch, `(1, ..., channels)`.

        Args:
            inputs: `(batch, ..., channels)`; on several replicas of TensorFlow the part of the batch of one.
        """
        axes = tuple(range(len(inputs.shape) - 1))
        first = inputs[tuple(slice(0, 1) for _ in axes)]
        return ops.all(inputs == first, axis=axes, keepdims=True)
