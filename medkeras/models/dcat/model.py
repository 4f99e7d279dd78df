"""DCAT: two networks see the same image, read each other by attention at two sizes, and are joined."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.layers import global_average
from medkeras.models.architecture import Architecture, Common
from medkeras.models.backbones import EFFICIENTNETS, RESNETS, efficientnet, load_pretrained, resnet
from medkeras.models.base import image_input, normalize
from medkeras.models.dcat.fusion import BRANCHES, MOMENTUM, Fusion, exchange, fuse, looked_at, project, refine
from medkeras.models.explain_points import ExplainPoint, Grid

LEVELS = ("1", "2")
STRIDES = {"1": 8, "2": 16}
# The stages whose maps have these strides: Block 3 and 4 of EfficientNet, Layer 2 and 3 of ResNet.
TAPS = {**dict.fromkeys(EFFICIENTNETS, (3, 4)), **dict.fromkeys(RESNETS, (2, 3))}
CHOICES = {
    "keys": ("other", "both"),
    "gate": ("none", "channel"),
    "fusion": ("concat", "sum"),
    "hierarchy": ("pool", "topdown"),
    "pool_level1": (1, 2),
}


@keras.saving.register_keras_serializable("medkeras")
class DCAT(Architecture):
    """Classifies an image by what two different networks see and tell each other.

    At two levels, an eighth and a sixteenth of the image's size, the maps of both networks are brought to the same
    channels; every place of the one looks at all places of the other, and adds what it read; both are joined and
    refined by channel and spatial attention. The means of both levels go to a head with dropout, which Monte Carlo
    sampling turns on. The article gives the outline alone: which parts are ours says `README.md` beside this file.

    Args:
        input_shape: `(height, width, channels)`, edges of at least 32 pixels; a grey image is repeated to three
            channels.
        second_normalization: The same for the second network; None is that of the first.
        backbones: The two networks, each one of `medkeras.models.backbones.EFFICIENTNETS` or `RESNETS`; random
            weights until `load_backbone`.
        units: Channels of both maps at both levels; a multiple of `heads`.
        heads: Heads of the cross-attention.
        keys: What a branch looks at: the `"other"` branch's map, or `"both"`, side by side.
        gate: `"channel"` multiplies what a branch read by a gate per channel from the means of both maps; `"none"`
            adds it as it is.
        fusion: How the branches are joined before the 1x1 convolution: `"concat"` or `"sum"`.
        hierarchy: `"pool"` classifies the means of both levels; `"topdown"` averages the first level to the size of
            the second and joins them by a 3x3 convolution.
        pool_level1: 2 halves the rows and columns of the first level before the attention, whose memory goes with
            the square of the places: a quarter of the places, a sixteenth of the memory.
        reduction: Channels per hidden unit of the channel attention.
        hidden: Units of the head's hidden layer.
        dropout: Rate in front of both layers of the head, in [0, 1).
        **common: What every architecture takes: `num_classes`, `task`, `class_names`, `normalization`, `name`; see
            `medkeras.models.architecture.Architecture`.

    Raises:
        ModuleNotFoundError: If keras-hub is not installed.
        ValueError: If an argument is out of range.

    Reference:
        Borah and Singh, DCAT: Dual Cross-Attention Fusion for Disease Classification in Radiological Images with
        Uncertainty Estimation, arXiv 2503.11851.

    Example:
        >>> model = DCAT((32, 48, 1), num_classes=2, backbones=("efficientnet_tiny", "resnet_tiny"), units=8)
        >>> model.output_shape
        (None, 2)
        >>> [layer.name for layer in model.stochastic]
        ['dropout', 'hidden_dropout']
    """

    default_normalization = "imagenet"

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        second_normalization: Any = None,
        backbones: Sequence[str] = ("efficientnet_b4", "resnet34"),
        units: int = 256,
        heads: int = 1,
        keys: str = "other",
        gate: str = "none",
        fusion: str = "concat",
        hierarchy: str = "pool",
        pool_level1: int = 1,
        reduction: int = 16,
        hidden: int = 256,
        dropout: float = 0.5,
        **common: Unpack[Common],
    ) -> None:
        self.second_normalization, self.backbone_names = second_normalization, tuple(backbones)
        self.units, self.heads, self.keys, self.gate, self.fusion = units, heads, keys, gate, fusion
        self.hierarchy, self.pool_level1, self.reduction = hierarchy, pool_level1, reduction
        self.hidden, self.dropout = hidden, dropout
        self._check(input_shape)
        super().__init__(input_shape, **common)

    def _check(self, input_shape: Sequence[int]) -> None:
        if len(self.backbone_names) != 2 or not set(self.backbone_names) <= set(TAPS):
            raise InputError(f"`backbones` must be two of {', '.join(TAPS)}. Received: backbones={self.backbone_names}")
        rules = [(name, getattr(self, name) in known, f"be one of {known}") for name, known in CHOICES.items()]
        rules += [
            (name, getattr(self, name) >= 1, "be at least 1") for name in ("units", "heads", "reduction", "hidden")
        ]
        rules += [("dropout", 0 <= self.dropout < 1, "be in [0, 1)")]
        self.check_arguments(*rules)
        if self.units % self.heads:
            raise InputError(f"`units` must be a multiple of `heads`. Received: units={self.units}, heads={self.heads}")
        if len(input_shape) != 3 or min(input_shape[:2]) < 32:
            raise InputError(
                f"DCAT takes images of at least 32 pixels, not volumes. Received: input_shape={tuple(input_shape)}"
            )

    def image(self, input_shape: Sequence[int]) -> tuple[Any, Any]:
        """Returns the symbolic image, and the same in three channels: each network has a normalisation of its own."""
        return image_input(input_shape, "none", rgb=True)

    def graph(self, x: Any, num_classes: int) -> tuple[Any, dict[str, ExplainPoint], list[keras.layers.Layer]]:
        """Returns logits, explain points and dropout layers; see `Architecture.graph`."""
        features, points = self._features(self._branches(x))
        logits, stochastic = self._head(features, num_classes)
        return logits, points, stochastic

    def _branches(self, x: Any) -> dict[str, list[Any]]:
        """Returns the maps of both levels of both networks."""
        seen = [normalize(x, self.normalization)]
        if self.second_normalization in (None, self.normalization):
            seen += seen
        else:
            seen += [normalize(x, self.second_normalization, name="second_normalization")]
        return {
            branch: _network(name, image.shape[1:], branch)(image)
            for branch, name, image in zip(BRANCHES, self.backbone_names, seen, strict=True)
        }

    def _features(self, branches: dict[str, list[Any]]) -> tuple[Any, dict[str, ExplainPoint]]:
        """Returns the features and the explain points."""
        setting = Fusion(self.units, self.heads, self.keys, self.gate, self.fusion, self.reduction)
        fused, points = {}, {}
        for i, level in enumerate(LEVELS):
            grid = Grid(self._stride(level))
            maps = {b: project(m[i], self.units, name=f"{b}_project_{level}") for b, m in branches.items()}
            if level == "1" and self.pool_level1 > 1:
                maps = {b: _halve(x, name=f"{b}_halve_{level}") for b, x in maps.items()}
            joined, attention = exchange(maps, setting, name=level)
            fused[level], gate = refine(fuse(joined, setting, name=level), setting, name=level)
            points |= _attention_points(attention, gate, level, grid)
            points |= {
                f"{b}_{level}": ExplainPoint(x, grid, f"the {b} network, level {level}") for b, x in maps.items()
            }
            points[f"fused_{level}"] = ExplainPoint(fused[level], grid, f"both networks, level {level}")
        features, stride = self._join_levels(fused)
        points["attention"] = self._attention(points)
        # A node of its own, so that the graph can be cut there.
        features = keras.layers.Identity(name="features")(features)
        text = "what is classified, before averaging"
        return features, points | {"features": ExplainPoint(features, Grid(stride), text)}

    def _stride(self, level: str) -> int:
        return STRIDES[level] * (self.pool_level1 if level == "1" else 1)

    def _join_levels(self, fused: dict[str, Any]) -> tuple[Any, int]:
        """Returns the map whose mean is classified, and its stride."""
        fine, coarse = (fused[level] for level in LEVELS)
        if self.hierarchy == "topdown":
            if self.pool_level1 == 1:
                fine = _halve(fine, name="halve")
            x = keras.layers.Concatenate(name="levels")([fine, coarse])
            x = keras.layers.Conv2D(
                self.units, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name="topdown_conv"
            )(x)
            x = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=1e-5, name="topdown_norm")(x)
            return keras.layers.Activation("relu", name="topdown_relu")(x), STRIDES["2"]
        if self.pool_level1 == 1:
            # Repeated, the coarse map has the same mean, and one map holds all that is classified.
            coarse = _repeated(coarse, fine)
        return keras.layers.Concatenate(name="levels")([fine, coarse]), self._stride("1")

    def _attention(self, points: dict[str, ExplainPoint]) -> ExplainPoint:
        fine, coarse = (points[f"attention_{level}"].tensor for level in LEVELS)
        if self.pool_level1 == 1:
            coarse = _repeated(coarse, fine) / 4  # So that both sum to one.
        return ExplainPoint((fine + coarse) / 2, Grid(self._stride("1")), "how much both networks look at a place")

    def _head(self, features: Any, num_classes: int) -> tuple[Any, list[keras.layers.Layer]]:
        """Returns the logits, and the dropout layers, if any."""
        names = ("dropout", "hidden_dropout") if self.dropout else ()
        stochastic = [keras.layers.Dropout(self.dropout, name=name) for name in names]
        drop = dict(zip(("before", "after"), stochastic, strict=False))
        x = drop.get("before", _same)(global_average(features))
        x = keras.layers.Dense(self.hidden, "relu", kernel_initializer="he_normal", name="hidden")(x)
        x = drop.get("after", _same)(x)
        # Logits stay in float32 under a mixed-precision policy.
        return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x), stochastic

    @property
    def backbones(self) -> tuple[keras.Model, keras.Model]:
        """The two networks, from normalised images to the maps of both levels."""
        return tuple(self.get_layer(f"{branch}_backbone") for branch in BRANCHES)

    def load_backbone(self, source: str | Sequence[str | os.PathLike | Mapping[str, np.ndarray]]) -> None:
        """Fills the two networks with pretrained weights; the rest of the model keeps its own.

        Args:
            source: Two sources, that of the first network first, or both in one string with a comma between them,
                such as `"efficientnet_b4_ra2_imagenet,resnet34.safetensors"`. Each is a checkpoint or a preset as
                for `medkeras.models.backbones.load_pretrained`; an empty one leaves its network as it is.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If there are not two sources, or the weights are those of another network; then both are left
                as they were.
        """
        sources = source.split(",") if isinstance(source, str) else list(source)
        if len(sources) != 2:
            raise InputError(
                f"DCAT has two networks: give the weights of both, with a comma between. Received: {source!r}"
            )
        before = [network.get_weights() for network in self.backbones]
        try:
            for network, part in zip(self.backbones, sources, strict=True):
                part = part.strip() if isinstance(part, str) else part
                if part:
                    load_pretrained(network, part)
        except Exception:
            for network, weights in zip(self.backbones, before, strict=True):
                network.set_weights(weights)
            raise

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"backbones": list(self.backbone_names)}


def _network(name: str, image_shape: Sequence[int], branch: str) -> keras.Model:
    build = efficientnet if name in EFFICIENTNETS else resnet
    return build(name, image_shape=image_shape, taps=TAPS[name], model_name=f"{branch}_backbone")


def _halve(x: Any, *, name: str) -> Any:
    return keras.layers.AveragePooling2D(2, padding="same", name=name)(x)


def _repeated(coarse: Any, fine: Any) -> Any:
    """Returns the coarse map on the grid of the fine one, which has twice its rows and columns, or one less."""
    return ops.repeat(ops.repeat(coarse, 2, axis=1), 2, axis=2)[:, : fine.shape[1], : fine.shape[2]]


def _same(x: Any) -> Any:
    return x


def _attention_points(attention: dict[str, Any], gate: Any, level: str, grid: Grid) -> dict[str, ExplainPoint]:
    """Returns what each branch looks at, at the place that is looked at, and the spatial gate."""
    text = "what the {} network looks at, level {}: from every place"
    size = gate.shape[1:3]
    points = {
        f"{branch}_looks_{level}": ExplainPoint(looked_at(maps, size), grid, text.format(branch, level))
        for branch, maps in attention.items()
    }
    mean = ops.mean(ops.concatenate([p.tensor for p in points.values()], axis=-1), axis=-1, keepdims=True)
    points[f"attention_{level}"] = ExplainPoint(mean, grid, f"how much both networks look at a place, level {level}")
    points[f"gate_{level}"] = ExplainPoint(gate, grid, f"spatial gate, level {level}")
    return points
