"""ViT: a transformer over the patches of an image, which shows what it looks at."""

from medkeras.models.vit.model import ViT
from medkeras.models.vit.presets import PRESETS

__all__ = ["PRESETS", "ViT"]
