"""Super resolution: small images enlarged by latent diffusion, and the training of one's own upscaler."""

from medkeras.super_resolution.ddim import DDIM
from medkeras.super_resolution.degrade import degrade
from medkeras.super_resolution.diffusion_training import DiffusionTraining
from medkeras.super_resolution.latents import standardize
from medkeras.super_resolution.unet import UNet
from medkeras.super_resolution.upscaler import LDMUpscaler
from medkeras.super_resolution.vqvae import VQVAE
from medkeras.super_resolution.vqvae_training import RestartCodes, VQVAETraining

__all__ = [
    "DDIM",
    "DiffusionTraining",
    "LDMUpscaler",
    "RestartCodes",
    "UNet",
    "VQVAE",
    "VQVAETraining",
    "degrade",
    "standardize",
]
