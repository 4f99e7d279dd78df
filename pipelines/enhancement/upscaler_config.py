"""What the training of an upscaler is made of: one frozen record, written to `config.yaml`."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from medkeras.errors import InputError
from medkeras.super_resolution.presets import preset

RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "crop": (">= 1", lambda x: x >= 1),
    "batch_size": (">= 1", lambda x: x >= 1),
    "vqvae_epochs": (">= 1", lambda x: x >= 1),
    "epochs": (">= 1", lambda x: x >= 1),
    "validation_images": (">= 1", lambda x: x >= 1),
    "steps": (">= 1", lambda x: x >= 1),
    "eta": (">= 0 and <= 1", lambda x: 0 <= x <= 1),
    "learning_rate": ("> 0", lambda x: 0 < x < math.inf),
    "ema": (">= 0 and < 1", lambda x: 0 <= x < 1),
    "seed": (">= 0", lambda x: x >= 0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpscalerConfig:
    """The whole configuration of the training of an upscaler.

    Attributes:
        data: A source, see `pipelines.sources.open_source`; its labels are not looked at.
        run: The folder to write.
        preset: Size of the upscaler, see `medkeras.super_resolution.presets`.
        image_size: Pixels per side, or two numbers; the images' own by default.
        channels: 1 or 3; the images' own by default. Of grey images comes an upscaler for grey images.
        preprocess: Steps on the stored images, by name.
        crop: Pixels per side of what is shown of an image at a time.
        batch_size: Crops per step.
        vqvae_epochs: Passes of the autoencoder over the training images; one crop of each image in each.
        epochs: Passes of the denoiser.
        reconstruction: `l1` or `l2`, see `medkeras.super_resolution.VQVAETraining`.
        learning_rate: The first one; it falls to 0 as a cosine in each of the two trainings.
        ema: Momentum of the running mean of the denoiser's weights, which is what is kept; 0 for none.
        validation_images: Crops of validation images that are restored after each epoch of the denoiser.
        steps: Of the diffusion, there.
        eta: Of the diffusion, there.
        fractions: Shares of train, val and test, where the source has no splits.
        split_file: A CSV of `id` and `split`.
        leakage: `stop`, `warn` or `off`.
        on_error: `raise` or `skip`.
        source_options: Of the source.
        seed: Of splits, weights, order, crops, times and noise.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> UpscalerConfig(data="phantom", run="runs/up", preset="ldm_4x_tiny").to_dict()["crop"]
        64
    """

    data: str
    run: str
    preset: str = "ldm_4x_small"
    image_size: int | tuple[int, ...] | None = None
    channels: int | None = None
    preprocess: tuple[str, ...] = ()
    crop: int = 64
    batch_size: int = 16
    vqvae_epochs: int = 40
    epochs: int = 80
    reconstruction: str = "l1"
    learning_rate: float = 1e-3
    ema: float = 0.99
    validation_images: int = 32
    steps: int = 10
    eta: float = 0.0
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    split_file: str | None = None
    leakage: str = "stop"
    on_error: str = "raise"
    source_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        preset(self.preset)
        for name, (rule, holds) in RULES.items():
            if not holds(getattr(self, name)):
                raise InputError(f"`{name}` must be {rule}. Received: {name}={getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the configuration as plain values, without the place of the run folder."""
        values = dataclasses.asdict(self) | {"source_options": dict(self.source_options)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if k != "run"}
