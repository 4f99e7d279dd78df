"""Evaluation: how good a run is on images it has not seen, at the threshold that validation froze."""

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from medkeras.evaluation import Interval, evaluate, worst_errors
from medkeras.tasks import is_multilabel
from pipelines.evaluation import curves as figures
from pipelines.evaluation import interval_figures
from pipelines.evaluation import uncertainty_figures as sureness_figures
from pipelines.evaluation.gallery import least_sure
from pipelines.evaluation.intervals import class_intervals, net_benefit, overall_intervals
from pipelines.evaluation.one_vs_rest import events
from pipelines.evaluation.subgroups import say_what_stands_out, stands_out, subgroup_columns, subgroup_table
from pipelines.images.records import SPLITS, Records
from pipelines.inference.answers import Answers, Sampling
from pipelines.inference.images import open_images
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
    sampling = Sampling(uncertainty, samples, tuple(map(str, members)))
    with console.status("Loading the model and the data"):
        trained, config = load_trained(folder, protocol=two_stage, sampling=sampling), TrainConfig.from_run(folder)
        records = open_images(config, trained.model, data=data, split=split, **source_options)
    columns, history = subgroup_columns(records, subgroups), _history(folder)
    found = _Evaluated(records, trained.answer(records, seed=seed, console=console), trained)
    with console.status("Measuring"):
        metrics, tables = found.measured(columns, subgroups, seed)
    split = split or ("test" if data is None else "all")
    metrics |= {"data": data or config.data, "split": split, "two_stage": two_stage, **_sampled(sampling, seed)}
    target = _target(folder, records, data, split, two_stage)
    with console.status("Drawing"):
        _write(target, found, metrics, tables, history)
    _print(console, metrics, tables, target)
    return metrics


def _history(run: RunFolder) -> pd.DataFrame | None:
    """Returns the course of the training, where it is on record."""
    path = run / "history.csv"
    return read_table(path, columns=("epoch", "loss"), numbers=True) if path.is_file() else None


def _sampled(sampling: Sampling, seed: int) -> dict[str, Any]:
    """Returns how was sampled, with what tells an ensemble from others."""
    found = sampling.to_dict() | {"seed": seed}
    if sampling.members:
        found["digest"] = digest(sampling.members).removeprefix("_")
    return {"uncertainty": found}


def _target(run: RunFolder, records: Records, data: str | None, split: str, two_stage: str | None) -> RunFolder:
    """Returns where the results go: those of the run's own test split to the run itself."""
    if data is None and split == "test" and two_stage is None:
        return run
    parts = [two_stage and f"two_stage_{two_stage}", records.name if data else None, split if split in SPLITS else None]
    return RunFolder(run / "evaluations" / re.sub(r"[^\w.-]+", "_", "-".join(part for part in parts if part)))


