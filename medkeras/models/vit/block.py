"""A block of the transformer: attention between the tokens, then a dense part at each of them."""

from typing import Any, NamedTuple

import keras

from medkeras.layers import ChannelDense, SelfAttention, SteadyLayerNorm

EPSILON = 1e-12  # of the layer norms, as in the official configuration


class Seen(NamedTuple):
    """What a block gives.

    Attributes:
        tokens: The output, of the shape of the input.
        maps: The attention, float32 `(batch, heads, tokens, tokens)`.
        normed: What the attention reads: the input after its norm.
    """

    tokens: Any
    maps: Any
    normed: Any


class Block:
    """The layers of one block; called, it is a part of the graph, or runs on tensors.

    Args:
        units: Channels of a token.
        heads: Heads of the attention.
        hidden: Units of the dense part.
        name: Begins the names of the layers.
    """

    def __init__(self, units: int, *, heads: int, hidden: int, name: str) -> None:
        self.norms = [layer_norm(f"{name}_norm{i}") for i in (1, 2)]
        self.attention = SelfAttention(heads, name=f"{name}_attention")
        self.expand = dense(hidden, name=f"{name}_expand")
        self.gelu = keras.layers.Activation("gelu", name=f"{name}_gelu")
        self.project = dense(units, name=f"{name}_project")
        self.sums = [keras.layers.Add(name=f"{name}_{part}") for part in ("looked", "output")]

    def __call__(self, x: Any, *, offset: Any = None) -> Seen:
        """Passes the tokens `(batch, tokens, units)`; `offset` is added to the attention, see `SelfAttention`."""
        normed = self.norms[0](x)
        looked = self.attention(normed, offset=offset)
        x = self.sums[0]([x, looked["output"]])
        y = self.project(self.gelu(self.expand(self.norms[1](x))))
        return Seen(self.sums[1]([x, y]), looked["maps"], normed)


def layer_norm(name: str) -> SteadyLayerNorm:
    """Returns a layer norm over the channels of a token."""
    return SteadyLayerNorm(epsilon=EPSILON, name=name)


def dense(units: int, *, name: str) -> ChannelDense:
    """Returns a dense layer over the channels of a token."""
    return ChannelDense(units, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02), name=name)
