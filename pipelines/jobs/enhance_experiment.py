"""The study of enhanced images: one training on the images as they are, enhanced, and interpolated as a control."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from medkeras.errors import InputError
from medkeras.evaluation import Interval, bootstrap_all
from medkeras.evaluation.measures import RANKINGS, headline, rank_classes
from medkeras.super_resolution.enhancement.attention_guided import Upscaler
from pipelines.enhancement.files import as_float, as_stored
from pipelines.enhancement.quality import described, restoration, self_similarity
from pipelines.images.decode import read_image
from pipelines.images.records import Records
from pipelines.inference.answers import predict_records
from pipelines.inference.trained_model import load_model
from pipelines.io.figure_files import save_figure
from pipelines.io.output import check_folder
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.enhance import Enhancement, enhance_run, open_upscaler
from pipelines.jobs.train import train
from pipelines.sources import options_of
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#999999")
ORIGINAL, CONTROL, ENHANCED = "original", "interpolated", "enhanced"
NOTES = (
    "One split by patient, that of the run, before anything is balanced; its test images chose nothing.",
    "The regions follow the run's own model, which was trained on train alone.",
    "Every arm has the same training, seeds and choice of the best epoch on validation.",
    "interpolated: bicubic in place of the upscaler. Enlarged and brought back it is nearly what it was; a difference "
    "between the two others and not to it belongs to the upscaler.",
    "Intervals are by bootstrap over patients of the mean over seeds: they hold the chance of the test images.",
    "restoration: the original made small by bicubic interpolation, and restored.",
    "self_similarity: enhanced against original, as published: how little changed, not how good it is.",
)


def enhance_experiment(
    run: str | os.PathLike,
    out: str | os.PathLike,
    *,
    upscaler: str | os.PathLike | Upscaler,
    how: Enhancement | None = None,
    seeds: int = 3,
    epochs: int | None = None,
    batch_size: int = 1,
    restored: int = 64,
    samples: int = 12,
    console: Console | None = None,
) -> dict[str, Any]:
    """Trains a run's model on its images as they are, enhanced, and interpolated, and compares the arms on test.

    Called again, it goes on where it was interrupted. Writes `enhanced/` and `interpolated/` (see
    `pipelines.jobs.enhance.enhance_run`), `runs/<arm>_<seed>/`, `experiment.json` and `figures/differences.png`.

    Args:
        run: A run folder; its data, split and configuration are those of every arm.
        out: Folder to write to.
        upscaler: See `pipelines.jobs.enhance.enhance_run`.
        how: See `pipelines.jobs.enhance.enhance_run`; the control has the same regions.
        seeds: Trainings of each arm, at least 1; the run's seed and those after it.
        epochs: Of each training; the run's own by default.
        batch_size: Regions that are enlarged at a time.
        restored: Test images whose restoration is measured, at least 0.
        samples: Images of each arm to draw, at least 0.
        console: Where to print; nothing is printed by default.

    Returns:
        The content of `experiment.json`: `arms`, with `auc` and `average_precision` of every label and over all
        (`headline`: class 1 of two, else the mean), the mean over seeds; `differences` of each arm to `original`, with
        95 % intervals; `restoration`, `self_similarity`, `notes` and what was done.

    Raises:
        FileNotFoundError: If the run, its data or the upscaler do not exist.
        ValueError: If an argument is out of range, the folder holds another experiment, or the data have changed.
        OSError: If `out` cannot be written.

    Example:
        >>> enhance_experiment("no-such-run", "study", upscaler="lanczos")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console, how, folder = console or Console(quiet=True), how or Enhancement(), RunFolder(run).open()
    if seeds < 1 or restored < 0:
        raise InputError(f"`seeds` must be at least 1, `restored` 0. Received: {seeds=}, {restored=}")
    target, config = RunFolder(check_folder(out)), TrainConfig.from_run(folder)
    if how.keep_scale and config.image_size is None:
        raise InputError("All arms have images of one size. Received: keep_scale=True of a run without image_size")
    upscaler, _ = open_upscaler(upscaler)
    for arm, kind in ((ENHANCED, upscaler), (CONTROL, "bicubic")):
        console.rule(arm)
        options = {"split": "all", "batch_size": batch_size, "samples": samples}
        enhance_run(run, out=target / arm, upscaler=kind, how=how, console=console, **options)
    config = dataclasses.replace(config, epochs=epochs or config.epochs)
    chosen = range(config.seed, config.seed + seeds)
    report = _train_arms(config, target, chosen, console) | {"enhancement": how.to_dict(), "notes": NOTES}
    report |= _restoration(config, target, upscaler, how, restored, console)
    target.write_json("experiment.json", report)
    save_figure(differences_figure(report), target / "figures/differences.png")
    _print(console, report, target)
    return report


