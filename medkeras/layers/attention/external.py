"""External attention: places attend to a few learned memory units instead of to each other."""

import math
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError


@keras.saving.register_keras_serializable("medkeras")
class ExternalAttention(keras.layers.Layer):
    """Reads each place's features from a memory that all images share.

    The channels are split into heads. The logits of a place are its features times the memory's keys; they pass a
    softmax over the **places**, then each place's row is divided by its sum over the memory units; the result
    weighs the memory's values. Keys and values are shared by the heads; there is no other projection.

    Both divisions are done on logarithms, in float32 whatever the policy: the quotient is the same, but it exists
    also where every unit's share underflows to zero, as for a place far from all keys.

    Args:
        heads: Number of heads; divides the channels.
        memory: Number of memory units.
        epsilon: Added to the sum over the units, at least 0; a place to which no unit attends then fades to zero.

    Input shape:
        `(batch, *spatial, channels)`.

    Output shape:
        Dict of `output`, the input shape, and `maps`, `(batch, *spatial, heads * memory)`: for each head and unit,
        head by head, its attention over the places, non-negative with sum 1.

    Raises:
        ValueError: If an argument is out of range or `heads` does not divide the channels.

    Reference:
        Guo et al., Beyond Self-attention: External Attention using Two Linear Layers for Visual Tasks,
        arXiv 2105.02358.

    Example:
        >>> seen = ExternalAttention(heads=2, memory=8)(ops.ones((1, 4, 4, 6)))
        >>> tuple(seen["output"].shape), tuple(seen["maps"].shape)
        ((1, 4, 4, 6), (1, 4, 4, 16))
    """

    def __init__(self, *, heads: int = 8, memory: int = 64, epsilon: float = 0.0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if heads < 1 or memory < 1:
            raise InputError(f"`heads` and `memory` must be at least 1. Received: heads={heads}, memory={memory}")
        if epsilon < 0:
            raise InputError(f"`epsilon` must be at least 0. Received: epsilon={epsilon}")
        self.heads, self.memory, self.epsilon = heads, memory, epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the memory."""
        channels = input_shape[-1]
        if channels % self.heads:
            raise InputError(f"`heads` must divide the {channels} channels. Received: heads={self.heads}")
        size = channels // self.heads
        for name, shape in (("key", (size, self.memory)), ("value", (self.memory, size))):
            weight = self.add_weight(shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.001), name=name)
            setattr(self, name, weight)

    def call(self, inputs: Any) -> dict[str, Any]:
        """Returns what the places read, and what the units attended to."""
        *spatial, channels = inputs.shape[1:]
        places = math.prod(spatial)
        x = ops.reshape(ops.cast(inputs, "float32"), (-1, channels // self.heads))
        logits = ops.reshape(ops.matmul(x, self.key), (-1, places, self.heads, self.memory))
        share = logits - ops.logsumexp(logits, axis=1, keepdims=True)
        weights = ops.softmax(share, axis=-1)
        maps = ops.exp(share)
        if self.epsilon:
            total = ops.sum(maps, axis=-1, keepdims=True)
            weights = weights * (total / (total + self.epsilon))
        output = ops.matmul(ops.reshape(weights, (-1, self.memory)), self.value)
        output = ops.reshape(output, (-1, *spatial, channels))
        maps = ops.reshape(maps, (-1, *spatial, self.heads * self.memory))
        return {name: ops.cast(x, self.compute_dtype) for name, x in (("output", output), ("maps", maps))}

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> dict[str, Any]:
        """Returns the shapes of output and maps."""
        return {"output": tuple(input_shape), "maps": (*input_shape[:-1], self.heads * self.memory)}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"heads": self.heads, "memory": self.memory, "epsilon": self.epsilon}
