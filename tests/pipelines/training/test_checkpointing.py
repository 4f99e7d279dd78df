"""The saved states of a training: whole or not there, noticed when altered, and the last two kept."""

import os
import resource
import shutil

import keras
import numpy as np
import pandas as pd
import pytest

from medkeras.errors import InputError
from pipelines.io.checksums import what_is_wrong
from pipelines.io.run_folder import RunFolder
from pipelines.training.checkpointing import Checkpoints, Progress


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


def test_a_kill_while_an_old_state_is_removed_leaves_no_half_of_it(tmp_path, monkeypatch):
    model, checkpoints, progress = saved(tmp_path)

    def half(path, *_, **__):
        (path / "variables.npz").unlink()
        raise Killed

    monkeypatch.setattr(shutil, "rmtree", half)
    with pytest.raises(Killed):
        checkpoints.save(model, progress.at_step(3), save_best=None)
    monkeypatch.undo()
    assert [what_is_wrong(path) for path in checkpoints.folder.glob("[0-9]*")] == [None, None]
    checkpoints.remove_leftovers()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00002", "00002-0000003"]


def saved(folder, aucs=(0.5, 0.6)):
    """A run folder with the states after some epochs, of a model whose best is a text."""
    model, checkpoints, progress = small_model(), Checkpoints(RunFolder(folder)), Progress()
    for epoch, auc in enumerate(aucs, start=1):
        progress = progress.after({"val_auc": auc}, monitor="auc")
        checkpoints.save(model, progress, save_best=lambda path, e=epoch: path.write_text(f"epoch {e}"))
    return model, checkpoints, progress


def tear(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["variables.npz", "best.keras", "state.json", "checksums.json"])
@pytest.mark.parametrize("damage", [tear, alter, os.remove])
def test_a_damaged_file_is_noticed_and_the_state_before_is_used(tmp_path, name, damage):
    _, checkpoints, _ = saved(tmp_path)
    damage(checkpoints.folder / "00002" / name)
    (wrong,) = checkpoints.set_aside_broken()
    assert str(checkpoints.folder / "00002") in wrong and (name in wrong or name == "checksums.json")
    assert (checkpoints.progress().epoch, checkpoints.newest().name) == (1, "00001")
    checkpoints.publish()
    assert (tmp_path / "model.keras").read_text() == "epoch 1" and len(pd.read_csv(tmp_path / "history.csv")) == 1
    assert checkpoints.set_aside_broken() == []


def test_a_file_too_many_is_noticed(tmp_path):
    _, checkpoints, _ = saved(tmp_path)
    (checkpoints.folder / "00002" / "metrics.npz").write_bytes(b"")
    (wrong,) = checkpoints.set_aside_broken()
    assert "metrics.npz is not as it was written" in wrong


def test_a_measure_that_is_no_number_stays_none_when_it_is_read_again(tmp_path):
    model, checkpoints = small_model(), Checkpoints(RunFolder(tmp_path))
    progress = Progress().after({"val_auc": np.nan, "loss": 0.5}, monitor="auc")
    checkpoints.save(model, progress, save_best=lambda path: path.write_text("best"))
    (row,) = checkpoints.progress().history
    assert np.isnan(row["val_auc"]) and row["loss"] == 0.5 and checkpoints.progress().best_value is None


def test_a_training_whose_states_are_all_damaged_does_not_begin_anew(tmp_path):
    _, checkpoints, _ = saved(tmp_path)
    for epoch in ("00001", "00002"):
        alter(checkpoints.folder / epoch / "variables.npz")
    for _ in range(2):
        with pytest.raises(ValueError, match="goes on from a whole checkpoint.*00001.*00002|.*00002.*00001"):
            checkpoints.set_aside_broken()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"history": [{"epoch": "x"}]}, r"`history\[0\].epoch` must be a number or null. Received: 'x'"),
        ({"best_epoch": None}, "`best_epoch` must be a whole number. Received: None"),
        ({"step": 0.5}, "`step` must be a whole number. Received: 0.5"),
    ],
)
def test_a_state_of_another_form_is_named(tmp_path, change, said):
    _, _, progress = saved(tmp_path)
    run = RunFolder(tmp_path)
    newest = Checkpoints(run).newest()
    RunFolder(newest).write_json("state.json", progress.to_dict() | change)
    with pytest.raises(InputError, match=f"^Cannot read {newest / 'state.json'}: {said}"):
        Checkpoints(run).progress()


@pytest.mark.parametrize("content", ["3", '["step"]', '{"history": 3}'])
def test_a_state_that_is_none_is_set_aside(tmp_path, content):
    saved(tmp_path)
    run = RunFolder(tmp_path)
    newest = Checkpoints(run).newest()
    (newest / "state.json").write_text(content)
    assert Checkpoints(run).set_aside_broken() == [f"{newest}: state.json is not as it was written"]
    assert Checkpoints(run).progress().epoch == 1


def test_a_state_of_an_earlier_version_has_no_checksums(tmp_path):
    _, checkpoints, progress = saved(tmp_path)
    newest = checkpoints.newest()
    os.remove(newest / "checksums.json")
    RunFolder(newest).write_json("state.json", {k: v for k, v in progress.to_dict().items() if k != "step"})
    assert checkpoints.set_aside_broken() == [] and checkpoints.progress() == progress


def test_steps_of_an_epoch_are_saved_with_its_metrics_after_the_epochs_before(tmp_path):
    model, checkpoints, progress = saved(tmp_path)
    step(model)
    checkpoints.save(model, progress.at_step(40), save_best=None)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00002", "00002-0000040"]
    assert str(checkpoints.progress()) == "step 40 of epoch 3"
    assert (checkpoints.newest() / "best.keras").read_text() == "epoch 2"
    kept = [np.copy(np.asarray(v)) for v in (*state(model), *model.metrics_variables)]
    step(model)
    model.reset_metrics()
    checkpoints.restore(model), checkpoints.restore_metrics(model)
    for mine, theirs in zip([*state(model), *model.metrics_variables], kept, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert kept[-1] > 0
    checkpoints.save(model, progress.after({"val_auc": 0.1}, monitor="auc"), save_best=None)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00002-0000040", "00003"]


@pytest.fixture
def files_of_at_most():
    """Lets this process write files up to so many bytes, as a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_leaves_the_state_before(tmp_path, files_of_at_most):
    model, checkpoints, progress = saved(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    files_of_at_most(400)
    with pytest.raises(
        OSError, match="after step 7 of epoch 3 could not be saved, that of epoch 2 stays: .+checkpoints"
    ):
        checkpoints.save(model, progress.at_step(7), save_best=None)
    files_of_at_most(resource.RLIM_INFINITY)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not list(tmp_path.rglob(".*"))


def test_a_best_model_that_no_longer_fits_on_the_disk_leaves_the_state_before(tmp_path, files_of_at_most):
    model, checkpoints, progress = saved(tmp_path)
    wide = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100)])
    files_of_at_most(20_000)
    with pytest.raises(OSError, match="after epoch 3 could not be saved, that of epoch 2 stays"):
        checkpoints.save(model, progress.after({"val_auc": 0.9}, monitor="auc"), save_best=wide.save)
    files_of_at_most(resource.RLIM_INFINITY)
    assert checkpoints.newest().name == "00002" and not list(tmp_path.rglob(".*"))
