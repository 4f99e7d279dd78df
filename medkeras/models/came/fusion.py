"""MSFA, CAME's fusion block: three branches and the fusion before become one map."""

from typing import Any

import keras

from medkeras.layers import ChannelAttention, SpatialGate
from medkeras.models.hemf.parts import (
    average_pool,
    batch_norm,
    channel_norm,
    fusion_linear,
    gated,
    gelu,
    mapped,
    uniform_kernel,
)

BRANCHES = ("local", "global", "external")
EXPANSION = 4


def fuse(branches: dict[str, Any], previous: Any, *, name: str, depthwise: bool) -> tuple[Any, dict[str, Any]]:
    """Fuses the maps of one stage.

    Args:
        branches: `local`, `global` and `external`, symbolic `(batch, height, width, channels)`.
        previous: What the stage before gave, at twice the size, or None.
        name: Prefix of the layers' names.
        depthwise: Whether the last 3x3 convolution keeps the channels apart; the published one mixes them.

    Returns:
        `(batch, height, width, channels)`, and the spatial gate of each branch, `gate_<branch>`.
    """
    width = branches["local"].shape[-1]
    parts = [mapped(branches[key], width, name=f"{name}_map_{key}") for key in BRANCHES]
    carried = None
    if previous is not None:
        carried = keras.layers.ReLU(name=f"{name}_carry_relu")(mapped(previous, width, name=f"{name}_carry"))
        carried = average_pool(carried, name=f"{name}_carry_pool")
        parts.append(carried)
    joined = channel_norm(f"{name}_join_norm")(keras.layers.Concatenate(name=f"{name}_join")(parts))
    joined = gelu(mapped(joined, width, name=f"{name}_mix"), name=f"{name}_mix_gelu")
    attended, seen = [], {}
    for key in BRANCHES:
        gate = seen[f"gate_{key}"] = SpatialGate(3, name=f"{name}_{key}_gate")(branches[key])
        attended.append(ChannelAttention(8, name=f"{name}_{key}_channels")(gated(branches[key], gate)))
    z = keras.layers.Concatenate(name=f"{name}_all")([*attended, joined])
    end = inverted_mlp(channel_norm(f"{name}_all_norm")(z), width, name=f"{name}_mlp", depthwise=depthwise)
    return end if carried is None else keras.layers.Add(name=f"{name}_sum")([carried, end]), seen


def inverted_mlp(x: Any, width: int, *, name: str, depthwise: bool) -> Any:
    """IRMLP: `y = norm(linear(GELU(linear(norm(GELU(conv 3x3(x)) + x)))))`, without biases, BatchNorms as norms.

    Args:
        x: Symbolic `(batch, height, width, channels)`.
        width: Channels of the output.
        name: Prefix of the layers' names.
        depthwise: Whether the 3x3 convolution keeps the channels apart.
    """
    channels = x.shape[-1]
    options = {"padding": "same", "use_bias": False, "name": f"{name}_conv"}
    if depthwise:
        start = keras.initializers.RandomUniform(-1 / 3, 1 / 3)
        conv = keras.layers.DepthwiseConv2D(3, depthwise_initializer=start, **options)
    else:
        conv = keras.layers.Conv2D(channels, 3, kernel_initializer=uniform_kernel(), **options)
    mixed = keras.layers.Add(name=f"{name}_sum")([gelu(conv(x), name=f"{name}_gelu"), x])
    mixed = batch_norm(f"{name}_norm")(mixed)
    expanded = fusion_linear(EXPANSION * channels, channels, use_bias=False, name=f"{name}_expand")(mixed)
    expanded = gelu(expanded, name=f"{name}_expand_gelu")
    project = fusion_linear(width, EXPANSION * channels, use_bias=False, name=f"{name}_project")
    return batch_norm(f"{name}_project_norm")(project(expanded))
