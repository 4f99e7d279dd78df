"""The published CAME checkpoint's tensors and the variables that they fill."""

import re
from typing import Any

from medkeras.checkpoints.layouts import Target, conv_kernel, norm
from medkeras.models.hemf.convert import channel_gate, conv, depthwise, head, linear, mapped, memory, shrink

UNUSED = re.compile(
    "|".join(
        (
            r"basic_layers\.\d\.blocks\.\d\.(norm2\.\w+|attn_mask|attn\.relative_position_index)",
            r"fu1\.(W_pre|norm_all|dowm_all)\..+",
            r"fu[234]\.(norm_all_no_pre|dowm_all_no_pre)\..+",
            r"ea\.0\..+",  # a second name for `EA_1`, which is the one in effect
        )
    )
)
LETTERS = {"local": "l", "global": "g", "external": "ea"}


def is_unused(name: str) -> bool:
    """Says whether a tensor of the published checkpoint fills no variable and has no effect."""
    return UNUSED.fullmatch(name) is not None


def official_tensors(model: Any) -> list[Target]:
    """Lists, for each variable of a CAME, the official tensors that it is made of."""
    targets = []
    for stage in range(4):
        number = stage + 1
        targets += shrink(f"downsample_layers.{stage}", model, f"local_{number}_shrink", stage)
        targets += _shrink_tokens(model, stage)
        targets += _external(f"ea.{stage}" if stage else "EA_1", model, f"external_{number}")
        for block in range(model.depths[stage]):
            targets += _local_block(f"stages.{stage}.{block}", model, f"local_{number}_{block + 1}")
            targets += _window_block(f"basic_layers.{stage}.blocks.{block}", model, f"global_{number}_{block + 1}")
        targets += _fusion(f"fu{number}", model, f"fusion_{number}", has_previous=stage > 0)
    return targets + head(model)


def _local_block(official: str, model: Any, name: str) -> list[Target]:
    return [
        *depthwise(f"{official}.dwconv", model.get_layer(f"{name}_depthwise")),
        *norm(f"{official}.norm", model.get_layer(f"{name}_norm")),
        *conv(f"{official}.conv", model.get_layer(f"{name}_conv")),
        *linear(f"{official}.pwconv", model.get_layer(f"{name}_linear")),
    ]


def _window_block(official: str, model: Any, name: str) -> list[Target]:
    attention = model.get_layer(f"{name}_attention")
    return [
        *conv(f"{official}.conv", model.get_layer(f"{name}_conv")),
        *norm(f"{official}.ln", model.get_layer(f"{name}_norm")),
        *linear(f"{official}.attn.qkv", attention.qkv),
        *linear(f"{official}.attn.proj", attention.project),
        Target(attention.table, (f"{official}.attn.relative_position_bias_table",)),
        *linear(f"{official}.fc1", model.get_layer(f"{name}_linear")),
    ]


def _shrink_tokens(model: Any, stage: int) -> list[Target]:
    name = f"global_{stage + 1}_shrink"
    layer, layer_norm = model.get_layer(name), model.get_layer(f"{name}_norm")
    if stage == 0:
        return conv("patch_embed.proj", layer) + norm("patch_embed.norm", layer_norm)
    official = f"basic_layers.{stage}.downsample"
    return norm(f"{official}.norm", layer_norm) + linear(f"{official}.reduction", layer)


def _external(official: str, model: Any, name: str) -> list[Target]:
    return [
        *conv(f"{official}.0", model.get_layer(f"{name}_shrink")),
        *norm(f"{official}.1.ln", model.get_layer(f"{name}_norm")),
        *memory(f"{official}.1", model.get_layer(f"{name}_memory")),
    ]


def _fusion(official: str, model: Any, name: str, *, has_previous: bool) -> list[Target]:
    targets = []
    for branch, letter in LETTERS.items():
        targets += mapped(f"{official}.W_{letter}", model, f"{name}_map_{branch}")
        gate = model.get_layer(f"{name}_{branch}_gate").conv
        targets.append(Target(gate.kernel, (f"{official}.sa_{letter}.conv1.weight",), conv_kernel))
        targets += channel_gate(f"{official}.ca_{letter}", model.get_layer(f"{name}_{branch}_channels"))
    if has_previous:
        targets += mapped(f"{official}.W_pre", model, f"{name}_carry")
    suffix = "" if has_previous else "_no_pre"
    targets += norm(f"{official}.norm_all{suffix}", model.get_layer(f"{name}_join_norm"))
    targets += mapped(f"{official}.dowm_all{suffix}", model, f"{name}_mix")  # the official spelling
    targets += norm(f"{official}.norm_all_end", model.get_layer(f"{name}_all_norm"))
    return [
        *targets,
        *conv(f"{official}.irmlp.conv1.conv", model.get_layer(f"{name}_mlp_conv")),
        *norm(f"{official}.irmlp.bn1", model.get_layer(f"{name}_mlp_norm")),
        *linear(f"{official}.irmlp.conv2.conv", model.get_layer(f"{name}_mlp_expand")),
        *linear(f"{official}.irmlp.conv3.conv", model.get_layer(f"{name}_mlp_project")),
        *norm(f"{official}.irmlp.conv3.bn", model.get_layer(f"{name}_mlp_project_norm")),
    ]
