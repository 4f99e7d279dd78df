"""ViT: the patches of an image as a sequence, and attention between all of them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from medkeras import checkpoints
from medkeras.errors import InputError
from medkeras.layers import TokenPositions
from medkeras.models.architecture import Architecture, Common
from medkeras.models.explain_points import ExplainPoint, Tokens
from medkeras.models.vit import convert
from medkeras.models.vit.block import Block, layer_norm
from medkeras.models.vit.official import read_official

SIZES = ("patch", "units", "depth", "heads", "hidden")


@keras.saving.register_keras_serializable("medkeras")
class ViT(Architecture):
    """Classifies an image by attention between its patches, and shows what it looks at.

    Each patch becomes a token; a class token is put before them and learned positions are added; `depth` blocks of
    attention and a dense part follow, and the class token is classified. An image whose edges are no multiple of
    `patch` is resized to the next ones, bilinearly, so that every pixel is seen and the patches cover the image
    evenly.

    Args:
        input_shape: `(height, width, channels)`, edges of at least `patch` pixels; a grey image is repeated to three
            channels.
        patch: Edge of a patch in pixels.
        units: Channels of a token; a multiple of `heads`.
        depth: Number of blocks.
        heads: Heads of the attention.
        hidden: Units of the dense part of a block.
        dropout: Rate in front of the classifier, in [0, 1).
        **common: What every architecture takes: `num_classes`, `task`, `class_names`, `normalization`, `name`; see
            `medkeras.models.architecture.Architecture`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale,
        arXiv 2010.11929.

    Example:
        >>> model = ViT((32, 48, 1), num_classes=14, task="multilabel", units=16, depth=2, heads=2, hidden=32)
        >>> model.output_shape, model.grid
        ((None, 14), (2, 3))
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        patch: int = 16,
        units: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        dropout: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        self.patch, self.units, self.depth, self.heads, self.hidden = patch, units, depth, heads, hidden
        self.dropout = dropout
        self._check(input_shape)
        self.grid = tuple(-(-edge // patch) for edge in input_shape[:2])
        super().__init__(input_shape, **common)

    def _check(self, input_shape: Sequence[int]) -> None:
        rules = [(name, getattr(self, name) >= 1, "be at least 1") for name in SIZES]
        rules += [("dropout", 0 <= self.dropout < 1, "be in [0, 1)")]
        self.check_arguments(*rules)
        if self.units % self.heads:
            raise InputError(f"`units` must be a multiple of `heads`. Received: units={self.units}, heads={self.heads}")
        if len(input_shape) != 3 or min(input_shape[:2]) < self.patch:
            raise InputError(
                f"ViT takes images of at least one patch, {self.patch} pixels, not volumes. "
                f"Received: input_shape={tuple(input_shape)}"
            )

    def graph(self, x: Any, num_classes: int) -> tuple[Any, dict[str, ExplainPoint], list[keras.layers.Layer]]:
        """Returns logits, explain points and dropout layers; see `Architecture.graph`."""
        names = [f"block_{i}" for i in range(1, self.depth + 1)]
        self._blocks = tuple(Block(self.units, heads=self.heads, hidden=self.hidden, name=name) for name in names)
        tokens, seen = [self._embed(x)], []
        for block in self._blocks:
            seen.append(block(tokens[-1]))
            tokens.append(seen[-1].tokens)
        self._attentions = tuple(block.maps for block in seen)
        logits, stochastic = self._head(tokens[-1], num_classes)
        return logits, self._points(tokens, seen), stochastic

    def _embed(self, x: Any) -> Any:
        """Returns the class token and the patches, each with its position."""
        size = tuple(cells * self.patch for cells in self.grid)
        if x.shape[1:3] != size:
            x = keras.layers.Resizing(*size, interpolation="bilinear", name="whole_patches")(x)
        initial = keras.initializers.RandomNormal(stddev=0.02)
        x = keras.layers.Conv2D(self.units, self.patch, strides=self.patch, kernel_initializer=initial, name="patches")(
            x
        )
        x = keras.layers.Reshape((-1, self.units), name="sequence")(x)
        return TokenPositions(name="positions")(x)

    def _head(self, tokens: Any, num_classes: int) -> tuple[Any, list[keras.layers.Layer]]:
        """Returns the logits, and the dropout layer, if any."""
        x = layer_norm("norm")(tokens[:, 0])
        stochastic = [keras.layers.Dropout(self.dropout, name="dropout")] if self.dropout else []
        for layer in stochastic:
            x = layer(x)
        # Logits stay in float32 under a mixed-precision policy.
        initial = keras.initializers.RandomNormal(stddev=0.02)
        return keras.layers.Dense(num_classes, kernel_initializer=initial, dtype="float32", name="logits")(
            x
        ), stochastic

    def _points(self, tokens: list[Any], seen: list[Any]) -> dict[str, ExplainPoint]:
        rule = Tokens(self.grid, prefix=1)
        points = {f"tokens_{i}": ExplainPoint(x, rule, f"tokens after block {i}") for i, x in enumerate(tokens)}
        for i, block in enumerate(seen, start=1):
            looks = ops.transpose(block.maps[:, :, 0], (0, 2, 1))
            points[f"attention_{i}"] = ExplainPoint(looks, rule, f"what the class token looks at in block {i}, by head")
        text = "what the class token looks at through all blocks"
        points["attention"] = ExplainPoint(_rollout([block.maps for block in seen]), rule, text)
        # Behind the last attention the answer depends on the class token alone.
        points["features"] = ExplainPoint(seen[-1].normed, rule, "what the last attention reads")
        return points

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks, first to last."""
        return self._blocks

    @property
    def attentions(self) -> tuple[Any, ...]:
        """The attention of each block, symbolic float32 `(batch, heads, tokens, tokens)`; the class token is first."""
        return self._attentions

    def logits_with(self, images: Any, offsets: Any) -> Any:
        """Returns the logits where something is added to the attention of every block.

        Args:
            images: `(batch, *image_shape)` in [0, 1].
            offsets: `(batch, depth, heads, tokens, tokens)`; zeros change nothing, and the gradient there is that by
                the attention.

        Returns:
            `(batch, num_classes)`.
        """
        points = self.explain_points
        x = keras.Model(self.input, points["tokens_0"].tensor)(images, training=False)
        for i, block in enumerate(self.blocks):
            x = block(x, offset=offsets[:, i]).tokens
        return keras.Model(points[f"tokens_{self.depth}"].tensor, self.output)(x, training=False)

    def load_backbone(self, source: str | os.PathLike | Mapping[str, np.ndarray]) -> None:
        """Fills the model with pretrained weights; the classifier keeps its own.

        Args:
            source: As for `load_official`.

        Raises:
            FileNotFoundError: As `load_official`.
            ValueError: As `load_official`.
        """
        self.load_official(source, skip_head=True)

    def load_official(
        self, source: str | os.PathLike | Mapping[str, np.ndarray], *, skip_head: bool = False
    ) -> list[str]:
        """Fills the model with the weights of a trained ViT of the same size, all of them or none.

        Learned positions are brought to the model's grid, bicubically.

        Args:
            source: A `.safetensors` or torch file, a folder that holds one, a repository of the Hugging Face hub such
                as `"google/vit-base-patch16-224-in21k"`, downloaded now, or a mapping of arrays; in the layout of
                transformers or of timm.
            skip_head: Leaves the classifier as it is, for a checkpoint of other classes or of none.

        Returns:
            The official names that were loaded, in the order of the model.

        Raises:
            FileNotFoundError: If there is no such file or folder, or the repository cannot be had.
            ValueError: If a tensor is missing, unknown or misshapen; then the model is left as it was.

        Example:
            >>> model = ViT((16, 16, 3), num_classes=2, units=4, depth=1, heads=1, hidden=8)
            >>> model.load_official({"cls_token": np.zeros((1, 1, 4))})
            Traceback (most recent call last):
            ...
            medkeras.InputError: The checkpoint lacks 23 tensors, the first being vit.embeddings.position_embeddings.
        """
        return checkpoints.load(self, read_official(source), skip_head=skip_head)

    def official_tensors(self) -> list[Any]:
        """Maps the official checkpoint, in the layout of a file with a classifier, to our variables."""
        return convert.official_tensors(self)

    def is_unused(self, name: str) -> bool:
        """Says whether a tensor of an official checkpoint has no effect: the pooler and the mask token."""
        return convert.is_unused(name)


def _rollout(maps: list[Any]) -> Any:
    """Returns how much the class token looks at each token through all blocks, `(batch, tokens, 1)`.

    A block passes on half what a token read and half what it was, as attention and skip connection do.
    """
    row = _half_read(maps[-1])[:, :1]
    for block in reversed(maps[:-1]):
        row = ops.matmul(row, _half_read(block))
    return ops.transpose(row, (0, 2, 1))


def _half_read(maps: Any) -> Any:
    return (ops.mean(maps, axis=1) + np.eye(maps.shape[-1], dtype="float32")) / 2
