"""Evaluation: how good a run is on images it has not seen, at the threshold that validation froze."""

import os
import pathlib
import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from medkeras.evaluation import Interval, bootstrap, evaluate
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines import figures, sureness_figures
from pipelines.jobs.answers import Answers, Sampling
from pipelines.jobs.config import TrainConfig, load_split, open_like
from pipelines.jobs.gallery import least_sure
from pipelines.jobs.trained import Trained, decisions, load_trained
from pipelines.jobs.uncertainty import (
    max_softmax_uncertainty,
    measure_sureness,
    say_how_sure,
    sureness_columns,
    wrong,
)
from pipelines.records import SPLITS, Records
from pipelines.run_folder import RunFolder, atomic_path
from pipelines.splits import label_names

INTERVALS = ("auc", "accuracy")
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
    seed: int = 0,
    console: Console | None = None,
    **source_options: Any,
) -> dict[str, Any]:
    """Evaluates the best model of a run and writes measures, predictions and figures.

    The run's own test split is written to the run folder: `metrics.json`, `predictions.csv` and `figures/`;
    another split, other data or two looks to `evaluations/<name>/`. Decisions follow the threshold in
    `operating_point.json`, which was chosen on validation; probabilities are calibrated, if the run was.

    Args:
        run: A run folder.
        data: Another source to evaluate on, with the same classes; all of its images count as unseen.
        split: `train`, `val` or `test`; `test` by default, and for another source, all of its images.
        two_stage: A protocol of `medkeras.models.two_stage`, to look twice; see
            `pipelines.jobs.trained.load_trained`.
        uncertainty: A way of sampling, see `pipelines.jobs.answers.Sampling`; the prediction is then the mean of the
            samples, with an operating point, sets and a referral threshold of its own.
        samples: Of that.
        seed: Seed of the bootstrap and of the samples.
        console: Where to print; nothing is printed by default.
        **source_options: Options of the other source.

    Returns:
        The content of `metrics.json`: what `medkeras.evaluation.evaluate` gives, with `data`, `split`,
        `two_stage`, `uncertainty`, `patients` and `intervals`, 95 % by bootstrap over patients; and `calibration`,
        what `pipelines.jobs.uncertainty.measure_sureness` gives.

    Raises:
        FileNotFoundError: If the run or the data do not exist.
        ValueError: If the data do not fit the model's classes or rank, the run's data have changed, or the model
            cannot look twice or be sampled.

    Example:
        >>> evaluate_run("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console, folder = console or Console(quiet=True), RunFolder(run).open()
    if split not in (None, *SPLITS):
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}")
    sampling = Sampling(uncertainty, samples)
    with console.status("Loading the model and the data"):
        trained = load_trained(folder, protocol=two_stage, sampling=sampling)
        config = TrainConfig.from_run(folder)
        if data is None:
            split = split or "test"
            records = load_split(config, split)
        else:
            records = _other_records(config, data, split, source_options)
    check_classes(records, trained.model)
    answers = trained.answer(records, seed=seed, console=console)
    with console.status("Measuring"):
        metrics = _measure(records, answers, trained, seed)
    metrics |= {"data": data or config.data, "split": split or "all", "two_stage": two_stage}
    metrics["uncertainty"] = sampling.to_dict() | {"seed": seed}
    is_main = data is None and split == "test" and two_stage is None
    target = folder if is_main else RunFolder(folder / "evaluations" / _name(records, data, split, two_stage))
    target.write_json("metrics.json", metrics)
    predictions = _predictions(records, answers, trained).assign(split=metrics["split"])
    target.write_text("predictions.csv", predictions.to_csv(index=False))
    for name, figure in _figures(records, answers, trained, metrics).items():
        save_figure(figure, target / f"figures/{name}.png")
    history = figures.history_figure(pd.read_csv(folder / "history.csv"))
    save_figure(history, target / "figures/history.png")
    _print(console, metrics, target)
    return metrics


def save_figure(figure: Figure, path: pathlib.Path) -> None:
    """Writes a figure whole, or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _other_records(config: TrainConfig, data: str, split: str | None, options: dict[str, Any]) -> Records:
    records = open_like(config, data, **options)
    if split is None:
        return records
    rows = np.flatnonzero(records.table["split"] == split)
    if not len(rows):
        raise ValueError(f"The source gives no images of this split. Received: {data} with split={split!r}")
    return records.select(rows)


def check_classes(records: Records, model: ImageClassifier) -> None:
    """Checks that records have a model's classes.

    Raises:
        ValueError: If they do not.
    """
    if is_multilabel(records.task) != is_multilabel(model.task) or records.class_names != model.class_names:
        raise ValueError(
            f"The data must have the model's classes, {', '.join(model.class_names)} ({model.task}). "
            f"Received: {records.name} with {', '.join(records.class_names)} ({records.task})"
        )


def _measure(records: Records, answers: Answers, trained: Trained, seed: int) -> dict[str, Any]:
    model, probabilities = trained.model, answers.probabilities
    patients = records.table["patient"].to_numpy()
    metrics = evaluate(
        records.labels,
        probabilities,
        task=model.task,
        class_names=model.class_names,
        operating_point=trained.point,
    )
    draws = {"task": model.task, "groups": patients, "seed": seed}
    intervals = {name: bootstrap(name, records.labels, probabilities, **draws).to_dict() for name in INTERVALS}
    sureness = measure_sureness(records.labels, answers, trained, groups=patients, seed=seed)
    return metrics | {"intervals": intervals, "patients": len(np.unique(patients)), "calibration": sureness}


def _predictions(records: Records, answers: Answers, trained: Trained) -> pd.DataFrame:
    table = records.table[["id", "patient", "split"]].copy()
    table["label"] = label_names(records)
    for name, column in zip(trained.model.class_names, answers.probabilities.T, strict=True):
        table[f"probability_{name}"] = column
    table["prediction"] = decisions(trained.point, answers.probabilities, trained.model)
    return table.join(sureness_columns(answers, trained))


def _figures(records: Records, answers: Answers, trained: Trained, metrics: dict[str, Any]) -> dict[str, Figure]:
    labels, model = records.labels, trained.model
    curves = {"task": model.task, "class_names": model.class_names}
    drawn = {
        "roc": figures.roc_figure(labels, answers.probabilities, **curves),
        "precision_recall": figures.precision_recall_figure(labels, answers.probabilities, **curves),
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


def _print(console: Console, metrics: dict[str, Any], target: RunFolder) -> None:
    frozen = metrics["operating_point"]
    table = Table(title=f"{metrics['count']} images of {metrics['patients']} patients, {metrics['split']}")
    table.add_column("class")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for name, row in metrics["per_class"].items():
        row = row | frozen["per_class"][name]
        table.add_row(name, *(f"{row[c]:d}" if c == "support" else f"{row[c]:.3f}" for c in COLUMNS))
    console.print(table)
    for name, interval in metrics["intervals"].items():
        console.print(f"{name} {Interval(**interval)}", highlight=False)
    if frozen["thresholds"]:
        console.print(f"accuracy at the frozen threshold {frozen['accuracy']:.3f}", highlight=False)
    say_how_sure(metrics["calibration"], console)
    console.print(f"measures, predictions and figures in {target.path}", highlight=False, soft_wrap=True)
