"""The diffusion: the denoiser, the way from noise to an image, and its training."""
