"""Seeded super-resolution checkpoints as folders in the diffusers layout, of any size."""

import json

import numpy as np
from safetensors.numpy import save_file

import seeded_weights
from medkeras import checkpoints, super_resolution

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_end": 0.0155,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "trained_betas": None,
}
UNET = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": 32,
    "block_out_channels": [160, 320, 320, 640],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D"] * 3 + ["AttnDownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 6,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 64,
    "time_embedding_type": "positional",
    "up_block_types": ["AttnUpBlock2D"] + ["UpBlock2D"] * 3,
}
VQVAE = {
    "_class_name": "VQModel",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "in_channels": 3,
    "latent_channels": 3,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "num_vq_embeddings": 8192,
    "out_channels": 3,
    "sample_size": 256,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "vq_embed_dim": None,
}


SMALL_UNET = UNET | {
    "attention_head_dim": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
SMALL_VQVAE = VQVAE | {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "num_vq_embeddings": 64,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}


def small_upscaler():
    """An upscaler by a factor of 2 with seeded weights, in the configurations above."""
    unet = super_resolution.UNet(widths=(8, 16), depth=1, attention_levels=(1,), head_channels=8, groups=4)
    autoencoder = super_resolution.VQVAE(widths=(8, 16), depth=1, codebook_size=64, groups=4)
    for model in (unet, autoencoder):
        checkpoints.load(model, seeded_arrays(model))
    return super_resolution.LDMUpscaler(unet, autoencoder)


def seeded_arrays(model, seed=1):
    """A seeded checkpoint in the official names and layouts."""
    arrays = {}
    for target in model.official_tensors():
        (name,), shape = target.names, tuple(target.variable.shape)
        if len(shape) == 4:
            shape = (shape[3], shape[2], *shape[:2])
        elif len(shape) == 2 and not name.startswith("quantize"):
            shape = shape[::-1]
        arrays[name] = seeded_weights.tensor(name, shape, seed)
    return arrays


def write(folder, part, config, arrays):
    """Writes one part of a pretrained folder, as a safetensors file."""
    (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / part / "config.json").write_text(json.dumps(config))
    save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        folder / part / "diffusion_pytorch_model.safetensors",
    )


def write_scheduler(folder, **changes):
    """Writes the scheduler's part of a pretrained folder."""
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER | changes))
