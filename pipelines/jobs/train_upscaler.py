"""Training of an upscaler on one's own images: the autoencoder, then the denoiser, then what they are worth."""

from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console

import pipelines
from medkeras.errors import InputError
from medkeras.evaluation import psnr
from medkeras.super_resolution import DiffusionTraining, LDMUpscaler, RestartCodes, VQVAETraining, degrade, standardize
from medkeras.super_resolution.interpolated import Interpolation
from medkeras.super_resolution.tiling import Tiling
from medkeras.super_resolution.upscaler import OVERLAPS
from pipelines.enhancement.restoration import KeepBestRestored, middle_crops, random_crops
from pipelines.enhancement.upscaler_config import UpscalerConfig
from pipelines.io.run_folder import RunFolder, atomic_path
from pipelines.load import Splits
from pipelines.runtime.environment import environment
from pipelines.runtime.memory import keep_freed_memory
from pipelines.runtime.progress import bar
from pipelines.training.progress import EpochLines

PLACES_PER_VECTOR = 8  # of the images from which the codebook is restarted
CLIP_NORM = 1.0


def train_upscaler(config: UpscalerConfig, *, console: Console | None = None) -> RunFolder:
    """Trains an upscaler and returns the folder of its run; the upscaler itself is in `upscaler/` there.

    Images are split by patient; crops of the training images train the autoencoder and then, with the autoencoder
    frozen, the denoiser. After each epoch of the denoiser, crops of validation images are made smaller and restored;
    the epoch with the best mean PSNR is kept. The same configuration gives the same weights.

    Writes `config.yaml`, `environment.json` and `splits.csv`; then `history.csv`, of which `stage` says which of the
    two was trained; at the end `upscaler/`, in the layout that `LDMUpscaler.from_pretrained` reads, and
    `metrics.json`: the PSNR on validation of the upscaler, of bicubic interpolation and of the autoencoder alone,
    which the upscaler cannot be expected to pass.

    An interrupted training begins anew.

    Args:
        config: What to train, on what and where.
        console: Where to print; nothing is printed by default.

    Raises:
        FileNotFoundError: If the source does not exist.
        ValueError: If the folder holds an upscaler already, or images, crop and upscaler do not fit.
        OSError: If a file cannot be read or the folder cannot be written.

    Example:
        >>> train_upscaler(UpscalerConfig(data="no-such.csv", run="runs/up"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: A source is phantom[:name], ... No such path: no-such.csv
    """
    console, run = console or Console(quiet=True), RunFolder(config.run)
    if (run / "upscaler").exists():
        raise InputError(f"An upscaler is trained into a new folder. Received: run={config.run}, which holds one")
    keep_freed_memory()
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    with console.status(f"Loading {config.data}"):
        data = _load(config)
        upscaler = LDMUpscaler.from_preset(config.preset, channels=data.info.image_shape[-1])
        multiple, least = (upscaler.factor * edge for edge in (upscaler.unet.factor, upscaler.smallest))
        check_crop(config.crop, data.info.image_shape, multiple=multiple, least=least)
        upscaler.trained_edge = config.crop // upscaler.factor
    run.write_config(config.to_dict())
    run.write_json("environment.json", environment())
    run.write_text("splits.csv", data.info.manifest.to_csv(index=False))
    validation = middle_crops(_some(data, config.validation_images), config.crop)
    rows = [{"stage": "vqvae", **row} for row in _train_vqvae(upscaler, data, config, validation, console)]
    _write_history(run, rows)
    rows += [{"stage": "denoiser", **row} for row in _train_denoiser(upscaler, data, config, validation, console)]
    _write_history(run, rows)
    metrics = quality(upscaler, validation, **_sampling(config))
    run.write_json("metrics.json", {"images": len(validation), "psnr": metrics})
    with atomic_path(run / "upscaler") as folder:
        upscaler.save(folder)
    values = ", ".join(f"{name} {value:.2f} dB" for name, value in metrics.items())
    console.print(f"{run / 'upscaler'}: {values} on validation", highlight=False, soft_wrap=True)
    return run


def check_crop(crop: int, image_shape: tuple[int, ...], *, multiple: int, least: int) -> None:
    """Checks that crops fit into the images and the upscaler.

    Args:
        crop: Pixels per side.
        image_shape: `(height, width, channels)` of the images.
        multiple: What the upscaler needs edges to be multiples of.
        least: Shortest edge that it takes.

    Raises:
        ValueError: If images are volumes or smaller than the crop, or the upscaler cannot take the crop.

    Example:
        >>> check_crop(60, (64, 64, 3), multiple=8, least=32)
        Traceback (most recent call last):
        ...
        medkeras.InputError: `crop` must be a multiple of 8, at least 32 and at most 64, ... Received: crop=60
    """
    if len(image_shape) != 3:
        raise InputError(f"An upscaler takes images. Received: volumes with shape {image_shape}")
    if crop % multiple or not least <= crop <= min(image_shape[:2]):
        raise InputError(
            f"`crop` must be a multiple of {multiple}, at least {least} and at most {min(image_shape[:2])}, the "
            f"shorter edge of the images. Received: crop={crop}"
        )


