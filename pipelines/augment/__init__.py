"""Augmentation: small dataclasses that draw parameters per record and apply them per batch.

A new augmentation is a dataclass with the methods of `Augmentation`; it can stand in any list given to
`load(augment=...)`.
"""

from collections.abc import Sequence
from typing import Any

import keras

from medkeras.errors import InputError
from pipelines.augment.attention.crop_drop import AttentionCrop, AttentionDrop
from pipelines.augment.attention.refresh import RefreshAttention
from pipelines.augment.attention.store import AttentionStore
from pipelines.augment.augmenter import Augmentation, Augmenter
from pipelines.augment.dropout import CoarseDropout
from pipelines.augment.geometric.crop import RandomResizedCrop
from pipelines.augment.geometric.flips import Flip
from pipelines.augment.geometric.resample import warp, warp_nearest
from pipelines.augment.geometric.warp import Warp
from pipelines.augment.keras_layers import KerasLayer
from pipelines.augment.mixing import CutMix, MixUp
from pipelines.augment.photometric.bias_field import BiasField
from pipelines.augment.photometric.blur import Blur
from pipelines.augment.photometric.color import ColorJitter
from pipelines.augment.photometric.intensity import Gain, Intensity, Noise
from pipelines.augment.presets import AUGMENTATIONS

__all__ = [
    "AUGMENTATIONS",
    "AttentionCrop",
    "AttentionDrop",
    "AttentionStore",
    "Augmentation",
    "Augmenter",
    "BiasField",
    "Blur",
    "CoarseDropout",
    "ColorJitter",
    "CutMix",
    "Flip",
    "Gain",
    "Intensity",
    "KerasLayer",
    "MixUp",
    "Noise",
    "RandomResizedCrop",
    "RefreshAttention",
    "Warp",
    "choose",
    "warp",
    "warp_nearest",
]


def choose(augment: str | Sequence[Any] | None) -> tuple[Augmentation, ...]:
    """Returns the augmentations of a preset, or of a list; Keras layers in it are wrapped.

    Args:
        augment: A key of `AUGMENTATIONS`, or a list of augmentations and Keras preprocessing layers, or None.

    Raises:
        ValueError: If the preset is unknown or a member of the list is neither.

    Example:
        >>> choose("light")[0]
        Flip(axes=('width',))
    """
    rule = f"`augment` must be one of {', '.join(AUGMENTATIONS)} or a list of augmentations and Keras layers"
    if isinstance(augment, str):
        if augment not in AUGMENTATIONS:
            raise InputError(f"{rule}. Received: augment={augment!r}")
        return AUGMENTATIONS[augment]
    chosen = tuple(KerasLayer(a) if isinstance(a, keras.layers.Layer) else a for a in augment or ())
    for member in chosen:
        if not (hasattr(member, "draw") and (hasattr(member, "apply") or hasattr(member, "apply_batch"))):
            raise InputError(f"{rule}. Received: augment with {member!r}")
    return chosen
