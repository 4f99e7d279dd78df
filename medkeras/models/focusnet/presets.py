"""FocusNet's presets."""

from medkeras.models.focusnet.model import FocusNet
from medkeras.models.registry import Preset

PRESETS = {
    "focusnet2d": Preset(
        FocusNet,
        "FocusNet for small images: 28 to 64 pixels",
        (28, 28, 1),
        {"depth": 3},
    ),
    "focusnet2d_tiny": Preset(
        FocusNet,
        "FocusNet for tests and very small data",
        (28, 28, 1),
        {"channels": 8, "depth": 2, "units": 32},
    ),
    "focusnet2d_large": Preset(
        FocusNet,
        "FocusNet for images of 96 pixels and more",
        (128, 128, 1),
        {"channels": 8, "depth": 5, "saccades": 3, "extent": 0.4},
    ),
    "focusnet3d": Preset(
        FocusNet,
        "FocusNet for volumes: 28 to 64 voxels",
        (28, 28, 28, 1),
        {"depth": 3},
    ),
    "focusnet3d_tiny": Preset(
        FocusNet,
        "FocusNet for volumes, for tests and very small data",
        (28, 28, 28, 1),
        {"channels": 8, "depth": 2, "units": 32},
    ),
}
