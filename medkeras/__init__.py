"""medkeras: medical image models for Keras 3 that say what, where and how sure."""

import importlib
from typing import Any

from medkeras import checkpoints, errors, layers, losses, metrics, models, tasks
from medkeras.backend.lazy_classes import register_lazily
from medkeras.errors import InputError
from medkeras.version import __version__

_LAZY = ("evaluation", "explain", "export", "super_resolution", "uncertainty")

# The classes of saved files whose modules are not imported above.
_SAVED = {
    "models.came.model": ("CAME",),
    "models.dcat.model": ("DCAT",),
    "models.dualattendmed.layers": ("CounterfactualAttention",),
    "models.dualattendmed.model": ("DualAttendMed",),
    "models.dualattendmed.training": ("AttentionTraining",),
    "models.dualattendmed.two_stage": ("TwoStage",),
    "models.focusnet.model": ("FocusNet",),
    "models.focusnet.pathways": ("CrossNormalization", "Pathway", "PathwayBlock"),
    "models.focusnet.published": ("HardCrop", "OffsetHead", "ShiftedVolume"),
    "models.focusnet.saccades": ("PredictiveCell", "PriorityMap"),
    "models.hemf.fusion": ("DeadPath",),
    "models.hemf.model": ("HEMF",),
    "models.vit.model": ("ViT",),
    "super_resolution.autoencoder.codebook": ("Codebook",),
    "super_resolution.autoencoder.vqvae": ("VQVAE",),
    "super_resolution.blocks": ("GroupNorm", "SpatialAttention"),
    "super_resolution.diffusion.unet": ("TimeEmbedding", "UNet"),
    "uncertainty.calibrated": ("Calibrated",),
}
for _module, _names in _SAVED.items():
    register_lazily(f"medkeras.{_module}", _names)

__all__ = [
    "InputError",
    "__version__",
    "checkpoints",
    "errors",
    "layers",
    "losses",
    "metrics",
    "models",
    "tasks",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"medkeras.{name}")
    raise AttributeError(f"module 'medkeras' has no attribute {name!r}")
