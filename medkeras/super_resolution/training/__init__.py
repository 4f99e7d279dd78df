"""Training of an upscaler: the autoencoder, then the denoiser."""
