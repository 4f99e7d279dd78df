"""Checkpoints: the whole state of a training after each epoch, from which a killed run goes on.

A checkpoint is a folder `checkpoints/<epoch>/`, written under a temporary name and renamed. It is the only
truth: `model.keras` and `history.csv` of the run are copies of what the newest checkpoint holds, so a kill
between two writes cannot make them disagree for longer than until the next start.
"""

import dataclasses
import filecmp
import json
import math
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pipelines.run_folder import RunFolder, atomic_path

KEPT = 2


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        history: One row of measures per finished epoch.
        best_value: Best value of the monitored measure, None before the first finite one.
        best_epoch: The epoch, from 1, that reached it; the earliest of equals.

    Example:
        >>> start = Progress().after({"val_auc": 0.7}, monitor="auc").after({"val_auc": 0.6}, monitor="auc")
        >>> start.epoch, start.best_epoch, start.wait
        (2, 1, 1)
    """

    history: tuple[dict[str, float], ...] = ()
    best_value: float | None = None
    best_epoch: int = 0

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def wait(self) -> int:
        """Epochs since the best one."""
        return self.epoch - self.best_epoch

    def after(self, measures: dict[str, float], *, monitor: str) -> "Progress":
        """Returns the progress after one more epoch with these measures.

        Args:
            measures: The epoch's row of the history.
            monitor: `auc`, `accuracy` (higher is better) or `loss` (lower is better), on validation.

        Raises:
            ValueError: If the measures lack the monitored one, or the loss is not finite.
        """
        key, row = f"val_{monitor}", {k: float(v) for k, v in measures.items()}
        if key not in row:
            raise ValueError(f"A monitored measure is one of {sorted(row)}. Received: monitor={monitor!r}")
        if not math.isfinite(row.get("loss", 0.0)):
            raise ValueError(
                f"The loss must stay finite; a lower learning rate may help. Received: loss={row['loss']} in "
                f"epoch {self.epoch + 1}"
            )
        history = (*self.history, {"epoch": self.epoch + 1, **row})
        value = -row[key] if monitor == "loss" else row[key]
        best = -self.best_value if monitor == "loss" and self.best_value is not None else self.best_value
        if best is None or value > best:
            return Progress(history, row[key] if math.isfinite(value) else None, len(history))
        return dataclasses.replace(self, history=history)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for `state.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Progress":
        """Reads what `to_dict` gave."""
        history = tuple({k: math.nan if v is None else v for k, v in row.items()} for row in values["history"])
        return cls(history, values["best_value"], values["best_epoch"])


class Checkpoints:
    """The checkpoints of one run folder.

    Args:
        run: The run folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.folder = run / "checkpoints"

    def newest(self) -> pathlib.Path | None:
        """Returns the folder of the newest complete checkpoint."""
        return max(self._complete(), default=None)

    def progress(self) -> Progress:
        """Returns the progress at the newest checkpoint, or none at all."""
        newest = self.newest()
        return Progress.from_dict(json.loads((newest / "state.json").read_text())) if newest else Progress()

    def save(self, model: Any, progress: Progress, *, save_best: Callable[[pathlib.Path], None]) -> None:
        """Writes the state after an epoch whole, then brings the run folder up to date with it.

        Args:
            model: The compiled model: its weights, its random seeds and its optimizer are kept.
            progress: The progress after the epoch.
            save_best: Writes the model of this epoch to a path; called if the epoch is the best so far.
        """
        earlier = self.newest()
        with atomic_path(self.folder / f"{progress.epoch:05d}") as temporary:
            temporary.mkdir()
            np.savez(temporary / "variables.npz", *[np.asarray(v) for v in _variables(model)])
            if progress.wait == 0:
                save_best(temporary / "best.keras")
            else:
                shutil.copyfile(earlier / "best.keras", temporary / "best.keras")
            RunFolder(temporary).write_json("state.json", progress.to_dict())
        self.publish()
        for old in sorted(self._complete())[:-KEPT]:
            shutil.rmtree(old)

    def restore(self, model: Any) -> None:
        """Sets the weights, random seeds and optimizer of a compiled model to the newest checkpoint's.

        Raises:
            ValueError: If the checkpoint is of another model.
        """
        model.optimizer.build(model.trainable_variables)
        with np.load(self.newest() / "variables.npz") as saved:
            values = [saved[name] for name in saved.files]
        variables = _variables(model)
        if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
            raise ValueError(f"The checkpoint must be of the same model. Received: {self.newest()}")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def publish(self) -> None:
        """Makes `model.keras` and `history.csv` those of the newest checkpoint, if there is one."""
        newest = self.newest()
        if newest is None:
            return
        best, model = newest / "best.keras", self.run / "model.keras"
        if not (model.is_file() and filecmp.cmp(best, model, shallow=False)):
            with atomic_path(model) as temporary:
                shutil.copyfile(best, temporary)
        self.run.write_text("history.csv", pd.DataFrame(self.progress().history).to_csv(index=False))

    def remove_leftovers(self) -> None:
        """Removes the temporary files that a killed run left behind."""
        for folder in (self.run.path, self.folder):
            for path in folder.glob(".*-????????*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _complete(self) -> list[pathlib.Path]:
        return [path for path in self.folder.glob("*") if path.name.isdigit()]


def _variables(model: Any) -> list[Any]:
    """All that one step of training changes: weights, random seeds, optimizer."""
    return [*model.variables, *model.optimizer.variables]
