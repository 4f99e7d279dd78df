"""The published HEMF checkpoint's tensors and the variables that they fill."""

import re
from typing import Any

import numpy as np

from medkeras.checkpoints.layouts import Target, conv_kernel, dense_kernel, norm

TABLES = re.compile(r"stages2\.\d\.RetNetRelPos2d\.(angle|decay)")  # made by formula here
# Both ways of joining are stored for each fusion block, and one of them is used: without or with an earlier fusion.
DEAD_FIRST = re.compile(r"fu1\.(Updim|norm1|W3)\.")
DEAD_LATER = re.compile(r"fu[234]\.(norm2|W)\.")


def is_unused(model: Any, name: str) -> bool:
    """Says whether a tensor of the published checkpoint fills no variable and has no effect."""
    dead = not model.build_dead_paths and (DEAD_FIRST.match(name) or DEAD_LATER.match(name))
    return bool(dead or TABLES.fullmatch(name))


def official_tensors(model: Any) -> list[Target]:
    """Lists, for each variable of a HEMF, the official tensors that it is made of."""
    targets = []
    for stage in range(4):
        targets += shrink(f"downsample_layers.{stage}", model, f"local_{stage + 1}_shrink", stage)
        targets += shrink(f"downsample_layers2.{stage}", model, f"global_{stage + 1}_shrink", stage)
        for block in range(model.local_depths[stage]):
            targets += _local_block(f"stages.{stage}.{block}", model, f"local_{stage + 1}_{block + 1}")
        targets += _global_stage(f"stages2.{stage}", model, stage)
    for stage in range(4):
        targets += _fusion(f"fu{stage + 1}", model, f"fusion_{stage + 1}", has_previous=stage > 0)
    return targets + head(model)


def shrink(official: str, model: Any, name: str, stage: int) -> list[Target]:
    """Lists the targets of a stem (stage 0: convolution, norm) or a halving (norm, convolution)."""
    first, second = (conv, norm) if stage == 0 else (norm, conv)
    layers = [model.get_layer(name), model.get_layer(f"{name}_norm")]
    layers = layers if stage == 0 else layers[::-1]
    return first(f"{official}.0", layers[0]) + second(f"{official}.1", layers[1])


def head(model: Any) -> list[Target]:
    """Lists the targets of the last norm and the classifier."""
    return norm("conv_norm", model.get_layer("head_norm")) + linear("conv_head", model.get_layer("logits"))


def conv(official: str, layer: Any) -> list[Target]:
    """Lists the targets of a convolution, with or without bias."""
    return [Target(layer.kernel, (f"{official}.weight",), conv_kernel), *_bias(official, layer)]


def depthwise(official: str, layer: Any) -> list[Target]:
    """Lists the targets of a depthwise convolution with bias."""
    return [Target(layer.kernel, (f"{official}.weight",), _depthwise_kernel), *_bias(official, layer)]


def linear(official: str, layer: Any) -> list[Target]:
    """Lists the targets of a linear layer, with or without bias, that is officially one or a 1x1 convolution."""
    return [Target(layer.kernel, (f"{official}.weight",), _linear_kernel), *_bias(official, layer)]


def mapped(official: str, model: Any, name: str) -> list[Target]:
    """Lists the targets of a 1x1 convolution and its BatchNorm."""
    return linear(f"{official}.conv", model.get_layer(name)) + norm(f"{official}.bn", model.get_layer(f"{name}_norm"))


def channel_gate(official: str, layer: Any) -> list[Target]:
    """Lists the targets of a channel attention."""
    return linear(f"{official}.fc1", layer.squeeze) + linear(f"{official}.fc2", layer.excite)


def memory(official: str, layer: Any) -> list[Target]:
    """Lists the targets of an external attention."""
    return [
        Target(layer.key, (f"{official}.mk.weight",), dense_kernel),
        Target(layer.value, (f"{official}.mv.weight",), dense_kernel),
    ]


def _bias(official: str, layer: Any) -> list[Target]:
    return [Target(layer.bias, (f"{official}.bias",))] if layer.use_bias else []


def _linear_kernel(array: np.ndarray) -> np.ndarray:
    return array.reshape(array.shape[:2]).T


def _depthwise_kernel(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 0, 1)


def _local_block(official: str, model: Any, name: str) -> list[Target]:
    return [
        *conv(f"{official}.conv", model.get_layer(f"{name}_conv")),
        *norm(f"{official}.norm", model.get_layer(f"{name}_norm")),
        *depthwise(f"{official}.dwconv", model.get_layer(f"{name}_depthwise")),
        *linear(f"{official}.pwconv", model.get_layer(f"{name}_linear")),
    ]