def _train_arms(config: TrainConfig, target: RunFolder, seeds: Sequence[int], console: Console) -> dict[str, Any]:
    """Trains every arm with every seed, and returns what differs on test."""
    test = load_split(config, "test")
    arms = {arm: arm_changes(arm, config, target, test) for arm in (ORIGINAL, ENHANCED, CONTROL)}
    answers = {arm: [] for arm in arms}
    for seed in seeds:
        for arm, changed in arms.items():
            own = {"run": str(target / f"runs/{arm}_{seed}"), "seed": seed}
            answers[arm].append(_train(dataclasses.replace(config, **changed, **own), test, console))
    with console.status("Measuring"):
        measured = measure_arms(test, {arm: np.stack(a, axis=1) for arm, a in answers.items()}, seed=config.seed)
    return {
        "data": config.data,
        "model": config.model,
        "seeds": list(seeds),
        "epochs": config.epochs,
        "images": len(test),
        "patients": int(test.table["patient"].nunique()),
        **measured,
    }


def _restoration(
    config: TrainConfig, target: RunFolder, upscaler: Upscaler, how: Enhancement, count: int, console: Console
) -> dict[str, Any]:
    """Returns how well the upscaler restores test images, and how little it changed them."""
    plain = load_split(dataclasses.replace(config, preprocess=()), "test")
    with console.status("Measuring the restoration"):
        return {
            "restoration": _restored(plain, upscaler, how, count),
            "self_similarity": None if how.keep_scale else {a: _alike(plain, target / a) for a in (ENHANCED, CONTROL)},
        }


def arm_changes(arm: str, config: TrainConfig, target: RunFolder, test: Records) -> dict[str, Any]:
    """Returns what is changed of a run's configuration for an arm: where the images come from.

    Args:
        arm: `original`, `enhanced` or `interpolated`.
        config: Of the run.
        target: Where the enhanced images are.
        test: The run's test images.

    Raises:
        ValueError: If the run has different policies for uncertain and for blank labels.
    """
    shared = {"folds": None, "fold": 0, "group_duplicates": False, "leakage": "off", "recipe": None, "cache": None}
    shared |= {"task": test.task, "data_service": None, "tensorboard": False}
    if arm == ORIGINAL:
        return shared | {"split_file": str(pathlib.Path(config.run) / "splits.csv")}
    options: dict[str, Any] = {"class_names": list(test.class_names)}
    if test.labels.ndim == 2:
        options |= {"label_columns": list(test.class_names), "uncertain": _policy(config)}
    known = {name: config.source_options[name] for name in ("max_pixels",) if name in config.source_options}
    return shared | {
        "data": str(target / arm / "index.csv"),
        "source_options": options | {name: known[name] for name in known if name in options_of(config.data)},
        "split_file": None,
    }


def _policy(config: TrainConfig) -> str:
    """Returns what fills the labels that are written as uncertain: all that the source's own policies fill."""
    policies = {config.source_options.get(name, "ignore") for name in ("uncertain", "blank")} - {"ignore"}
    if len(policies) > 1:
        raise InputError(
            f"An experiment has one policy for uncertain and blank labels. Received: {', '.join(sorted(policies))}"
        )
    return policies.pop() if policies else "ignore"


def _train(config: TrainConfig, test: Records, console: Console) -> np.ndarray:
    """Trains, and returns the probabilities of the test images."""
    console.rule(pathlib.Path(config.run).name)
    run = train(config, console=console)
    records = load_split(config, "test")
    same = np.array_equal(records.labels, test.labels, equal_nan=test.labels.ndim == 2)
    if not same:
        raise InputError(f"Every arm is tested on the same images. Received: others in {config.run}")
    return predict_records(load_model(run), records, console=console)


