"""The three visual pathways of FocusNet: magno, parvo and konio, normalised by one another and gated."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers import GroupedConv, HalvingMaxPool, average_grid, conv, global_average

PATHWAYS = ("magno", "parvo", "konio")

# One convolution: kernel edge, filters, groups.
Conv = tuple[int, int, int]
# One stage: its convolutions, followed by pooling. One pathway: its stages.
Stages = Sequence[Sequence[Conv]]


def pathway_stages(channels: int, depth: int) -> dict[str, list[list[Conv]]]:
    """Returns the default pathways: large kernels see coarsely (M), small ones finely (P), groups apart (K).

    The first stage is the published 2D block; each further stage is two 3x3 convolutions at twice the channels.

    Args:
        channels: Filters of the first stage, even.
        depth: Number of stages, each halving the image.

    Example:
        >>> pathway_stages(8, 2)["konio"]
        [[(5, 8, 1), (3, 8, 2)], [(3, 16, 2), (3, 16, 2)]]
    """
    first = {
        "magno": [(7, channels, 1)],
        "parvo": [(3, 2 * channels, 1), (3, channels, 1)],
        "konio": [(5, channels, 1), (3, channels, 2)],
    }
    groups = {"magno": 1, "parvo": 1, "konio": 2}
    return {
        name: [first[name], *([(3, channels * 2**stage, groups[name])] * 2 for stage in range(1, depth))]
        for name in PATHWAYS
    }


@keras.saving.register_keras_serializable("medkeras")
class CrossNormalization(keras.layers.Layer):
    """Divides each pathway by the mean activity of the other two.

    `m' = m / (1 + alpha (s_P mean(p) + s_K mean(k)))` and so on in turn, the means being over channels and all
    three taken before any division.

    Args:
        alpha: Strength of the division, at least 0.
        clamped: Keeps the learned scales at or above 0, so that the denominator cannot vanish.

    Input shape:
        List of three `(batch, *spatial, channels)`, at least 0, in the order magno, parvo, konio.

    Output shape:
        As the input.

    Raises:
        ValueError: If `alpha` is negative.

    Reference:
        FocusNet's cross-normalisation, after Carandini and Heeger, Normalization as a canonical neural
        computation, Nat Rev Neurosci 13:51, 2012.

    Example:
        >>> maps = [ops.ones((1, 2, 2, 3))] * 3
        >>> round(float(CrossNormalization()(maps)[0][0, 0, 0, 0]), 4)
        0.8869
    """

    def __init__(self, *, alpha: float = 0.15, clamped: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if alpha < 0:
            raise InputError(f"`alpha` must be at least 0. Received: alpha={alpha}")
        self.alpha, self.clamped = alpha, clamped

    def build(self, input_shape: Any) -> None:
        """Makes one scale per pathway, with the published starting values."""
        self.scales = self.add_weight(
            shape=(3,),
            initializer=lambda shape, dtype: ops.convert_to_tensor([0.5, 0.45, 0.4], dtype),
            constraint="non_neg" if self.clamped else None,
            name="scales",
        )

    def call(self, inputs: Sequence[Any]) -> list[Any]:
        """Normalises the three pathways by one another."""
        scales = ops.cast(self.scales, inputs[0].dtype)
        activity = [scales[i] * ops.mean(x, axis=-1, keepdims=True) for i, x in enumerate(inputs)]
        total = activity[0] + activity[1] + activity[2]
        return [x / (1 + self.alpha * (total - own)) for x, own in zip(inputs, activity, strict=True)]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the input shapes."""
        return list(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"alpha": self.alpha, "clamped": self.clamped}


