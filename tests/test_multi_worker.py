"""Two processes on loopback train as one does; when one of them dies, the same command goes on."""

import pathlib
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from tiny_model import tiny_models  # noqa: F401  registers its models for each test

from pipelines.checkpointing import Checkpoints
from pipelines.jobs.config import TrainConfig, load_data
from pipelines.jobs.launch import launch
from pipelines.jobs.train import train
from pipelines.jobs.trained import load_model
from pipelines.run_folder import RunFolder

PROGRAM = pathlib.Path(__file__).with_name("two_workers.py")
STEPS, EPOCHS = 3, 3


def two_workers(config, folder, *, dies_at=0):
    """Runs `medkeras launch` of a configuration; the second worker dies at a step, if any is given."""
    words = f"train --data phantom --model tiny_net --run {config.run} --epochs {EPOCHS} --image-size 16 --batch-size 8"
    words += " --source-option images=44 --source-option size=16 --model-option rate=0 --augment none"
    words += " --balance class-weights --optimizer sgd --clip-norm 0.5 --sync-batch-norm"
    words += f" --learning-rate 0.01 --save-steps 2 --cache {config.cache}"
    program = [sys.executable, str(PROGRAM), str(folder / "found.npz"), str(dies_at)]
    return launch(words.split(), workers=2, program=program, console=Console())


@pytest.mark.process
def test_two_workers_train_as_one_even_if_one_dies(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("pipelines.jobs.launch.GRACE_SECONDS", 60)
    config = TrainConfig(
        data="phantom", model="tiny_net", run=str(tmp_path / "two"), epochs=EPOCHS, image_size=16, batch_size=8,
        source_options={"images": 44, "size": 16}, model_options={"rate": 0}, augment="none", optimizer="sgd",
        balance="class-weights", clip_norm=0.5, sync_batch_norm=True, learning_rate=0.01, save_steps=2,
        cache=str(tmp_path / "cache"),
    )  # fmt: skip
    assert two_workers(config, tmp_path, dies_at=STEPS + 2) == 137
    said = capfd.readouterr()
    assert "Worker 1 was ended by SIGKILL" in said.out
    assert "error: Worker 1 is gone, so the training stopped" in said.err
    assert str(Checkpoints(RunFolder(config.run)).progress()) == "step 2 of epoch 2"

    assert two_workers(config, tmp_path) == 0
    said = capfd.readouterr().out
    assert "2 replicas of 2 workers, 4 images each, 8 in all per step" in said
    assert "Continuing after step 2 of epoch 2 of 3" in said

    two, one = RunFolder(config.run), train(TrainConfig(**(vars(config) | {"run": str(tmp_path / "one")})))
    assert two.read_json("environment.json")["devices"] == {"strategy": "multi-worker", "replicas": 2, "workers": 2}
    assert {path.name for path in two.path.iterdir()} == {path.name for path in one.path.iterdir()}
    pd.testing.assert_frame_equal(*(pd.read_csv(run / "history.csv") for run in (one, two)), rtol=1e-5)
    ends = [np.load(run / f"checkpoints/{EPOCHS:05d}/variables.npz") for run in (one, two)]
    for name in ends[0].files:
        np.testing.assert_allclose(ends[0][name], ends[1][name], atol=1e-5)

    # What `evaluate` and `predict` of both workers gave: every image counts once, and every one is answered.
    found, history = np.load(tmp_path / "found.npz"), pd.read_csv(one / "history.csv").iloc[-1]
    for name in ("loss", "accuracy", "auc"):
        assert found[name] == pytest.approx(history[f"val_{name}"], rel=1e-5)
    images, _ = load_data(config).arrays("test")
    last = load_model(two)
    last.set_weights([found[f"arr_{i}"] for i in range(len(last.get_weights()))])
    np.testing.assert_allclose(found["logits"], last.predict(images, verbose=0), atol=1e-4)
