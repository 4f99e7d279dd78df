"""FocusNet's presets."""

from medkeras.models.registry import Preset

MODEL = "medkeras.models.focusnet.model:FocusNet"
PRESETS = {
    "focusnet2d": Preset(
        MODEL,
        "FocusNet for small images: 28 to 64 pixels",
        (28, 28, 1),
        {"depth": 3},
    ),
    "focusnet2d_tiny": Preset(
        MODEL,
        "FocusNet for tests and very small data",
        (28, 28, 1),
        {"channels": 8, "depth": 2, "units": 32},
    ),
    "focusnet2d_large": Preset(
        MODEL,
        "FocusNet for images of 96 pixels and more",
        (128, 128, 1),
        {"channels": 8, "depth": 5, "saccades": 3, "extent": 0.4},
    ),
    "focusnet3d": Preset(
        MODEL,
        "FocusNet for volumes: 28 to 64 voxels",
        (28, 28, 28, 1),
        {"depth": 3},
    ),
    "focusnet3d_tiny": Preset(
        MODEL,
        "FocusNet for volumes, for tests and very small data",
        (28, 28, 28, 1),
        {"channels": 8, "depth": 2, "units": 32},
    ),
}
