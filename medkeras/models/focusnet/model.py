"""FocusNet: three pathways, a few fixations chosen by the network, and a state that predicts what it will see."""

from collections.abc import Sequence
from typing import Any, Unpack

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers import Glimpse, global_average
from medkeras.models.architecture import Architecture, Common
from medkeras.models.explain_points import ExplainPoint, Grid, Positions
from medkeras.models.focusnet import convert, published
from medkeras.models.focusnet.pathways import PATHWAYS, PathwayBlock, pathway_stages
from medkeras.models.focusnet.saccades import PredictiveCell, PriorityMap

INTEGRATIONS = ("predictive", "gru")
COMPATS = (None, "repaired")


@keras.saving.register_keras_serializable("medkeras")
class FocusNet(Architecture):
    """Classifies an image or a volume from a whole view and a few glimpses at places that it chooses itself.

    The whole image passes the magno, parvo and konio pathways. From their features and the state, a priority map
    chooses a fixation; a window around it passes the same pathways; the state predicts what will be seen there
    and is updated by the error; and so on. The last state is classified, together with the gist: the features of
    the whole view, averaged.

    Args:
        input_shape: `(height, width, channels)` or `(depth, height, width, channels)`.
        channels: Filters of each pathway's first stage, even; 16 by default, and with `compat` the published
            24 in 2D and 16 in 3D.
        depth: Stages of each pathway; each halves the image and, after the first, doubles the channels.
        saccades: Number of glimpses after the whole view.
        extent: Edge of a glimpse as a share of the image edge, in (0, 1].
        units: Size of the state.
        integration: `"predictive"` (the prediction error drives the state) or `"gru"` (the glimpse does).
        prediction_weight: Weight of the prediction-error loss, with `integration="predictive"`.
        suppression: Share by which a glimpse's features are reduced against those of the whole view, in [0, 1).
        dropout: Rate in front of the classifier's last layer, in [0, 1).
        compat: `"repaired"` builds the published model with the repairs that make it run, weight for weight;
            then only `channels`, `saccades`, `units` and `suppression` apply.
        **common: What every architecture takes: `num_classes`, `task`, `class_names`, `normalization`, `name`; see
            `medkeras.models.architecture.Architecture`.

    Raises:
        ValueError: If an argument is out of range, or the image is too small for `depth`.

    Reference:
        The public FocusNet code (salilp42/FOCUS), which cannot run; see `README.md` beside this file for what is
        repaired and what is ours.

    Example:
        >>> model = FocusNet((28, 28, 1), num_classes=2, channels=4, depth=2)
        >>> tuple(model(ops.zeros((3, 28, 28, 1))).shape)
        (3, 2)
        >>> sorted(model.explain_points)
        ['features', 'fixations', 'konio', 'magno', 'parvo', 'priority']
    """

    takes_rgb = False

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        channels: int | None = None,
        depth: int = 3,
        saccades: int = 2,
        extent: float = 0.5,
        units: int = 64,
        integration: str = "predictive",
        prediction_weight: float = 0.1,
        suppression: float = 0.3,
        dropout: float = 0.2,
        compat: str | None = None,
        **common: Unpack[Common],
    ) -> None:
        if channels is None:
            channels = published.CHANNELS.get(len(input_shape) - 1, 16) if compat else 16
        self.channels, self.depth, self.saccades, self.extent = channels, depth, saccades, extent
        self.units, self.integration, self.prediction_weight = units, integration, prediction_weight
        self.suppression, self.dropout, self.compat = suppression, dropout, compat
        self._check(input_shape)
        super().__init__(input_shape, **common)

    def _check(self, input_shape: Sequence[int]) -> None:
        rules = (
            ("channels", self.channels >= 2 and self.channels % 2 == 0, "be even and positive"),
            ("depth", self.depth >= 1, "be at least 1"),
            ("saccades", self.saccades >= 1, "be at least 1"),
            ("units", self.units >= 1, "be at least 1"),
            ("extent", 0 < self.extent <= 1, "be in (0, 1]"),
            ("suppression", 0 <= self.suppression < 1, "be in [0, 1)"),
            ("dropout", 0 <= self.dropout < 1, "be in [0, 1)"),
            ("prediction_weight", self.prediction_weight >= 0, "be at least 0"),
            ("integration", self.integration in INTEGRATIONS, f"be one of {INTEGRATIONS}"),
            ("compat", self.compat in COMPATS, f"be one of {COMPATS}"),
        )
        self.check_arguments(*rules)
        smallest = min(round(self.extent * n) for n in input_shape[:-1])
        if not self.compat and smallest < 2**self.depth:
            raise InputError(
                f"A glimpse must have at least 2**depth pixels per edge: with extent={self.extent} it has {smallest}. "
                f"Received: input_shape={tuple(input_shape)}, depth={self.depth}"
            )

    def graph(self, x: Any, num_classes: int) -> tuple[Any, dict[str, ExplainPoint], list[keras.layers.Layer]]:
        """Returns logits, explain points and dropout layers; see `Architecture.graph`."""
        state, points = self._published_graph(x) if self.compat else self._look(x)
        logits, stochastic = self._classify(state, num_classes)
        return logits, points, stochastic

    def _look(self, x: Any) -> tuple[Any, dict[str, ExplainPoint]]:
        block = PathwayBlock(pathway_stages(self.channels, self.depth), views=2, name="pathways")
        priority_map = PriorityMap(name="priority")
        glimpse = Glimpse(self.extent, name="glimpse")
        integrate = self._integrator()
        # Residual sums grow with depth; what is compared, predicted and integrated has to be on one scale.
        whole, peripheral, foveal = (_standardize(f"{name}_norm") for name in ("whole", "preview", "glimpse"))
        view = _whole_view(block, x)
        features, rank = view["features"], len(x.shape) - 2
        seen = whole(global_average(features))
        nowhere = ops.tile(ops.zeros_like(seen[:, :1]), (1, rank))
        state = ops.tile(ops.zeros_like(seen[:, :1]), (1, self.units))
        gist = seen
        state = integrate(seen, state, nowhere, ops.zeros_like(seen))
        chosen = []
        for _ in range(self.saccades):
            chosen.append(priority_map([features, state, *(c["fixation"] for c in chosen)]))
            fixation = chosen[-1]["fixation"]
            glimpsed = block(glimpse([x, fixation]), view=1)["features"]
            seen = foveal(global_average(glimpsed)) * (1 - self.suppression)
            state = integrate(seen, state, fixation, peripheral(chosen[-1]["preview"]))
        # A glimpse's centre: the fixation, drawn in by what keeps the window inside the image.
        edges = tuple(x.shape[1:-1])
        spans = [glimpse.window(n)[1] for n in edges]
        reach = [(n - span) / max(n - 1, 1) for n, span in zip(edges, spans, strict=True)]
        fixations = ops.stack([c["fixation"] for c in chosen], axis=1)
        centres = fixations * ops.convert_to_tensor(reach, dtype=fixations.dtype)
        extents = tuple(span / n for n, span in zip(edges, spans, strict=True))
        priorities = ops.stack([c["priority"] for c in chosen], axis=-1)
        # The gist goes past the recurrence, which would fade it with every glimpse.
        return ops.concatenate([gist, state], axis=-1), self._points(view) | {
            "priority": ExplainPoint(priorities, Grid(), "where to look next, one map per fixation"),
            "fixations": ExplainPoint(centres, Positions(extents), "places looked at, in order"),
        }

    def _integrator(self) -> Any:
        if self.integration == "predictive":
            cell = PredictiveCell(self.units, weight=self.prediction_weight, name="integration")
            return lambda *inputs: cell(list(inputs))["state"]
        cell = keras.layers.GRUCell(self.units, name="integration")
        return lambda seen, state, *_: cell(seen, [state])[0]

    def _published_graph(self, x: Any) -> tuple[Any, dict[str, ExplainPoint]]:
        rank = len(x.shape) - 2
        uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        block = PathwayBlock(
            published.published_stages(rank, self.channels),
            normalize=rank == 3,
            residual=False,
            pooled=published.POOLED if rank == 2 else None,
            clamped=False,
            initializer=uniform,
            name="pathways",
        )
        head = published.OffsetHead(kernel_initializer=uniform, name="offset")
        crop = (published.HardCrop if rank == 2 else published.ShiftedVolume)(name="glimpse")
        first = view = _whole_view(block, x)
        glimpses, offsets = [global_average(view["features"])], []
        for _ in range(self.saccades):
            offsets.append(head(view["features"]))
            view = block(crop([x, offsets[-1]]))
            glimpses.append(global_average(view["features"]))
        cell = keras.layers.GRUCell(self.units, name="integration")
        state = ops.tile(ops.zeros_like(glimpses[0][:, :1]), (1, self.units))
        for index, seen in enumerate(glimpses):
            state = cell(seen * (1 - self.suppression) if index else seen, [state])[0]
        state = keras.layers.LayerNormalization(epsilon=1e-5, name="state_norm")(state)
        centres, extents = published.centres(offsets, tuple(x.shape[1:-1]))
        return state, self._points(first) | {
            "fixations": ExplainPoint(centres, Positions(extents), "places looked at, in order"),
            "offsets": ExplainPoint(ops.stack(offsets, axis=1), Positions(extents), "raw offsets, in pixels"),
        }

    def _points(self, view: dict[str, Any]) -> dict[str, ExplainPoint]:
        names = {"features": "the combined pathways"} | {name: f"the {name} pathway" for name in PATHWAYS}
        return {name: ExplainPoint(view[name], Grid(), text) for name, text in names.items()}

    def _classify(self, state: Any, num_classes: int) -> tuple[Any, list[keras.layers.Layer]]:
        x = keras.layers.Dense(128, "relu", name="hidden")(state)
        stochastic = []
        if self.dropout and not self.compat:
            stochastic = [keras.layers.Dropout(self.dropout, name="dropout")]
            x = stochastic[0](x)
        # Logits stay in float32 under a mixed-precision policy.
        return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x), stochastic

    def official_tensors(self) -> list[Any]:
        """Maps the published checkpoint to our variables; only with `compat="repaired"`."""
        if not self.compat:
            return super().official_tensors()
        return convert.official_tensors(self)


def _standardize(name: str) -> keras.layers.Layer:
    """Returns a BatchNorm without weights, so that no feature can buy itself a larger prediction error."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, center=False, scale=False, name=name)


def _whole_view(block: PathwayBlock, x: Any) -> dict[str, Any]:
    """Returns the maps of the whole image, `features` by a node of its own, so that the graph can be cut there."""
    view = block(x)
    return view | {"features": keras.layers.Identity(name="features")(view["features"])}
