"""Augmentation: small dataclasses that draw parameters per record and apply them per batch.

A new augmentation is a dataclass with the two methods of `Augmentation`; it can stand in any list given to
`load(augment=...)`.
"""

from collections.abc import Sequence
from typing import Any

import keras

from pipelines.augment.augmenter import Augmentation, Augmenter
from pipelines.augment.flips import Flip
from pipelines.augment.geometry import Affine, warp
from pipelines.augment.intensity import Intensity, Noise
from pipelines.augment.keras_layers import KerasLayer

__all__ = [
    "AUGMENTATIONS",
    "Affine",
    "Augmentation",
    "Augmenter",
    "Flip",
    "Intensity",
    "KerasLayer",
    "Noise",
    "choose",
    "warp",
]

AUGMENTATIONS: dict[str, tuple[Augmentation, ...]] = {
    "none": (),
    "light": (Flip(("width",)), Intensity(brightness=0.1, contrast=0.1, gamma=0.0)),
    "standard": (
        Flip(("width",)),
        Affine(rotation=10.0, scale=0.1, translation=0.06),
        Intensity(brightness=0.1, contrast=0.2, gamma=0.2),
        Noise(std=0.02),
    ),
    "strong": (
        Flip(("width",)),
        Affine(rotation=15.0, scale=0.15, translation=0.1),
        Intensity(brightness=0.2, contrast=0.3, gamma=0.35),
    ),
}


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
            raise ValueError(f"{rule}. Received: augment={augment!r}")
        return AUGMENTATIONS[augment]
    chosen = tuple(KerasLayer(a) if isinstance(a, keras.layers.Layer) else a for a in augment or ())
    for member in chosen:
        if not (hasattr(member, "draw") and hasattr(member, "apply")):
            raise ValueError(f"{rule}. Received: augment with {member!r}")
    return chosen
