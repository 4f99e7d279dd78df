"""DualAttendMed: channel attention and bilinear attention pooling."""

from medkeras.models.dualattendmed.model import DualAttendMed
from medkeras.models.dualattendmed.presets import PRESETS

__all__ = ["PRESETS", "DualAttendMed"]
