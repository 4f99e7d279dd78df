"""Evaluation: how good a run is on images it has not seen, at the threshold that validation froze."""

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from medkeras.errors import InputError
from medkeras.evaluation import Interval, evaluate, worst_errors
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines.evaluation import curves as figures
from pipelines.evaluation import interval_figures
from pipelines.evaluation import uncertainty_figures as sureness_figures
from pipelines.evaluation.gallery import least_sure
from pipelines.evaluation.intervals import class_intervals, net_benefit, overall_intervals
from pipelines.evaluation.one_vs_rest import Event, events
from pipelines.evaluation.subgroups import say_what_stands_out, stands_out, subgroup_columns, subgroup_table
from pipelines.images.records import SPLITS, Records
from pipelines.inference.answers import Answers, Sampling
from pipelines.inference.trained_model import Trained, decisions, digest, load_trained
from pipelines.inference.uncertainty import (
    max_softmax_uncertainty,
    measure_sureness,
    say_how_sure,
    sureness_columns,
    wrong,
)
from pipelines.io.csv_table import read_table
from pipelines.io.figure_files import save_figure
from pipelines.io.run_folder import RunFolder
from pipelines.splits.by_patient import label_names
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split, open_like

SAID = ("auc", "average_precision", "accuracy")
WORST = 100  # Errors that are listed.
COLUMNS = {
    "auc": "AUC",
    "average_precision": "AP",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
    "support": "images",
}


