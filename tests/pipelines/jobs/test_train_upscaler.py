"""Training of an upscaler as a job: crops, the folder it leaves, the epoch it keeps, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import typer
from typer.testing import CliRunner

import pipelines
from medkeras.super_resolution import LDMUpscaler, presets
from pipelines.cli import train_upscaler as cli_upscaler
from pipelines.enhancement.restoration import middle_crops, random_crops
from pipelines.enhancement.upscaler_config import UpscalerConfig
from pipelines.jobs import train_upscaler as job
from pipelines.jobs.train_upscaler import quality, train_upscaler

MINI = presets.Preset(
    "for tests",
    {"widths": (4,), "depth": 1, "attention_levels": (), "head_channels": 4, "groups": 2},
    {"widths": (4, 4, 4), "depth": 1, "codebook_size": 8, "groups": 2},
)
SOURCE = {"images": 20}
SMALL = {
    "data": "phantom",
    "preset": "mini",
    "image_size": 24,
    "crop": 16,
    "batch_size": 8,
    "vqvae_epochs": 1,
    "epochs": 2,
    "learning_rate": 0.02,
    "validation_images": 1,
    "steps": 2,
    "fractions": (0.4, 0.3, 0.3),
    "leakage": "off",
    "source_options": SOURCE,
}


def small(run, **changes):
    return UpscalerConfig(run=str(run), **(SMALL | changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training in a few steps, not compiled: programs would take longer to make than they save."""
    folder = tmp_path_factory.mktemp("upscaler")
    tf.config.run_functions_eagerly(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "mini", MINI)
        yield train_upscaler(small(folder / "run"))
    tf.config.run_functions_eagerly(False)


def test_the_folder_says_what_was_done(run):
    history = pd.read_csv(run / "history.csv")
    assert history["stage"].tolist() == ["vqvae", "denoiser", "denoiser"]
    assert history["epoch"].tolist() == [1, 1, 2]
    assert {"reconstruction", "val_reconstruction", "perplexity", "loss", "val_loss", "val_psnr"} <= set(history)
    assert run.read_config() == json.loads(json.dumps(small("elsewhere").to_dict()))
    assert set(pd.read_csv(run / "splits.csv")["split"]) == {"train", "val", "test"}
    assert "keras" in run.read_json("environment.json")["packages"]


def test_the_upscaler_of_the_best_epoch_is_kept_and_loads_as_it_was(run):
    upscaler = LDMUpscaler.from_pretrained(run / "upscaler")
    assert upscaler.vqvae.channels == 1  # the images are grey
    data = pipelines.load("phantom", image_size=24, fractions=SMALL["fractions"], leakage="off", **SOURCE)
    images = middle_crops(data.arrays("val")[0][:1], 16)
    found, written = quality(upscaler, images, steps=2, eta=0.0, seed=0), run.read_json("metrics.json")
    assert written["images"] == 1 and set(found) == set(written["psnr"])
    np.testing.assert_allclose(list(found.values()), list(written["psnr"].values()), atol=1e-3)
    values = pd.read_csv(run / "history.csv")["val_psnr"].dropna()
    np.testing.assert_allclose(written["psnr"]["upscaler"], values.max(), atol=1e-3)


def test_a_folder_that_holds_an_upscaler_is_left_alone(run):
    with pytest.raises(ValueError, match="new folder.*Received: run="):
        train_upscaler(small(run.path))


def test_crops_are_parts_of_their_images_and_follow_the_seed():
    images = np.random.default_rng(0).random((3, 9, 12, 1), np.float32)
    batches = tf.data.Dataset.from_tensors((images, np.zeros(3))).repeat(20)
    crops = np.stack(list(random_crops(batches, size=5, seed=1).as_numpy_iterator()))
    assert crops.shape == (20, 3, 5, 5, 1)
    windows = np.lib.stride_tricks.sliding_window_view(images[..., 0], (5, 5), axis=(1, 2))
    places = [np.argwhere((windows[i] == crops[step, i, ..., 0]).all(axis=(-2, -1))) for step, i in np.ndindex(20, 3)]
    assert all(len(found) == 1 for found in places)
    rows, columns = np.concatenate(places).T
    assert set(rows) == set(range(5)) and set(columns) == set(range(8))
    again = np.stack(list(random_crops(batches, size=5, seed=1).as_numpy_iterator()))
    np.testing.assert_array_equal(again, crops)
    other = np.stack(list(random_crops(batches, size=5, seed=2).as_numpy_iterator()))
    assert (other != crops).any()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"crop": 17}, "crop"),
        ({"crop": 8}, "crop"),
        ({"crop": 28}, "crop"),
        ({"crop": 0}, "crop"),
        ({"preset": "ldm_9x"}, "preset"),
        ({"epochs": 0}, "epochs"),
        ({"ema": 1.0}, "ema"),
        ({"eta": 1.5}, "eta"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"source_options": {"images": 1}}, ""),
        ({"data": "phantom:3d", "image_size": 16}, "images|phantom"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, monkeypatch, changes, text):
    monkeypatch.setitem(presets.PRESETS, "mini", MINI)
    with pytest.raises(ValueError, match=f"(?s){text}.*Received: |Received: .*{text}"):
        train_upscaler(small(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_the_command_makes_the_configuration(monkeypatch):
    seen = []
    monkeypatch.setattr(job, "train_upscaler", lambda config, console: seen.append(config))
    app = typer.Typer()
    app.command()(cli_upscaler.train_upscaler)
    words = "--data phantom --run runs/up --preset ldm_4x_tiny --image-size 48 --crop 32 --fractions 0.5,0.25,0.25"
    result = CliRunner().invoke(app, [*words.split(), "--source-option", "images=9", "--seed", "3"])
    assert result.exit_code == 0, result.output
    expected = {"preset": "ldm_4x_tiny", "image_size": 48, "crop": 32, "fractions": (0.5, 0.25, 0.25), "seed": 3}
    assert seen == [UpscalerConfig(data="phantom", run="runs/up", source_options={"images": 9}, **expected)]
