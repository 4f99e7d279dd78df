"""How sure a run is, in columns and in numbers: entropies, prediction sets, what is referred, and what it is worth."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.stats import binomtest

from medkeras.evaluation import (
    Interval,
    bootstrap,
    brier_decomposition,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from medkeras.tasks import is_multilabel
from medkeras.uncertainty import ConformalSets, risk_coverage
from pipelines.inference.answers import Answers
from pipelines.inference.calibration import MEASURED_BY, decision_losses
from pipelines.inference.trained_model import Trained

REPEATS = 500  # Of each bootstrap; there are four.
SAMPLED = ("expected_entropy", "mutual_information")


def sureness_columns(answers: Answers, trained: Trained) -> pd.DataFrame:
    """Returns how sure each image's prediction is, one row per image.

    `entropy` in nats and `normalized_entropy` in [0, 1]; of samples `expected_entropy` and `mutual_information` too.
    `set`: the classes of the prediction set, joined by `|`; `decision`: `accept` or `refer`; both only where the run
    was calibrated. Of several labels, the entropies are those of the label `unsure_of`, whose entropy is the largest;
    `set` has the labels that may be present and `set_absent` those that may be absent.
    """
    model, calibration = trained.model, trained.calibration
    names = np.array(model.class_names)
    table = answers.sureness()
    if trained.sampling.method == "none":
        table = table.drop(columns=list(SAMPLED))
    label = answers.unsure_label()
    if label is not None:
        table["unsure_of"] = names[label]
    if calibration.sets is not None:
        sets = calibration.sets.sets(answers.probabilities)
        parts = {"set_absent": sets[..., 0], "set": sets[..., 1]} if sets.ndim == 3 else {"set": sets}
        for name, members in parts.items():
            table[name] = ["|".join(names[row]) for row in members]
    if calibration.referral is not None:
        table["decision"] = np.where(calibration.referral.refers(answers), "refer", "accept")
    return table


def measure_sureness(
    labels: np.ndarray, answers: Answers, trained: Trained, *, groups: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """Measures how far a run's probabilities, sets and referrals may be believed.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        answers: For the same images.
        trained: What answered.
        groups: `(n,)` patient of each image.
        seed: Of the bootstrap.

    Returns:
        - `method`, `scaling`: what was fitted on validation, if anything;
        - `before`, `after`: calibration of the model's own probabilities, and of the scaled or sampled ones that are
          its predictions: `ece` (bins of equal width) and `ece_equal_mass`, with 95 % intervals by bootstrap over
          patients, `brier`, `brier_decomposition` and `nll`;
        - `sets`: `promised`, `covered` (how many hold the true class, with the exact 95 % binomial interval, which
          takes images for independent; of several labels the mean over them, without an interval), `per_class` and
          `mean_size`; None without sets;
        - `selective`: `risk`, the share of wrong decisions, at full coverage; `aurc` by entropy, of the best order,
          and by the largest probability of the prediction without sampling (`aurc_max_softmax`); of samples also by
          mutual information; `wanted_risk`, `threshold`, the share `referred` and the `risk_kept`.
    """
    task, names = answers.task, trained.model.class_names
    calibration = trained.calibration
    before = _measure_calibration(labels, answers.raw, task, groups, seed)
    is_same = np.array_equal(answers.raw, answers.probabilities)
    after = before if is_same else _measure_calibration(labels, answers.probabilities, task, groups, seed)
    return {
        "method": calibration.fitted.get("method"),
        "scaling": calibration.scaling.to_dict(),
        "before": before,
        "after": after,
        "sets": None if calibration.sets is None else _measure_sets(labels, answers, calibration.sets, names),
        "selective": _measure_referral(labels, answers, trained),
    }


def max_softmax_uncertainty(answers: Answers) -> np.ndarray:
    """Returns one less the largest probability of each image without sampling, `(n,)`, of the label it is largest for.

    Example:
        >>> answers = Answers("binary", None, np.array([[0.9, 0.1]]), np.array([[0.9, 0.1]]))
        >>> max_softmax_uncertainty(answers).round(3).tolist()
        [0.1]
    """
    once = answers.once
    if is_multilabel(answers.task):
        return np.minimum(once, 1 - once).max(axis=1)
    return 1 - once.max(axis=1)


def wrong(labels: np.ndarray, answers: Answers, trained: Trained) -> np.ndarray:
    """Returns what is wrong of the decision on each image: see `pipelines.inference.calibration.decision_losses`."""
    return decision_losses(labels, trained.point.apply(answers.probabilities), task=answers.task)


def say_how_sure(measured: dict[str, Any], console: Console) -> None:
    """Prints the section `calibration` of `metrics.json` in three lines."""
    for line in _lines(measured):
        console.print(line, highlight=False, soft_wrap=True)


def _lines(measured: dict[str, Any]) -> Iterator[str]:
    if measured["after"]:
        before, after = (Interval(**measured[name]["ece"]) for name in ("before", "after"))
        yield f"expected calibration error {after}; of the model's own outputs {before}"
    if (sets := measured["sets"]) is not None:
        covered = sets["covered"]
        ends = "" if covered["low"] is None else f" ({covered['low']:.1%} to {covered['high']:.1%})"
        yield (
            f"prediction sets: {covered['value']:.1%}{ends} hold the truth, promised {sets['promised']:.0%}; "
            f"mean size {sets['mean_size']:.2f}"
        )
    if "referred" in (selective := measured["selective"] or {}):
        kept = "undefined" if selective["risk_kept"] is None else f"{selective['risk_kept']:.1%}"
        yield (
            f"referred {selective['referred']:.1%}; wrong of the rest {kept}, wanted {selective['wanted_risk']:.1%}, "
            f"of all {selective['risk']:.1%}"
        )


def _measure_calibration(
    labels: np.ndarray, probabilities: np.ndarray, task: str, groups: np.ndarray, seed: int
) -> dict[str, Any]:
    if np.isnan(labels).all():
        return {}

    def error(binning: str) -> dict[str, float]:
        def measure(some: np.ndarray, scores: np.ndarray) -> float:
            if np.isnan(some).all():
                return np.nan
            return expected_calibration_error(some, scores, task=task, binning=binning)

        return bootstrap(measure, labels, probabilities, groups=groups, repeats=REPEATS, seed=seed).to_dict()

    return {
        "ece": error("width"),
        "ece_equal_mass": error("mass"),
        "brier": brier_score(labels, probabilities, task=task),
        "brier_decomposition": brier_decomposition(labels, probabilities, task=task),
        "nll": negative_log_likelihood(labels, probabilities, task=task),
    }


def _measure_sets(labels: np.ndarray, answers: Answers, rule: ConformalSets, names: tuple[str, ...]) -> dict[str, Any]:
    sets = rule.sets(answers.probabilities)
    if is_multilabel(answers.task):
        holds = np.where(labels == 1, sets[..., 1], sets[..., 0])
        per_class = [_coverage(holds[~np.isnan(labels[:, k]), k]) for k in range(len(names))]
        values = [found["value"] for found in per_class if found["value"] is not None]
        covered = {"value": float(np.mean(values)), "low": None, "high": None}
    else:
        holds = sets[np.arange(len(labels)), labels]
        per_class = [_coverage(holds[labels == k]) for k in range(len(names))]
        covered = _coverage(holds)
    return {
        "promised": rule.coverage,
        "covered": covered,
        "per_class": dict(zip(names, per_class, strict=True)),
        "mean_size": float(sets.sum(axis=-1).mean()),
    }


def _coverage(holds: np.ndarray) -> dict[str, float | None]:
    """Returns the share of sets that hold the truth, with its exact binomial interval."""
    if not len(holds):
        return {"value": None, "low": None, "high": None}
    found = binomtest(int(holds.sum()), len(holds)).proportion_ci(0.95, method="exact")
    return {"value": float(holds.mean()), "low": float(found.low), "high": float(found.high)}


def _measure_referral(labels: np.ndarray, answers: Answers, trained: Trained) -> dict[str, Any] | None:
    losses = wrong(labels, answers, trained)
    known = ~np.isnan(losses)
    if not known.any():
        return None
    table, losses = answers.sureness()[known], losses[known]
    by = {
        "aurc": table[MEASURED_BY].to_numpy(),
        "aurc_max_softmax": max_softmax_uncertainty(answers)[known],
        "aurc_mutual_information": table["mutual_information"].to_numpy(),
    }
    if trained.sampling.method == "none":
        by.pop("aurc_mutual_information")
    curves = {name: risk_coverage(losses, unsure) for name, unsure in by.items()}
    found = {"risk": float(losses.mean()), "aurc_best": curves["aurc"].best}
    found |= {name: curve.aurc for name, curve in curves.items()}
    referral = trained.calibration.referral
    if referral is None:
        return found
    is_referred = referral.refers(answers)[known]
    return found | {
        "wanted_risk": referral.risk,
        "threshold": referral.threshold,
        "referred": float(is_referred.mean()),
        "risk_kept": float(losses[~is_referred].mean()) if not is_referred.all() else None,
    }
