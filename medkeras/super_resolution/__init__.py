"""Super resolution: small images enlarged by latent diffusion."""

from medkeras.super_resolution.ddim import DDIM
from medkeras.super_resolution.unet import UNet
from medkeras.super_resolution.upscaler import LDMUpscaler
from medkeras.super_resolution.vqvae import VQVAE

__all__ = ["DDIM", "LDMUpscaler", "UNet", "VQVAE"]