@keras.saving.register_keras_serializable("medkeras")
class Pathway(keras.layers.Layer):
    """One column of stages: convolutions, each with optional BatchNorm and ReLU, then max pooling by two.

    Args:
        stages: For each stage the list of its convolutions `(kernel_size, filters, groups)`.
        normalize: Puts BatchNorm between convolution and ReLU.
        residual: Adds to the result of a convolution that keeps the channels what went in.
        views: Kinds of image that pass, such as whole views and glimpses; each has a BatchNorm of its own,
            since statistics shared by two kinds would fit neither in inference.
        initializer: Keras initialiser of kernels.
        bias_initializer: Keras initialiser of biases.

    Input shape:
        `(batch, *spatial, channels)`; the call argument `view` says of which kind, 0 by default.

    Output shape:
        `(batch, *(spatial // 2**len(stages)), filters of the last convolution)`.

    Example:
        >>> tuple(Pathway([[(3, 8, 1)], [(3, 16, 2)]])(ops.ones((1, 12, 12, 1))).shape)
        (1, 3, 3, 16)
    """

    def __init__(
        self,
        stages: Stages,
        *,
        normalize: bool = True,
        residual: bool = True,
        views: int = 1,
        initializer: Any = "he_normal",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stages = [[tuple(c) for c in stage] for stage in stages]
        self.normalize, self.residual, self.views = normalize, residual, views
        self.initializer = keras.initializers.get(initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the convolutions and norms for images or volumes."""
        self.convs, self.norms = [], []
        shape, rank = tuple(input_shape), len(input_shape) - 2
        for stage in self.stages:
            for kernel, filters, groups in stage:
                options = {
                    "kernel_initializer": self.initializer.clone(),
                    "bias_initializer": self.bias_initializer.clone(),
                    "dtype": self.dtype_policy,
                    "name": f"conv_{len(self.convs)}",
                }
                if groups == 1:
                    layer = conv(rank, filters, kernel, padding="same", **options)
                else:
                    layer = GroupedConv(filters, kernel_size=kernel, groups=groups, **options)
                layer.build(shape)
                shape = (*shape[:-1], filters)
                self.convs.append(layer)
                if self.normalize:
                    self.norms.append([self._norm(shape, f"norm_{len(self.norms)}_{v}") for v in range(self.views)])
        self.pool = HalvingMaxPool(dtype=self.dtype_policy)

    def _norm(self, shape: tuple[int | None, ...], name: str) -> keras.layers.Layer:
        norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name=name)
        norm.build(shape)
        return norm

    def call(self, inputs: Any, view: int = 0, training: bool = False) -> Any:
        """Runs the stages on images of one kind."""
        x, index = inputs, 0
        for stage in self.stages:
            for _ in stage:
                y = self.convs[index](x)
                if self.normalize:
                    y = self.norms[index][view](y, training=training)
                y = ops.relu(y)
                x = x + y if self.residual and x.shape[-1] == y.shape[-1] else y
                index += 1
            x = self.pool(x)
        return x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape after the last stage."""
        shrink = 2 ** len(self.stages)
        return (input_shape[0], *(n // shrink for n in input_shape[1:-1]), self.stages[-1][-1][1])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "stages": self.stages,
            "normalize": self.normalize,
            "residual": self.residual,
            "views": self.views,
            "initializer": keras.initializers.serialize(self.initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable("medkeras")
class PathwayBlock(keras.layers.Layer):
    """Sees an image through the three pathways and combines them.

    The pathways are cross-normalised and summed with a softmax gate that the magno pathway drives.

    Args:
        pathways: `{"magno": stages, "parvo": stages, "konio": stages}`, see `Pathway`.
        normalize: BatchNorm after each convolution.
        residual: Adds to the result of a convolution that keeps the channels what went in.
        views: Kinds of image that pass, each with a BatchNorm of its own.
        pooled: Edge of the grid that each pathway is averaged to, or None to keep the pathway's own.
        clamped: Keeps the scales of the cross-normalisation at or above 0.
        initializer: Keras initialiser of kernels.
        bias_initializer: Keras initialiser of biases.

    Input shape:
        `(batch, *spatial, channels)` with two or three spatial axes; the call argument `view` says of which
        kind, 0 by default.

    Output shape:
        Dict of `features`, `magno`, `parvo`, `konio`, each `(batch, *grid, channels)`; `magno`, `parvo` and
        `konio` are the pathways before normalisation.

    Raises:
        ValueError: If a pathway is missing, or the pathways end in different channels.

    Example:
        >>> views = PathwayBlock(pathway_stages(8, 2))(ops.ones((1, 28, 28, 1)))
        >>> tuple(views["features"].shape)
        (1, 7, 7, 16)
    """

    def __init__(
        self,
        pathways: Mapping[str, Stages],
        *,
        normalize: bool = True,
        residual: bool = True,
        views: int = 1,
        pooled: int | None = None,
        clamped: bool = True,
        initializer: Any = "he_normal",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if set(pathways) != set(PATHWAYS):
            raise InputError(f"`pathways` must name {', '.join(PATHWAYS)}. Received: {sorted(pathways)}")
        if len({pathways[name][-1][-1][1] for name in PATHWAYS}) != 1:
            raise InputError(f"All pathways must end in the same channels. Received: pathways={pathways}")
        self.pathways = {name: pathways[name] for name in PATHWAYS}
        self.normalize, self.residual, self.views = normalize, residual, views
        self.pooled, self.clamped = pooled, clamped
        self.initializer, self.bias_initializer = initializer, bias_initializer
        self.columns = [
            Pathway(
                stages,
                normalize=normalize,
                residual=residual,
                views=views,
                initializer=initializer,
                bias_initializer=bias_initializer,
                dtype=self.dtype_policy,
                name=name,
            )
            for name, stages in self.pathways.items()
        ]
        self.cross_norm = CrossNormalization(clamped=clamped, dtype=self.dtype_policy, name="cross_norm")
        self.gate = keras.layers.Dense(3, "softmax", dtype=self.dtype_policy, name="gate")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds the pathways, the normalisation and the gate."""
        for column in self.columns:
            column.build(input_shape)
        shapes = [column.compute_output_shape(input_shape) for column in self.columns]
        self.cross_norm.build(shapes)
        self.gate.build((None, shapes[0][-1]))

    def call(self, inputs: Any, view: int = 0, training: bool = False) -> dict[str, Any]:
        """Returns the combined features and the three pathways."""
        maps = [column(inputs, view=view, training=training) for column in self.columns]
        if self.pooled:
            maps = [average_grid(m, self.pooled) for m in maps]
        normalized = self.cross_norm(maps)
        gate = self.gate(global_average(normalized[0]))
        gate = ops.reshape(gate, (-1, *([1] * (len(inputs.shape) - 2)), 3))
        features = sum(gate[..., i : i + 1] * m for i, m in enumerate(normalized))
        return {"features": features, **dict(zip(PATHWAYS, maps, strict=True))}

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> dict[str, Any]:
        """Returns one shape for all four maps."""
        shape = self.columns[0].compute_output_shape(input_shape)
        if self.pooled:
            shape = (shape[0], *([self.pooled] * (len(shape) - 2)), shape[-1])
        return {name: shape for name in ("features", *PATHWAYS)}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "pathways": self.pathways,
            "normalize": self.normalize,
            "residual": self.residual,
            "views": self.views,
            "pooled": self.pooled,
            "clamped": self.clamped,
            "initializer": self.initializer,
            "bias_initializer": self.bias_initializer,
        }
