"""Self-attention: every token of a sequence reads from all of them."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers.channel_dense import ChannelDense

INITIAL = keras.initializers.RandomNormal(stddev=0.02)


@keras.saving.register_keras_serializable("medkeras")
class SelfAttention(keras.layers.Layer):
    """Lets every token look at all tokens, head by head, and shows how much.

    Nothing is normalised before and nothing is added after: both are the model's.

    Args:
        heads: Number of heads; divides the channels.

    Input shape:
        `(batch, tokens, channels)`, all but the batch known.

    Output shape:
        Dict of `output`, `(batch, tokens, channels)`, and `maps`, float32 `(batch, heads, tokens, tokens)`, from the
        token that looks to the one that is looked at; its rows sum to 1.

    Call arguments:
        offset: What is added to the maps before tokens are read by them, of the shape of `maps`; None for nothing.
            The gradient of an answer by it is its gradient by the maps, through all that follows.

    Raises:
        ValueError: If `heads` is below 1 or does not divide the channels.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv 1706.03762.

    Example:
        >>> seen = SelfAttention(2)(ops.ones((1, 5, 8)))
        >>> {name: tuple(x.shape) for name, x in sorted(seen.items())}
        {'maps': (1, 2, 5, 5), 'output': (1, 5, 8)}
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if heads < 1:
            raise InputError(f"`heads` must be at least 1. Received: heads={heads}")
        self.heads = heads

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the projections."""
        channels = input_shape[-1]
        if channels % self.heads:
            raise InputError(f"`heads` must divide the {channels} channels. Received: heads={self.heads}")
        for name, units in (("qkv", 3 * channels), ("project", channels)):
            dense = ChannelDense(units, kernel_initializer=INITIAL.clone(), dtype=self.dtype_policy, name=name)
            dense.build(input_shape)
            setattr(self, name, dense)

    def call(self, inputs: Any, offset: Any = None) -> dict[str, Any]:
        """Returns what each token read, and the maps."""
        tokens, channels = inputs.shape[1:]
        query, key, value = (self._split(part) for part in ops.split(self.qkv(inputs), 3, axis=-1))
        logits = ops.matmul(query * (channels // self.heads) ** -0.5, ops.transpose(key, (0, 1, 3, 2)))
        # Half precision has too few digits for the sum over many tokens.
        maps = ops.softmax(ops.cast(logits, "float32"), axis=-1)
        if offset is not None:
            maps = maps + ops.cast(offset, "float32")
        read = ops.transpose(ops.matmul(ops.cast(maps, value.dtype), value), (0, 2, 1, 3))
        return {"output": self.project(ops.reshape(read, (-1, tokens, channels))), "maps": maps}

    def _split(self, x: Any) -> Any:
        """Returns `(batch, heads, tokens, channels per head)`."""
        tokens, channels = x.shape[1:]
        return ops.transpose(ops.reshape(x, (-1, tokens, self.heads, channels // self.heads)), (0, 2, 1, 3))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> dict[str, Any]:
        """Returns the shapes of output and maps."""
        batch, tokens, _ = input_shape
        return {"output": tuple(input_shape), "maps": (batch, self.heads, tokens, tokens)}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"heads": self.heads}
