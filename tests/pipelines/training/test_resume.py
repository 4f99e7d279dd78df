"""A training that is killed, at whatever moment, and started again ends as if nothing had happened."""

import os
import shutil
import signal

import keras
import numpy as np
import pandas as pd
import pytest

from interrupted import Moment, Trainings, end_at
from pipelines.io.checksums import what_is_wrong
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.train import train
from pipelines.runtime.termination import Terminated
from pipelines.training.checkpointing import Checkpoints
from pipelines.training.config import TrainConfig
from pipelines.training.save_state import SaveState
from tiny_model import tiny_models  # noqa: F401  registers its models for each test

EPOCHS = 40  # More than a quick machine trains in the seconds in which a start is killed.


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


def words(run):
    line = f"train --data phantom --model tiny_net --run {run} --epochs {EPOCHS} --save-steps 2"
    return [*line.split(), *"--image-size 16 --batch-size 8 --source-option images=60 --source-option size=16".split()]


@pytest.fixture
def trainings(tmp_path):
    started = Trainings(tmp_path / "errors.txt")
    yield started
    started.close()


def weights(path):
    return keras.models.load_model(path, compile=False).get_weights()


def assert_same_end(run, whole, epochs=EPOCHS):
    assert (run / "history.csv").read_text() == (whole / "history.csv").read_text()
    for name in ("operating_point.json", "calibration.json", "splits.csv"):
        assert (run / name).read_text() == (whole / name).read_text()
    for mine, other in zip(weights(run / "model.keras"), weights(whole / "model.keras"), strict=True):
        np.testing.assert_array_equal(mine, other)
    ends = [np.load(folder / f"checkpoints/{epochs:05d}/variables.npz") for folder in (run, whole)]
    for name in ends[0].files:
        np.testing.assert_array_equal(ends[0][name], ends[1][name])


def assert_nothing_is_corrupt(run):
    """What is there is whole: states, best model and history."""
    for checkpoint in Checkpoints(RunFolder(run))._complete():
        assert what_is_wrong(checkpoint) is None
    if (run / "model.keras").exists():
        weights(run / "model.keras")
        assert len(pd.read_csv(run / "history.csv"))


@pytest.mark.process
def test_killed_at_random_moments_and_asked_to_end_a_training_ends_as_an_uninterrupted_one(tmp_path, trainings):
    """In the steps of an epoch, while a state is written, while it starts; and by SIGTERM, which saves first."""
    seed = int(os.environ.get("MEDKERAS_KILLS_SEED", int.from_bytes(os.urandom(4), "big")))
    print(f"MEDKERAS_KILLS_SEED={seed}")
    run = tmp_path / "killed"
    for kind in ("step", "save", "start"):
        assert end_at(Moment(kind, seed), trainings, words(run), run) == -signal.SIGKILL
        assert_nothing_is_corrupt(run)
    whole = train(tiny(tmp_path / "whole"))
    assert end_at(Moment("step", seed + 1), trainings, words(run), run, by=signal.SIGTERM) == 143
    (line,) = trainings.errors.read_text().strip().splitlines()
    stands = Checkpoints(RunFolder(run)).progress()
    assert line == f"terminated: the state after {stands} is saved; the same command goes on from there"
    trainings.start(words(run))
    assert trainings.wait() == 0, trainings.errors.read_text()
    assert_same_end(RunFolder(run), whole)
    assert not list(run.rglob(".*"))


def test_more_epochs_continue_a_complete_run_also_in_their_middle_and_nothing_else_may_change(tmp_path, monkeypatch):
    """The measures of an epoch are means over all its steps, also over those before an end in its middle."""
    run = train(tiny(tmp_path / "run", epochs=1))
    stamp = (run / "model.keras").stat().st_mtime_ns
    train(tiny(tmp_path / "run", epochs=1))
    assert (run / "model.keras").stat().st_mtime_ns == stamp
    ended = RunFolder(shutil.copytree(run.path, tmp_path / "ended"))
    train(tiny(tmp_path / "run", epochs=2))
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [1, 2]

    step_end = SaveState.on_train_batch_end
    with monkeypatch.context() as patch:

        def ask_in_step_3(saver, batch, logs=None):
            if batch == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            step_end(saver, batch, logs)

        patch.setattr(SaveState, "on_train_batch_end", ask_in_step_3)
        with pytest.raises(Terminated, match="the state after step 3 of epoch 2 is saved"):
            train(tiny(ended.path, epochs=2))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert Checkpoints(ended).newest().name == "00001-0000003"
    train(tiny(ended.path, epochs=2, save_steps=4))
    assert_same_end(ended, run, epochs=2)

    for change in ({"epochs": 1}, {"epochs": 3, "seed": 1}, {"epochs": 2, "loss": "focal"}):
        changed = next(k for k in reversed(change) if k != "epochs" or len(change) == 1)
        with pytest.raises(ValueError, match=f"only epochs may grow. Received: {changed}="):
            train(tiny(tmp_path / "run", **change))
    (run / "splits.csv").write_text("id,patient,split,label\n")
    with pytest.raises(ValueError, match="must stay as in .*splits.csv"):
        train(tiny(tmp_path / "run", epochs=3))
