"""DCAT's presets."""

from medkeras.models.registry import Preset

MODEL = "medkeras.models.dcat.model:DCAT"
PRESETS = {
    "dcat": Preset(
        MODEL,
        "DCAT with EfficientNetB4 and ResNet34, as published",
        (224, 224, 3),
        {"backbones": ("efficientnet_b4", "resnet34"), "units": 256},
    ),
    "dcat_small": Preset(
        MODEL,
        "DCAT with EfficientNetB0 and ResNet18 for small data",
        (128, 128, 3),
        {"backbones": ("efficientnet_b0", "resnet18"), "units": 128},
    ),
    "dcat_tiny": Preset(
        MODEL,
        "DCAT for tests and small machines: 32 to 128 pixels",
        (64, 64, 3),
        {"backbones": ("efficientnet_tiny", "resnet_tiny"), "units": 32},
    ),
}