@dataclasses.dataclass(frozen=True)
class _Evaluated:
    """What a run answered for the images of an evaluation."""

    records: Records
    answers: Answers
    trained: Trained

    @property
    def about(self) -> dict[str, Any]:
        """The task and its classes."""
        return {"task": self.trained.model.task, "class_names": self.trained.model.class_names}

    @property
    def patients(self) -> np.ndarray:
        """Of each image."""
        return self.records.table["patient"].to_numpy()

    @functools.cached_property
    def decided(self) -> np.ndarray:
        """By the operating point: class indices, or 0 and 1 of each label."""
        return np.asarray(self.trained.point.apply(self.answers.probabilities))

    def measured(
        self, columns: Sequence[Any], subgroups: Sequence[str], seed: int
    ) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
        """Returns the measures, and the tables beside them."""
        labels, probabilities = self.records.labels, self.answers.probabilities
        asked = events(labels, probabilities, self.decided, **self.about)
        by, task = {"patients": self.patients, "seed": seed}, self.about["task"]
        metrics = evaluate(labels, probabilities, operating_point=self.trained.point, **self.about) | {
            "intervals": overall_intervals(labels, probabilities, task=task, **by),
            "class_intervals": class_intervals(asked, **by),
            "patients": len(np.unique(self.patients)),
            "calibration": measure_sureness(labels, self.answers, self.trained, groups=self.patients, seed=seed),
        }
        tables = {"errors": self.errors(), "decision_curve": net_benefit(asked)}
        if columns:
            tables["subgroups"] = subgroup_table(self.records, asked, columns)
            metrics["subgroups"] = {"columns": list(subgroups), "stands_out": stands_out(tables["subgroups"])}
        return metrics, tables

    def predictions(self) -> pd.DataFrame:
        """Returns one row per image: what it is, what was answered, and how sure that is."""
        records, trained, probabilities = self.records, self.trained, self.answers.probabilities
        table = records.table[["id", "patient", "split"]].copy()
        table["label"] = label_names(records)
        if is_multilabel(records.task) and np.isnan(records.labels).any():
            names = np.array(records.class_names)
            table["unknown"] = ["|".join(names[row]) for row in np.isnan(records.labels)]
        for name, column in zip(trained.model.class_names, probabilities.T, strict=True):
            table[f"probability_{name}"] = column
        table["prediction"] = decisions(trained.point, probabilities, trained.model)
        return table.join(sureness_columns(self.answers, trained))

    def errors(self) -> pd.DataFrame:
        """Returns the worst errors, one row each: of several labels, each label that is decided wrongly."""
        task, probabilities, decided = self.about["task"], self.answers.probabilities, self.decided
        rows, classes, given = worst_errors(self.records.labels, probabilities, decided, task=task, count=WORST)
        names = np.array(self.about["class_names"])
        table = self.records.table[["id", "patient"]].iloc[rows].reset_index(drop=True)
        table["label"] = names[classes]
        if is_multilabel(task):
            table["decided"] = np.where(decided[rows, classes] == 1, "present", "absent")
        else:
            table["decided"] = names[decided[rows]]
            table["probability_decided"] = probabilities[rows, decided[rows]]
        return table.assign(probability_of_truth=given)

    def figures(self, metrics: dict[str, Any]) -> dict[str, Figure]:
        """Draws the curves, and the images it is least sure of."""
        labels, answers = self.records.labels, self.answers
        by = self.about | {"patients": self.patients}
        drawn = {
            "roc": figures.roc_figure(labels, answers.probabilities, **by),
            "precision_recall": figures.precision_recall_figure(labels, answers.probabilities, **by),
            "confusion_matrix": figures.confusion_figure(metrics),
            "uncertain": least_sure(self.records, answers, self.trained),
        }
        if not np.isnan(labels).all():
            scores = {"before": answers.raw, "after": answers.probabilities}
            if np.array_equal(*scores.values()):
                scores = {"not calibrated": answers.raw}
            drawn["reliability"] = sureness_figures.reliability_figure(labels, scores, **self.about)
            drawn["risk_coverage"] = _risk_coverage(labels, answers, self.trained)
        return drawn


def _write(
    target: RunFolder,
    found: _Evaluated,
    metrics: dict[str, Any],
    tables: dict[str, pd.DataFrame],
    history: pd.DataFrame | None,
) -> None:
    """Writes the measures, the tables and the figures."""
    target.write_json("metrics.json", metrics)
    predictions = found.predictions().assign(split=metrics["split"])
    for name, table in {"predictions": predictions, **tables}.items():
        target.write_text(f"{name}.csv", table.to_csv(index=False))
    if "subgroups" not in tables:
        for stale in (target / "subgroups.csv", *(target / "figures").glob("subgroups*.png")):
            stale.unlink(missing_ok=True)  # Of an earlier call, perhaps of an older model.
    drawn = found.figures(metrics) | _interval_figures(tables, metrics)
    if history is not None:
        drawn["history"] = figures.history_figure(history)
    for name, figure in drawn.items():
        save_figure(figure, target / f"figures/{name}.png")


def _interval_figures(tables: dict[str, pd.DataFrame], metrics: dict[str, Any]) -> dict[str, Figure]:
    drawn = {"decision_curve": interval_figures.decision_curve_figure(tables["decision_curve"])}
    if "subgroups" in tables:
        for name, rows in tables["subgroups"].groupby("class", sort=False):
            title = f"{name}, n = {metrics['count']} (hollow: too few to compare; orange: stands out)"
            suffix = "" if metrics["task"] == "binary" else "_" + re.sub(r"[^\w.-]+", "_", name)
            drawn[f"subgroups{suffix}"] = interval_figures.subgroups_figure(rows, title=title)
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
