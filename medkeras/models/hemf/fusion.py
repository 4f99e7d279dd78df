"""HEF, a fusion block: local, global and earlier fused features become one map."""

import dataclasses
from typing import Any

import keras

from medkeras.layers import ChannelAttention, DropPath, ExternalAttention, SpatialGate
from medkeras.models.hemf.parts import average_pool, batch_norm, channel_norm, fusion_linear, gated, gelu, mapped
from medkeras.models.hemf.squeezed_mlp import squeezed_mlp


@dataclasses.dataclass(frozen=True)
class Fusion:
    """What all fusion blocks of a model have in common.

    Attributes:
        memory_attention: Whether each branch is multiplied by its external attention (MHEA).
        gates: Whether each branch passes the spatial and the channel gate (SA, CA).
        mlp: Whether a squeezed MLP (SIRMLP) ends the block; else its first step alone does, the squeeze.
        heads: Heads of the external attention.
        memory: Units of the external attention.
        epsilon: Added to the sums over the units.
        depthwise: Whether the squeezed MLP's 3x3 convolution keeps the channels apart.
        drop_path: Probability with which training leaves the end of the block out.
        build_dead_paths: Whether the layers exist that the published code builds and never calls.
    """

    memory_attention: bool = True
    gates: bool = True
    mlp: bool = True
    heads: int = 8
    memory: int = 64
    epsilon: float = 0.0
    depthwise: bool = False
    drop_path: float = 0.0
    build_dead_paths: bool = False


def fuse(branches: dict[str, Any], previous: Any, setting: Fusion, *, name: str) -> tuple[Any, dict[str, Any]]:
    """Fuses the maps of one stage.

    Args:
        branches: `local` and `global`, symbolic `(batch, height, width, channels)`.
        previous: What the stage before gave, at twice the size, or None.
        setting: What all blocks have in common.
        name: Prefix of the layers' names.

    Returns:
        `(batch, height, width, channels)`, and the attention inside: `memory_local`, `memory_global` (the maps of
        `ExternalAttention`), `gate_local` and `gate_global` (those of `SpatialGate`), as far as the setting has them.
    """
    width = branches["local"].shape[-1]
    parts = [mapped(branches[key], width, name=f"{name}_map_{key}") for key in ("local", "global")]
    carried = None
    if previous is not None:
        carried = mapped(previous, width, name=f"{name}_carry")
        carried = average_pool(keras.layers.ReLU(name=f"{name}_carry_relu")(carried), name=f"{name}_carry_pool")
        parts = [carried, *parts]
    joined = channel_norm(f"{name}_join_norm")(keras.layers.Concatenate(name=f"{name}_join")(parts))
    joined = gelu(mapped(joined, width, name=f"{name}_mix"), name=f"{name}_mix_gelu")
    if setting.build_dead_paths:
        joined = DeadPath(has_previous=previous is not None, name=f"{name}_dead")(joined)
    attended, seen = {}, {}
    for key in ("local", "global"):
        attended[key], maps = mixed_attention(branches[key], setting, name=f"{name}_{key}")
        seen |= {f"{kind}_{key}": tensor for kind, tensor in maps.items()}
    # Published order: global, local, joined.
    z = keras.layers.Concatenate(name=f"{name}_all")([attended["global"], attended["local"], joined])
    z = channel_norm(f"{name}_all_norm")(z)
    if setting.mlp:
        end = squeezed_mlp(z, width, name=f"{name}_mlp", depthwise=setting.depthwise)
    else:
        end = mapped(z, width, name=f"{name}_mlp_squeeze")
    if setting.drop_path:
        end = DropPath(setting.drop_path, name=f"{name}_drop_path")(end)
    return end if carried is None else keras.layers.Add(name=f"{name}_sum")([carried, end]), seen


def mixed_attention(x: Any, setting: Fusion, *, name: str) -> tuple[Any, dict[str, Any]]:
    """Returns a branch after norm, external attention, spatial gate and channel gate, and the maps of the attention.

    The product with the external attention has no skip; the norm after it is the first one, weights shared.
    """
    norm = channel_norm(f"{name}_norm")
    x, seen = norm(x), {}
    if setting.memory_attention:
        attention = ExternalAttention(
            heads=setting.heads, memory=setting.memory, epsilon=setting.epsilon, name=f"{name}_memory"
        )(x)
        seen["memory"] = attention["maps"]
        x = norm(gated(x, attention["output"]))
    if setting.gates:
        seen["gate"] = SpatialGate(7, name=f"{name}_gate")(x)
        x = ChannelAttention(16, name=f"{name}_channels")(gated(x, seen["gate"]))
    return x, seen


@keras.saving.register_keras_serializable("medkeras")
class DeadPath(keras.layers.Layer):
    """Gives its input back, and holds the layers that published fusion blocks build and never call.

    The published code builds both ways of joining, with and without an earlier fusion, in each block. What is not
    used has no effect and no gradient; it makes the number of parameters the published one.

    Args:
        has_previous: Whether the block has an earlier fusion; then the way without it is dead, and vice versa.

    Input shape:
        `(batch, height, width, channels)`, channels even.

    Output shape:
        Same as the input.

    Example:
        >>> layer = DeadPath(has_previous=True)
        >>> tuple(layer(keras.ops.ones((1, 2, 2, 8))).shape), layer.count_params()
        ((1, 2, 2, 8), 200)
    """

    def __init__(self, *, has_previous: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.has_previous = has_previous

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the unused layers."""
        width = input_shape[-1]
        joined = 2 * width if self.has_previous else 3 * width
        self.join_norm = channel_norm("join_norm")
        self.mix = fusion_linear(width, joined, name="mix")
        self.mix_norm = batch_norm("mix_norm")
        shapes = [(self.join_norm, joined), (self.mix, joined), (self.mix_norm, width)]
        if not self.has_previous:
            self.carry = fusion_linear(width, width // 2, name="carry")
            self.carry_norm = batch_norm("carry_norm")
            shapes += [(self.carry, width // 2), (self.carry_norm, width)]
        for layer, channels in shapes:
            layer.build((*input_shape[:-1], channels))

    def call(self, inputs: Any) -> Any:
        """Returns the input."""
        return inputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"has_previous": self.has_previous}
