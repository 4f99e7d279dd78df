"""Training of the denoiser: large images alone, from which the small ones, the times and the noise are made."""

from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.losses.replicas import replica_share
from medkeras.super_resolution.autoencoder.latents import show
from medkeras.super_resolution.degrade import degrade
from medkeras.super_resolution.training.autoencoder import check_edges
from medkeras.super_resolution.upscaler import LDMUpscaler

EVALUATION_SEEDS = (0, 1)  # of the times and the noise of a batch


class DiffusionTraining(keras.Model):
    """Trains the denoiser of an upscaler on large images alone, by plain `fit`.

    Each image is encoded, without being quantised, and mixed with noise as at a random time of the diffusion; beside
    it stands the image itself made smaller by `degrade`. The denoiser shall tell the noise: the loss is the mean
    squared difference. Training draws times and noise anew from the seed; evaluation gives every batch the same ones,
    so that its epochs can be compared.

    The autoencoder must be trained before, and is frozen: it is not trainable any more. Latents should have a
    variance of about 1, see `standardize`. What is trained is `upscaler`: save that. A running mean of the weights,
    which samples better, is the optimizer's: `keras.optimizers.Adam(use_ema=True, ema_momentum=0.999)`.

    Args:
        upscaler: The upscaler whose denoiser is trained.
        seed: Of times and noise.

    Input shape:
        Images `(batch, height, width, channels)` in [0, 1], without labels; edges multiples of the factors of
        autoencoder and denoiser together. Grey images are shown to a model of colours as equal channels.

    Raises:
        ValueError: In training, if images do not fit the upscaler.

    Reference:
        Ho et al., Denoising Diffusion Probabilistic Models, arXiv 2006.11239, equation 14; in latent space by Rombach
        et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022.

    Example:
        >>> training = DiffusionTraining(LDMUpscaler.from_preset("ldm_4x_tiny"), seed=0)
        >>> training.compile("adam")
        >>> {name: tuple(x.shape) for name, x in training(ops.ones((2, 16, 16, 1)), training=True).items()}
        {'noise': (2, 4, 4, 3), 'predicted': (2, 4, 4, 3)}
    """

    def __init__(self, upscaler: LDMUpscaler, *, seed: int | None = None) -> None:
        super().__init__(name="diffusion_training", dtype=upscaler.unet.dtype_policy, autocast=False)
        upscaler.vqvae.trainable = False
        self.upscaler, self.unet, self.vqvae = upscaler, upscaler.unet, upscaler.vqvae
        self.draw = keras.random.SeedGenerator(seed)
        signal = upscaler.schedule.signal
        self.shares = np.sqrt(np.stack([signal, 1 - signal], axis=-1)).astype("float32")
        self.built = True

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        """Returns the noise, and what the denoiser takes for it."""
        latent, small = self.pairs(images)
        first, second = (self.draw, self.draw) if training else EVALUATION_SEEDS
        times = keras.random.randint((ops.shape(latent)[0],), 0, len(self.shares), seed=first)
        noise = keras.random.normal(ops.shape(latent), dtype="float32", seed=second)
        return {"noise": noise, "predicted": self.predicted(latent, small, times, noise, training=training)}

    def pairs(self, images: Any) -> tuple[Any, Any]:
        """Returns the latents of images, and the images made smaller, in [-1, 1]; both of one height and width."""
        check_edges(images, self.vqvae.factor * self.unet.factor)
        latent = self.vqvae.encoder(show(images, self.vqvae.channels), training=False)
        small = show(degrade(images, self.vqvae.factor), self.vqvae.channels)
        return ops.cast(ops.stop_gradient(latent), "float32"), small

    def predicted(self, latent: Any, small: Any, times: Any, noise: Any, *, training: bool = False) -> Any:
        """Returns the noise that the denoiser sees in latents that are mixed with noise.

        Args:
            latent: `(batch, height, width, latent_channels)`.
            small: `(batch, height, width, channels)`, in [-1, 1].
            times: How far each is mixed, int `(batch,)`, from 0.
            noise: Standard normal, of the latents' shape.
            training: Whether in training.
        """
        times = ops.convert_to_tensor(times)
        shares = ops.reshape(ops.take(self.shares, times, axis=0), (-1, 2, 1, 1, 1))
        mixed = shares[:, 0] * latent + shares[:, 1] * noise
        return ops.cast(self.unet([ops.concatenate([mixed, small], axis=-1), times], training=training), "float32")

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the mean squared difference of the noise, in training and evaluation."""
        return ops.mean(ops.square(y_pred["predicted"] - y_pred["noise"])) * replica_share()
