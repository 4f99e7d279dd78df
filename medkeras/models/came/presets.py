"""CAME's presets."""

from medkeras.models.registry import Preset

MODEL = "medkeras.models.came.model:CAME"
PRESETS = {
    "came": Preset(
        MODEL,
        "CAME, the baseline of HEMF, at its published size, tokens laid out correctly",
        (224, 224, 3),
        {"widths": (96, 192, 384, 768), "head_size": 32, "memory": 64},
    ),
    "came_tiny": Preset(
        MODEL,
        "CAME for tests and small machines: 32 to 128 pixels",
        (64, 64, 3),
        {"widths": (8, 16, 32, 64), "head_size": 8, "memory": 16},
    ),
}
