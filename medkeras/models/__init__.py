"""Models: the contract, the registry and one folder per architecture, which is imported when it is asked for."""

import importlib
from typing import Any

from medkeras.models.base import ImageClassifier
from medkeras.models.came.presets import PRESETS as _CAME
from medkeras.models.dcat.presets import PRESETS as _DCAT
from medkeras.models.dualattendmed.presets import PRESETS as _DUALATTENDMED
from medkeras.models.explain_points import ExplainPoint, Grid, Positions, Tokens
from medkeras.models.focusnet.presets import PRESETS as _FOCUSNET
from medkeras.models.hemf.presets import PRESETS as _HEMF
from medkeras.models.registry import Preset, count_params, create, names, preset, register
from medkeras.models.vit.presets import PRESETS as _VIT

for _presets in (_CAME, _DCAT, _DUALATTENDMED, _FOCUSNET, _HEMF, _VIT):
    register(_presets)

_LAZY = {
    "CAME": "came.model",
    "DCAT": "dcat.model",
    "HEMF": "hemf.model",
    "AttentionTraining": "dualattendmed.training",
    "DualAttendMed": "dualattendmed.model",
    "FocusNet": "focusnet.model",
    "TwoStage": "dualattendmed.two_stage",
    "ViT": "vit.model",
    "two_stage": "dualattendmed.two_stage",
}

__all__ = [
    "ExplainPoint",
    "Grid",
    "ImageClassifier",
    "Positions",
    "Preset",
    "Tokens",
    "count_params",
    "create",
    "names",
    "preset",
    "register",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"medkeras.models.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'medkeras.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
