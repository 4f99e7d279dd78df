"""DualAttendMed's presets."""

from medkeras.models.registry import Preset

MODEL = "medkeras.models.dualattendmed.model:DualAttendMed"
PRESETS = {
    "dualattendmed": Preset(
        MODEL,
        "DualAttendMed at its published size",
        (224, 224, 3),
        {"backbone": "resnet152", "attention_maps": 32},
    ),
    "dualattendmed_resnet50": Preset(
        MODEL,
        "DualAttendMed with a ResNet-50: less than half the weights",
        (224, 224, 3),
        {"backbone": "resnet50", "attention_maps": 32},
    ),
    "dualattendmed_small": Preset(
        MODEL,
        "DualAttendMed with a ResNet-18 for small data",
        (128, 128, 3),
        {"backbone": "resnet18", "attention_maps": 16},
    ),
    "dualattendmed_tiny": Preset(
        MODEL,
        "DualAttendMed for tests and small machines: 64 to 128 pixels",
        (64, 64, 3),
        {"backbone": "resnet_tiny", "attention_maps": 8},
    ),
}