def quality(upscaler: LDMUpscaler, images: np.ndarray, **settings: Any) -> dict[str, float]:
    """Returns the mean PSNR of images that are made smaller and restored, by each way to do it.

    Args:
        upscaler: The upscaler.
        images: `(n, height, width, channels)`, in [0, 1].
        **settings: Of `LDMUpscaler.upscale`.
    """
    small = np.asarray(degrade(images, upscaler.factor))
    restored = {
        "upscaler": upscaler.upscale(small, **settings),
        "bicubic": Interpolation("bicubic", factor=upscaler.factor).upscale(small),
        "autoencoder": reconstructed(upscaler, images),
    }
    return {name: float(psnr(found, images).mean()) for name, found in restored.items()}


def reconstructed(upscaler: LDMUpscaler, images: np.ndarray) -> np.ndarray:
    """Returns what the autoencoder alone makes of images with its own number of channels, in [0, 1], tile by tile."""
    edge, factor = upscaler.factor * upscaler.tile, upscaler.factor
    tiling = Tiling(*images.shape[1:3], tile=edge, overlap=edge // OVERLAPS, multiple=factor)
    canvases = [tiling.canvas(1, images.shape[-1]) for _ in images]
    for image, canvas in zip(images, canvases, strict=True):
        padded = tiling.pad(image)
        for place in tiling.places:
            tile = tiling.cut(padded, place)[None]
            decoded = np.asarray(upscaler.vqvae(2 * tile - 1, training=False), "float32")[0]
            tiling.add(canvas, np.clip(decoded / 2 + 0.5, 0, 1), place, 1)
    return np.stack([tiling.crop(canvas, 1) for canvas in canvases])


def _load(config: UpscalerConfig) -> Splits:
    return pipelines.load(
        config.data,
        image_size=config.image_size,
        channels=config.channels,
        preprocess=config.preprocess,
        batch_size=config.batch_size,
        seed=config.seed,
        fractions=config.fractions,
        split_file=config.split_file,
        leakage=config.leakage,
        augment="none",
        on_error=config.on_error,
        **config.source_options,
    )


def _sampling(config: UpscalerConfig) -> dict[str, Any]:
    return {"steps": config.steps, "eta": config.eta, "seed": config.seed, "batch_size": config.batch_size}


def _some(data: Splits, count: int) -> np.ndarray:
    """Returns validation images from all over the split, which is often in the order of its classes."""
    images, _ = data.arrays("val")
    return images[np.unique(np.linspace(0, len(images) - 1, count).astype(int))]


def _crops(data: Splits, config: UpscalerConfig, *, stage: int) -> tf.data.Dataset:
    return random_crops(data.train_stream(), size=config.crop, seed=2 * config.seed + stage)


def _train_vqvae(
    upscaler: LDMUpscaler, data: Splits, config: UpscalerConfig, validation: np.ndarray, console: Console
) -> list[dict[str, Any]]:
    """Trains the autoencoder and brings its latents to variance 1; returns the history."""
    training, crops = VQVAETraining(upscaler.vqvae, reconstruction=config.reconstruction), _crops(data, config, stage=0)
    places = (config.crop // upscaler.factor) ** 2
    wanted = -(-PLACES_PER_VECTOR * upscaler.vqvae.codebook_size // places)
    some = np.concatenate(list(crops.take(-(-wanted // config.batch_size)).as_numpy_iterator()))
    restart = RestartCodes(some, seed=config.seed)
    history = _fit(training, crops, data, config, config.vqvae_epochs, validation, [restart], console, ema=0)
    standardize(upscaler.vqvae, some)
    return history


def _train_denoiser(
    upscaler: LDMUpscaler, data: Splits, config: UpscalerConfig, validation: np.ndarray, console: Console
) -> list[dict[str, Any]]:
    """Trains the denoiser and gives it the weights of its best epoch; returns the history."""
    training, crops = DiffusionTraining(upscaler, seed=config.seed), _crops(data, config, stage=1)
    keep = KeepBestRestored(upscaler, validation, **_sampling(config))
    history = _fit(training, crops, data, config, config.epochs, validation, [keep], console, ema=config.ema)
    keep.take_best()
    return history


def _fit(
    training: keras.Model,
    crops: tf.data.Dataset,
    data: Splits,
    config: UpscalerConfig,
    epochs: int,
    validation: np.ndarray,
    callbacks: list[keras.callbacks.Callback],
    console: Console,
    *,
    ema: float,
) -> list[dict[str, Any]]:
    """Fits one of the two trainings and returns a row of its history for each epoch."""
    falling = keras.optimizers.schedules.CosineDecay(config.learning_rate, epochs * data.steps_per_epoch)
    mean = {"use_ema": True, "ema_momentum": ema} if ema else {}
    training.compile(keras.optimizers.Adam(falling, global_clipnorm=CLIP_NORM, **mean))
    with bar(console) as moving:
        lines = EpochLines(moving, epochs=epochs, steps=data.steps_per_epoch)
        history = training.fit(
            crops,
            steps_per_epoch=data.steps_per_epoch,
            epochs=epochs,
            validation_data=validation,
            validation_batch_size=config.batch_size,
            callbacks=[*callbacks, lines],
            shuffle=False,
            verbose=0,
        ).history
    return [{"epoch": i + 1} | {name: values[i] for name, values in history.items()} for i in range(epochs)]


def _write_history(run: RunFolder, rows: list[dict[str, Any]]) -> None:
    run.write_text("history.csv", pd.DataFrame(rows).to_csv(index=False))
