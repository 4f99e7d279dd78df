"""The autoencoder: between images and the latent images in which the diffusion works."""
