"""What an evaluation wrote of every image, read again: truth, probabilities, decisions, patients."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import NotRequired

import numpy as np
import pandas as pd
from typing_extensions import TypedDict

from medkeras.errors import InputError
from medkeras.tasks import is_multilabel
from medkeras.uncertainty import summarize
from pipelines.io.csv_table import AS_WRITTEN, read_table
from pipelines.io.run_folder import RunFolder


class Metrics(TypedDict):
    """Of `metrics.json`, as used here."""

    task: str
    class_names: list[str]
    confusion_matrices: NotRequired[dict[str, list[list[int]]]]


ROUNDING = 1e-6  # Of a probability.


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions of a run, as `medkeras evaluate` left them.

    Attributes:
        name: Name of the run, the folder.
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        ids: `(n,)` id of each image.
        patients: `(n,)` patient of each image.
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        probabilities: `(n, classes)`.
        decisions: `(n,)` class indices, or `(n, labels)` of 0 and 1, at the run's operating point.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    ids: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    decisions: np.ndarray

    def ordered(self, ids: np.ndarray) -> "Predictions":
        """Returns the same predictions in the order of `ids`, which are the same ones."""
        place = {name: row for row, name in enumerate(self.ids)}
        rows = np.array([place[name] for name in ids])
        changed = {n: getattr(self, n)[rows] for n in ("ids", "patients", "labels", "probabilities", "decisions")}
        return dataclasses.replace(self, **changed)

    def unsureness(self) -> np.ndarray:
        """Returns the normalised entropy of each image, in [0, 1]; of several labels, that of the least sure one."""
        unsure = summarize(self.probabilities[None], task=self.task).normalized_entropy
        return unsure.max(axis=1) if unsure.ndim == 2 else unsure


def read_predictions(folder: str | os.PathLike) -> Predictions:
    """Reads `predictions.csv` beside `metrics.json`, of a run or of one of its `evaluations/`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the table lacks a column, an id stands in it twice, or it is of an earlier version that did not
            say which labels are unknown.

    Example:
        >>> read_predictions("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: `medkeras evaluate` writes predictions.csv and metrics.json. Received: no-such-run
    """
    run = RunFolder(folder)
    if not ((run / "predictions.csv").is_file() and (run / "metrics.json").is_file()):
        raise FileNotFoundError(
            f"`medkeras evaluate` writes predictions.csv and metrics.json. Received: {os.fspath(folder)}"
        )
    metrics = run.read_json("metrics.json", Metrics)
    task, names = metrics["task"], metrics["class_names"]
    columns = [f"probability_{name}" for name in names]
    table = _read(run, columns)
    if is_multilabel(task):
        labels, decisions = (_labels(table[column], names) for column in ("label", "prediction"))
        if "unknown" in table:  # An evaluation writes it where a label is unknown.
            labels[_labels(table["unknown"], names) == 1] = np.nan
        _check_known(labels, metrics, run)
    else:
        place = {name: k for k, name in enumerate(names)}
        labels, decisions = (_classes(table[column], place, run) for column in ("label", "prediction"))
    return Predictions(
        name=run.path.resolve().name,
        task=task,
        class_names=tuple(names),
        ids=table["id"].to_numpy(),
        patients=table["patient"].to_numpy(),
        labels=labels,
        probabilities=table[columns].to_numpy(np.float64),
        decisions=decisions,
    )


def _read(run: RunFolder, probabilities: Sequence[str]) -> pd.DataFrame:
    path, about = run / "predictions.csv", ("id", "patient", "label", "prediction")
    table = read_table(path, columns=about, numbers=probabilities, dtype=str, **AS_WRITTEN)
    if table["id"].duplicated().any() or not len(table):
        what = "with an id in two rows" if len(table) else "without a row"
        raise InputError(f"predictions.csv has one row per image. Received: {path} {what}")
    values = table[list(probabilities)]
    if not ((values > -ROUNDING) & (values < 1 + ROUNDING)).all(axis=None):
        raise InputError(f"A probability is a number in [0, 1]. Received: {path} with another")
    return table


def _classes(column: pd.Series, place: Mapping[str, int], run: RunFolder) -> np.ndarray:
    """Returns the class index of each entry."""
    for name in column[~column.isin(list(place))].head(1):
        raise InputError(
            f"A {column.name} is one of {', '.join(place)}. Received: {name!r} in {run / 'predictions.csv'}"
        )
    return column.map(place).to_numpy()


def _labels(column: pd.Series, names: Sequence[str]) -> np.ndarray:
    """Returns which of the names each entry has, joined by `|`, as 0.0 and 1.0."""
    return np.array([[float(name in entry.split("|")) for name in names] for entry in column]).reshape(-1, len(names))


def _check_known(labels: np.ndarray, metrics: dict, run: RunFolder) -> None:
    matrices = metrics.get("confusion_matrices", {})
    counted = [np.sum(matrices.get(name, 0)) for name in metrics["class_names"]]
    if (~np.isnan(labels)).sum(axis=0).tolist() != counted:
        raise InputError(
            "The table must say which labels are unknown; evaluate the run again. "
            f"Received: {run / 'predictions.csv'} of an earlier version"
        )
