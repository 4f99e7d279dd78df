"""DualAttendMed: features and attention maps multiplied, so that every map pools a part of the image by itself."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.layers import BilinearAttentionPooling, ChannelAttention
from medkeras.models.architecture import Architecture, Common
from medkeras.models.backbones import check_resnet, load_pretrained, resnet, resnet_stride
from medkeras.models.dualattendmed import convert
from medkeras.models.dualattendmed.layers import CounterfactualAttention
from medkeras.models.explain_points import ExplainPoint, Grid

ATTENTION_ACTIVATIONS = ("relu", None)


@keras.saving.register_keras_serializable("medkeras")
class DualAttendMed(Architecture):
    """Classifies an image by what a number of learned attention maps pool from a residual network's features.

    Channel attention reweights the features of the backbone; a 1x1 convolution makes the attention maps from them;
    bilinear attention pooling averages the features once under each map and joins the results to one unit vector,
    the pooled feature; a classifier without bias reads `scale` times that vector. `internals` gives all that
    training needs beyond the logits, the counterfactual branch included.

    Args:
        input_shape: `(height, width, channels)`; a grey image is repeated to three channels.
        backbone: One of `medkeras.models.backbones.RESNETS`; random weights until `load_backbone`.
        last_stride: Stride of the backbone's last stage: 1 doubles the rows and columns of the maps, 2 is the
            plain network.
        attention_maps: Number of attention maps.
        reduction: Channels per hidden unit of the channel attention; None leaves the channel attention out, as in
            CAL and WS-DAN.
        attention_activation: `"relu"` makes the maps by convolution, BatchNorm and ReLU, so that they are never
            negative; None by a convolution with bias alone.
        pooling: `"average"`, or `"max"` for the maximum under each map.
        epsilon: Added under the square root of the pooling, positive; 1e-6 as published, 1e-12 in WS-DAN.
        scale: Factor on the pooled feature in front of the classifier, positive.
        dropout: Rate on the pooled feature, in [0, 1); 0 as published.
        as_published: Builds the published maps, weight for weight: `attention_activation` is None, whatever is
            given.
        **common: What every architecture takes: `num_classes`, `task`, `class_names`, `normalization`, `name`; see
            `medkeras.models.architecture.Architecture`.

    Raises:
        ModuleNotFoundError: If keras-hub is not installed.
        ValueError: If an argument is out of range, or the image is not larger than one cell of the maps.

    Reference:
        The public DualAttendMed code (JunaidAbbas517/DualAttendMed); Rao et al., Counterfactual Attention Learning,
        arXiv 2108.08728; Hu et al., WS-DAN, arXiv 1901.09891. `README.md` beside this file says what is ours.

    Example:
        >>> model = DualAttendMed((32, 32, 1), num_classes=2, backbone="resnet_tiny", attention_maps=4)
        >>> tuple(model(ops.zeros((3, 32, 32, 1))).shape)
        (3, 2)
        >>> sorted(model.explain_points)
        ['attention', 'attention_maps', 'backbone', 'features']
    """

    default_normalization = "imagenet"

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        backbone: str = "resnet152",
        last_stride: int = 1,
        attention_maps: int = 32,
        reduction: int | None = 16,
        attention_activation: str | None = "relu",
        pooling: str = "average",
        epsilon: float = 1e-6,
        scale: float = 100.0,
        dropout: float = 0.0,
        as_published: bool = False,
        **common: Unpack[Common],
    ) -> None:
        self.backbone_name, self.last_stride, self.attention_maps = backbone, last_stride, attention_maps
        self.reduction, self.pooling, self.epsilon = reduction, pooling, epsilon
        self.attention_activation = None if as_published else attention_activation
        self.scale, self.dropout, self.as_published = scale, dropout, as_published
        self._check(input_shape)
        super().__init__(input_shape, **common)

    def _check(self, input_shape: Sequence[int]) -> None:
        check_resnet(self.backbone_name)
        rules = (
            ("last_stride", self.last_stride in (1, 2), "be 1 or 2"),
            ("attention_maps", self.attention_maps >= 1, "be at least 1"),
            ("reduction", self.reduction is None or self.reduction >= 1, "be at least 1, or None"),
            (
                "attention_activation",
                self.attention_activation in ATTENTION_ACTIVATIONS,
                f"be one of {ATTENTION_ACTIVATIONS}",
            ),
            ("scale", self.scale > 0, "be positive"),
            ("dropout", 0 <= self.dropout < 1, "be in [0, 1)"),
        )
        self.check_arguments(*rules)
        if len(input_shape) != 3:
            raise InputError(f"DualAttendMed takes images, not volumes. Received: input_shape={tuple(input_shape)}")
        cell = resnet_stride(self.backbone_name, last_stride=self.last_stride)
        if min(input_shape[:2]) <= cell:
            raise InputError(
                f"An image must be larger than one cell of the attention maps, {cell} pixels. "
                f"Received: input_shape={tuple(input_shape)}"
            )

    def graph(self, x: Any, num_classes: int) -> tuple[Any, dict[str, ExplainPoint], list[keras.layers.Layer]]:
        """Returns logits, explain points and dropout layers; see `Architecture.graph`."""
        self._seen = self._look(x)
        head, stochastic = self._head(num_classes)
        points = _points(self._seen, resnet_stride(self.backbone_name, last_stride=self.last_stride))
        return head(self._seen["feature"]), points, stochastic

    def _look(self, x: Any) -> dict[str, Any]:
        """Returns the features, the attention maps and the pooled feature."""
        features = resnet(self.backbone_name, image_shape=x.shape[1:], last_stride=self.last_stride)(x)
        plain = features
        if self.reduction is not None:
            features = ChannelAttention(self.reduction, name="channel_attention")(features)
        # A node of its own, so that the graph can be cut there.
        features = keras.layers.Identity(name="features")(features)
        is_plain = self.attention_activation is None
        maps = keras.layers.Conv2D(self.attention_maps, 1, use_bias=is_plain, name="attention")(features)
        if not is_plain:
            maps = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name="attention_norm")(maps)
            maps = keras.layers.Activation(self.attention_activation, name="attention_activation")(maps)
        pool = BilinearAttentionPooling(pooling=self.pooling, epsilon=self.epsilon, name="pooling")
        return {"backbone": plain, "features": features, "attention": maps, "feature": pool([features, maps])}

    def _head(self, num_classes: int) -> tuple[Any, list[keras.layers.Layer]]:
        """Returns the function from the pooled feature to logits, and its dropout layer, if any."""
        stochastic = [keras.layers.Dropout(self.dropout, name="dropout", dtype="float32")] if self.dropout else []
        # Logits stay in float32 under a mixed-precision policy.
        classifier = keras.layers.Dense(
            num_classes,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            dtype="float32",
            name="logits",
        )

        def head(feature: Any) -> Any:
            for layer in stochastic:
                feature = layer(feature)
            return classifier(feature * self.scale)

        return head, stochastic

    @property
    def backbone(self) -> keras.Model:
        """The residual network, from normalised images to features."""
        return self.get_layer("backbone")

    def load_backbone(self, source: str | os.PathLike | Mapping[str, np.ndarray]) -> None:
        """Fills the backbone with pretrained weights; the rest of the model keeps its own.

        Args:
            source: A torchvision or timm checkpoint, or a keras-hub preset that is downloaded now, such as
                `"resnet_152_imagenet"`; see `medkeras.models.backbones.load_pretrained`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the weights are those of another network; then the backbone is left as it was.
        """
        load_pretrained(self.backbone, source)

    def internals(self) -> keras.Model:
        """Returns a model from the same image to all that training needs, weights shared.

        Its outputs, all float32, M being the number of attention maps:

        - `logits`: `(batch, num_classes)`, as this model gives them.
        - `aux_logits`: `(batch, num_classes)`, the logits less those under counterfactual attention, which is
          uniform in [0, 2) with `training=True` and even otherwise.
        - `feature`: `(batch, M * channels)`, the pooled feature, of length 1.
        - `attention`: `(batch, rows, columns, M)`, the attention maps.

        Example:
            >>> model = DualAttendMed((32, 32, 3), num_classes=2, backbone="resnet_tiny", attention_maps=4)
            >>> {name: tuple(x.shape) for name, x in sorted(model.internals()(ops.zeros((1, 32, 32, 3))).items())}
            {'attention': (1, 4, 4, 4), 'aux_logits': (1, 2), 'feature': (1, 512), 'logits': (1, 2)}
        """
        features, maps = self._seen["features"], self._seen["attention"]
        fake = CounterfactualAttention(name="counterfactual")(maps)
        feature = self.get_layer("pooling")([features, fake])
        for layer in self.stochastic:
            feature = layer(feature)
        counterfactual = self.get_layer("logits")(feature * self.scale)
        outputs = {
            "logits": self.output,
            "aux_logits": self.output - counterfactual,
            "feature": self._seen["feature"],
            "attention": ops.cast(maps, "float32"),
        }
        return keras.Model(self.input, outputs, name=f"{self.name}_internals")

    def official_tensors(self) -> list[Any]:
        """Maps the published checkpoint to our variables; only with the published attention maps."""
        if self.attention_activation is not None or self.reduction is None:
            return super().official_tensors()
        return convert.official_tensors(self)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"backbone": self.backbone_name}


def _points(seen: dict[str, Any], stride: int) -> dict[str, ExplainPoint]:
    mean = ops.mean(ops.cast(seen["attention"], "float32"), axis=-1, keepdims=True)
    grid = Grid(stride)  # The backbone pads as torchvision does: the first cell looks at the first pixel.
    return {
        "backbone": ExplainPoint(seen["backbone"], grid, "the features before channel attention"),
        "features": ExplainPoint(seen["features"], grid, "the features after channel attention"),
        "attention": ExplainPoint(mean, grid, "the mean of the attention maps"),
        "attention_maps": ExplainPoint(seen["attention"], grid, "the attention maps, one per channel"),
    }
