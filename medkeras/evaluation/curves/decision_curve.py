"""Decision curves: whether acting on a model's probabilities does more good than acting on everybody or on nobody."""

import dataclasses
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_scores


@dataclasses.dataclass(frozen=True)
class DecisionCurve:
    """Net benefit by threshold probability.

    The threshold is where acting and not acting are equally good: at 0.1, one ill person found is worth nine acted on
    in vain. Net benefit counts people rightly acted on, per image, less those in vain at that rate. Acting on nobody
    has net benefit 0.

    Attributes:
        thresholds: `(points,)`, in (0, 1).
        net_benefit: `(points,)`, of acting where the probability is at least the threshold.
        treat_all: `(points,)`, of acting on everybody.
        prevalence: Share of positive images.
    """

    thresholds: np.ndarray
    net_benefit: np.ndarray
    treat_all: np.ndarray
    prevalence: float

    @property
    def net_reduction(self) -> np.ndarray:
        """By how much fewer are acted on than if everybody was, per image and without missing more, `(points,)`."""
        return (self.net_benefit - self.treat_all) / _odds(self.thresholds)

    @property
    def is_useful(self) -> np.ndarray:
        """Whether the model does better than everybody and nobody, boolean `(points,)`."""
        return self.net_benefit > np.maximum(self.treat_all, 0) + 1e-12


def decision_curve(positive: Any, scores: Any, *, thresholds: Any = None) -> DecisionCurve:
    """Returns the net benefit of a model by threshold probability.

    The probabilities must be calibrated, and the share of positive images that of the people whom the model shall
    serve: in a set that was balanced, or picked for its findings, the curve describes the set alone.

    Args:
        positive: Boolean `(n,)`.
        scores: Probabilities `(n,)`, in [0, 1].
        thresholds: Threshold probabilities, in (0, 1); 0.01 to 0.99 by default.

    Returns:
        The curve; its values are NaN without an image.

    Raises:
        ValueError: If lengths differ, or a label, a probability or a threshold is out of range.

    Reference:
        Vickers and Elkin, Medical Decision Making 26:565, 2006.

    Example:
        >>> curve = decision_curve([0, 0, 0, 1], [0.1, 0.3, 0.6, 0.8], thresholds=[0.2, 0.5])
        >>> curve.net_benefit.tolist(), curve.treat_all.tolist(), curve.net_reduction.tolist()
        ([0.125, 0.0], [0.0625, -0.5], [0.25, 0.5])
    """
    positive, scores = check_scores(positive, scores)
    thresholds = np.arange(1, 100) / 100 if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if thresholds.ndim != 1 or not ((thresholds > 0) & (thresholds < 1)).all():
        raise InputError(f"`thresholds` must be a list in (0, 1). Received: thresholds={thresholds.tolist()}")
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        raise InputError(f"Net benefit is of probabilities, in [0, 1]. Received: scores={scores[outside][0]}")
    if not len(scores):
        empty = np.full(len(thresholds), np.nan)
        return DecisionCurve(thresholds, empty, empty, np.nan)
    hit, false = (_at_least(scores[kind], thresholds) / len(scores) for kind in (positive, ~positive))
    prevalence, odds = float(positive.mean()), _odds(thresholds)
    return DecisionCurve(thresholds, hit - false * odds, prevalence - (1 - prevalence) * odds, prevalence)


def _at_least(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")


def _odds(thresholds: np.ndarray) -> np.ndarray:
    return thresholds / (1 - thresholds)
