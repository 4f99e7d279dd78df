"""The official ViT checkpoint's tensors and the variables that they fill, and other layouts in its names."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from medkeras.checkpoints.layouts import Target, norm
from medkeras.errors import InputError
from medkeras.layers.token_positions import resize_positions
from medkeras.models.hemf.convert import conv, linear

# The head that was pretrained beside the classifier, and the token that stands for hidden patches there.
UNUSED = re.compile(r"vit\.(pooler|pre_logits\.fc)\..+|vit\.embeddings\.mask_token")
JOINED = ".attn.qkv."
# From the names of transformers in memory (version 5) and of timm to those of official files, without `vit.`.
RENAMED = [
    (r"^vit\.", ""),
    (r"^(encoder\.)?layers\.|^blocks\.", "encoder.layer."),
    (r"\.attention\.(?:attention\.)?q_proj\.", ".attention.attention.query."),
    (r"\.attention\.(?:attention\.)?k_proj\.", ".attention.attention.key."),
    (r"\.attention\.(?:attention\.)?v_proj\.", ".attention.attention.value."),
    (r"\.(attention\.o_proj|attn\.proj)\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"^(cls_token)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^head\.", "classifier."),
]
PARTS = ("query", "key", "value")


def is_unused(name: str) -> bool:
    """Says whether a tensor of an official checkpoint fills no variable and has no effect."""
    return UNUSED.fullmatch(name) is not None


def official_layout(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors of a ViT under the names of official files with a classifier (`vit.encoder.layer...`).

    Args:
        arrays: A checkpoint of `google/vit-...`, with or without `vit.` before its names, in the names that
            transformers has in memory from version 5, or in those of timm, where queries, keys and values are one
            tensor.

    Raises:
        ValueError: If two tensors mean the same one, or a joined one has no three parts.

    Example:
        >>> sorted(official_layout({"blocks.0.norm1.bias": np.zeros(2), "head.bias": np.zeros(3)}))
        ['classifier.bias', 'vit.encoder.layer.0.layernorm_before.bias']
    """
    renamed = {}
    for name, array in arrays.items():
        for ours, part in _separate(name, array).items():
            ours = _official_name(ours)
            if ours in renamed:
                raise InputError(f"Two tensors of the checkpoint are the same one. Received: {name}, again {ours}")
            renamed[ours] = part
    return renamed


def _separate(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    if JOINED not in name:
        return {name: array}
    if not array.shape or len(array) % 3:
        raise InputError(f"Queries, keys and values must be three equal parts. Received: {name} {array.shape}")
    return {
        name.replace(JOINED, f".attention.attention.{part}."): values
        for part, values in zip(PARTS, np.split(array, 3), strict=True)
    }


def _official_name(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name if name.startswith("classifier.") else f"vit.{name}"


def official_tensors(model: Any) -> list[Target]:
    """Lists, for each variable of a ViT, the official tensors that it is made of."""
    positions = model.get_layer("positions")
    targets = [
        Target(positions.class_token, ("vit.embeddings.cls_token",), _only),
        Target(
            positions.positions,
            ("vit.embeddings.position_embeddings",),
            lambda array: resize_positions(_only(array), model.grid),
        ),
        *conv("vit.embeddings.patch_embeddings.projection", model.get_layer("patches")),
    ]
    for i, block in enumerate(model.blocks):
        targets += _block(f"vit.encoder.layer.{i}", block)
    targets += norm("vit.layernorm", model.get_layer("norm"))
    return targets + linear("classifier", model.get_layer("logits"))


def _block(official: str, block: Any) -> list[Target]:
    qkv = block.attention.qkv
    names = [f"{official}.attention.attention.{part}" for part in PARTS]
    return [
        *norm(f"{official}.layernorm_before", block.norms[0]),
        Target(qkv.kernel, tuple(f"{name}.weight" for name in names), lambda *a: np.concatenate(a).T),
        Target(qkv.bias, tuple(f"{name}.bias" for name in names), lambda *a: np.concatenate(a)),
        *linear(f"{official}.attention.output.dense", block.attention.project),
        *norm(f"{official}.layernorm_after", block.norms[1]),
        *linear(f"{official}.intermediate.dense", block.expand),
        *linear(f"{official}.output.dense", block.project),
    ]


def _only(array: np.ndarray) -> np.ndarray:
    """Takes off the axis of one batch."""
    return np.squeeze(array, axis=0) if array.ndim == 3 else array
