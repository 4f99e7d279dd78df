"""ViT's presets."""

from medkeras.models.registry import Preset

MODEL = "medkeras.models.vit.model:ViT"
PRESETS = {
    "vit_b16": Preset(
        MODEL,
        "ViT-B/16, as google/vit-base-patch16-224-in21k",
        (224, 224, 3),
        {"patch": 16, "units": 768, "depth": 12, "heads": 12, "hidden": 3072},
    ),
    "vit_small": Preset(
        MODEL,
        "ViT-S/16: a quarter of the weights of ViT-B/16",
        (224, 224, 3),
        {"patch": 16, "units": 384, "depth": 12, "heads": 6, "hidden": 1536},
    ),
    "vit_tiny": Preset(
        MODEL,
        "ViT-Ti/16: a sixteenth of the weights of ViT-B/16",
        (224, 224, 3),
        {"patch": 16, "units": 192, "depth": 12, "heads": 3, "hidden": 768},
    ),
}