def _global_stage(official: str, model: Any, stage: int) -> list[Target]:
    targets = []
    name = f"global_{stage + 1}"
    for layer in range(model.global_depths[stage]):
        prefix = f"{name}_{layer + 1}"
        if layer == 0 or not model.share_egf_norms:
            # Norms of our own for each layer all start from the official pair, with equal answers.
            owner = name if model.share_egf_norms else prefix
            for i in (1, 2):
                targets += norm(f"{official}.norm{i}", model.get_layer(f"{owner}_norm{i}"))
        targets += _retention(f"{official}.VRC.{layer}", model.get_layer(f"{prefix}_retention"))
        targets += linear(f"{official}.FC.{layer}", model.get_layer(f"{prefix}_linear"))
    return targets


def _retention(official: str, layer: Any) -> list[Target]:
    targets = []
    for letter, dense in (("q", layer.query), ("k", layer.key)):
        name, heads = f"{official}.{letter}_proj", layer.heads
        targets.append(Target(dense.kernel, (f"{name}.weight",), lambda a, n=heads: _by_halves(a, n).T))
        targets.append(Target(dense.bias, (f"{name}.bias",), lambda a, n=heads: _by_halves(a, n)))
    targets += linear(f"{official}.v_proj", layer.value)
    targets += depthwise(f"{official}.lepe.conv", layer.local)
    return targets + linear(f"{official}.out_proj", layer.project)


def _by_halves(array: np.ndarray, heads: int) -> np.ndarray:
    """Reorders the outputs of each head from neighbouring pairs to first and second halves."""
    pairs = array.reshape(heads, -1, 2, *array.shape[1:])
    return np.moveaxis(pairs, 2, 1).reshape(array.shape)


def _fusion(official: str, model: Any, name: str, *, has_previous: bool) -> list[Target]:
    targets = []
    for letter, branch in (("l", "local"), ("g", "global")):
        prefix = f"{name}_{branch}"
        targets += mapped(f"{official}.W_{letter}", model, f"{name}_map_{branch}")
        targets += norm(f"{official}.norm_{letter}", model.get_layer(f"{prefix}_norm"))
        targets += memory(f"{official}.mea_{letter}", model.get_layer(f"{prefix}_memory"))
        gate = model.get_layer(f"{prefix}_gate").conv
        targets.append(Target(gate.kernel, (f"{official}.sa_{letter}.conv1.weight",), conv_kernel))
        targets += channel_gate(f"{official}.ca_{letter}", model.get_layer(f"{prefix}_channels"))
    if has_previous:
        targets += mapped(f"{official}.Updim", model, f"{name}_carry")
    live, dead = ("norm1", "W3"), ("norm2", "W")
    if not has_previous:
        live, dead = dead, live
    targets += norm(f"{official}.{live[0]}", model.get_layer(f"{name}_join_norm"))
    targets += mapped(f"{official}.{live[1]}", model, f"{name}_mix")
    if model.build_dead_paths:
        targets += _dead_path(official, dead, model.get_layer(f"{name}_dead"))
    targets += norm(f"{official}.norm3", model.get_layer(f"{name}_all_norm"))
    return targets + _squeezed_mlp(f"{official}.residual", model, f"{name}_mlp")


def _dead_path(official: str, names: tuple[str, str], layer: Any) -> list[Target]:
    join, mix = (f"{official}.{name}" for name in names)
    targets = norm(join, layer.join_norm) + linear(f"{mix}.conv", layer.mix) + norm(f"{mix}.bn", layer.mix_norm)
    if not layer.has_previous:
        targets += linear(f"{official}.Updim.conv", layer.carry) + norm(f"{official}.Updim.bn", layer.carry_norm)
    return targets


def _squeezed_mlp(official: str, model: Any, name: str) -> list[Target]:
    return [
        *mapped(f"{official}.conv_s", model, f"{name}_squeeze"),
        *conv(f"{official}.conv1.conv", model.get_layer(f"{name}_conv")),
        *norm(f"{official}.bn1", model.get_layer(f"{name}_norm")),
        *linear(f"{official}.conv2.conv", model.get_layer(f"{name}_expand")),
        *linear(f"{official}.conv3.conv", model.get_layer(f"{name}_project")),
        *norm(f"{official}.conv3.bn", model.get_layer(f"{name}_project_norm")),
    ]
