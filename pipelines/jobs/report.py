"""The report: what a run is worth, on one page that can be sent to whoever must trust it."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from medkeras.errors import InputError
from pipelines.images.records import SPLITS
from pipelines.inference.calibration import decision_losses
from pipelines.inference.predictions import Predictions, read_predictions
from pipelines.io.output import check_folder
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.compare import compare_runs
from pipelines.report.card import render_card
from pipelines.report.facts.missing import missing_row
from pipelines.report.facts.read import read_facts
from pipelines.report.page import curves
from pipelines.report.page.choose_pictures import gallery_of
from pipelines.report.page.parts import is_damaged
from pipelines.report.page.render import render_page
from pipelines.report.page.svg import Chart


def report_run(
    run: str | os.PathLike,
    others: Sequence[str | os.PathLike] = (),
    out: str | os.PathLike | None = None,
    *,
    pictures: int = 4,
    seed: int = 0,
    console: Console | None = None,
) -> pathlib.Path:
    """Writes the report of a run: `report.html`, `model_card.md` and `report/metrics.json`.

    All three say the same; the page needs no other file and no network. What the run folder does not have is named on
    the page with the command that makes it. What only the authors know comes from `report.yaml` in the run folder:
    see `pipelines.report.facts.author`. A comparison leaves what `pipelines.jobs.compare.compare_runs` writes.

    Args:
        run: A run folder.
        others: Runs to compare it with, evaluated on the same images: see `pipelines.jobs.compare.compare_runs`.
        out: Folder to write to; the run folder by default.
        pictures: Images to show of each group (right, wrong, least sure); 0 keeps every image out of the page.
        seed: Of the choice of images and of the comparison's bootstrap.
        console: Where to print; nothing is printed by default.

    Returns:
        Where the page is.

    Raises:
        FileNotFoundError: If a folder holds no trained run.
        ValueError: If `pictures` is negative, or `config.yaml` or `report.yaml` is damaged. What else cannot be read
            is named on the page.
        OSError: If `out` cannot be written.

    Example:
        >>> report_run("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console = console or Console(quiet=True)
    if pictures < 0:
        raise InputError(f"`pictures` must be at least 0. Received: pictures={pictures}")
    if out is not None:
        check_folder(out)
    folder, compared = RunFolder(run).open(), [RunFolder(other).open() for other in others]
    facts = read_facts(folder, called=run)
    predictions = _predictions(folder, facts)
    shown, note = [], _no_pictures(facts, predictions, pictures)
    with console.status("Drawing"):
        if not note:
            try:
                shown, note = gallery_of(folder, facts, predictions, pictures, seed)
            except (ValueError, OSError) as error:
                note = f"The images cannot be shown: {' '.join(str(error).split())}"
        charts = _charts(facts, predictions)
        facts["comparisons"] = [_compare(folder, other, seed) for other in compared]
    target = folder if out is None else RunFolder(out)
    page = target.write_text("report.html", render_page(facts, charts, shown, note=note))
    target.write_text("model_card.md", render_card(facts))
    target.write_json("report/metrics.json", facts)
    _print(console, facts, page)
    return page


def _predictions(folder: RunFolder, facts: dict[str, Any]) -> Predictions | None:
    """Returns the predictions of an evaluated run, if they are there; adds to the facts what cannot be read."""
    if not facts["evaluation"] or not (folder / "predictions.csv").is_file():
        return None
    try:
        return read_predictions(folder.path)
    except ValueError as error:
        why = " ".join(str(error).replace(str(folder / "predictions.csv"), "predictions.csv").split())
        command = next(row for row in facts["commands"] if row.startswith("medkeras evaluate "))
        facts["missing"].append(missing_row("predictions", "the curves and the images", command, why))
        return None


def _charts(facts: dict[str, Any], predictions: Predictions | None) -> dict[str, list[Chart]]:
    charts = {"history": curves.history_charts(facts["history"]) if facts["history"] else []}
    if facts["decision_curve"]:
        charts["decision"] = curves.decision_charts(pd.DataFrame(facts["decision_curve"]))
    if predictions is None:
        return charts
    labels, found = predictions.labels, predictions.probabilities
    about = {"task": predictions.task, "class_names": predictions.class_names}
    charts["ranking"] = curves.ranking_charts(
        labels, found, predictions.decisions, patients=predictions.patients, **about
    )
    losses = decision_losses(labels, predictions.decisions, task=predictions.task)
    if not np.isnan(losses).all():
        charts["sureness"] = [
            curves.reliability_chart(labels, found, **about),
            curves.risk_chart(losses, predictions.unsureness()),
        ]
    return charts


def _no_pictures(facts: dict[str, Any], predictions: Predictions | None, pictures: int) -> str:
    """Returns why there are no pictures, if that is known beforehand."""
    if predictions is None:
        found = "Images are chosen by how they were decided, "
        if is_damaged(facts, "predictions"):
            return found + "and predictions.csv cannot be read."
        return found + "which medkeras evaluate finds out."
    if not pictures:
        return "Images were left out of this report."
    if facts["evaluation"]["split"] not in SPLITS:
        return "The images are of another source, and are not shown."
    return ""


def _compare(folder: RunFolder, other: RunFolder, seed: int) -> dict[str, Any]:
    """Returns what differs between two runs, or why they cannot be compared."""
    names = {"first": folder.path.resolve().name, "second": other.path.resolve().name}
    try:
        return compare_runs(folder.path, other.path, seed=seed) | names
    except (ValueError, FileNotFoundError) as error:
        return names | {"reason": f"Not compared. {' '.join(str(error).split())}"}


def _print(console: Console, facts: dict[str, Any], page: pathlib.Path) -> None:
    for row in facts["missing"]:
        why = f". {row['damaged']}" if "damaged" in row else ""
        console.print(
            f"not in the report: {row['what']}{why}; {row['command']}", style="yellow", markup=False, soft_wrap=True
        )
    open_ = sum(value is None for value in facts["author"].values())
    if open_:
        console.print(f"{open_} fields of report.yaml are to be filled in by the authors", highlight=False)
    console.print(f"report in {page}", highlight=False, soft_wrap=True)
