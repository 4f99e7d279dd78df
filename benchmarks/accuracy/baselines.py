"""The plain networks that attention models are compared with."""

from collections.abc import Sequence
from typing import Any

import keras

from medkeras.models import ExplainPoint, Grid, ImageClassifier, Preset, register
from medkeras.models.backbones import resnet, resnet_stride
from medkeras.models.base import image_input


@keras.saving.register_keras_serializable("benchmarks")
class PlainResNet(ImageClassifier):
    """A pre-activation ResNet of four blocks for small images, after He et al., arXiv 1603.05027.

    Args:
        input_shape: `(height, width, channels)`.
        width: Filters of the first block; each further block doubles them and halves the image.
        stride: Stride of the first convolution.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        num_classes: int,
        task: str | None = None,
        class_names: Sequence[str] | None = None,
        normalization: Any = "half",
        width: int = 32,
        stride: int = 1,
        name: str = "plain_resnet",
    ) -> None:
        self.width, self.stride = width, stride
        image, x = image_input(input_shape, normalization)
        x = keras.layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(x)
        for block in range(4):
            x = _block(x, width * 2**block, strides=1 if block == 0 else 2)
        x = _activated(x)
        logits = keras.layers.Dense(num_classes, dtype="float32")(keras.layers.GlobalAveragePooling2D()(x))
        super().__init__(
            inputs=image,
            logits=logits,
            image_shape=input_shape,
            num_classes=num_classes,
            task=task,
            class_names=class_names,
            normalization=normalization,
            explain_points={"features": ExplainPoint(x, Grid(), "the last feature map")},
            name=name,
        )


@keras.saving.register_keras_serializable("benchmarks")
class PlainBackbone(ImageClassifier):
    """The residual network of a DualAttendMed, its features' mean and a dense layer: what Grad-CAM was made for.

    Args:
        input_shape: `(height, width, channels)`.
        backbone: One of `medkeras.models.backbones.RESNETS`.
        last_stride: Stride of the last stage.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        num_classes: int,
        task: str | None = None,
        class_names: Sequence[str] | None = None,
        normalization: Any = "imagenet",
        backbone: str = "resnet_tiny",
        last_stride: int = 1,
        name: str = "plain_backbone",
    ) -> None:
        self.backbone_name, self.last_stride = backbone, last_stride
        image, x = image_input(input_shape, normalization, rgb=True)
        x = resnet(backbone, image_shape=x.shape[1:], last_stride=last_stride)(x)
        x = keras.layers.Identity(name="features")(x)
        logits = keras.layers.Dense(num_classes, dtype="float32")(keras.layers.GlobalAveragePooling2D()(x))
        grid = Grid(resnet_stride(backbone, last_stride=last_stride))
        super().__init__(
            inputs=image,
            logits=logits,
            image_shape=input_shape,
            num_classes=num_classes,
            task=task,
            class_names=class_names,
            normalization=normalization,
            explain_points={"features": ExplainPoint(x, grid, "the last feature map")},
            name=name,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"backbone": self.backbone_name}


def _activated(x: Any) -> Any:
    return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))


def _block(x: Any, filters: int, *, strides: int) -> Any:
    y = _activated(x)
    shortcut = keras.layers.Conv2D(filters, 1, strides=strides, use_bias=False)(y)
    y = keras.layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(y)
    y = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(_activated(y))
    return keras.layers.Add()([shortcut, y])


register(
    {
        "plain_resnet": Preset(PlainResNet, "four residual blocks, the baseline", (28, 28, 1)),
        "plain_backbone": Preset(PlainBackbone, "the backbone of dualattendmed_tiny", (64, 64, 3)),
        "plain_resnet_large": Preset(
            PlainResNet, "the same behind a stride of 2", (128, 128, 1), {"stride": 2, "width": 24}
        ),
    }
)
