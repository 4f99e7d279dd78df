"""Attention of a transformer as maps: block by block, through all blocks, and for a class."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.backend.gradients import compiled, input_gradient
from medkeras.errors import InputError
from medkeras.explain.methods.class_map import one_hot_targets
from medkeras.explain.methods.feature_maps import activations, image_batches, to_numpy
from medkeras.explain.methods.input_gradients import most_probable
from medkeras.models import ImageClassifier, ViT

MODES = ("default", "published")
PAIR = 2  # Images at a time where attention needs its gradient: about 1 GB each for ViT-B/16.


def attention_maps(model: ViT, images: Any, *, block: int | None = None) -> np.ndarray:
    """Returns what the class token looks at in one block, head by head.

    Args:
        model: A `ViT`, also one that is calibrated or looks twice.
        images: `(batch, *model.image_shape)` in [0, 1].
        block: Number of the block, from 1; the last one by default.

    Returns:
        Float32 `(batch, heads, *grid)`, one cell per patch, not scaled: a map sums to what the class token does not
        look at itself. `resize_maps` brings maps to the image.

    Raises:
        ValueError: If the model is no ViT or has no such block, or the images do not fit it.

    Example:
        >>> model = ViT((32, 48, 3), num_classes=2, units=8, depth=2, heads=2, hidden=16)
        >>> attention_maps(model, np.ones((1, 32, 48, 3))).shape
        (1, 2, 2, 3)
    """
    model = transformer_of(model)
    block = model.depth if block is None else block
    if not 1 <= block <= model.depth:
        raise InputError(f"`block` must be from 1 to {model.depth}. Received: block={block}")
    name = f"attention_{block}"
    return np.moveaxis(activations(model, images, name)[name], -1, 1)


def attention_rollout(model: ViT, images: Any, *, mode: str = "default") -> np.ndarray:
    """Returns how much the class token looks at each patch, through all blocks: attention rollout.

    In each block the mean over heads and the identity, for the skip connection, count half each. The default
    multiplies from the last block to the first and reads the row of the class token; the explain point `attention` is
    the same.

    Args:
        model: A `ViT`, also one that is calibrated or looks twice.
        images: `(batch, *model.image_shape)` in [0, 1].
        mode: `"published"` does as the notebook of Sri Ganesan et al.: it multiplies from the first block to the last
            and takes 1 less the column of the class token, which is how little a patch looks at the class token and
            no measure of importance. There, patches at 0.8 of a map's range and above were enhanced.

    Returns:
        Float32 `(batch, *grid)`, one cell per patch, not scaled. `resize_maps` brings maps to the image.

    Raises:
        ValueError: If the model is no ViT, the mode is unknown, or the images do not fit the model.

    Reference:
        Abnar and Zuidema, Quantifying Attention Flow in Transformers, arXiv 2005.00928.

    Example:
        >>> model = ViT((32, 48, 3), num_classes=2, units=8, depth=2, heads=2, hidden=16)
        >>> attention_rollout(model, np.ones((1, 32, 48, 3))).shape
        (1, 2, 3)
    """
    model = transformer_of(model)
    if mode not in MODES:
        raise InputError(f"`mode` must be one of {', '.join(MODES)}. Received: mode={mode!r}")
    if mode == "default":
        return activations(model, images, "attention")["attention"][..., 0]
    attentions = keras.Model(model.input, list(model.attentions))
    maps = [_published(_in_numpy(keras.tree.flatten(attentions(batch)))) for batch in image_batches(model, images)]
    return np.concatenate(maps).reshape(-1, *model.grid)


def relevance_map(model: ViT, images: Any, *, target: Any = None) -> np.ndarray:
    """Returns how much each patch speaks for a class: attention weighted by its gradient, through all blocks.

    In each block, attention is multiplied by the gradient of the class's logit by it, the negative part is cut off
    and the mean over heads is added to the identity; then as in the rollout. So only attention that raises the logit
    counts, and two labels of the same image have maps of their own.

    Args:
        model: A `ViT`, also one that is calibrated or looks twice.
        images: `(batch, *model.image_shape)` in [0, 1].
        target: Index of a class or label, one for all images or one per image; by default the one with the largest
            logit.

    Returns:
        Float32 `(batch, *grid)`, one cell per patch, at least 0, not scaled. `resize_maps` brings maps to the image.

    Raises:
        ValueError: If the model is no ViT, the images do not fit it, or a target is no class of it.

    Reference:
        Chefer et al., Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
        Transformers, arXiv 2103.15679.

    Example:
        >>> model = ViT((32, 48, 3), num_classes=2, units=8, depth=2, heads=2, hidden=16)
        >>> relevance_map(model, np.ones((1, 32, 48, 3)), target=1).shape
        (1, 2, 3)
    """
    vit, targets = transformer_of(model), most_probable(model, images, target)
    weighted, maps = compiled(vit, "weighted attention", lambda: _weighted_attention(vit)), []
    for batch in _pairs(vit, images):
        wanted, targets = targets[: len(batch)], targets[len(batch) :]
        maps.append(_relevance(to_numpy(weighted(batch, wanted))))
    return np.concatenate(maps).reshape(-1, *vit.grid)


def transformer_of(model: Any) -> ViT:
    """Returns the ViT whose attention a model has: the model itself, or the one that it calibrates or looks with.

    Raises:
        ValueError: If there is none.

    Example:
        >>> model = ViT((32, 48, 3), num_classes=2, units=8, depth=2, heads=2, hidden=16)
        >>> transformer_of(model) is model
        True
    """
    inner = model
    while isinstance(inner, ImageClassifier) and not isinstance(inner, ViT):
        inner = getattr(inner, "classifier", None)
    if not isinstance(inner, ViT):
        raise InputError(f"Attention between patches is what a ViT has. Received: model={type(model).__name__}")
    return inner


def _pairs(model: ViT, images: Any) -> Iterator[np.ndarray]:
    for batch in image_batches(model, images):
        yield from (batch[i : i + PAIR] for i in range(0, len(batch), PAIR))


def _weighted_attention(model: ViT) -> Callable[[Any, Any], Any]:
    """Returns the function from images and targets to the attention of all blocks weighted by its gradient.

    That is `(batch, blocks, tokens, tokens)`: the positive part, and the mean over heads.
    """
    seen = keras.Model(model.input, list(model.attentions))

    def run(images: Any, targets: Any) -> Any:
        attention = ops.stack(keras.tree.flatten(seen(images, training=False)), axis=1)  # One block gives no list.

        def logit(offsets: Any) -> Any:
            logits = model.logits_with(images, offsets)
            return ops.sum(logits * one_hot_targets(logits, targets), axis=-1)

        _, gradient = input_gradient(logit, ops.zeros_like(attention))
        return ops.mean(ops.relu(attention * gradient), axis=2)

    return run


def _in_numpy(attentions: list[Any]) -> np.ndarray:
    """Returns the attention of all blocks, `(batch, blocks, heads, tokens, tokens)`."""
    return np.stack([to_numpy(maps) for maps in attentions], axis=1)


def _published(attention: np.ndarray) -> np.ndarray:
    """Returns the published importance of each patch, `(batch, patches)`."""
    mixed = attention.mean(axis=2) + np.eye(attention.shape[-1], dtype="float32")
    mixed /= mixed.sum(axis=-1, keepdims=True)
    column = mixed[:, -1, :, :1]
    for i in reversed(range(mixed.shape[1] - 1)):
        column = mixed[:, i] @ column
    return 1 - column[:, 1:, 0]


def _relevance(attention: np.ndarray) -> np.ndarray:
    """Returns the row of the class token in the product of all blocks, each with its identity: `(batch, patches)`."""
    tokens = attention.shape[-1]
    row = np.tile(np.eye(1, tokens, dtype="float32"), (len(attention), 1, 1))
    for i in reversed(range(attention.shape[1])):
        row = row + row @ attention[:, i]
    return row[:, 0, 1:]
