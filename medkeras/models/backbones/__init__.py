"""Networks from keras-hub as parts of a model: built by name, tapped at stages, filled from files or presets."""

from medkeras.models.backbones.efficientnet import (
    EFFICIENTNETS,
    EfficientNetSize,
    check_efficientnet,
    efficientnet,
    efficientnet_targets,
)
from medkeras.models.backbones.pretrained import FILE_SUFFIXES, load_pretrained
from medkeras.models.backbones.resnet import (
    RESNETS,
    ResNetSize,
    check_resnet,
    resnet,
    resnet_stride,
    resnet_targets,
)

__all__ = [
    "EFFICIENTNETS",
    "FILE_SUFFIXES",
    "RESNETS",
    "EfficientNetSize",
    "ResNetSize",
    "check_efficientnet",
    "check_resnet",
    "efficientnet",
    "efficientnet_targets",
    "load_pretrained",
    "resnet",
    "resnet_stride",
    "resnet_targets",
]