def measure_arms(
    test: Records, answers: dict[str, np.ndarray], *, repeats: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Returns the measures of each arm, and their differences to the first, means over seeds.

    Args:
        test: The test images.
        answers: Probabilities `(n, seeds, classes)` of each arm.
        repeats: Draws of the bootstrap.
        seed: Of the bootstrap.
    """
    names = [(measure, label) for measure in RANKINGS for label in ("headline", *test.class_names)]

    def differences(labels: np.ndarray, *probabilities: np.ndarray) -> dict[str, float]:
        first, *others = (_values(labels, each, test.task) for each in probabilities)
        return {str((k, name)): other[i] - first[i] for k, other in enumerate(others) for i, name in enumerate(names)}

    arrays, patients = [test.labels, *answers.values()], test.table["patient"].to_numpy()
    found = list(bootstrap_all(differences, arrays, groups=patients, repeats=repeats, seed=seed).values())
    arms, compared = {}, {}
    for k, (arm, probabilities) in enumerate(answers.items()):
        values = _values(test.labels, probabilities, test.task)
        arms[arm] = _nested(names, values.tolist())
        if k:
            compared[arm] = _nested(names, [each.to_dict() for each in found[(k - 1) * len(names) : k * len(names)]])
    return {"arms": arms, "differences": compared}


def _values(labels: np.ndarray, probabilities: np.ndarray, task: str) -> np.ndarray:
    """Returns each measure over all labels and of each, the mean over seeds, in the order of `measure_arms`."""
    rows = []
    for ranking in RANKINGS.values():
        classes = np.mean([rank_classes(ranking, labels, each, task=task) for each in probabilities.swapaxes(0, 1)], 0)
        rows += [headline(classes, task=task), *classes]
    return np.array(rows)


def _nested(names: Sequence[tuple[str, str]], values: Sequence[Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (measure, label), value in zip(names, values, strict=True):
        found.setdefault(measure, {})[label] = value
    return found


def _restored(test: Records, upscaler: Upscaler, how: Enhancement, count: int) -> dict[str, Any] | None:
    rows = range(min(count, len(test)))
    groups = test.table["patient"].tolist()[: len(rows)]
    images = [test.read(i) for i in rows]
    settings = {"steps": how.steps, "eta": how.eta, "consistent": how.consistent}
    return restoration(images, upscaler, groups=groups, seed=how.seed, **settings)


def _alike(test: Records, folder: pathlib.Path) -> dict[str, float]:
    table = pd.read_csv(folder / "enhanced.csv", dtype=str).set_index("file")["output"]
    pairs = ((test.read(i), read_image(folder / table[test.table["id"][i]])) for i in range(len(test)))
    return self_similarity([(as_stored(as_float(before), before), after) for before, after in pairs])


def differences_figure(report: dict[str, Any]) -> "Figure":
    """Draws the difference of each arm to the original, with its interval, for every label.

    Args:
        report: From `enhance_experiment`.

    Example:
        >>> found = {"auc": {"headline": {"value": 0.1, "low": 0.0, "high": 0.2}}}
        >>> len(differences_figure({"differences": {"enhanced": found}}).axes)
        1
    """
    from matplotlib.figure import Figure

    compared = report["differences"]
    measures = list(next(iter(compared.values())))
    labels = list(next(iter(compared.values()))[measures[0]])
    figure = Figure(figsize=(4.5 * len(measures), 1.5 + 0.3 * len(labels)), layout="constrained")
    for ax, measure in zip(np.atleast_1d(figure.subplots(1, len(measures), sharey=True)), measures, strict=True):
        for k, (arm, found) in enumerate(compared.items()):
            rows = np.array([[found[measure][label][part] for part in ("value", "low", "high")] for label in labels])
            values, low, high = rows.astype(float).T
            place = np.arange(len(labels)) + 0.2 * (k - (len(compared) - 1) / 2)
            spread = np.abs([values - low, high - values])
            ax.errorbar(values, place, xerr=spread, fmt="o", markersize=4, capsize=2, label=arm, color=COLORS[k])
        ax.axvline(0, color="black", lw=0.8)
        ax.set(yticks=range(len(labels)), yticklabels=labels, xlabel=f"{measure.replace('_', ' ')} less original's")
        ax.locator_params(axis="x", nbins=6)
        ax.legend(fontsize=7)
    figure.axes[0].invert_yaxis()  # The others share it.
    return figure


def _print(console: Console, report: dict[str, Any], target: RunFolder) -> None:
    arms, compared = report["arms"], report["differences"]
    title = f"{report['images']} test images of {report['patients']} patients, {len(report['seeds'])} seeds"
    table = Table("AUC", ORIGINAL, *(f"{arm} less {ORIGINAL}" for arm in compared), title=title)
    for label, value in arms[ORIGINAL]["auc"].items():
        table.add_row(label, f"{value:.3f}", *(str(Interval(**found["auc"][label])) for found in compared.values()))
    console.print(table)
    plain = {"highlight": False, "soft_wrap": True}
    if report["restoration"]:
        console.print(described(report["restoration"]), **plain)
    console.print(f"all in {target / 'experiment.json'}", **plain)
