"""How far what a model says of itself may be believed: trains with several seeds, then measures on the test split.

    python benchmarks/accuracy/calibration.py --data ../shared/data/pneumoniamnist/pneumoniamnist_rebuilt.npz \
        --model dcat_small --image-size 64 --epochs 20 --seeds 3 --runs runs/sure --ood ../shared/data/other.npz

For each seed, with 95 % intervals by bootstrap over patients, and their mean over seeds:

- AUC and AUPR;
- calibration errors (bins of equal width, of equal mass), negative log-likelihood and Brier score: as trained, and
  scaled by a temperature or a vector that are fitted on validation;
- prediction sets: how many hold the true class, and how large they are. `halves`: fitted on one half of a split and
  measured on the other, 200 times; `official`: fitted on validation and measured on test, which may be drawn in
  another way. `inside`: the share of repeats (or of labels) whose coverage lies in the binomial interval of the
  promise; of repeats also in the beta-binomial one, which knows that the fitted half varies too;
- the area under risk and coverage for the same decisions, ordered by the largest probability of one prediction, and
  by entropy and mutual information of Monte Carlo dropout on the run's calibrated model; and by how much the latter
  differ from the first, on the same draws: below 0 they order better;
- whether images of another source (`--ood`) are less sure: the AUC of entropy and mutual information.

Each run is a run folder, so a stopped benchmark goes on with the same command. Predictions are kept there as `.npz`:
what follows is numpy, and cheap to repeat.
"""

import argparse
import json
import os
import pathlib
import re
import sys
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import numpy as np
import pandas as pd
from experiment import config_of, options_of, parser_of
from rich.console import Console
from scipy.stats import betabinom, binom

from medkeras.evaluation import (
    Interval,
    bootstrap,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    paired_bootstrap,
    roc_auc,
)
from medkeras.tasks import is_multilabel
from medkeras.uncertainty import LogitScaling, entropy, fit_conformal, fit_scaling, risk_coverage
from pipelines.training.config import TrainConfig

Arrays = dict[str, np.ndarray]
Measures = dict[str, "float | Interval"]
REPEATS = 200  # Of the two halves.


def predictions(config: TrainConfig, arguments: argparse.Namespace, console: Console) -> Arrays:
    """Trains, unless that was done, and returns what the model says, which is kept in the run folder."""
    kept = pathlib.Path(config.run) / f"predictions_{arguments.samples}.npz"
    source = re.sub(r"[^\w.-]+", "_", str(arguments.ood))
    other = pathlib.Path(config.run) / f"ood_{source}_{arguments.ood_images}_{arguments.samples}.npz"
    if not kept.is_file() or arguments.ood and not other.is_file():
        _predict(config, arguments, kept, other, console)
    arrays = dict(np.load(kept))
    if arguments.ood:
        arrays |= dict(np.load(other))
    return arrays


def _predict(
    config: TrainConfig, arguments: argparse.Namespace, kept: pathlib.Path, other: pathlib.Path, console: Console
) -> None:
    from pipelines.inference.answers import Sampling, answer, predict_logits
    from pipelines.inference.trained_model import load_calibrated, load_model
    from pipelines.jobs.train import train
    from pipelines.training.data import load_split, open_like

    run = train(config, console=console)
    model, calibrated = load_model(run), load_calibrated(run)

    def sampled(records: Any, prefix: str) -> Arrays:
        found = answer(calibrated, records, sampling=Sampling("mc-dropout", arguments.samples), console=console).found
        names = ("mean", "entropy", "mutual_information")
        return {f"{prefix}_{name}": getattr(found, name) for name in names}

    if not kept.is_file():
        arrays: Arrays = {"task": np.array(model.task)}
        for split in ("val", "test"):
            records = load_split(config, split)
            arrays[f"{split}_labels"] = records.labels
            arrays[f"{split}_logits"] = predict_logits(model, records, console=console)
            arrays[f"{split}_patients"] = records.table["patient"].to_numpy(dtype=str)
        np.savez_compressed(kept, **arrays, **sampled(records, "test"))
    if arguments.ood and not other.is_file():
        records = open_like(config, arguments.ood)
        rows = np.random.default_rng(0).permutation(len(records))[: arguments.ood_images]
        records = records.select(np.sort(rows))
        logits = predict_logits(model, records, console=console)
        np.savez_compressed(other, ood_logits=logits, **sampled(records, "ood"))


