"""Models: the contract, the registry and one folder per architecture."""

from medkeras.models import came, dcat, dualattendmed, focusnet, hemf, vit
from medkeras.models.base import ImageClassifier
from medkeras.models.came import CAME
from medkeras.models.dcat import DCAT
from medkeras.models.dualattendmed import AttentionTraining, DualAttendMed, TwoStage, two_stage
from medkeras.models.explain_points import ExplainPoint, Grid, Positions, Tokens
from medkeras.models.focusnet import FocusNet
from medkeras.models.hemf import HEMF
from medkeras.models.registry import Preset, count_params, create, names, preset, register
from medkeras.models.vit import ViT

register(came.PRESETS)
register(dcat.PRESETS)
register(dualattendmed.PRESETS)
register(focusnet.PRESETS)
register(hemf.PRESETS)
register(vit.PRESETS)

__all__ = [
    "CAME",
    "DCAT",
    "HEMF",
    "AttentionTraining",
    "DualAttendMed",
    "ExplainPoint",
    "FocusNet",
    "Grid",
    "ImageClassifier",
    "Positions",
    "Preset",
    "Tokens",
    "TwoStage",
    "ViT",
    "count_params",
    "create",
    "names",
    "preset",
    "register",
    "two_stage",
]
