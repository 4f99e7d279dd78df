"""What two networks see of the same places, exchanged by attention and joined to one map."""

import dataclasses
from typing import Any

import keras
from keras import ops

from medkeras.layers import ChannelAttention, CrossAttention, SpatialGate

BRANCHES = ("first", "second")
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Fusion:
    """How the maps of one level are joined; `DCAT` explains the fields."""

    units: int
    heads: int
    keys: str
    gate: str
    fusion: str
    reduction: int


def project(x: Any, units: int, *, name: str) -> Any:
    """Returns `x` with `units` channels: 1x1 convolution, BatchNorm, ReLU."""
    x = keras.layers.Conv2D(units, 1, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=1e-5, name=f"{name}_norm")(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def exchange(maps: dict[str, Any], setting: Fusion, *, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lets each branch read the other.

    Args:
        maps: The two branches' maps of one level, `(batch, height, width, units)` each, of the same size.
        setting: What is built.
        name: Ends the names of the layers.

    Returns:
        The maps with what was read added; and, by the branch that reads, the attention, float32
        `(batch, heads, places, places)`, from the place that looks to the one that is looked at.
    """
    gates = _gates(maps, setting, name=name) if setting.gate == "channel" else {}
    joined, attention = {}, {}
    both = keras.layers.Concatenate(name=f"both_{name}")(list(maps.values())) if setting.keys == "both" else None
    for branch, other in zip(BRANCHES, reversed(BRANCHES), strict=True):
        given = maps[other] if both is None else both
        layer = CrossAttention(setting.units, heads=setting.heads, name=f"{branch}_reads_{name}")
        seen = layer([maps[branch], given])
        read, attention[branch] = seen["output"], seen["maps"]
        if gates:
            read = keras.layers.Multiply(name=f"{branch}_gated_{name}")([read, gates[branch]])
        joined[branch] = keras.layers.Add(name=f"{branch}_joined_{name}")([maps[branch], read])
    return joined, attention


def _gates(maps: dict[str, Any], setting: Fusion, *, name: str) -> dict[str, Any]:
    """Returns, for each branch, how much of each channel it takes over, `(batch, 1, 1, units)` in (0, 1)."""
    means = [
        keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{branch}_mean_{name}")(x)
        for branch, x in maps.items()
    ]
    both = keras.layers.Concatenate(name=f"means_{name}")(means)
    return {b: keras.layers.Dense(setting.units, "sigmoid", name=f"{b}_gate_{name}")(both) for b in maps}


def fuse(maps: dict[str, Any], setting: Fusion, *, name: str) -> Any:
    """Returns one map of both branches', `(batch, height, width, units)`."""
    join = keras.layers.Add if setting.fusion == "sum" else keras.layers.Concatenate
    return project(join(name=f"join_{name}")(list(maps.values())), setting.units, name=f"fuse_{name}")


def refine(x: Any, setting: Fusion, *, name: str) -> tuple[Any, Any]:
    """Adds to a map what channel and spatial attention leave of it.

    Returns:
        The refined map, and the spatial gate, `(batch, height, width, 1)` in (0, 1).
    """
    weighed = ChannelAttention(setting.reduction, name=f"channels_{name}")(x)
    gate = SpatialGate(7, name=f"places_{name}")(weighed)
    weighed = keras.layers.Multiply(name=f"weighed_{name}")([weighed, gate])
    return keras.layers.Add(name=f"refined_{name}")([x, weighed]), gate


def looked_at(attention: Any, size: tuple[int, int]) -> Any:
    """Returns attention at the places that are looked at, `(batch, height, width, heads * places that look)`.

    So the mean over the channels says how much a place is looked at; at the place that looks, it would be the same
    number everywhere.
    """
    heads, looking = attention.shape[1:3]
    maps = ops.transpose(ops.reshape(attention, (-1, heads, looking, *size)), (0, 3, 4, 1, 2))
    return ops.reshape(maps, (-1, *size, heads * looking))
