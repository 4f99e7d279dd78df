"""Super resolution by latent diffusion: the whole way from a small image to a large one."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.super_resolution import presets, pretrained
from medkeras.super_resolution.autoencoder.vqvae import VQVAE
from medkeras.super_resolution.consistency import make_consistent
from medkeras.super_resolution.diffusion.ddim import DDIM
from medkeras.super_resolution.diffusion.noise import ImageNoise
from medkeras.super_resolution.diffusion.sampler import Sampler
from medkeras.super_resolution.diffusion.unet import UNet
from medkeras.super_resolution.tiling import Tiling

SMALLEST = 4  # places of the innermost level along an edge
TILE = 128  # pixels, where nothing says what an upscaler was trained on
OVERLAPS = 4  # of a tile's edge, the share that neighbours have in common


class LDMUpscaler:
    """Enlarges images by latent diffusion, 4x in the official configuration.

    What is added is likely, not seen: it follows the images that the model was trained on, and other noise gives
    other detail. An enlarged image is no evidence beyond the original.

    Args:
        unet: The denoiser; it sees the latent and the image side by side.
        vqvae: The autoencoder; its factor is the enlargement.
        schedule: The schedule of the diffusion.
        trained_edge: Edge of the small images that the weights were trained on, in pixels; `None` if it is not known.

    Attributes:
        unet, vqvae, schedule, trained_edge: As given.
        sampler: The sampling loop.
        factor: The enlargement.
        smallest: Shortest edge, in pixels, that is accepted.

    Raises:
        ValueError: If the channels of `unet` and `vqvae` do not fit.

    Reference:
        Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022.

    Example:
        >>> upscaler = LDMUpscaler.from_preset("ldm_4x_tiny")
        >>> upscaler.upscale(np.ones((1, 16, 24, 1), "float32"), steps=2).shape
        (1, 64, 96, 1)
    """

    def __init__(
        self, unet: UNet, vqvae: VQVAE, *, schedule: DDIM | None = None, trained_edge: int | None = None
    ) -> None:
        wanted = (vqvae.latent_channels + vqvae.channels, vqvae.latent_channels)
        if (unet.in_channels, unet.out_channels) != wanted:
            raise InputError(
                f"`unet` must take {wanted[0]} and give {wanted[1]} channels, as `vqvae` asks. "
                f"Received: in_channels={unet.in_channels}, out_channels={unet.out_channels}"
            )
        self.unet, self.vqvae, self.schedule = unet, vqvae, schedule or DDIM()
        self.trained_edge = trained_edge
        self.sampler = Sampler(unet, self.schedule)

    @classmethod
    def from_pretrained(cls, path_or_repo: str | os.PathLike) -> "LDMUpscaler":
        """Returns an upscaler with the configuration and the weights of a folder in the diffusers layout.

        Args:
            path_or_repo: A folder with `unet/`, `vqvae/` and `scheduler/`, or the name of a repository on Hugging
                Face, such as `"CompVis/ldm-super-resolution-4x-openimages"`, which is downloaded once if the package
                huggingface_hub is there. Weights are safetensors files, or torch files (`.bin`) of tensors alone,
                which need the extra `[torch]`.

        Raises:
            FileNotFoundError: If a file is missing, or there is no such folder and nothing can be downloaded; the
                message says what to put where.
            ModuleNotFoundError: If a torch file is given and torch is not installed.
            ValueError: If a file is damaged, holds anything but tensors, lacks tensors or has others, or the
                configuration has a setting that is not built here.
        """
        parts = pretrained.look(pretrained.find(path_or_repo))
        unet, vqvae = (
            pretrained.fill(kind(**parts.arguments[name]), parts.weights[name])
            for name, kind in (("UNet", UNet), ("VQVAE", VQVAE))
        )
        return cls(unet, vqvae, schedule=DDIM(**parts.arguments["DDIM"]), trained_edge=parts.sample_size)

    @classmethod
    def from_preset(cls, name: str, *, channels: int = 3) -> "LDMUpscaler":
        """Returns an upscaler of a named size with random weights.

        Args:
            name: Name of the preset.
            channels: Channels of its images: 1 for grey images alone, 3 for both, as the official one.

        Raises:
            ValueError: If there is no such preset or `channels` is below 1.
        """
        if channels < 1:
            raise InputError(f"`channels` must be at least 1. Received: channels={channels}")
        preset = presets.preset(name)
        vqvae = VQVAE(channels=channels, **preset.vqvae)
        return cls(UNet(in_channels=vqvae.latent_channels + channels, **preset.unet), vqvae)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes configuration and weights to a folder in the diffusers layout, which `from_pretrained` reads.

        Args:
            folder: Made where it is missing; an upscaler in it is replaced.

        Raises:
            OSError: If the folder cannot be written.
        """
        models = {"UNet": self.unet, "VQVAE": self.vqvae}
        pretrained.write(pathlib.Path(folder), models, self.schedule, sample_size=self.trained_edge)

    @property
    def factor(self) -> int:
        """The enlargement."""
        return self.vqvae.factor

    @property
    def tile(self) -> int:
        """Edge of the tiles that images are enlarged in: that of what it was trained on, else 128 pixels.

        Group norms read their means from the whole tile: in one of another size, brightness shifts.
        """
        multiple = self.unet.factor
        return max(self.smallest, (self.trained_edge or TILE) // multiple * multiple)

    @property
    def smallest(self) -> int:
        """Shortest edge, in pixels, that is accepted."""
        return SMALLEST * self.unet.factor

    def upscale(
        self,
        images: Any,
        *,
        steps: int = 100,
        eta: float = 0.0,
        seed: int = 0,
        noise: Any = None,
        batch_size: int = 4,
        tile: int | None = None,
        overlap: int | None = None,
        consistent: bool = False,
    ) -> np.ndarray:
        """Returns the enlarged images, float32 `(n, factor * height, factor * width, channels)`, in [0, 1].

        An image's result depends on the image, the seed and the settings, not on the others or the batch. Images
        larger than a tile are enlarged in tiles that share their noise where they overlap, and joined there with
        weights.

        Args:
            images: `(n, height, width, channels)`, float in [0, 1]; a grey image is shown to a model of colours as
                three equal channels, and the three results are averaged.
            steps: Steps of the sampling; 100 is official, 25 is quick.
            eta: 0 for a deterministic way from the first noise, 1 for as much fresh noise as the diffusion has.
            seed: Of the noise, at least 0.
            noise: The first noise, standard normal `(n, height, width, latent_channels)`, instead of the seeded one.
            batch_size: Tiles that are sampled at a time.
            tile: Longest edge of a tile in pixels of `images`, a multiple of the denoiser's factor; bounds the memory.
                `self.tile` by default.
            overlap: Pixels of `images` that neighbouring tiles share at least; a quarter of `tile` by default.
            consistent: Whether what the image shows is kept and only what it cannot hold is added, see
                `make_consistent`.

        Raises:
            ValueError: If an argument is out of range, or an image has an edge below `smallest`.
        """
        images, tile = self._check(images), self.tile if tile is None else tile
        overlap = max(1, tile // OVERLAPS) if overlap is None else overlap
        tiling = Tiling(*images.shape[1:3], tile=tile, overlap=overlap, multiple=self.unet.factor)
        if min(tiling.shape) < self.smallest:
            raise InputError(f"`tile` must be at least {self.smallest}. Received: tile={tile}")
        if batch_size < 1 or seed < 0:
            raise InputError(f"`batch_size` must be positive, `seed` not negative. Received: {batch_size=}, {seed=}")
        self.schedule.factors(steps, eta=eta)  # refuses what is out of range before anything is computed
        source = ImageNoise(
            images,
            tiling,
            channels=self.vqvae.latent_channels,
            seed=seed,
            steps=steps if eta else 0,
            first=self._check_noise(noise, images),
        )
        shown = np.broadcast_to(2 * images - 1, (*images.shape[:3], self.vqvae.channels))
        large = self._enlarge(shown, source, batch_size, steps=steps, eta=eta)
        if images.shape[-1] != large.shape[-1]:
            large = large.mean(axis=-1, keepdims=True)
        if consistent:
            large = make_consistent(large, images)
        return np.clip(large, 0, 1)  # the weights of tiles add up to one but for rounding

    def _enlarge(self, images: np.ndarray, noise: ImageNoise, batch_size: int, *, steps: int, eta: float) -> np.ndarray:
        """Returns images in [0, 1] from images in [-1, 1], tile by tile."""
        tiling = noise.tiling
        canvases = [tiling.canvas(self.factor, self.vqvae.channels) for _ in images]
        jobs = [(i, place) for i in range(len(images)) for place in tiling.places]
        for batch, repeats in _even_batches(jobs, batch_size):
            tiles = np.stack([tiling.cut(tiling.pad(images[i]), place) for i, place in batch])
            draws = np.stack([noise.tile(i, place) for i, place in batch])
            tiles, draws = (_repeat_last(rows, repeats) for rows in (tiles, draws))
            latents = self.sampler.sample(tiles, draws, steps=steps, eta=eta)
            for (i, place), latent in zip(batch, latents, strict=False):
                tiling.add(canvases[i], self._decode(latent), place, self.factor)
        return np.stack([tiling.crop(canvas, self.factor) for canvas in canvases])

    def _decode(self, latent: np.ndarray) -> np.ndarray:
        """Returns the image of one latent, in [0, 1]; one at a time, for this takes the most memory."""
        image = np.asarray(self.vqvae.decoder.predict_on_batch(latent[None]), "float32")[0]
        return np.clip(image / 2 + 0.5, 0, 1)

    def _check(self, images: Any) -> np.ndarray:
        images = np.asarray(images)
        known = sorted({1, self.vqvae.channels})
        if images.ndim != 4 or images.shape[-1] not in known or not len(images):
            raise InputError(f"`images` must be (n, height, width, {known}). Received: shape={images.shape}")
        if min(images.shape[1:3]) < self.smallest:
            raise InputError(
                f"An image's edges must be at least {self.smallest} pixels; pad it or take a larger region. "
                f"Received: {images.shape[1]} x {images.shape[2]}"
            )
        if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
            raise InputError(
                f"`images` must be float in [0, 1]. Received: {images.dtype} from {images.min()} to {images.max()}"
            )
        return images.astype("float32")

    def _check_noise(self, noise: Any, images: np.ndarray) -> np.ndarray | None:
        if noise is None:
            return None
        noise, wanted = np.asarray(noise, "float32"), (*images.shape[:3], self.vqvae.latent_channels)
        if noise.shape != wanted or not np.isfinite(noise).all():
            raise InputError(f"`noise` must be finite numbers of shape {wanted}. Received: shape={noise.shape}")
        return noise


def _even_batches(jobs: list[Any], batch_size: int) -> Iterator[tuple[list[Any], int]]:
    """Cuts jobs into batches of about one size, each with the number that it lacks: one program serves all."""
    count = -(-len(jobs) // batch_size)
    size = -(-len(jobs) // count)
    for start in range(0, len(jobs), size):
        batch = jobs[start : start + size]
        yield batch, size - len(batch)


def _repeat_last(rows: np.ndarray, times: int) -> np.ndarray:
    return np.concatenate([rows, *[rows[-1:]] * times])
