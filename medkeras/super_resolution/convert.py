"""The official super-resolution checkpoints' tensors and the variables that they fill."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.checkpoints.layouts import Target, conv_kernel, dense_kernel, norm
from medkeras.super_resolution.blocks import GroupNorm, SpatialAttention

PROJECTIONS = {"query": "to_q", "key": "to_k", "value": "to_v", "project": "to_out.0"}
LEGACY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# From our layout back to the official one; everything else is the same in both.
BACK = {conv_kernel: lambda array: np.moveaxis(array, (-1, -2), (0, 1)), dense_kernel: np.transpose}
LEGACY_NAME = re.compile(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")
PROJECTION_WEIGHT = re.compile(r".*\.attentions\.\d+\.to_(?:q|k|v|out\.0)\.weight")


def official_tensors(model: keras.Model) -> list[Target]:
    """Lists, for each variable of a model whose layers bear official names, the tensors that it is made of."""
    return [target for layer in _leaves(model) for target in _targets(layer)]


def official_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a model by their official names and in their official layouts, float32."""
    arrays = {}
    for target in official_tensors(model):
        array = np.asarray(ops.convert_to_numpy(target.variable), "float32")
        arrays[target.names[0]] = np.ascontiguousarray(BACK.get(target.transform, np.asarray)(array))
    return arrays


def modern(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames the attention tensors of files from before 2023, and brings their 1x1 convolutions to matrices.

    Args:
        arrays: Tensors by official name, in either layout.

    Example:
        >>> {n: a.shape for n, a in modern({"mid.attentions.0.proj_attn.weight": np.zeros((4, 4, 1, 1))}).items()}
        {'mid.attentions.0.to_out.0.weight': (4, 4)}
    """
    renamed = {LEGACY_NAME.sub(lambda m: m[1] + LEGACY[m[2]] + m[3], name): array for name, array in arrays.items()}
    return {name: _matrix(array) if PROJECTION_WEIGHT.fullmatch(name) else array for name, array in renamed.items()}


def _matrix(array: np.ndarray) -> np.ndarray:
    return array[:, :, 0, 0] if array.shape[2:] == (1, 1) else array


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        elif layer.weights:
            yield layer


def _targets(layer: Any) -> list[Target]:
    name = layer.name
    if isinstance(layer, GroupNorm):
        return norm(name, layer)
    if isinstance(layer, SpatialAttention):
        dense = [_linear(f"{name}.{theirs}", getattr(layer, ours)) for ours, theirs in PROJECTIONS.items()]
        return norm(f"{name}.group_norm", layer.norm) + sum(dense, [])
    if isinstance(layer, keras.layers.Dense):
        return _linear(name, layer)
    if isinstance(layer, keras.layers.Conv2D):
        return [Target(layer.kernel, (f"{name}.weight",), conv_kernel), Target(layer.bias, (f"{name}.bias",))]
    return [Target(layer.embedding, (f"{name}.embedding.weight",))]


def _linear(name: str, layer: keras.layers.Dense) -> list[Target]:
    return [Target(layer.kernel, (f"{name}.weight",), dense_kernel), Target(layer.bias, (f"{name}.bias",))]
