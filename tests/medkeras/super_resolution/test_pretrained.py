"""Pretrained upscalers: folders in the diffusers layout, in each form, and what is refused."""

import json
import pathlib
import sys

import numpy as np
import pytest

import ldm_files
from medkeras.super_resolution import DDIM, LDMUpscaler, pretrained

OFFICIAL = "CompVis/ldm-super-resolution-4x-openimages"
LEGACY = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


CONFIGURATIONS = {"unet": ldm_files.SMALL_UNET, "vqvae": ldm_files.SMALL_VQVAE}


@pytest.fixture(scope="module")
def upscaler():
    return ldm_files.small_upscaler()


@pytest.fixture(scope="module")
def arrays(upscaler):
    """Other weights than the upscaler's own."""
    return {part: ldm_files.seeded_arrays(getattr(upscaler, part), seed=2) for part in CONFIGURATIONS}


@pytest.fixture
def folder(arrays, tmp_path):
    for part, config in CONFIGURATIONS.items():
        ldm_files.write(tmp_path, part, config, arrays[part])
    ldm_files.write_scheduler(tmp_path)
    return tmp_path


def legacy(arrays, *, convolutions):
    """Names of 2022; the oldest autoencoders have 1x1 convolutions in their attention."""
    renamed = {}
    for name, array in arrays.items():
        for new, old in LEGACY.items():
            if f".{new}." in name:
                name = name.replace(f".{new}.", f".{old}.")
                array = array[:, :, None, None] if convolutions and array.ndim == 2 else array
        renamed[name] = array
    return renamed


def rewrite(folder, part, change):
    path = folder / part / ("config.json" if part != "scheduler" else "scheduler_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def assert_filled(upscaler, arrays):
    for part, given in arrays.items():
        for target in getattr(upscaler, part).official_tensors():
            np.testing.assert_array_equal(target.variable, target.transform(given[target.names[0]]))


def test_a_folder_gives_an_upscaler(folder, arrays):
    upscaler = LDMUpscaler.from_pretrained(str(folder))
    assert_filled(upscaler, arrays)
    assert upscaler.unet.attention_levels == (1,) and upscaler.factor == 2
    assert upscaler.schedule == DDIM()


def test_the_earlier_attention_layout_fills_the_same_weights(folder, arrays, upscaler):
    for part in ("unet", "vqvae"):
        older = legacy(arrays[part], convolutions=part == "vqvae")
        assert set(older) != set(arrays[part])
        ldm_files.write(folder, part, CONFIGURATIONS[part], older)
        pretrained.fill(getattr(upscaler, part), folder / part / "diffusion_pytorch_model.safetensors")
    assert_filled(upscaler, arrays)


def test_missing_and_extra_tensors_are_named_with_their_file(folder, arrays, upscaler):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    fewer = {name: array for name, array in arrays["unet"].items() if name != "conv_in.bias"}
    more = arrays["unet"] | {"conv_in.scale": np.ones(3, "float32")}
    for given, text in ((fewer, "lacks 1 tensors, the first being conv_in.bias"), (more, "first being conv_in.scale")):
        ldm_files.write(folder, "unet", CONFIGURATIONS["unet"], given)
        with pytest.raises(ValueError, match=f"{text}.*{file.name}"):
            pretrained.fill(upscaler.unet, file)


def test_torch_files_of_tensors_are_read_and_others_refused(folder, arrays):
    torch = pytest.importorskip("torch", reason="the extra [torch] is not installed")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    path = folder / "unet" / "diffusion_pytorch_model.bin"
    torch.save({name: torch.from_numpy(array) for name, array in arrays["unet"].items()}, path)
    assert_filled(LDMUpscaler.from_pretrained(folder), arrays)
    torch.save({"conv_in.weight": pathlib.Path("/")}, path)
    with pytest.raises(ValueError, match="of tensors alone"):
        LDMUpscaler.from_pretrained(folder)


def test_a_torch_file_without_torch_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(ModuleNotFoundError, match=r"medkeras\[torch\]"):
        LDMUpscaler.from_pretrained(folder)


@pytest.mark.parametrize(
    ("part", "change", "text"),
    [
        ("unet", {"act_fn": "gelu"}, "act_fn"),
        ("unet", {"attention_head_dim": None}, "attention_head_dim"),
        ("unet", {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}, "blocks"),
        ("unet", {"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "blocks"),
        ("unet", {"block_out_channels": [8, 16, 16]}, "one width per block"),
        ("unet", {"block_out_channels": [8, 32]}, "does not fit"),
        ("vqvae", {"vq_embed_dim": 8}, "vq_embed_dim"),
        ("vqvae", {"out_channels": 1}, "out_channels"),
        ("scheduler", {"beta_schedule": "linear"}, "beta_schedule"),
        ("scheduler", {"prediction_type": "v_prediction"}, "prediction_type"),
    ],
)
def test_settings_that_are_not_built_are_refused(folder, part, change, text):
    rewrite(folder, part, change)
    with pytest.raises(ValueError, match=text):
        LDMUpscaler.from_pretrained(folder)


@pytest.mark.parametrize(
    "file", ["unet/config.json", "vqvae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"]
)
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file.split(".")[0]):
        LDMUpscaler.from_pretrained(folder)


def test_a_broken_configuration_is_named(folder):
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="readable JSON.*config.json"):
        LDMUpscaler.from_pretrained(folder)


def refuse(*_, **__):
    raise OSError("no network")


def test_without_network_or_package_one_is_told_what_to_download_and_where_to_put_it(monkeypatch):
    wanted = rf"https://huggingface.co/{OFFICIAL}.*unet/.*vqvae/.*scheduler/"
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=f"ModuleNotFoundError.*{wanted}"):
        LDMUpscaler.from_pretrained(OFFICIAL)
    monkeypatch.setitem(sys.modules, "huggingface_hub", type(sys)("huggingface_hub"))
    sys.modules["huggingface_hub"].snapshot_download = refuse
    with pytest.raises(FileNotFoundError, match=f"OSError.*{wanted}"):
        LDMUpscaler.from_pretrained(OFFICIAL)


def test_a_repository_is_read_from_where_it_was_downloaded_to(folder, monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "huggingface_hub", type(sys)("huggingface_hub"))
    sys.modules["huggingface_hub"].snapshot_download = lambda repo, **_: asked.append(repo) or str(folder)
    assert pretrained.find(OFFICIAL) == folder
    assert asked == [OFFICIAL]