def measure(arrays: Arrays, arguments: argparse.Namespace) -> Measures:
    """Returns all measures of one run."""
    task = str(arrays["task"])
    labels, patients = arrays["test_labels"], arrays["test_patients"]
    scalings = {"as trained": LogitScaling(task)} | {
        kind: fit_scaling(arrays["val_labels"], arrays["val_logits"], task=task, kind=kind)
        for kind in ("temperature", "vector")
    }
    probabilities = {name: scaling.probabilities(arrays["test_logits"]) for name, scaling in scalings.items()}
    draws = {"task": task, "groups": patients, "repeats": arguments.repeats}
    measures: Measures = {
        name: bootstrap(measure, labels, probabilities["as trained"], **draws)
        for name, measure in (("AUC", "auc"), ("AUPR", "average_precision"))
    }
    for name, found in probabilities.items():
        measures |= {
            f"{what}, {name}": bootstrap(function, labels, found, groups=patients, repeats=arguments.repeats)
            for what, function in calibration_measures(task).items()
        }
    scaled = probabilities["temperature"]
    measures |= halves(labels, scaled, patients, task, arguments.coverage)
    calibrated = scalings["temperature"].probabilities(arrays["val_logits"])
    measures |= official(arrays["val_labels"], calibrated, labels, scaled, task, arguments.coverage)
    measures |= selective(arrays, scaled, task, arguments.repeats)
    if "ood_logits" in arrays:
        outside = scalings["temperature"].probabilities(arrays["ood_logits"])
        measures |= out_of_distribution(arrays, scaled, outside, task, arguments.repeats)
    return measures


def calibration_measures(task: str) -> dict[str, Any]:
    """Returns the measures of calibration as functions of labels and probabilities."""
    return {
        "ECE": lambda y, p: expected_calibration_error(y, p, task=task),
        "ECE, equal mass": lambda y, p: expected_calibration_error(y, p, task=task, binning="mass"),
        "NLL": lambda y, p: negative_log_likelihood(y, p, task=task),
        "Brier": lambda y, p: brier_score(y, p, task=task),
    }


def halves(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, task: str, coverage: float) -> Measures:
    """Fits sets on half of the patients and measures them on the others, many times."""
    names, patient = np.unique(patients, return_inverse=True)
    measures: Measures = {}
    for method in methods(task):
        covered, sizes, inside, inside_both = [], [], [], []
        for seed in range(REPEATS):
            first = np.zeros(len(names), bool)
            first[np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]] = True
            fit, test = first[patient], ~first[patient]
            sets = fit_conformal(labels[fit], probabilities[fit], task=task, coverage=coverage, method=method)
            found = sets.sets(probabilities[test])
            share, known = share_held(found, labels[test], task)
            fitted = np.full_like(known, fit.sum()) if not is_multilabel(task) else (~np.isnan(labels[fit])).sum(axis=0)
            rank = np.minimum(np.ceil((fitted + 1) * coverage), fitted)
            law = betabinom(known, rank, fitted + 1 - rank)
            covered.append(share.mean())
            sizes.append(found.sum(axis=-1).mean())
            inside.append(is_inside(share, known, binom(known, coverage)))
            inside_both.append(is_inside(share, known, law))
        low, high = np.quantile(covered, [0.025, 0.975])
        measures |= {
            f"halves, {method}: covered": Interval(float(np.mean(covered)), float(low), float(high)),
            f"halves, {method}: inside": float(np.mean(inside)),
            f"halves, {method}: inside, beta-binomial": float(np.mean(inside_both)),
            f"halves, {method}: size": float(np.mean(sizes)),
        }
    return measures


def official(
    val_labels: np.ndarray, val: np.ndarray, labels: np.ndarray, test: np.ndarray, task: str, coverage: float
) -> Measures:
    """Fits sets on validation and measures them on test."""
    measures: Measures = {}
    for method in methods(task):
        sets = fit_conformal(val_labels, val, task=task, coverage=coverage, method=method).sets(test)
        share, known = share_held(sets, labels, task)
        low, high = binom.interval(0.95, known, share) / known
        measures |= {
            f"official, {method}: covered": Interval(share.mean(), float(low.mean()), float(high.mean())),
            f"official, {method}: inside": is_inside(share, known, binom(known, coverage)),
            f"official, {method}: size": float(sets.sum(axis=-1).mean()),
        }
    return measures


def methods(task: str) -> tuple[str, ...]:
    return ("threshold",) if is_multilabel(task) else ("aps", "threshold")


