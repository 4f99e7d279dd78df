"""Two processes on loopback train as one does; when they are ended, or one dies, the same command goes on."""

import os
import signal
import sys
import time
import types

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from interrupted import PATIENCE, Trainings, is_running, names, start_together
from paths import SUPPORT
from pipelines.distribution.multi_worker import WorkerLostError
from pipelines.inference.trained_model import load_model
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.launch import launch
from pipelines.jobs.train import _ending_together, train
from pipelines.runtime.termination import Terminated
from pipelines.training.checkpointing import Checkpoints
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from tiny_model import tiny_models  # noqa: F401  registers its models for each test

PROGRAM = SUPPORT / "two_workers.py"
EPOCHS = 3


def words(config):
    line = f"train --data phantom --model tiny_net --run {config.run} --epochs {EPOCHS} --image-size 16 --batch-size 8"
    line += " --source-option images=44 --source-option size=16 --model-option rate=0 --augment none"
    line += " --balance class-weights --optimizer sgd --clip-norm 0.5 --sync-batch-norm"
    return [*line.split(), *f"--learning-rate 0.01 --save-steps 2 --cache {config.cache}".split()]


def end_after_a_state(workers, config, by, ended):
    """Starts the workers, ends some of them by a signal once they have saved a state; returns all exit codes."""
    folder, processes = RunFolder(config.run) / "checkpoints", start_together(workers, words(config))
    before, deadline = names(folder), time.monotonic() + PATIENCE
    while not names(folder) - before and all(map(is_running, processes)) and time.monotonic() < deadline:
        time.sleep(0.001)
    for i in ended:
        os.kill(processes[i], by)
    return [worker.wait() for worker in workers]


@pytest.mark.parametrize(
    ("is_asked", "state", "ends"), [(True, 3, Terminated), (False, 3, WorkerLostError), (True, None, WorkerLostError)]
)
def test_who_is_asked_to_end_ends_well_where_another_is_gone_and_a_state_is_saved(is_asked, state, ends):
    checkpoints = types.SimpleNamespace(newest=lambda: state, progress=lambda: "epoch 3")
    saver = types.SimpleNamespace(is_asked_to_end=is_asked, checkpoints=checkpoints)
    with pytest.raises(ends, match="after epoch 3 is saved" if ends is Terminated else "gone"), _ending_together(saver):
        raise WorkerLostError("Worker 1 is gone")


@pytest.mark.process
def test_two_workers_train_as_one_even_if_they_are_asked_to_end_and_if_one_dies(tmp_path, capfd):
    config = TrainConfig(
        data="phantom", model="tiny_net", run=str(tmp_path / "two"), epochs=EPOCHS, image_size=16, batch_size=8,
        source_options={"images": 44, "size": 16}, model_options={"rate": 0}, augment="none", optimizer="sgd",
        balance="class-weights", clip_norm=0.5, sync_batch_norm=True, learning_rate=0.01, save_steps=2,
        cache=str(tmp_path / "cache"),
    )  # fmt: skip
    workers = [Trainings(tmp_path / f"errors{i}.txt") for i in range(2)]
    assert end_after_a_state(workers, config, signal.SIGTERM, ended=(0, 1)) == [143, 143]
    asked = Checkpoints(RunFolder(config.run)).progress()
    assert f"terminated: the state after {asked} is saved" in workers[0].errors.read_text()

    assert end_after_a_state(workers, config, signal.SIGKILL, ended=(1,)) == [2, -signal.SIGKILL]
    assert "is gone, so the training stopped" in workers[0].errors.read_text()
    for worker in workers:
        worker.close()
    stands = Checkpoints(RunFolder(config.run)).progress()
    assert (stands.epoch, stands.step) > (asked.epoch, asked.step)

    program = [sys.executable, str(PROGRAM), str(tmp_path / "found.npz")]
    assert launch(words(config), workers=2, program=program, console=Console()) == 0
    said = capfd.readouterr().out
    assert "2 replicas of 2 workers, 4 images each, 8 in all per step" in said
    assert f"Continuing after {stands} of {EPOCHS}" in said

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
    assert found["moved_by_xla"] < 1e-5  # Rounding: it is another program, of the same step.
    images, _ = load_data(config).arrays("test")
    last = load_model(two)
    last.set_weights([found[f"arr_{i}"] for i in range(len(last.get_weights()))])
    np.testing.assert_allclose(found["logits"], last.predict(images, verbose=0), atol=1e-4)
