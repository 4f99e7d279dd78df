"""HEMF: a local and a global branch, fused stage by stage."""

from medkeras.models.hemf.model import HEMF
from medkeras.models.hemf.presets import PRESETS

__all__ = ["HEMF", "PRESETS"]
