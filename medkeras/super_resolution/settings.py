"""What a diffusers configuration says, in the terms of our classes."""

from collections.abc import Mapping
from typing import Any

from medkeras.errors import InputError

CLASSES = {"UNet": "UNet2DModel", "VQVAE": "VQModel", "DDIM": "DDIMScheduler"}
# Ours, by the official name.
NAMES = {
    "UNet": {
        "in_channels": "in_channels",
        "out_channels": "out_channels",
        "block_out_channels": "widths",
        "layers_per_block": "depth",
        "attention_head_dim": "head_channels",
        "norm_num_groups": "groups",
    },
    "VQVAE": {
        "in_channels": "channels",
        "latent_channels": "latent_channels",
        "block_out_channels": "widths",
        "layers_per_block": "depth",
        "num_vq_embeddings": "codebook_size",
        "norm_num_groups": "groups",
    },
    "DDIM": {
        "num_train_timesteps": "train_steps",
        "beta_start": "beta_start",
        "beta_end": "beta_end",
        "steps_offset": "offset",
    },
}
# What diffusers takes where a configuration is silent, and which differs from our defaults.
SILENT = {
    "UNet": {"in_channels": 3, "block_out_channels": [224, 448, 672, 896], "attention_head_dim": 8},
    "VQVAE": {"block_out_channels": [64], "layers_per_block": 1, "num_vq_embeddings": 256},
    "DDIM": {
        "beta_schedule": "linear",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "clip_sample": True,
        "steps_offset": 0,
    },
}
# Settings that change the answers and have one value here.
BUILT = {
    "UNet": {
        "act_fn": "silu",
        "norm_eps": 1e-5,
        "time_embedding_type": "positional",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "center_input_sample": False,
        "add_attention": True,
        "resnet_time_scale_shift": "default",
        "class_embed_type": None,
    },
    "VQVAE": {"act_fn": "silu", "norm_type": "group", "lookup_from_codebook": False, "mid_block_add_attention": True},
    "DDIM": {
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "thresholding": False,
        "rescale_betas_zero_snr": False,
        "trained_betas": None,
    },
}


def arguments(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns the arguments of our class that a diffusers configuration asks for.

    Args:
        config: Content of `config.json` or `scheduler_config.json`.
        kind: `"UNet"`, `"VQVAE"` or `"DDIM"`.

    Raises:
        ValueError: If a setting is not built here.

    Example:
        >>> arguments({"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}, "DDIM")
        {'beta_start': 0.0001, 'beta_end': 0.02, 'offset': 1}
    """
    given = SILENT[kind] | dict(config)
    for name, value in BUILT[kind].items():
        if given.get(name, value) != value:
            raise InputError(f"The setting {name} of a {kind} must be {value!r}. Received: {name}={given[name]!r}")
    for name in NAMES[kind]:
        if name in given and given[name] is None:
            raise InputError(f"The setting {name} of a {kind} must have a value. Received: {name}=None")
    ours = {name: given[official] for official, name in NAMES[kind].items() if official in given}
    if kind == "DDIM":
        return ours
    levels = _attention_levels(given, kind)
    if kind == "VQVAE":
        _check_vectors(given)
        return ours
    return ours | {"attention_levels": levels}


def configuration(arguments: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns the diffusers configuration of arguments of our class: what `arguments` turns back into them.

    Args:
        arguments: All arguments of our class; its `name` is left out.
        kind: `"UNet"`, `"VQVAE"` or `"DDIM"`.

    Example:
        >>> official = configuration({"train_steps": 10, "beta_start": 0.1, "beta_end": 0.2, "offset": 1}, "DDIM")
        >>> official["num_train_timesteps"], arguments(official, "DDIM")["train_steps"]
        (10, 10)
    """
    named = {official: arguments[name] for official, name in NAMES[kind].items()}
    common = {"_class_name": CLASSES[kind]} | BUILT[kind] | named
    if kind == "DDIM":
        return common
    levels = arguments.get("attention_levels", ())
    word = "Encoder" if kind == "VQVAE" else ""
    down = [f"{'Attn' * (i in levels)}Down{word}Block2D" for i in range(len(arguments["widths"]))]
    if kind == "VQVAE":
        common["out_channels"] = arguments["channels"]
    return common | {"down_block_types": down, "up_block_types": _mirrored(down)}


def sample_size(config: Mapping[str, Any]) -> int | None:
    """Returns the edge of what a denoiser was trained on, in pixels, if its diffusers configuration says it.

    Raises:
        ValueError: If it is not a positive whole number, or a list of two.

    Example:
        >>> sample_size({"sample_size": 64}), sample_size({"sample_size": [32, 48]}), sample_size({})
        (64, 32, None)
    """
    given = config.get("sample_size")
    edges = given if isinstance(given, list) else [given]
    if given is not None and not (edges and all(isinstance(edge, int) and edge > 0 for edge in edges)):
        raise InputError(
            f"sample_size of a UNet must be a positive whole number or two. Received: sample_size={given!r}"
        )
    return None if given is None else min(edges)


def _mirrored(down: list[str]) -> list[str]:
    """Returns the blocks of the way up that belong to those of the way down."""
    return [name.replace("Down", "Up").replace("Encoder", "Decoder") for name in reversed(down)]


def _attention_levels(config: Mapping[str, Any], kind: str) -> list[int]:
    """Returns the levels whose blocks have attention; the way up must mirror the way down."""
    down, up = (list(config.get(f"{way}_block_types", ())) for way in ("down", "up"))
    word = "Encoder" if kind == "VQVAE" else ""
    plain = {f"Down{word}Block2D": False} | ({} if word else {"AttnDownBlock2D": True})
    if any(name not in plain for name in down) or up != _mirrored(down):
        raise InputError(
            f"The blocks of a {kind} must be of {', '.join(plain)}, and the way up their mirror. "
            f"Received: down_block_types={down}, up_block_types={up}"
        )
    if len(down) != len(config["block_out_channels"]):
        raise InputError(f"A {kind} must have one width per block. Received: down_block_types={down}")
    return [i for i, name in enumerate(down) if plain[name]]


def _check_vectors(config: Mapping[str, Any]) -> None:
    """Refuses codebooks of other vectors than the latent's, and images that come out with other channels."""
    for name, like in (("vq_embed_dim", "latent_channels"), ("out_channels", "in_channels")):
        if config.get(name) not in (None, config.get(like)):
            raise InputError(f"{name} of a VQVAE must be equal to {like}. Received: {name}={config[name]!r}")
