"""DCAT: two networks that read each other by attention, and a head that says how sure it is."""

from medkeras.models.dcat.model import DCAT
from medkeras.models.dcat.presets import PRESETS

__all__ = ["DCAT", "PRESETS"]
