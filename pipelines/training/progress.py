"""What a person sees of a training: one line per epoch."""

import time
from typing import Any

import keras
from rich import progress as rich_progress


class EpochLines(keras.callbacks.Callback):
    """Prints one line per epoch, and shows the steps of the running one on the bar.

    Args:
        progress: A started bar, from `pipelines.runtime.progress.bar`; lines go to its console.
        epochs: Epochs of the whole training.
        steps: Steps of an epoch.
    """

    def __init__(self, progress: rich_progress.Progress, *, epochs: int, steps: int) -> None:
        super().__init__()
        self.progress, self.epochs, self.steps = progress, epochs, steps
        self.row = progress.add_task("training", total=steps)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the bar of an epoch."""
        self.title, self.started = f"epoch {epoch + 1}/{self.epochs}", time.monotonic()
        self.progress.reset(self.row, description=self.title)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Moves the bar by one step and shows the loss."""
        title = f"{self.title}  loss {logs['loss']:.4f}" if logs else self.title
        # A training that goes on in the middle of an epoch counts its batches from there.
        completed = self.steps - self.params["steps"] + batch + 1
        self.progress.update(self.row, completed=completed, description=title)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Prints the line of the epoch."""
        seconds = time.monotonic() - self.started
        left = (self.epochs - epoch - 1) * seconds
        measures = "  ".join(
            f"{key.replace('_', ' ')} {value:.4f}" for key, value in (logs or {}).items() if key != "learning_rate"
        )
        ending = duration(seconds) + (f", {duration(left)} left" if left else "")
        self.progress.console.print(f"{self.title}  {measures}  ({ending})", highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Returns a length of time in its two largest units.

    Example:
        >>> duration(7.4), duration(192), duration(8100)
        ('7 s', '3 min 12 s', '2 h 15 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, seconds = divmod(whole, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
