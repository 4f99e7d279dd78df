"""Whether a model is as good for every group of people: one row per group, and how it differs from the largest."""

import dataclasses
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_level, check_scores, group_index
from medkeras.evaluation.statistics.bootstrap import Interval
from medkeras.evaluation.statistics.delong import auc_interval
from medkeras.evaluation.statistics.proportions import difference_of, share_interval

MEASURES = ("auc", "sensitivity", "specificity", "calibration")
UNKNOWN = "unknown"
FEW_VALUES = 6  # Numbers with so many values are names, such as a grade or a scanner.
MOST_GROUPS = 20


@dataclasses.dataclass(frozen=True)
class Subgroup:
    """What a model is worth for one group of images.

    Attributes:
        group: Its name.
        images: Number of images.
        patients: Number of patients.
        positives: Number of positive images.
        measures: `auc`, `sensitivity`, `specificity` and `calibration` (in the large: the share of positive images
            less the mean probability; above 0, the model says too little), each with its interval.
        is_small: Whether fewer patients than the rule asks for have positive images, or negative ones: such a group
            is shown, not compared.
        differences: Each measure less that of the reference group; empty for that group itself and for small ones.
        stands_out: The measures that differ from the reference group's even when all comparisons are counted.
    """

    group: str
    images: int
    patients: int
    positives: int
    measures: dict[str, Interval]
    is_small: bool
    differences: dict[str, Interval] = dataclasses.field(default_factory=dict)
    stands_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns one flat row, for a table: `auc`, `auc_low`, `auc_high`, ..., `auc_difference`, ..."""
        row = {name: getattr(self, name) for name in ("group", "images", "patients", "positives", "is_small")}
        for name in MEASURES:
            row |= _flat(name, self.measures[name])
        for name in MEASURES:
            row |= _flat(f"{name}_difference", self.differences.get(name, Interval(np.nan, np.nan, np.nan)))
        return row | {"stands_out": "|".join(self.stands_out)}


def groups_of(values: Any, *, edges: Sequence[float] | None = None) -> tuple[np.ndarray, list[str]]:
    """Turns a column of metadata into groups.

    Text is taken as it is, numbers are cut into bands: at the edges, or at their quartiles where they have more than
    six values. Blank and NaN are the group `unknown`.

    Args:
        values: `(n,)`, text or numbers.
        edges: Rising numbers to cut at; each belongs to the band above it.

    Returns:
        The group of each value, `(n,)`, as an index into the names, which follow in order.

    Raises:
        ValueError: If edges do not rise, are asked of text, or there are more than 20 groups.

    Example:
        >>> index, names = groups_of([35, 61, 48, float("nan")], edges=[40, 60])
        >>> names, index.tolist()
        (['under 40', '40 to under 60', '60 and over', 'unknown'], [0, 2, 1, 3])
    """
    values = np.asarray(values)
    is_number = np.issubdtype(values.dtype, np.number)
    if edges is not None and (not is_number or not len(edges) or np.any(np.diff(edges) <= 0)):
        kind = "numbers" if is_number else "text"
        raise InputError(f"Numbers are cut at rising edges. Received: edges={list(edges)} for a column of {kind}")
    is_known = ~np.isnan(values) if is_number else np.array([_is_text(value) for value in values.tolist()], dtype=bool)
    known = values[is_known] if is_number else values[is_known].astype(str)
    levels, place = np.unique(known, return_inverse=True)
    names = [f"{level:g}" if is_number else str(level) for level in levels]
    if is_number and (edges is not None or len(levels) > FEW_VALUES):
        edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75])) if edges is None else np.asarray(edges)
        place, names = np.searchsorted(edges, known, "right"), _band_names(edges)
    if len(names) > MOST_GROUPS:
        raise InputError(f"A column of groups has at most {MOST_GROUPS}. Received: {len(names)}, such as {names[0]!r}")
    index = np.full(len(values), len(names))
    index[is_known] = place
    return index, names if is_known.all() else [*names, UNKNOWN]


def measure_subgroups(
    positive: Any,
    scores: Any,
    decisions: Any,
    index: Any,
    names: Sequence[str],
    *,
    patients: Any = None,
    smallest: int = 10,
    questions: int = 1,
    level: float = 0.95,
) -> list[Subgroup]:
    """Measures a model on each group of images, and how each differs from the largest.

    Args:
        positive: Boolean `(n,)`.
        scores: Probabilities `(n,)`, in [0, 1].
        decisions: Boolean `(n,)`, whether the image was called positive.
        index: `(n,)` group of each image, as `groups_of` returns them.
        names: Of the groups, in order; a group may be without images.
        patients: `(n,)` patient of each image; by default each image is its own.
        smallest: A group with fewer patients that have a positive image, or fewer that have a negative one, is small.
        questions: How many such tables are read together, one for each column and class. For `stands_out`, each table
            gets an equal share of 1 - `level`, and each of its differences an equal share of that, as Bonferroni.
        level: Of the intervals, in (0, 1).

    Returns:
        One entry per group, in order. AUC has DeLong's interval on the logit scale, sensitivity and specificity
        Wilson's, differences the one that follows from both groups' intervals; all by patient. The reference is the
        largest group that is not small.

    Raises:
        ValueError: If lengths differ, a label or score is not sound, or an option is out of range.

    Reference:
        Van Calster et al., BMC Medicine 17:230, 2019, for calibration in the large.

    Example:
        >>> positive, scores = np.arange(80) % 2, np.linspace(0.1, 0.9, 80)
        >>> groups = groups_of(np.arange(20, 100), edges=[61])
        >>> young, old = measure_subgroups(positive, scores, scores > 0.5, *groups)
        >>> young.group, young.images, str(old.differences["sensitivity"])
        ('under 61', 41, '1.000 (0.772 to 1.000)')
    """
    check_level(level)
    if smallest < 2 or questions < 1:
        raise InputError(
            f"`smallest` is at least 2 and `questions` at least 1. Received: smallest={smallest}, questions={questions}"
        )
    positive, scores, decisions, index, patients = _checked(positive, scores, decisions, index, patients, len(names))
    rows = [np.flatnonzero(index == k) for k in range(len(names))]
    arrays = [(positive[r], scores[r], decisions[r], patients[r]) for r in rows]
    found = [_subgroup(name, *each, smallest, level) for name, each in zip(names, arrays, strict=True)]
    fit = [k for k, group in enumerate(found) if not group.is_small]
    if len(fit) < 2:
        return found
    reference = max(fit, key=lambda k: found[k].images)
    comparisons = questions * (len(fit) - 1) * len(MEASURES)
    strict = {k: _measures(*arrays[k], 1 - (1 - level) / comparisons) for k in fit}
    for k in fit:
        if k != reference:
            differences = {m: difference_of(found[k].measures[m], found[reference].measures[m]) for m in MEASURES}
            wide = {m: difference_of(strict[k][m], strict[reference][m]) for m in MEASURES}
            apart = tuple(m for m in MEASURES if wide[m].low > 0 or wide[m].high < 0)
            found[k] = dataclasses.replace(found[k], differences=differences, stands_out=apart)
    return found


def _checked(positive: Any, scores: Any, decisions: Any, index: Any, patients: Any, groups: int) -> list[np.ndarray]:
    positive, scores = check_scores(positive, scores)
    decisions, index = np.asarray(decisions, dtype=bool), np.asarray(index)
    patients = np.arange(len(positive)) if patients is None else group_index(patients, len(positive))
    if not len(decisions) == len(index) == len(positive):
        raise InputError(
            f"Each image has a decision and a group. Received: {len(positive)} images, {len(decisions)} decisions, "
            f"{len(index)} groups"
        )
    if np.any((index < 0) | (index >= groups)):
        raise InputError(f"Groups are numbered from 0 to {groups - 1}. Received: {np.unique(index).tolist()}")
    return [positive, scores, decisions, index, patients]


def _subgroup(
    name: str,
    positive: np.ndarray,
    scores: np.ndarray,
    decisions: np.ndarray,
    patients: np.ndarray,
    smallest: int,
    level: float,
) -> Subgroup:
    fewest = min(len(np.unique(patients[kind])) for kind in (positive, ~positive))
    return Subgroup(
        name,
        images=len(positive),
        patients=len(np.unique(patients)),
        positives=int(positive.sum()),
        measures=_measures(positive, scores, decisions, patients, level),
        is_small=fewest < smallest,
    )


def _measures(
    positive: np.ndarray, scores: np.ndarray, decisions: np.ndarray, patients: np.ndarray, level: float
) -> dict[str, Interval]:
    return {
        "auc": auc_interval(positive, scores, groups=patients, level=level),
        "sensitivity": share_interval(decisions[positive], groups=patients[positive], level=level),
        "specificity": share_interval(~decisions[~positive], groups=patients[~positive], level=level),
        "calibration": _mean_interval(positive - scores, patients, level),
    }


def _mean_interval(values: np.ndarray, patients: np.ndarray, level: float) -> Interval:
    """Returns a mean with its normal interval, over patients."""
    count = len(np.unique(patients))
    if count < 2:
        return Interval(float(values.mean()) if len(values) else np.nan, np.nan, np.nan)
    value = float(values.mean())
    apart = np.bincount(group_index(patients, len(values)), weights=values - value)
    error = np.sqrt(count / (count - 1) * np.sum(apart**2)) / len(values)
    reach = NormalDist().inv_cdf((1 + level) / 2) * float(error)
    return Interval(value, value - reach, value + reach)


def _flat(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _is_text(value: Any) -> bool:
    return value is not None and value == value and str(value).strip() != ""


def _band_names(edges: np.ndarray) -> list[str]:
    between = [f"{low:g} to under {high:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return [f"under {edges[0]:g}", *between, f"{edges[-1]:g} and over"]
