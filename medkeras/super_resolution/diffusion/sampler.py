"""The sampling loop: from noise to a latent image, as one compiled program."""

from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.super_resolution.diffusion.ddim import DDIM
from medkeras.super_resolution.diffusion.unet import UNet


class Sampler(keras.Model):
    """Takes noise back to a latent image, step by step, guided by an image of the same size.

    All steps are one loop inside one program. It is compiled once for each size of the images, and serves any number
    of steps where no fresh noise is wanted.

    Args:
        unet: The denoiser.
        schedule: The schedule of the diffusion.

    Example:
        >>> unet = UNet(widths=(8, 16), depth=1, attention_levels=(), head_channels=8, groups=4)
        >>> images, noise = np.zeros((2, 8, 8, 3), "float32"), np.ones((2, 1, 8, 8, 3), "float32")
        >>> Sampler(unet, DDIM()).sample(images, noise, steps=3).shape
        (2, 8, 8, 3)
    """

    def __init__(self, unet: UNet, schedule: DDIM) -> None:
        super().__init__(name="sampler")
        self.unet, self.schedule = unet, schedule

    def sample(self, images: np.ndarray, noise: np.ndarray, *, steps: int, eta: float = 0.0) -> np.ndarray:
        """Returns the latent images, float32 `(batch, height, width, latent_channels)`.

        Args:
            images: `(batch, height, width, channels)`, in [-1, 1].
            noise: `(batch, 1 + steps, height, width, latent_channels)`: where to start, then the fresh noise of each
                step; or without the latter where `eta` is 0.
            steps: Number of steps.
            eta: Share of fresh noise, in [0, 1].

        Raises:
            ValueError: If an argument is out of range.
        """
        inputs = {
            "images": images,
            "latent": noise[:, 0],
            "steps": np.int32(steps),
            "times": self._table(self.schedule.timesteps(steps)),
            "factors": self._table(self.schedule.factors(steps, eta=eta)),
        }
        if eta:
            inputs["noise"] = noise[:, 1:]
        return np.asarray(self.predict_on_batch(inputs), "float32")

    def call(self, inputs: dict[str, Any]) -> Any:
        """Loops over the times."""
        images, times, factors = inputs["images"], inputs["times"], inputs["factors"]
        noise = inputs.get("noise")

        def step(i: Any, latent: Any) -> Any:
            time = ops.broadcast_to(times[i], (ops.shape(images)[0],))
            predicted = ops.cast(self.unet([ops.concatenate([latent, images], axis=-1), time]), latent.dtype)
            fresh = None if noise is None else ops.take(noise, i, axis=1)
            return self.schedule.step(latent, predicted, factors[i], fresh)

        return ops.fori_loop(0, inputs["steps"], step, inputs["latent"])

    def _table(self, rows: np.ndarray) -> np.ndarray:
        """Fills a table up to the longest schedule, so that the program's inputs always have the same shape."""
        table = np.zeros((self.schedule.train_steps, *rows.shape[1:]), "float32")
        table[: len(rows)] = rows
        return table
