"""A training that is killed, at whatever moment, and started again ends as if nothing had happened."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
from tiny_model import tiny_models  # noqa: F401  registers its models for each test

from pipelines.checkpointing import Checkpoints, Progress
from pipelines.jobs.config import TrainConfig
from pipelines.jobs.train import train
from pipelines.run_folder import RunFolder

ROOT = pathlib.Path(__file__).parents[1]
EPOCHS = 12


def tiny(run, **changes):
    values = {
        "data": "phantom",
        "model": "tiny_net",
        "image_size": 16,
        "batch_size": 8,
        "source_options": {"images": 60, "size": 16},
        "epochs": EPOCHS,
    }
    return TrainConfig(run=str(run), **(values | changes))


def start(run):
    words = f"train --data phantom --model tiny_net --run {run} --epochs {EPOCHS}"
    words += " --image-size 16 --batch-size 8 --source-option images=60 --source-option size=16"
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "tiny_model.py", *words.split()],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def kill_after(process, run, epochs, delay):
    """Kills a training a while after it has begun and has finished some epochs."""
    checkpoints, deadline = Checkpoints(RunFolder(run)), time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        newest = checkpoints.newest()
        if (run / "config.yaml").exists() and (int(newest.name) if newest else 0) >= epochs:
            break
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training ended before it was killed"


def weights(path):
    return keras.models.load_model(path, compile=False).get_weights()


@pytest.mark.process
def test_sigkill_at_any_moment_changes_nothing(tmp_path):
    whole = train(tiny(tmp_path / "whole"))
    run = tmp_path / "killed"
    moments = random.Random(0)
    for epochs in (0, 1, 7):
        kill_after(start(run), run, epochs, moments.uniform(0, 0.3))
    last = start(run)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors.decode()

    assert (run / "history.csv").read_text() == (whole / "history.csv").read_text()
    for name in ("operating_point.json", "splits.csv", "config.yaml"):
        assert (run / name).read_text() == (whole / name).read_text()
    for mine, other in zip(weights(run / "model.keras"), weights(whole / "model.keras"), strict=True):
        np.testing.assert_array_equal(mine, other)
    ends = [np.load(folder / f"checkpoints/{EPOCHS:05d}/variables.npz") for folder in (run.resolve(), whole)]
    for name in ends[0].files:
        np.testing.assert_array_equal(ends[0][name], ends[1][name])
    assert not list(run.rglob(".*"))


def small_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return model


def step(model):
    model.fit(np.ones((8, 4)), np.ones((8, 2)), epochs=1, verbose=0)


def state(model):
    return [np.asarray(v) for v in [*model.variables, *model.optimizer.variables]]


def test_a_checkpoint_holds_weights_optimizer_and_random_seeds(tmp_path):
    model, checkpoints = small_model(), Checkpoints(RunFolder(tmp_path))
    step(model)
    checkpoints.save(model, Progress().after({"val_auc": 0.5}, monitor="auc"), save_best=model.save)
    other = small_model()
    checkpoints.restore(other)
    step(model), step(other)
    for mine, theirs in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert any("seed" in v.path for v in model.variables)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    model, checkpoints = small_model(), Checkpoints(RunFolder(tmp_path))
    step(model)
    checkpoints.save(model, Progress().after({"val_auc": 0.5}, monitor="auc"), save_best=model.save)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.compile("adam", "mse")
    with pytest.raises(ValueError, match="of the same model. Received: .*00001"):
        checkpoints.restore(other)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("renames", range(6))
def test_a_kill_between_any_two_writes_leaves_a_consistent_run(tmp_path, monkeypatch, renames):
    """One save makes up to four renames; whichever is the last, best model, history and state agree again."""
    model, checkpoints = small_model(), Checkpoints(RunFolder(tmp_path))
    first = Progress().after({"val_auc": 0.5}, monitor="auc")
    checkpoints.save(model, first, save_best=lambda path: path.write_bytes(b"first"))
    replace, left = os.replace, renames

    def dying_replace(source, target):
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying_replace)
    try:
        second = first.after({"val_auc": 0.6}, monitor="auc")
        checkpoints.save(model, second, save_best=lambda path: path.write_bytes(b"second"))
    except Killed:
        pass
    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / ".model-0123abcd.keras").write_bytes(b"half")
    (checkpoints.folder / ".00002-0123abcd").mkdir()
    checkpoints.remove_leftovers()
    checkpoints.publish()
    done = checkpoints.progress().epoch
    assert done in (1, 2)
    assert (tmp_path / "model.keras").read_bytes() == (b"first", b"second")[done - 1]
    assert len(pd.read_csv(tmp_path / "history.csv")) == done
    assert not list(tmp_path.rglob(".*"))


def test_the_last_two_checkpoints_are_kept_and_the_best_is_passed_on(tmp_path):
    model, checkpoints, progress = small_model(), Checkpoints(RunFolder(tmp_path)), Progress()
    for epoch, auc in enumerate((0.5, 0.9, 0.9, 0.7, 0.8), start=1):
        progress = progress.after({"val_auc": auc}, monitor="auc")
        checkpoints.save(model, progress, save_best=lambda path, e=epoch: path.write_text(f"epoch {e}"))
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["00004", "00005"]
    assert (tmp_path / "model.keras").read_text() == "epoch 2"
    assert checkpoints.progress() == progress


@pytest.mark.parametrize(
    ("monitor", "values", "best", "wait"),
    [
        ("auc", [0.5, 0.7, 0.7, 0.6], 2, 2),
        ("loss", [0.9, 0.4, 0.4, 0.3], 4, 0),
        ("auc", [np.nan, 0.2, np.nan], 2, 1),
    ],
)
def test_the_best_epoch_is_the_earliest_of_the_best(monitor, values, best, wait):
    progress = Progress()
    for value in values:
        progress = progress.after({f"val_{monitor}": value}, monitor=monitor)
    assert (progress.best_epoch, progress.wait) == (best, wait)


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(ValueError, match="Received: loss=nan in epoch 1"):
        Progress().after({"loss": np.nan, "val_auc": 0.5}, monitor="auc")


def test_a_measure_that_is_not_there_cannot_be_monitored():
    with pytest.raises(ValueError, match="Received: monitor='accuracy'"):
        Progress().after({"val_auc": 0.5}, monitor="accuracy")


def test_more_epochs_continue_a_complete_run_and_nothing_else_may_change(tmp_path):
    run = train(tiny(tmp_path / "run", epochs=1))
    stamp = (run / "model.keras").stat().st_mtime_ns
    train(tiny(tmp_path / "run", epochs=1))
    assert (run / "model.keras").stat().st_mtime_ns == stamp
    train(tiny(tmp_path / "run", epochs=2))
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [1, 2]
    for change in ({"epochs": 1}, {"epochs": 3, "seed": 1}, {"epochs": 2, "loss": "focal"}):
        changed = next(k for k in reversed(change) if k != "epochs" or len(change) == 1)
        with pytest.raises(ValueError, match=f"only epochs may grow. Received: {changed}="):
            train(tiny(tmp_path / "run", **change))
    (run / "splits.csv").write_text("id,patient,split,label\n")
    with pytest.raises(ValueError, match="must stay as in .*splits.csv"):
        train(tiny(tmp_path / "run", epochs=3))
