"""The images of an export: those on which its files are compared, and those on which ranges are found."""

import dataclasses
import functools
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from pipelines.images.records import Records
from pipelines.input.dataset import InputPipeline
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_splits, open_like


@dataclasses.dataclass(frozen=True)
class ExportImages:
    """What an exported run sees of its own data, or of another source.

    Attributes:
        run: The run that is exported.
        model: Its model, whose shape the images get.
        data: Another source to compare on, or None.
        options: Of the other source.
    """

    run: RunFolder
    model: ImageClassifier
    data: str | None
    options: dict[str, Any]

    def examples(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels spread evenly over the validation records, or over those of another source."""
        return self._spread(self._other if self.data else self._splits["val"], count)

    def of_training(self, count: int) -> np.ndarray:
        """Returns images spread evenly over the training records."""
        return self._spread(self._splits["train"], count)[0]

    @functools.cached_property
    def _splits(self) -> dict[str, Records]:
        return load_splits(TrainConfig.from_run(self.run))

    @functools.cached_property
    def _other(self) -> Records:
        return open_like(TrainConfig.from_run(self.run), self.data, **self.options)

    def _spread(self, records: Records, count: int) -> tuple[np.ndarray, np.ndarray]:
        shape = self.model.image_shape
        if records.rank != len(shape) - 1:
            raise InputError(
                f"{self.model.name} takes images of shape {shape}. Received: {records.name} with {records.rank}D images"
            )
        chosen = records.select(np.unique(np.linspace(0, len(records) - 1, count).astype(int)))
        pipeline = InputPipeline(chosen, image_shape=shape, batch_size=len(chosen))
        return next(pipeline.batches().as_numpy_iterator())
