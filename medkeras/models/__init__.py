"""Models: the contract, the registry and one folder per architecture."""

from medkeras.models import dualattendmed, focusnet
from medkeras.models.base import ImageClassifier
from medkeras.models.dualattendmed import DualAttendMed
from medkeras.models.explain_points import ExplainPoint, Grid, Positions, Tokens
from medkeras.models.focusnet import FocusNet
from medkeras.models.registry import Preset, create, names, preset, register

register(dualattendmed.PRESETS)
register(focusnet.PRESETS)

__all__ = [
    "DualAttendMed",
    "ExplainPoint",
    "FocusNet",
    "Grid",
    "ImageClassifier",
    "Positions",
    "Preset",
    "Tokens",
    "create",
    "names",
    "preset",
    "register",
]
