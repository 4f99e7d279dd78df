"""When the state of a training is saved: after each epoch, every so many steps, and when the system asks to end."""

import pathlib
from typing import Any

import keras
import numpy as np

from pipelines.runtime.termination import Terminated
from pipelines.training.checkpointing import Checkpoints, Progress
from pipelines.training.weight_averaging import averaged_weights


class SaveState(keras.callbacks.Callback):
    """Saves the state of a training, and stops it when patience runs out or the system asks to end.

    Args:
        checkpoints: Where to save.
        progress: How far the training has come already. Where that is in the middle of an epoch, the first epoch
            that is fitted must be its rest.
        monitor: The validation measure that chooses the best epoch.
        steps: Steps of a whole epoch.
        patience: Epochs without a better one after which to stop, or None.
        save_steps: Save after every so many steps of an epoch too, or None.
        saved: The model to save, with the means of its weights if there are any; by default the one that is fitted.
        writes: Whether this process saves; of several that train together, one does.
        is_shared: Whether other processes take part: within an epoch, they read the state at the same step, so that
            the end that is asked for waits for the next one that is saved.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        progress: Progress,
        *,
        monitor: str,
        steps: int,
        patience: int | None = None,
        save_steps: int | None = None,
        saved: keras.Model | None = None,
        writes: bool = True,
        is_shared: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoints, self.progress, self.steps = checkpoints, progress, steps
        self.monitor, self.patience, self.save_steps, self.saved = monitor, patience, save_steps, saved
        self.writes, self.is_shared, self.is_asked_to_end = writes, is_shared, False

    def end(self) -> None:
        """Asks for the end: the running step is finished, or the running validation; then `Terminated` is raised."""
        self.is_asked_to_end = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes an uncompiled twin: the saved model has no optimizer, and loads without our losses."""
        self.saved = self.saved or self.model
        self.twin = type(self.saved).from_config(self.saved.get_config())

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Gives an epoch that goes on its metrics back, which Keras has just set to zero."""
        self.first = self.progress.step
        if self.first:
            self.checkpoints.restore_metrics(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the steps so far, when it is time; after the last one, the epoch is saved when it is validated."""
        step = self.first + batch + 1
        is_due = self.save_steps and step % self.save_steps == 0
        if step < self.steps and (is_due or (self.is_asked_to_end and not self.is_shared)):
            self.progress = self.progress.at_step(step)
            self._save_state()
            self._end_if_asked()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the epoch."""
        self.progress = self.progress.after(logs or {}, monitor=self.monitor)
        self._save_state()
        self._end_if_asked()
        if self.patience is not None and self.progress.wait >= self.patience:
            self.model.stop_training = True

    def _save_state(self) -> None:
        if self.writes:
            self.checkpoints.save(self.model, self.progress, save_best=self._save)
        elif self.progress.step:
            # Each process has a part of the metrics, and the one that saves them asks all for theirs.
            for variable in self.model.metrics_variables:
                np.asarray(variable)

    def _end_if_asked(self) -> None:
        if self.is_asked_to_end:
            raise Terminated(f"the state after {self.progress} is saved")

    def _save(self, path: pathlib.Path) -> None:
        with averaged_weights(self.model):
            self.twin.set_weights(self.saved.get_weights())
        self.twin.save(path)
