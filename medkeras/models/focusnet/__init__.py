"""FocusNet in 2D and 3D."""

from medkeras.models.focusnet.model import FocusNet
from medkeras.models.focusnet.presets import PRESETS

__all__ = ["PRESETS", "FocusNet"]
