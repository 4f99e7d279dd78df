"""Checkpoints: the whole state of a training after an epoch or some steps of one, from which a killed run goes on.

A checkpoint is a folder `checkpoints/<epochs>/` or `checkpoints/<epochs>-<steps>/`, written under a temporary name,
with checksums of all its files, and renamed. It is the only truth: `model.keras` and `history.csv` of the run are
copies of what the newest checkpoint holds, so a kill between two writes cannot make them disagree for longer than
until the next start.
"""

import dataclasses
import filecmp
import math
import pathlib
import re
import shutil
import uuid
from collections.abc import Callable
from typing import Any, NotRequired

import numpy as np
import pandas as pd
from typing_extensions import TypedDict

from medkeras.errors import InputError
from pipelines.io.checksums import what_is_wrong, write_checksums
from pipelines.io.json_types import Measured
from pipelines.io.run_folder import RunFolder, atomic_path

KEPT = 2
NAME = re.compile(r"\d{5,}(-\d{7,})?")
BROKEN = "broken-"  # Before the name of a checkpoint that was set aside.


class StateJson(TypedDict):
    """What `state.json` holds; earlier versions knew no steps."""

    history: list[dict[str, Measured]]
    best_value: Measured
    best_epoch: int
    step: NotRequired[int]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        history: One row of measures per finished epoch.
        best_value: Best value of the monitored measure, None before the first finite one.
        best_epoch: The epoch, from 1, that reached it; the earliest of equals.
        step: Finished steps of the epoch that runs; 0 between two epochs.

    Example:
        >>> start = Progress().after({"val_auc": 0.7}, monitor="auc").after({"val_auc": 0.6}, monitor="auc")
        >>> start.epoch, start.best_epoch, start.wait
        (2, 1, 1)
    """

    history: tuple[dict[str, float], ...] = ()
    best_value: float | None = None
    best_epoch: int = 0
    step: int = 0

    def __str__(self) -> str:
        """Returns where the training stands.

        Example:
            >>> str(Progress(step=40))
            'step 40 of epoch 1'
        """
        return f"step {self.step} of epoch {self.epoch + 1}" if self.step else f"epoch {self.epoch}"

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def wait(self) -> int:
        """Epochs since the best one."""
        return self.epoch - self.best_epoch

    def at_step(self, step: int) -> "Progress":
        """Returns the progress after so many steps of the epoch that runs."""
        return dataclasses.replace(self, step=step)

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
            raise InputError(f"A monitored measure is one of {sorted(row)}. Received: monitor={monitor!r}")
        if not math.isfinite(row.get("loss", 0.0)):
            raise InputError(
                f"The loss must stay finite; a lower learning rate may help. Received: loss={row['loss']} in "
                f"epoch {self.epoch + 1}"
            )
        history = (*self.history, {"epoch": self.epoch + 1, **row})
        value = -row[key] if monitor == "loss" else row[key]
        best = -self.best_value if monitor == "loss" and self.best_value is not None else self.best_value
        if best is None or value > best:
            return Progress(history, row[key] if math.isfinite(value) else None, len(history))
        return dataclasses.replace(self, history=history, step=0)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for `state.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Progress":
        """Reads what `to_dict` gave."""
        history = tuple({k: math.nan if v is None else v for k, v in row.items()} for row in values["history"])
        return cls(history, values["best_value"], values["best_epoch"], values.get("step", 0))


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
        return max(self._complete(), key=lambda path: path.name, default=None)

    def progress(self) -> Progress:
        """Returns the progress at the newest checkpoint, or none at all."""
        newest = self.newest()
        return _state(newest) if newest else Progress()

    def set_aside_broken(self) -> list[str]:
        """Renames checkpoints that are torn or altered, the newest first, until one is whole.

        Returns:
            What was wrong with each.

        Raises:
            ValueError: If there were checkpoints and none is whole.
        """
        found = []
        while (newest := self.newest()) and (wrong := _what_is_wrong(newest)):
            newest.rename(newest.with_name(f"{BROKEN}{newest.name}"))
            found.append(f"{newest}: {wrong}")
        aside = sorted(str(path) for path in self.folder.glob(f"{BROKEN}*"))
        if aside and newest is None:
            raise InputError(
                f"A training goes on from a whole checkpoint; without {self.folder} it begins anew. "
                f"Received: {'; '.join(found or aside)}"
            )
        return found

    def save(self, model: Any, progress: Progress, *, save_best: Callable[[pathlib.Path], None]) -> None:
        """Writes the state of a training whole, then brings the run folder up to date with it.

        Args:
            model: The compiled model: its weights, its random seeds and its optimizer are kept; in the middle of an
                epoch also its metrics, which are means over the steps of the epoch so far.
            progress: The progress of the training.
            save_best: Writes the model as it is to a path; called after an epoch that is the best so far.

        Raises:
            OSError: If the disk is full or cannot be written; the checkpoints before stay as they are.
        """
        earlier = self.newest()
        name = f"{progress.epoch:05d}" + (f"-{progress.step:07d}" if progress.step else "")
        try:
            with atomic_path(self.folder / name) as temporary:
                temporary.mkdir()
                _write_arrays(temporary / "variables.npz", _variables(model))
                if progress.step:
                    _write_arrays(temporary / "metrics.npz", model.metrics_variables)
                if progress.wait == 0 and progress.epoch and not progress.step:
                    save_best(temporary / "best.keras")
                elif progress.epoch:
                    shutil.copyfile(earlier / "best.keras", temporary / "best.keras")
                RunFolder(temporary).write_json("state.json", progress.to_dict())
                write_checksums(temporary)
        except OSError as error:
            stays = f"that of {self.progress()} stays" if earlier else "there is none before"
            raise OSError(
                f"The state after {progress} could not be saved, {stays}: {error.strerror or error}: {self.folder}"
            ) from error
        self.publish()
        for old in sorted(self._complete(), key=lambda path: path.name)[:-KEPT]:
            # A kill while files are removed leaves no half of a state, but what `remove_leftovers` finds.
            shutil.rmtree(old.rename(old.with_name(f".{old.name}-{uuid.uuid4().hex[:8]}")))

    def restore(self, model: Any) -> None:
        """Sets the weights, random seeds and optimizer of a compiled model to the newest checkpoint's.

        Raises:
            ValueError: If the checkpoint is of another model.
        """
        model.optimizer.build(model.trainable_variables)
        self._assign("variables.npz", _variables(model))

    def restore_metrics(self, model: Any) -> None:
        """Sets the metrics of a model to the newest checkpoint's, which was written in the middle of an epoch.

        Raises:
            ValueError: If the checkpoint is of a model with other metrics.
        """
        self._assign("metrics.npz", model.metrics_variables)

    def publish(self) -> None:
        """Makes `model.keras` and `history.csv` those of the newest checkpoint, if an epoch was finished."""
        newest = self.newest()
        if newest is None or not (newest / "best.keras").is_file():
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
        return [path for path in self.folder.glob("*") if NAME.fullmatch(path.name)]

    def _assign(self, name: str, variables: list[Any]) -> None:
        with np.load(self.newest() / name) as saved:
            values = [saved[key] for key in saved.files]
        if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
            raise InputError(f"The checkpoint must be of the same model. Received: {self.newest()}")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _what_is_wrong(checkpoint: pathlib.Path) -> str | None:
    """Returns what is wrong with a checkpoint; earlier versions, whose states have no steps, wrote no checksums."""
    try:
        if "step" not in RunFolder(checkpoint).read_json("state.json", dict):
            _state(checkpoint)
            return None
    except (FileNotFoundError, ValueError):
        pass
    return what_is_wrong(checkpoint)


def _state(checkpoint: pathlib.Path) -> Progress:
    return RunFolder(checkpoint).read_json("state.json", StateJson, make=Progress.from_dict)


def _write_arrays(path: pathlib.Path, variables: list[Any]) -> None:
    np.savez(path, *[np.asarray(v) for v in variables])


def _variables(model: Any) -> list[Any]:
    """All that one step of training changes, except metrics: weights, random seeds, optimizer."""
    return [*model.variables, *model.optimizer.variables]
