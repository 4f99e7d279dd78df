"""What the training of an upscaler is made of: one frozen record, written to `config.yaml`."""

from typing import Literal

from pipelines.io.settings import option, settings
from pipelines.training.config import DATA, TRAINING, ImageOptions

VALIDATION = "Validation"


@settings
class UpscalerConfig(ImageOptions):
    """The whole configuration of the training of an upscaler; the labels of its data are not looked at.

    Raises:
        ValueError: If a name is unknown or a value is out of its range.

    Example:
        >>> UpscalerConfig(data="phantom", run="runs/up", preset="ldm_4x_tiny").to_dict()["crop"]
        64
    """

    run: str = option(help="Folder of the run; the upscaler comes into RUN/upscaler.", panel=TRAINING, metavar="FOLDER")
    preset: str = option("ldm_4x_small", "Size: ldm_4x, ldm_4x_small, ldm_4x_mini or ldm_4x_tiny.", panel=TRAINING)
    channels: int | None = option(
        None, "1 for grey, 3 for colour, as the upscaler then is; by default the images' own.", panel=DATA
    )
    crop: int = option(64, "Pixels per side of what is shown of an image at a time.", panel=TRAINING, ge=1)
    batch_size: int = option(16, "Crops per step.", panel=TRAINING, ge=1)
    vqvae_epochs: int = option(
        40, "Passes of the autoencoder over the training images, one crop of each in each.", panel=TRAINING, ge=1
    )
    epochs: int = option(80, "Passes of the denoiser.", panel=TRAINING, ge=1)
    reconstruction: Literal["l1", "l2"] = option("l1", "Loss of the autoencoder: l1 or l2.", panel=TRAINING)
    learning_rate: float = option(
        1e-3, "The first one; it falls to 0 as a cosine in each of the two trainings.", panel=TRAINING, gt=0
    )
    ema: float = option(
        0.99,
        "Momentum of the running mean of the denoiser's weights, which is what is kept; 0: none.",
        panel=TRAINING,
        ge=0,
        lt=1,
    )
    validation_images: int = option(
        32, "Crops of validation images that are restored after each epoch of the denoiser.", panel=VALIDATION, ge=1
    )
    steps: int = option(10, "Steps of the diffusion, there.", panel=VALIDATION, ge=1)
    eta: float = option(0.0, "Share of fresh noise in each step, from 0 to 1.", panel=VALIDATION, ge=0, le=1)
    seed: int = option(0, "Seed of splits, weights, order, crops, times and noise.", panel=TRAINING, ge=0)

    def __post_init__(self) -> None:
        from medkeras.super_resolution.presets import preset

        preset(self.preset)