def evaluate_run(
    run: str | os.PathLike,
    *,
    data: str | None = None,
    split: str | None = None,
    two_stage: str | None = None,
    uncertainty: str = "none",
    samples: int = 50,
    members: Sequence[str | os.PathLike] = (),
    subgroups: Sequence[str] = (),
    seed: int = 0,
    console: Console | None = None,
    **source_options: Any,
) -> dict[str, Any]:
    """Evaluates the best model of a run and writes measures, predictions and figures.

    The run's own test split is written to the run folder: `metrics.json`, `predictions.csv`, `errors.csv` (the worst
    ones), `decision_curve.csv`, `subgroups.csv` and `figures/`; another split, other data or two looks to
    `evaluations/<name>/`. Decisions follow the threshold in
    `operating_point.json`, which was chosen on validation; probabilities are calibrated, if the run was.

    Args:
        run: A run folder.
        data: Another source to evaluate on, with the same classes; all of its images count as unseen.
        split: `train`, `val` or `test`; `test` by default, and for another source, all of its images.
        two_stage: A protocol of `medkeras.models.two_stage`, to look twice; see
            `pipelines.inference.trained_model.load_trained`.
        uncertainty: A way of sampling, see `pipelines.inference.answers.Sampling`; the prediction is then the mean
            of the samples, with an operating point, sets and a referral threshold of its own.
        samples: Of `mc-dropout`.
        members: Of `ensemble`: the folders of the other runs.
        subgroups: Columns of the data's metadata to measure group by group, such as `sex`, or `age:40,60` with the
            edges of bands; see `pipelines.evaluation.subgroups`.
        seed: Seed of the bootstrap and of the samples.
        console: Where to print; nothing is printed by default.
        **source_options: Options of the other source.

    Returns:
        The content of `metrics.json`: what `medkeras.evaluation.evaluate` gives, with `data`, `split`,
        `two_stage`, `uncertainty`, `patients`, `intervals` and `class_intervals`, 95 % by patient, see
        `pipelines.evaluation.intervals`; `subgroups`, what stands out; and `calibration`, what
        `pipelines.inference.uncertainty.measure_sureness` gives.

    Raises:
        FileNotFoundError: If the run or the data do not exist.
        ValueError: If the data do not fit the model's classes or rank or lack a column of subgroups, the run's data
            have changed, or the model cannot look twice or be sampled.

    Example:
        >>> evaluate_run("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console, folder = console or Console(quiet=True), RunFolder(run).open()
    if split not in (None, *SPLITS):
        raise InputError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}")
    sampling = Sampling(uncertainty, samples, tuple(map(str, members)))
    with console.status("Loading the model and the data"):
        trained = load_trained(folder, protocol=two_stage, sampling=sampling)
        config = TrainConfig.from_run(folder)
        if data is None:
            split = split or "test"
            records = load_split(config, split)
        else:
            records = _other_records(config, data, split, source_options)
    check_classes(records, trained.model)
    columns, history = subgroup_columns(records, subgroups), _history(folder)
    answers = trained.answer(records, seed=seed, console=console)
    with console.status("Measuring"):
        asked = _events(records, answers, trained)
        metrics = _measure(records, answers, trained, asked, seed)
        tables = {"errors": _errors(records, answers, trained), "decision_curve": net_benefit(asked)}
        if columns:
            tables["subgroups"] = subgroup_table(records, asked, columns)
            metrics["subgroups"] = {"columns": list(subgroups), "stands_out": stands_out(tables["subgroups"])}
    metrics |= {"data": data or config.data, "split": split or "all", "two_stage": two_stage}
    metrics["uncertainty"] = sampling.to_dict() | {"seed": seed}
    if sampling.members:
        metrics["uncertainty"]["digest"] = digest(sampling.members).removeprefix("_")
    is_main = data is None and split == "test" and two_stage is None
    target = folder if is_main else RunFolder(folder / "evaluations" / _name(records, data, split, two_stage))
    target.write_json("metrics.json", metrics)
    predictions = _predictions(records, answers, trained).assign(split=metrics["split"])
    for name, table in {"predictions": predictions, **tables}.items():
        target.write_text(f"{name}.csv", table.to_csv(index=False))
    for stale in [] if columns else [target / "subgroups.csv", *(target / "figures").glob("subgroups*.png")]:
        stale.unlink(missing_ok=True)  # Of an earlier call, perhaps of an older model.
    drawn = _figures(records, answers, trained, metrics) | _interval_figures(tables, metrics)
    for name, figure in drawn.items():
        save_figure(figure, target / f"figures/{name}.png")
    if history is not None:
        save_figure(figures.history_figure(history), target / "figures/history.png")
    _print(console, metrics, tables, target)
    return metrics


def _history(run: RunFolder) -> pd.DataFrame | None:
    """Returns the course of the training, where it is on record."""
    path = run / "history.csv"
    return read_table(path, columns=("epoch", "loss"), numbers=True) if path.is_file() else None


def _other_records(config: TrainConfig, data: str, split: str | None, options: dict[str, Any]) -> Records:
    records = open_like(config, data, **options)
    if split is None:
        return records
    rows = np.flatnonzero(records.table["split"] == split)
    if not len(rows):
        raise InputError(f"The source gives no images of this split. Received: {data} with split={split!r}")
    return records.select(rows)


def check_classes(records: Records, model: ImageClassifier) -> None:
    """Checks that records have a model's classes.

    Raises:
        ValueError: If they do not.
    """
    if is_multilabel(records.task) != is_multilabel(model.task) or records.class_names != model.class_names:
        raise InputError(
            f"The data must have the model's classes, {', '.join(model.class_names)} ({model.task}). "
            f"Received: {records.name} with {', '.join(records.class_names)} ({records.task})"
        )


def _events(records: Records, answers: Answers, trained: Trained) -> list[Event]:
    probabilities, model = answers.probabilities, trained.model
    decided = np.asarray(trained.point.apply(probabilities))
    return events(records.labels, probabilities, decided, task=model.task, class_names=model.class_names)


def _measure(records: Records, answers: Answers, trained: Trained, asked: Sequence[Event], seed: int) -> dict[str, Any]:
    model, probabilities = trained.model, answers.probabilities
    patients = records.table["patient"].to_numpy()
    metrics = evaluate(
        records.labels,
        probabilities,
        task=model.task,
        class_names=model.class_names,
        operating_point=trained.point,
    )
    return metrics | {
        "intervals": overall_intervals(records.labels, probabilities, task=model.task, patients=patients, seed=seed),
        "class_intervals": class_intervals(asked, patients=patients, seed=seed),
        "patients": len(np.unique(patients)),
        "calibration": measure_sureness(records.labels, answers, trained, groups=patients, seed=seed),
    }


def _predictions(records: Records, answers: Answers, trained: Trained) -> pd.DataFrame:
    table = records.table[["id", "patient", "split"]].copy()
    table["label"] = label_names(records)
    if is_multilabel(records.task) and np.isnan(records.labels).any():
        names = np.array(records.class_names)
        table["unknown"] = ["|".join(names[row]) for row in np.isnan(records.labels)]
    for name, column in zip(trained.model.class_names, answers.probabilities.T, strict=True):
        table[f"probability_{name}"] = column
    table["prediction"] = decisions(trained.point, answers.probabilities, trained.model)
    return table.join(sureness_columns(answers, trained))


def _errors(records: Records, answers: Answers, trained: Trained) -> pd.DataFrame:
    """Returns the worst errors, one row each: of several labels, each label that is decided wrongly."""
    model, decided = trained.model, np.asarray(trained.point.apply(answers.probabilities))
    rows, classes, given = worst_errors(records.labels, answers.probabilities, decided, task=model.task, count=WORST)
    names = np.array(model.class_names)
    table = records.table[["id", "patient"]].iloc[rows].reset_index(drop=True)
    if is_multilabel(model.task):
        table["label"] = names[classes]
        table["decided"] = np.where(decided[rows, classes] == 1, "present", "absent")
    else:
        table["label"], table["decided"] = names[classes], names[decided[rows]]
        table["probability_decided"] = answers.probabilities[rows, decided[rows]]
    return table.assign(probability_of_truth=given)


def _interval_figures(tables: dict[str, pd.DataFrame], metrics: dict[str, Any]) -> dict[str, Figure]:
    drawn = {"decision_curve": interval_figures.decision_curve_figure(tables["decision_curve"])}
    if "subgroups" in tables:
        for name, rows in tables["subgroups"].groupby("class", sort=False):
            title = f"{name}, n = {metrics['count']} (hollow: too few to compare; orange: stands out)"
            suffix = "" if metrics["task"] == "binary" else "_" + re.sub(r"[^\w.-]+", "_", name)
            drawn[f"subgroups{suffix}"] = interval_figures.subgroups_figure(rows, title=title)
    return drawn


def _figures(records: Records, answers: Answers, trained: Trained, metrics: dict[str, Any]) -> dict[str, Figure]:
    labels, model = records.labels, trained.model
    curves = {"task": model.task, "class_names": model.class_names}
    by = curves | {"patients": records.table["patient"].to_numpy()}
    drawn = {
        "roc": figures.roc_figure(labels, answers.probabilities, **by),
        "precision_recall": figures.precision_recall_figure(labels, answers.probabilities, **by),
        "confusion_matrix": figures.confusion_figure(metrics),
        "uncertain": least_sure(records, answers, trained),
    }
    if not np.isnan(labels).all():
        scores = {"before": answers.raw, "after": answers.probabilities}
        if np.array_equal(*scores.values()):
            scores = {"not calibrated": answers.raw}
        drawn["reliability"] = sureness_figures.reliability_figure(labels, scores, **curves)
        drawn["risk_coverage"] = _risk_coverage(labels, answers, trained)
    return drawn


def _risk_coverage(labels: np.ndarray, answers: Answers, trained: Trained) -> Figure:
    losses, referral = wrong(labels, answers, trained), trained.calibration.referral
    known = ~np.isnan(losses)
    unsure = {
        "entropy": answers.sureness()["normalized_entropy"].to_numpy()[known],
        "largest probability": max_softmax_uncertainty(answers)[known],
    }
    marked = {} if referral is None else {"threshold": referral.threshold, "risk": referral.risk}
    return sureness_figures.risk_coverage_figure(losses[known], unsure, **marked)


def _name(records: Records, data: str | None, split: str | None, two_stage: str | None) -> str:
    parts = [two_stage and f"two_stage_{two_stage}", records.name if data else None, split]
    return re.sub(r"[^\w.-]+", "_", "-".join(part for part in parts if part))


def _print(console: Console, metrics: dict[str, Any], tables: dict[str, pd.DataFrame], target: RunFolder) -> None:
    frozen = metrics["operating_point"]
    table = Table(title=f"{metrics['count']} images of {metrics['patients']} patients, {metrics['split']}")
    table.add_column("class")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for name, row in metrics["per_class"].items():
        row = row | frozen["per_class"][name]
        table.add_row(name, *(f"{row[c]:d}" if c == "support" else f"{row[c]:.3f}" for c in COLUMNS))
    console.print(table)
    for name in SAID:
        console.print(f"{name.replace('_', ' ')} {Interval(**metrics['intervals'][name])}", highlight=False)
    if frozen["thresholds"]:
        console.print(f"accuracy at the frozen threshold {frozen['accuracy']:.3f}", highlight=False)
    say_how_sure(metrics["calibration"], console)
    for line in say_what_stands_out(tables["subgroups"]) if "subgroups" in tables else ():
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"measures, predictions and figures in {target.path}", highlight=False, soft_wrap=True)
