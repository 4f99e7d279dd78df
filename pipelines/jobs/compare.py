"""Comparison of two runs on the same images: which is better, by how much, and whether chance would do as well."""

import os
import pathlib
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from medkeras.errors import InputError
from medkeras.evaluation import Interval, compare
from medkeras.tasks import is_multilabel
from pipelines.evaluation.interval_figures import MEASURES, differences_figure
from pipelines.inference.predictions import Predictions, read_predictions
from pipelines.io.figure_files import save_figure
from pipelines.io.output import check_folder
from pipelines.io.run_folder import RunFolder


def compare_runs(
    first: str | os.PathLike,
    second: str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    repeats: int = 1000,
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, Any]:
    """Compares two evaluated runs, image by image, and writes what differs.

    Both must have been evaluated on the same images with the same truth; each decides at its own operating point.
    Writes `comparison.json`, `comparison.csv` and `figures/differences.png`.

    Args:
        first: A run folder that `medkeras evaluate` has been through, or one of its `evaluations/`.
        second: Another one.
        out: Folder of the results; `comparisons/<second>` in the first run by default.
        repeats: Draws of the bootstrap.
        seed: Seed of the bootstrap.
        console: Where to print; nothing is printed by default.

    Returns:
        What `medkeras.evaluation.compare` gives, by patient, with `first`, `second`, `task` and `patients`.

    Raises:
        FileNotFoundError: If a run has not been evaluated.
        ValueError: If the runs differ in classes, images, patients or truth.

    Example:
        >>> compare_runs("no-such-run", "another")
        Traceback (most recent call last):
        ...
        FileNotFoundError: `medkeras evaluate` writes predictions.csv and metrics.json. Received: no-such-run
    """
    console = console or Console(quiet=True)
    if out is not None:
        check_folder(out)
    one, other = read_predictions(first), read_predictions(second)
    other = _matched(one, other)
    with console.status("Comparing"):
        found = compare(
            one.labels,
            one.probabilities,
            other.probabilities,
            task=one.task,
            class_names=one.class_names,
            decisions=(one.decisions, other.decisions),
            groups=one.patients,
            repeats=repeats,
            seed=seed,
        )
    found |= {"first": os.fspath(first), "second": os.fspath(second), "task": one.task}
    found["patients"] = len(np.unique(one.patients))
    target = RunFolder(pathlib.Path(first) / "comparisons" / other.name if out is None else out)
    target.write_json("comparison.json", found)
    table = pd.DataFrame(found["measures"]).T.rename_axis("measure").reset_index()
    target.write_text("comparison.csv", table.to_csv(index=False))
    names = _names(one, other)
    save_figure(differences_figure(found, first=names[0], second=names[1]), target / "figures/differences.png")
    _print(console, found, names, target)
    return found


def _matched(one: Predictions, other: Predictions) -> Predictions:
    """Returns the other run's predictions in the order of the first's, if they are of the same images."""
    if (one.task, one.class_names) != (other.task, other.class_names):
        raise InputError(
            f"Runs are compared on the same classes. Received: {', '.join(one.class_names)} ({one.task}) and "
            f"{', '.join(other.class_names)} ({other.task})"
        )
    shared = len(set(one.ids) & set(other.ids))
    if not shared == len(one.ids) == len(other.ids):
        raise InputError(
            "Runs are compared on the same images. "
            f"Received: {len(one.ids)} and {len(other.ids)} images, {shared} of them in both"
        )
    other = other.ordered(one.ids)
    differs = np.flatnonzero(~_equal(one.labels, other.labels))
    if len(differs):
        raise InputError(
            "Runs are compared on the same truth. "
            f"Received: different labels for {one.ids[differs[0]]}, and {len(differs)} images in all"
        )
    pairs = {*zip(one.patients, other.patients, strict=True)}
    if not len(pairs) == len(set(one.patients)) == len(set(other.patients)):
        raise InputError(
            "Runs are compared with the same patients. Received: images that are of one patient in "
            f"{one.name} and of several in {other.name}, or the reverse"
        )
    return other


def _equal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return same.all(axis=1) if same.ndim == 2 else same


def _names(one: Predictions, other: Predictions) -> tuple[str, str]:
    return (one.name, other.name) if one.name != other.name else ("first run", "second run")


def _print(console: Console, found: dict[str, Any], names: tuple[str, str], target: RunFolder) -> None:
    table = Table(title=f"{found['count']} images of {found['patients']} patients")
    table.add_column("measure")
    for title in (*names, "difference (95 %)"):
        table.add_column(title, justify="right")
    for name, row in found["measures"].items():
        apart = Interval(row["difference"], row["low"], row["high"])
        table.add_row(MEASURES[name], f"{row['first']:.3f}", f"{row['second']:.3f}", str(apart))
    console.print(table)
    for name, row in found["auc"].items():
        apart = Interval(row["difference"], row["low"], row["high"])
        p_value = f"p = {row['p_value']:.2g}" + (f", {row['p_holm']:.2g} by Holm" if len(found["auc"]) > 1 else "")
        console.print(f"DeLong, {name}: {apart}, {p_value}", highlight=False)
    tests = found["mcnemar"] if is_multilabel(found["task"]) else {"decisions": found["mcnemar"]}
    for name, row in tests.items():
        p_value = f"p = {row['p_value']:.2g}" + (f", {row['p_holm']:.2g} by Holm" if len(tests) > 1 else "")
        right = f"right only in {names[0]} {row['only_first']}, only in {names[1]} {row['only_second']}"
        console.print(f"McNemar, {name}: {right}, {p_value}", highlight=False)
    console.print(f"differences in {target.path}", highlight=False, soft_wrap=True)
