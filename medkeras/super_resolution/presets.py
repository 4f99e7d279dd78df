"""Named sizes of the upscaler, as data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from medkeras.errors import InputError


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named size.

    Attributes:
        description: One line for tables and help.
        unet: Arguments of `UNet`.
        vqvae: Arguments of `VQVAE`.
    """

    description: str
    unet: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    vqvae: Mapping[str, Any] = dataclasses.field(default_factory=dict)


PRESETS = {
    "ldm_4x": Preset("CompVis/ldm-super-resolution-4x-openimages: 114 million weights and 55 million"),
    "ldm_4x_small": Preset(
        "for one's own training on one graphics card: 9 million weights and 3 million",
        {"widths": (64, 128, 128, 192), "depth": 1},
        {"widths": (32, 64, 128), "depth": 1, "codebook_size": 2048, "groups": 16},
    ),
    "ldm_4x_mini": Preset(
        "for one's own training on a processor: under 1 million weights and 0.2 million",
        {"widths": (32, 64, 96), "depth": 1, "attention_levels": (2,), "head_channels": 16, "groups": 8},
        {"widths": (8, 16, 32), "depth": 1, "codebook_size": 512, "groups": 8},
    ),
    "ldm_4x_tiny": Preset(
        "for tests and small machines",
        {"widths": (8, 16), "depth": 1, "attention_levels": (1,), "head_channels": 8, "groups": 4},
        {"widths": (8, 8, 16), "depth": 1, "codebook_size": 64, "groups": 4},
    ),
}


def preset(name: str) -> Preset:
    """Returns the preset of this name.

    Raises:
        ValueError: If there is none.

    Example:
        >>> preset("ldm_4x_tiny").unet["widths"]
        (8, 16)
    """
    if name not in PRESETS:
        raise InputError(f"An upscaler's preset is one of {', '.join(PRESETS)}. Received: name={name!r}")
    return PRESETS[name]
