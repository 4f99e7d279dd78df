"""HEMF: two pyramids, one local and one global, fused stage by stage."""

from collections.abc import Sequence
from typing import Any, Unpack

import keras
import numpy as np

from medkeras.errors import InputError
from medkeras.layers import global_average, retention_map
from medkeras.models.architecture import Architecture, Common
from medkeras.models.explain_points import ExplainPoint, Grid
from medkeras.models.hemf import convert
from medkeras.models.hemf.fusion import Fusion, fuse
from medkeras.models.hemf.global_stage import global_stage
from medkeras.models.hemf.local_block import local_block
from medkeras.models.hemf.parts import STAGES, channel_norm, check_image, check_pyramid, shrink

# Which branches, and which parts of the fusion, each row of the published ablation has.
SETTINGS = {
    "S1": ("local",),
    "S2": ("global",),
    "S3": ("local", "global"),
    "S4": ("local", "global", "memory_attention"),
    "S5": ("local", "global", "gates"),
    "S6": ("local", "global", "memory_attention", "gates"),
    "S7": ("local", "global", "memory_attention", "gates", "mlp"),
}
RATES = ("local_drop_path", "global_drop_path", "fusion_drop_path", "dropout")


@keras.saving.register_keras_serializable("medkeras")
class HEMF(Architecture):
    """Classifies an image by what is seen near each place and what is seen from far, merged at four sizes.

    The local branch (ELF) is convolutional; the global branch (EGF) attends along rows and columns, with a decay by
    distance. Each has its own stem and its own four stages, and neither sees the other. At each stage a fusion block
    (HEF) joins both with the fusion before: each branch passes external attention over a learned memory (MHEA), a
    spatial and a channel gate, and a squeezed MLP of convolutions (SIRMLP) makes one map of all. The last fusion is
    averaged, normalised and classified. The defaults are the published network.

    Args:
        input_shape: `(height, width, channels)`, edges multiples of 32 pixels, not necessarily equal; a grey image
            is repeated to three channels.
        widths: Channels of the four stages, multiples of twice `heads`, at least four per head.
        local_depths: ELF blocks of the four stages.
        global_depths: EGF layers of the four stages.
        heads: Heads of retention and of external attention.
        memory: Units of external attention.
        setting: Row of the published ablation, `"S1"` to `"S7"`; `"S7"` is the whole network. `README.md` beside
            this file says how the others are wired.
        sirmlp_depthwise: Whether SIRMLP's 3x3 convolution keeps the channels apart, as the article draws it; the
            published code mixes them.
        share_egf_norms: Whether the layers of a global stage share one pair of norms, as published.
        conv_init_std: Standard deviation of the branches' initial convolution weights; 0.2 as published.
        build_dead_paths: Whether to build the layers too that the published code builds and never calls. The answers
            are the same.
        memory_epsilon: Added to the sums over the memory units, at least 0; no NaN can come without it either.
        local_drop_path: Drop path of the last ELF block, in [0, 1); it rises linearly from 0 at the first.
        global_drop_path: The same for the EGF layers; not in the published code.
        fusion_drop_path: Drop path of SIRMLP in each fusion block, in [0, 1).
        dropout: Rate in front of the classifier, in [0, 1); 0 as published.
        **common: What every architecture takes: `num_classes`, `task`, `class_names`, `normalization`, `name`; see
            `medkeras.models.architecture.Architecture`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        He et al., HEMF: an adaptive hierarchical enhanced multi-attention feature fusion framework for cross-scale
        medical image classification, PeerJ Computer Science 11:e3181, 2025, and its public code (Esgjgd/HEMF).

    Example:
        >>> model = HEMF((32, 64, 1), num_classes=2, widths=(8, 8, 8, 8), local_depths=(1, 1, 1, 1),
        ...              global_depths=(1, 1, 1, 1), heads=2, memory=4, setting="S6")
        >>> model.output_shape
        (None, 2)
        >>> [name for name in sorted(model.explain_points) if name.endswith("4")][:4]
        ['column_retention_4', 'fusion_4', 'gate_global_4', 'gate_local_4']
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        widths: Sequence[int] = (96, 192, 384, 768),
        local_depths: Sequence[int] = (4, 4, 4, 4),
        global_depths: Sequence[int] = (3, 3, 3, 3),
        heads: int = 8,
        memory: int = 64,
        setting: str = "S7",
        sirmlp_depthwise: bool = False,
        share_egf_norms: bool = True,
        conv_init_std: float = 0.2,
        build_dead_paths: bool = False,
        memory_epsilon: float = 0.0,
        local_drop_path: float = 0.0,
        global_drop_path: float = 0.0,
        fusion_drop_path: float = 0.0,
        dropout: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        self.widths, self.local_depths, self.global_depths = tuple(widths), tuple(local_depths), tuple(global_depths)
        self.heads, self.memory, self.setting = heads, memory, setting
        self.sirmlp_depthwise, self.share_egf_norms = sirmlp_depthwise, share_egf_norms
        self.conv_init_std, self.build_dead_paths, self.memory_epsilon = conv_init_std, build_dead_paths, memory_epsilon
        self.local_drop_path, self.global_drop_path = local_drop_path, global_drop_path
        self.fusion_drop_path, self.dropout = fusion_drop_path, dropout
        self._check(input_shape)
        super().__init__(input_shape, **common)

    def _check(self, input_shape: Sequence[int]) -> None:
        check_image(input_shape)
        depths = ("widths", "local_depths", "global_depths")
        check_pyramid(self, per_stage=depths, positive=("heads", "memory"), rates=RATES)
        self.check_arguments(("setting", self.setting in SETTINGS, f"be one of {tuple(SETTINGS)}"))
        if any(width % (2 * self.heads) or width < 4 * self.heads for width in self.widths):
            raise InputError(
                "`widths` must be multiples of twice `heads`, at least four per head. "
                f"Received: widths={self.widths}, heads={self.heads}"
            )

    def graph(self, x: Any, num_classes: int) -> tuple[Any, dict[str, ExplainPoint], list[keras.layers.Layer]]:
        """Returns logits, explain points and dropout layers; see `Architecture.graph`."""
        features, points = self._features(x)
        logits, stochastic = classify(features, num_classes, self.dropout)
        return logits, points, stochastic

    def _features(self, x: Any) -> tuple[Any, dict[str, ExplainPoint]]:
        """Returns the features and the explain points."""
        has = SETTINGS[self.setting]
        stages, points = {}, {}
        if "local" in has:
            stages["local"] = self._local_branch(x)
        if "global" in has:
            stages["global"], maps = self._global_branch(x)
            points |= maps
        for branch, maps in stages.items():
            points |= {
                f"{branch}_{i}": ExplainPoint(tensor, Grid(), f"the {branch} branch, stage {i}")
                for i, tensor in enumerate(maps, start=1)
            }
        if len(stages) == 1:
            features = maps[-1]
        else:
            features, seen = self._fuse(stages, has)
            points |= seen
        # A node of its own, so that the graph can be cut there.
        features = keras.layers.Identity(name="features")(features)
        return features, points | {"features": ExplainPoint(features, Grid(), "what is classified, before averaging")}

    def _local_branch(self, x: Any) -> list[Any]:
        rates = iter(_ramp(self.local_drop_path, sum(self.local_depths)))
        maps = []
        for stage, (width, depth) in enumerate(zip(self.widths, self.local_depths, strict=True), start=1):
            x = shrink(x, width, stage=stage, std=self.conv_init_std, prefix="local")
            for block in range(1, depth + 1):
                x = local_block(x, name=f"local_{stage}_{block}", std=self.conv_init_std, drop_path=next(rates))
            maps.append(x)
        return maps

    def _global_branch(self, x: Any) -> tuple[list[Any], dict[str, ExplainPoint]]:
        rates = iter(_ramp(self.global_drop_path, sum(self.global_depths)))
        maps, points = [], {}
        for stage, (width, depth) in enumerate(zip(self.widths, self.global_depths, strict=True), start=1):
            x = shrink(x, width, stage=stage, std=self.conv_init_std, prefix="global")
            x, attention = global_stage(
                x,
                name=f"global_{stage}",
                drop_paths=[next(rates) for _ in range(depth)],
                heads=self.heads,
                std=self.conv_init_std,
                share_norms=self.share_egf_norms,
            )
            maps.append(x)
            points |= _retention_points(stage, **attention)
        return maps, points

    def _fuse(self, stages: dict[str, list[Any]], has: Sequence[str]) -> tuple[Any, dict[str, ExplainPoint]]:
        setting = Fusion(
            memory_attention="memory_attention" in has,
            gates="gates" in has,
            mlp="mlp" in has,
            heads=self.heads,
            memory=self.memory,
            epsilon=self.memory_epsilon,
            depthwise=self.sirmlp_depthwise,
            drop_path=self.fusion_drop_path,
            build_dead_paths=self.build_dead_paths,
        )
        texts = {"memory": "attention of the memory units over the {} branch", "gate": "spatial gate of the {} branch"}
        fused, points = None, {}
        for stage in range(1, STAGES + 1):
            branches = {branch: maps[stage - 1] for branch, maps in stages.items()}
            fused, seen = fuse(branches, fused, setting, name=f"fusion_{stage}")
            points[f"fusion_{stage}"] = ExplainPoint(fused, Grid(), f"the fusion, stage {stage}")
            for key, tensor in seen.items():
                kind, branch = key.split("_")
                points[f"{key}_{stage}"] = ExplainPoint(tensor, Grid(), f"{texts[kind].format(branch)}, stage {stage}")
        return fused, points

    def official_tensors(self) -> list[Any]:
        """Maps the published checkpoint to our variables; with `setting="S7"` and a full 3x3 convolution in SIRMLP."""
        if self.setting != "S7" or self.sirmlp_depthwise:
            return super().official_tensors()
        return convert.official_tensors(self)

    def is_unused(self, name: str) -> bool:
        """Says whether a tensor of the published checkpoint has no effect: tables, and layers that are never called."""
        return convert.is_unused(self, name)


def classify(features: Any, num_classes: int, dropout: float) -> tuple[Any, list[keras.layers.Layer]]:
    """Returns the logits of a map of features, and the dropout layer, if any."""
    x = channel_norm("head_norm")(global_average(features))
    stochastic = [keras.layers.Dropout(dropout, name="dropout")] if dropout else []
    for layer in stochastic:
        x = layer(x)
    # Logits stay in float32 under a mixed-precision policy.
    start = keras.initializers.RandomNormal(stddev=0.02)
    return keras.layers.Dense(num_classes, kernel_initializer=start, dtype="float32", name="logits")(x), stochastic


def _ramp(rate: float, count: int) -> list[float]:
    return [float(share) for share in np.linspace(0, rate, count)]


def _retention_points(stage: int, rows: Any, columns: Any) -> dict[str, ExplainPoint]:
    """Returns the maps of a stage's last layer, each at the place that is looked at.

    So the mean over the channels says how much a place is looked at; at the place that looks, it would be the same
    number everywhere.
    """
    where = f"of the global branch, stage {stage}: how much each place is looked at"
    maps = {
        "row_retention": (_by_place(rows, (0, 1, 4, 2, 3)), f"row attention {where}, by head and column"),
        "column_retention": (_by_place(columns, (0, 4, 1, 2, 3)), f"column attention {where}, by head and row"),
        "retention": (retention_map(rows, columns), f"attention {where}, from every place"),
    }
    return {f"{name}_{stage}": ExplainPoint(tensor, Grid(), text) for name, (tensor, text) in maps.items()}


def _by_place(maps: Any, order: tuple[int, ...]) -> Any:
    """Returns `(batch, height, width, heads * length)`."""
    maps = keras.ops.transpose(maps, order)
    return keras.ops.reshape(maps, (-1, *maps.shape[1:3], maps.shape[3] * maps.shape[4]))
