"""Super resolution: images, or what a model looks at in them, enlarged by latent diffusion; training an upscaler."""

from medkeras.super_resolution.attention_guided import enhance, importance_maps
from medkeras.super_resolution.consistency import make_consistent
from medkeras.super_resolution.ddim import DDIM
from medkeras.super_resolution.degrade import degrade
from medkeras.super_resolution.diffusion_training import DiffusionTraining
from medkeras.super_resolution.interpolated import Interpolation
from medkeras.super_resolution.latents import standardize
from medkeras.super_resolution.regions import RegionRule
from medkeras.super_resolution.reintegration import reintegrate
from medkeras.super_resolution.unet import UNet
from medkeras.super_resolution.upscaler import LDMUpscaler
from medkeras.super_resolution.vqvae import VQVAE
from medkeras.super_resolution.vqvae_training import RestartCodes, VQVAETraining

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
