"""Cross-attention: each place of one map reads from all places of another."""

import math
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers.channel_dense import ChannelDense


@keras.saving.register_keras_serializable("medkeras")
class CrossAttention(keras.layers.Layer):
    """Lets every place of a receiving map look at every place of a giving map.

    Queries come from the receiving map, keys and values from the giving one, each after a layer norm of its own; a
    dense layer follows. Nothing is added to the input: sum, gate and fusion are the model's.

    Args:
        units: Channels of queries, keys, values and output.
        heads: Number of heads; divides the units.

    Input shape:
        `[receiving, giving]`: `(batch, *places, channels)` each, with one to three axes of places, sizes known. Sizes
        and channels of the two may differ.

    Output shape:
        Dict of `output`, `(batch, *places of receiving, units)`, and `maps`, float32
        `(batch, heads, receiving places, giving places)` in row-major order, whose rows sum to 1.

    Raises:
        ValueError: If an argument is out of range or `heads` does not divide the units.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv 1706.03762; between two networks as in DCAT, Borah and Singh,
        arXiv 2503.11851, whose layout is not published: head count, norms and the last dense layer are ours.

    Example:
        >>> seen = CrossAttention(8, heads=2)([ops.ones((1, 4, 4, 6)), ops.ones((1, 2, 3, 5))])
        >>> {name: tuple(x.shape) for name, x in sorted(seen.items())}
        {'maps': (1, 2, 16, 6), 'output': (1, 4, 4, 8)}
    """

    def __init__(self, units: int, *, heads: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units < 1 or heads < 1 or units % heads:
            raise InputError(
                f"`units` must be positive and a multiple of `heads`. Received: units={units}, heads={heads}"
            )
        self.units, self.heads = units, heads

    def build(self, input_shape: Any) -> None:
        """Makes the norms and the projections."""
        receiving, giving = input_shape
        policy = self.dtype_policy
        self.norms = [keras.layers.LayerNormalization(dtype=policy, name=f"norm_{n}") for n in ("to", "of")]
        for norm, shape in zip(self.norms, (receiving, giving), strict=True):
            norm.build(shape)
        shapes = {"query": receiving, "key": giving, "value": giving, "project": (*receiving[:-1], self.units)}
        for name, shape in shapes.items():
            dense = ChannelDense(self.units, dtype=policy, name=name)
            dense.build(shape)
            setattr(self, name, dense)

    def call(self, inputs: Any) -> dict[str, Any]:
        """Returns what each receiving place read, and the maps."""
        receiving, giving = (norm(x) for norm, x in zip(self.norms, inputs, strict=True))
        query = self._split(self.query(receiving)) * (self.units // self.heads) ** -0.5
        key, value = self._split(self.key(giving)), self._split(self.value(giving))
        logits = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        # Half precision has too few digits for the sum over many places.
        maps = ops.softmax(ops.cast(logits, "float32"), axis=-1)
        read = ops.transpose(ops.matmul(ops.cast(maps, value.dtype), value), (0, 2, 1, 3))
        output = self.project(ops.reshape(read, (-1, *receiving.shape[1:-1], self.units)))
        return {"output": output, "maps": maps}

    def _split(self, x: Any) -> Any:
        """Returns `(batch, heads, places, units per head)`."""
        places = math.prod(x.shape[1:-1])
        return ops.transpose(ops.reshape(x, (-1, places, self.heads, self.units // self.heads)), (0, 2, 1, 3))

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        """Returns the shapes of output and maps."""
        receiving, giving = input_shape
        places = (math.prod(shape[1:-1]) for shape in (receiving, giving))
        return {"output": (*receiving[:-1], self.units), "maps": (receiving[0], self.heads, *places)}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"units": self.units, "heads": self.heads}
