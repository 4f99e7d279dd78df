"""The command `train-upscaler`."""

import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

from pipelines.cli import options
from pipelines.cli.options import TRAINING, option
from pipelines.cli.starting import starting

VALIDATION = "Validation"


@options.takes_source_options
def train_upscaler(
    data: options.Source,
    run: Annotated[pathlib.Path, option(TRAINING, "Folder of the run; the upscaler comes into RUN/upscaler.")],
    preset: Annotated[
        str, option(TRAINING, "Size: ldm_4x, ldm_4x_small, ldm_4x_mini or ldm_4x_tiny.")
    ] = "ldm_4x_small",
    crop: Annotated[int, option(TRAINING, "Pixels per side of what is shown of an image at a time.")] = 64,
    batch_size: Annotated[int, option(TRAINING, "Crops per step.")] = 16,
    vqvae_epochs: Annotated[int, option(TRAINING, "Passes of the autoencoder over the training images.")] = 40,
    epochs: Annotated[int, option(TRAINING, "Passes of the denoiser.")] = 80,
    reconstruction: Annotated[str, option(TRAINING, "Loss of the autoencoder: l1 or l2.")] = "l1",
    learning_rate: Annotated[float, option(TRAINING, "The first one; it falls to 0.")] = 1e-3,
    ema: Annotated[float, option(TRAINING, "Momentum of the running mean of the denoiser's weights; 0: none.")] = 0.99,
    validation_images: Annotated[int, option(VALIDATION, "Images that are restored after each epoch.")] = 32,
    steps: Annotated[int, option(VALIDATION, "Steps of the diffusion, there.")] = 10,
    eta: Annotated[float, option(VALIDATION, "Share of fresh noise in each step, from 0 to 1.")] = 0.0,
    seed: options.Seed = 0,
    image_size: options.ImageSize = None,
    channels: options.Channels = None,
    preprocess: options.Preprocess = None,
    fractions: options.Fractions = "0.7,0.1,0.2",
    split_file: options.SplitFile = None,
    leakage: options.Leakage = "stop",
    on_error: options.OnError = "raise",
    source_options: Mapping[str, Any] = options.NONE_GIVEN,
) -> None:
    """Train an upscaler on one's own images, for `medkeras enhance --upscaler RUN/upscaler`."""
    with starting() as console:
        from pipelines.enhancement.upscaler_config import UpscalerConfig
        from pipelines.jobs.train_upscaler import train_upscaler as run_training

        config = UpscalerConfig(
            data=data,
            run=str(run),
            preset=preset,
            image_size=options.image_size(image_size),
            channels=channels,
            preprocess=tuple(preprocess or ()),
            crop=crop,
            batch_size=batch_size,
            vqvae_epochs=vqvae_epochs,
            epochs=epochs,
            reconstruction=reconstruction,
            learning_rate=learning_rate,
            ema=ema,
            validation_images=validation_images,
            steps=steps,
            eta=eta,
            fractions=options.fractions(fractions),
            split_file=None if split_file is None else str(split_file),
            leakage=leakage,
            on_error=on_error,
            source_options=dict(source_options),
            seed=seed,
        )
        run_training(config, console=console)
