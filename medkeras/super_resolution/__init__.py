"""Super resolution: images, or what a model looks at in them, enlarged by latent diffusion; training an upscaler."""

from medkeras.super_resolution.autoencoder.latents import standardize
from medkeras.super_resolution.autoencoder.vqvae import VQVAE
from medkeras.super_resolution.consistency import make_consistent
from medkeras.super_resolution.degrade import degrade
from medkeras.super_resolution.diffusion.ddim import DDIM
from medkeras.super_resolution.diffusion.unet import UNet
from medkeras.super_resolution.enhancement.attention_guided import enhance, importance_maps
from medkeras.super_resolution.enhancement.regions import RegionRule
from medkeras.super_resolution.enhancement.reintegration import reintegrate
from medkeras.super_resolution.interpolated import Interpolation
from medkeras.super_resolution.training.autoencoder import RestartCodes, VQVAETraining
from medkeras.super_resolution.training.denoiser import DiffusionTraining
from medkeras.super_resolution.upscaler import LDMUpscaler

__all__ = [
    "DDIM",
    "DiffusionTraining",
    "Interpolation",
    "LDMUpscaler",
    "RegionRule",
    "RestartCodes",
    "UNet",
    "VQVAE",
    "VQVAETraining",
    "degrade",
    "enhance",
    "importance_maps",
    "make_consistent",
    "reintegrate",
    "standardize",
]