def share_held(sets: np.ndarray, labels: np.ndarray, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the share of sets that hold the truth, and of how many, of all images or of each label."""
    if is_multilabel(task):
        known = ~np.isnan(labels)
        held = known & np.where(labels == 1, sets[..., 1], sets[..., 0])
        return held.sum(axis=0) / known.sum(axis=0), known.sum(axis=0)
    return np.array([sets[np.arange(len(labels)), labels].mean()]), np.array([len(labels)])


def is_inside(share: np.ndarray, known: np.ndarray, law: Any) -> float:
    """Returns how many shares lie within the 95 % interval of a law of counts."""
    low, high = law.interval(0.95)
    counts = np.round(share * known)
    return float(((counts >= low) & (counts <= high)).mean())


def selective(arrays: Arrays, once: np.ndarray, task: str, repeats: int) -> Measures:
    """Orders the same decisions, those of one prediction, by several uncertainties."""
    labels, patients = arrays["test_labels"], arrays["test_patients"]
    if is_multilabel(task):
        known = ~np.isnan(labels)
        losses = ((once >= 0.5) != (labels == 1))[known].astype(float)
        patients = np.broadcast_to(patients[:, None], labels.shape)[known]
        unsure = np.minimum(once, 1 - once)
    else:
        known = np.ones(len(labels), bool)
        losses = (once.argmax(axis=1) != labels).astype(float)
        unsure = 1 - once.max(axis=1)
    orders = {
        "max softmax": unsure[known],
        "entropy": arrays["test_entropy"][known],
        "mutual information": arrays["test_mutual_information"][known],
    }
    curve = risk_coverage(losses, orders["max softmax"])
    measures: Measures = {"risk of all": float(losses.mean()), "AURC, best possible": curve.best}
    for name, values in orders.items():
        measures[f"AURC, {name}"] = bootstrap(area, losses, values, groups=patients, repeats=repeats)
        if name != "max softmax":
            measures[f"AURC minus that of max softmax, {name}"] = paired_bootstrap(
                area, losses, values, orders["max softmax"], groups=patients, repeats=repeats
            )
    return measures


def area(losses: np.ndarray, uncertainty: np.ndarray) -> float:
    return risk_coverage(losses, uncertainty).aurc


def out_of_distribution(arrays: Arrays, inside: np.ndarray, outside: np.ndarray, task: str, repeats: int) -> Measures:
    """Returns how well uncertainty tells images of another source from test images."""
    scores = {"one prediction's entropy": (entropy(inside, task=task), entropy(outside, task=task))}
    scores["entropy"] = arrays["test_entropy"], arrays["ood_entropy"]
    scores["mutual information"] = arrays["test_mutual_information"], arrays["ood_mutual_information"]
    is_outside = np.repeat([0, 1], [len(inside), len(outside)])
    return {
        f"AUC of other images, {name}": bootstrap(
            lambda y, u: roc_auc(y == 1, u), is_outside, np.concatenate([_of_image(x) for x in pair]), repeats=repeats
        )
        for name, pair in scores.items()
    }


def _of_image(values: np.ndarray) -> np.ndarray:
    """Of several labels, the mean of theirs."""
    return values if values.ndim == 1 else values.mean(axis=1)


def table_of(of_seeds: list[Measures]) -> pd.DataFrame:
    """Returns a row per measure: the mean over seeds, and of each seed the value with its interval."""
    rows = []
    for name in of_seeds[0]:
        found = [measures[name] for measures in of_seeds]
        mean = np.mean([x.value if isinstance(x, Interval) else x for x in found])
        rows.append({"measure": name, "mean": f"{mean:.4f}"} | {f"seed {i}": cell(x) for i, x in enumerate(found)})
    return pd.DataFrame(rows)


def cell(found: "float | Interval") -> str:
    if isinstance(found, Interval):
        return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
    return f"{found:.4f}"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", required=True, help="name, or name:key=value,key=value")
    parser.add_argument("--pretrained", help="as of `medkeras train`")
    parser.add_argument("--patience", type=int, help="as of `medkeras train`")
    parser.add_argument("--samples", type=int, default=50, help="of Monte Carlo dropout")
    parser.add_argument("--coverage", type=float, default=0.9, help="promise of the prediction sets")
    parser.add_argument("--ood", help="a source of images of another kind")
    parser.add_argument("--ood-images", type=int, default=1000, help="at most so many of them")
    parser.add_argument("--repeats", type=int, default=1000, help="of each bootstrap")
    arguments = parser.parse_args()
    name, _, options = arguments.model.partition(":")
    changes = {
        "model_options": options_of(options),
        "pretrained": arguments.pretrained,
        "patience": arguments.patience,
    }
    console, of_seeds = Console(), []
    for seed in range(arguments.seeds):
        config = config_of(arguments, name, run=re.sub(r"[:,]", "-", arguments.model), seed=seed, **changes)
        of_seeds.append(measure(predictions(config, arguments, console), arguments))
    plain = [{k: v.to_dict() if isinstance(v, Interval) else v for k, v in m.items()} for m in of_seeds]
    (arguments.runs / "calibration.json").write_text(json.dumps(plain, indent=2) + "\n")
    table = table_of(of_seeds)
    table.to_csv(arguments.runs / "calibration.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
