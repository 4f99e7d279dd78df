"""DDIM: the way from noise to an image in few steps."""

import dataclasses
from typing import Any

import numpy as np

from medkeras.errors import InputError


@dataclasses.dataclass(frozen=True)
class DDIM:
    """The schedule of a diffusion and its deterministic or random steps back.

    The noise variances grow with the square of a line from `sqrt(beta_start)` to `sqrt(beta_end)`. The times of a
    sampling are evenly spaced; with up to half as many steps as times, no noise is left at the end. The defaults are
    the scheduler of CompVis/ldm-super-resolution-4x-openimages.

    Args:
        train_steps: Times of the diffusion, at least 1.
        beta_start: First variance, in (0, 1).
        beta_end: Last variance, in (0, 1), not below the first.
        offset: Added to every time of a sampling, at least 0.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Song et al., Denoising Diffusion Implicit Models, arXiv 2010.02502.

    Example:
        >>> DDIM().timesteps(5).tolist()
        [801, 601, 401, 201, 1]
    """

    train_steps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0155
    offset: int = 1

    def __post_init__(self) -> None:
        if self.train_steps < 1 or self.offset < 0 or not 0 < self.beta_start <= self.beta_end < 1:
            raise InputError(
                "`train_steps` must be at least 1, `offset` at least 0, and 0 < beta_start <= beta_end < 1. "
                f"Received: {self}"
            )

    @property
    def signal(self) -> np.ndarray:
        """The share of the image's variance that is left at each time, float64 `(train_steps,)`, falling."""
        roots = np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.train_steps)
        return np.cumprod(1 - roots**2)

    def timesteps(self, steps: int) -> np.ndarray:
        """Returns the times of a sampling, int64 `(steps,)`, falling.

        Raises:
            ValueError: If `steps` is out of range.
        """
        last = self.train_steps - self.offset
        if not 1 <= steps <= max(last, 1):
            raise InputError(f"`steps` must be from 1 to {max(last, 1)}. Received: steps={steps}")
        return np.arange(steps)[::-1] * (self.train_steps // steps) + self.offset

    def factors(self, steps: int, *, eta: float = 0.0) -> np.ndarray:
        """Returns what each step multiplies latent, predicted noise and fresh noise by, float64 `(steps, 3)`.

        A step takes the image that latent and prediction imply, and adds to it the noise of the time before, of
        which a part is fresh: all of it linear.

        Args:
            steps: Number of steps.
            eta: 0 for the deterministic way, 1 for as much fresh noise as the diffusion has.

        Raises:
            ValueError: If an argument is out of range.

        Example:
            >>> DDIM().factors(2).round(3).tolist()
            [[2.586, -2.331, 0.0], [1.002, -0.055, 0.0]]
        """
        if not 0 <= eta <= 1:
            raise InputError(f"`eta` must be in [0, 1]. Received: eta={eta}")
        times = self.timesteps(steps)
        before = times - self.train_steps // steps
        a = self.signal[times]
        b = np.where(before < 0, 1.0, self.signal[np.maximum(before, 0)])
        fresh = eta * np.sqrt((1 - b) / (1 - a) * (1 - a / b))
        kept = np.sqrt(np.maximum(1 - b - fresh**2, 0))
        return np.stack([np.sqrt(b / a), kept - np.sqrt(b * (1 - a) / a), fresh], axis=1)

    def step(self, latent: Any, predicted: Any, factors: Any, noise: Any = None) -> Any:
        """Returns the latent one step on, in whatever arrays it is given.

        Args:
            latent: The latent image.
            predicted: The noise that the denoiser sees in it.
            factors: One row of `factors`.
            noise: Standard normal, of the latent's shape; None where no fresh noise is wanted.
        """
        moved = factors[0] * latent + factors[1] * predicted
        return moved if noise is None else moved + factors[2] * noise
