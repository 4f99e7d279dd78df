"""DualAttendMed: channel attention and bilinear attention pooling."""

from medkeras.models.dualattendmed.model import DualAttendMed
from medkeras.models.dualattendmed.presets import PRESETS
from medkeras.models.dualattendmed.training import AttentionTraining
from medkeras.models.dualattendmed.two_stage import PROTOCOLS, TwoStage, two_stage

__all__ = ["PRESETS", "PROTOCOLS", "AttentionTraining", "DualAttendMed", "TwoStage", "two_stage"]
