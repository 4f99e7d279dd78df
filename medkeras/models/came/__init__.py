"""CAME: three branches, fused stage by stage; the baseline of HEMF."""

from medkeras.models.came.model import CAME
from medkeras.models.came.presets import PRESETS

__all__ = ["CAME", "PRESETS"]
