"""HEMF's presets."""

from medkeras.models.registry import Preset

MODEL = "medkeras.models.hemf.model:HEMF"
PRESETS = {
    "hemf": Preset(
        MODEL,
        "HEMF at its published size",
        (224, 224, 3),
        {
            "widths": (96, 192, 384, 768),
            "local_depths": (4, 4, 4, 4),
            "global_depths": (3, 3, 3, 3),
            "heads": 8,
            "memory": 64,
        },
    ),
    "hemf_small": Preset(
        MODEL,
        "HEMF with half the widths and depths, for a few thousand images",
        (224, 224, 3),
        {
            "widths": (48, 96, 192, 384),
            "local_depths": (2, 2, 2, 2),
            "global_depths": (2, 2, 2, 2),
            "heads": 4,
            "memory": 64,
        },
    ),
    "hemf_tiny": Preset(
        MODEL,
        "HEMF for tests and small machines: 32 to 128 pixels",
        (64, 64, 3),
        {
            "widths": (16, 32, 64, 128),
            "local_depths": (1, 1, 1, 1),
            "global_depths": (1, 1, 1, 1),
            "heads": 4,
            "memory": 16,
        },
    ),
}
