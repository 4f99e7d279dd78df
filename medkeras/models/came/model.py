"""CAME: a convolutional, a shifted-window and an external-attention branch, fused stage by stage."""

from collections.abc import Sequence
from typing import Any, Unpack

import keras

from medkeras.errors import InputError
from medkeras.models.architecture import Architecture, Common
from medkeras.models.came import convert
from medkeras.models.came.blocks import external_stage, local_block, shrink_tokens, window_block
from medkeras.models.came.fusion import fuse
from medkeras.models.explain_points import ExplainPoint, Grid
from medkeras.models.hemf.model import classify
from medkeras.models.hemf.parts import STAGES, check_image, check_pyramid, shrink


@keras.saving.register_keras_serializable("medkeras")
class CAME(Architecture):
    """Classifies an image by three branches: convolutions, attention in windows, and attention over a memory.

    At each of four stages a fusion block joins the three with the fusion before. It is the baseline of HEMF, after
    the re-implementation of HEMF's authors. There, the convolutions of the global branch read the memory in the
    wrong order and so mix space and channels; here they do not, unless `as_published` asks for it. Published
    figures belong to `as_published` alone.

    Args:
        input_shape: `(height, width, channels)`, edges multiples of 32 pixels; a grey image is repeated to three
            channels. The published code takes 224 by 224 pixels only.
        widths: Channels of the four stages, multiples of `head_size`.
        depths: Blocks of the four stages, in the local and in the global branch; every second global block is
            shifted.
        head_size: Channels of a head of the window attention.
        memory: Units of external attention.
        as_published: Whether the global branch scrambles space and channels, as the published code does.
        irmlp_depthwise: Whether the fusion's 3x3 convolution keeps the channels apart; the published one mixes them,
            which is over half of all weights.
        conv_init_std: Standard deviation of the initial convolution weights of the local and the global branch; 0.2
            as published.
        memory_epsilon: Added to the sums over the memory units, at least 0.
        dropout: Rate in front of the classifier, in [0, 1); 0 as published.
        **common: What every architecture takes: `num_classes`, `task`, `class_names`, `normalization`, `name`; see
            `medkeras.models.architecture.Architecture`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        The public HEMF code (Esgjgd/HEMF), which holds this re-implementation; the original CAME code is not covered.

    Example:
        >>> model = CAME((32, 32, 1), num_classes=2, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), head_size=4, memory=4)
        >>> model.output_shape
        (None, 2)
        >>> [name for name in sorted(model.explain_points) if name.endswith("4")][:4]
        ['external_4', 'fusion_4', 'gate_external_4', 'gate_global_4']
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        widths: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 2, 2),
        head_size: int = 32,
        memory: int = 64,
        as_published: bool = False,
        irmlp_depthwise: bool = False,
        conv_init_std: float = 0.2,
        memory_epsilon: float = 0.0,
        dropout: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        self.widths, self.depths, self.head_size, self.memory = tuple(widths), tuple(depths), head_size, memory
        self.as_published, self.irmlp_depthwise = as_published, irmlp_depthwise
        self.conv_init_std, self.memory_epsilon, self.dropout = conv_init_std, memory_epsilon, dropout
        self._check(input_shape)
        super().__init__(input_shape, **common)

    def _check(self, input_shape: Sequence[int]) -> None:
        check_image(input_shape)
        check_pyramid(self, per_stage=("widths", "depths"), positive=("head_size", "memory"), rates=("dropout",))
        if any(width % self.head_size for width in self.widths):
            raise InputError(
                f"`widths` must be multiples of `head_size`. Received: widths={self.widths}, head_size={self.head_size}"
            )

    def graph(self, x: Any, num_classes: int) -> tuple[Any, dict[str, ExplainPoint], list[keras.layers.Layer]]:
        """Returns logits, explain points and dropout layers; see `Architecture.graph`."""
        features, points = self._features(x)
        logits, stochastic = classify(features, num_classes, self.dropout)
        return logits, points, stochastic

    def _features(self, x: Any) -> tuple[Any, dict[str, ExplainPoint]]:
        """Returns the features and the explain points."""
        branches, fused, points = dict.fromkeys(("local", "global", "external"), x), None, {}
        for stage in range(1, STAGES + 1):
            branches, maps = self._stage(branches, stage)
            fused, gates = fuse(branches, fused, name=f"fusion_{stage}", depthwise=self.irmlp_depthwise)
            points |= _points(stage, branches, fused, maps, gates)
        # A node of its own, so that the graph can be cut there.
        features = keras.layers.Identity(name="features")(fused)
        return features, points | {"features": ExplainPoint(features, Grid(), "what is classified, before averaging")}

    def _stage(self, branches: dict[str, Any], stage: int) -> tuple[dict[str, Any], Any]:
        """Passes one stage of each branch; returns their maps, and what the memory attended to."""
        width, std = self.widths[stage - 1], self.conv_init_std
        local = shrink(branches["local"], width, stage=stage, std=std, prefix="local")
        wide = shrink_tokens(branches["global"], width, stage=stage, std=std, name=f"global_{stage}_shrink")
        for block in range(1, self.depths[stage - 1] + 1):
            local = local_block(local, name=f"local_{stage}_{block}", std=std)
            wide = window_block(
                wide,
                name=f"global_{stage}_{block}",
                std=std,
                heads=width // self.head_size,
                shifted=block % 2 == 0,
                scrambled=self.as_published,
            )
        external, maps = external_stage(
            branches["external"],
            width,
            stage=stage,
            memory=self.memory,
            epsilon=self.memory_epsilon,
            name=f"external_{stage}",
        )
        return {"local": local, "global": wide, "external": external}, maps

    def official_tensors(self) -> list[Any]:
        """Maps the published checkpoint to our variables; with a full 3x3 convolution in the fusion."""
        if self.irmlp_depthwise:
            return super().official_tensors()
        return convert.official_tensors(self)

    def is_unused(self, name: str) -> bool:
        """Says whether a tensor of the published checkpoint has no effect: tables, second names, uncalled layers."""
        return convert.is_unused(name)


def _points(
    stage: int, branches: dict[str, Any], fused: Any, maps: Any, gates: dict[str, Any]
) -> dict[str, ExplainPoint]:
    found = {
        "fusion": (fused, "the fusion"),
        "memory": (maps, "attention of the memory units over the external branch"),
    }
    for branch, tensor in branches.items():
        found[branch] = (tensor, f"the {branch} branch")
        found[f"gate_{branch}"] = (gates[f"gate_{branch}"], f"spatial gate of the {branch} branch")
    return {
        f"{name}_{stage}": ExplainPoint(tensor, Grid(), f"{text}, stage {stage}")
        for name, (tensor, text) in found.items()
    }
