"""The batches of a prediction on a bar."""

from typing import Any

import keras
from rich import progress as rich_progress


class BatchBar(keras.callbacks.Callback):
    """Moves a bar with the batches of a prediction.

    Args:
        progress: A started bar, from `bar`.
        title: What is done.
        batches: How many there are.
    """

    def __init__(self, progress: rich_progress.Progress, *, title: str, batches: int | None = None) -> None:
        super().__init__()
        self.progress, self.row = progress, progress.add_task(title, total=batches)

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Moves the bar by one batch."""
        self.progress.update(self.row, completed=batch + 1)
