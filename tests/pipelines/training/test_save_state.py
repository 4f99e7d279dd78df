"""When a state is saved, and when a training ends: step by step, without a training."""

import types

import pytest

from pipelines.runtime.termination import Terminated
from pipelines.training.checkpointing import Progress
from pipelines.training.save_state import SaveState


class Checkpoints:
    """Tells where what was saved stands."""

    def __init__(self):
        self.saved, self.metrics_restored = [], 0

    def save(self, model, progress, *, save_best):
        self.saved.append(str(progress))

    def restore_metrics(self, model):
        self.metrics_restored += 1


class Read:
    """A variable that counts how often it is read."""

    times = 0

    def __array__(self, *_, **__):
        self.times += 1
        raise ValueError("the value is of no interest")


def saver(progress=None, *, steps=5, **options):
    callback = SaveState(Checkpoints(), progress or Progress(), monitor="auc", steps=steps, **options)
    callback.set_model(types.SimpleNamespace(stop_training=False, metrics_variables=[]))
    callback.on_epoch_begin(callback.progress.epoch)
    return callback


def take(callback, count):
    for batch in range(count):
        callback.on_train_batch_end(batch)


def test_steps_are_saved_but_for_the_last_which_is_saved_as_the_epoch():
    callback = saver(steps=4, save_steps=2)
    take(callback, 4)
    assert callback.checkpoints.saved == ["step 2 of epoch 1"]
    callback.on_epoch_end(0, {"val_auc": 0.5})
    assert callback.checkpoints.saved[1:] == ["epoch 1"]


def test_the_rest_of_an_epoch_counts_from_where_it_stood_with_its_metrics():
    callback = saver(Progress(step=3), steps=9, save_steps=2)
    assert callback.checkpoints.metrics_restored == 1
    take(callback, 6)
    assert callback.checkpoints.saved == ["step 4 of epoch 1", "step 6 of epoch 1", "step 8 of epoch 1"]
    callback.on_epoch_end(0, {"val_auc": 0.5})
    callback.on_epoch_begin(1)
    take(callback, 2)
    assert callback.checkpoints.metrics_restored == 1
    assert callback.checkpoints.saved[-2:] == ["epoch 1", "step 2 of epoch 2"]


def test_who_is_asked_to_end_saves_the_step_and_ends():
    callback = saver()
    take(callback, 1)
    callback.end()
    with pytest.raises(Terminated, match="the state after step 2 of epoch 1 is saved"):
        callback.on_train_batch_end(1)
    assert callback.checkpoints.saved == ["step 2 of epoch 1"]


def test_who_is_asked_in_the_last_step_ends_after_its_validation():
    callback = saver(steps=2)
    callback.end()
    callback.first = 1
    take(callback, 1)
    assert callback.checkpoints.saved == []
    with pytest.raises(Terminated, match="the state after epoch 1 is saved"):
        callback.on_epoch_end(0, {"val_auc": 0.5})


def test_one_of_several_that_is_asked_to_end_waits_for_the_state_that_all_save():
    callback = saver(save_steps=3, is_shared=True)
    callback.end()
    take(callback, 2)
    assert callback.checkpoints.saved == []
    with pytest.raises(Terminated, match="step 3"):
        callback.on_train_batch_end(2)


@pytest.mark.parametrize(("patience", "stops"), [(1, 2), (2, 3), (None, None)])
def test_patience_is_how_many_epochs_without_a_better_one(patience, stops):
    callback, stopped = saver(patience=patience), None
    for epoch, auc in enumerate((0.7, 0.6, 0.5, 0.4), start=1):
        callback.on_epoch_end(epoch - 1, {"val_auc": auc})
        if callback.model.stop_training:
            stopped = epoch
            break
    assert stopped == stops


def test_who_does_not_save_gives_its_part_of_the_metrics_within_an_epoch():
    callback, variable = saver(save_steps=2, writes=False), Read()
    callback.model.metrics_variables = [variable]
    callback.on_train_batch_end(0)
    assert variable.times == 0
    with pytest.raises(ValueError, match="no interest"):
        callback.on_train_batch_end(1)
    callback.on_epoch_end(0, {"val_auc": 0.5})
    assert (variable.times, callback.checkpoints.saved) == (1, [])
