"""Selective prediction: what a model may decide by itself, and what it refers to someone else."""

import dataclasses
from typing import Any

import numpy as np

from medkeras.errors import InputError


@dataclasses.dataclass(frozen=True)
class RiskCoverage:
    """The mean loss of the images that are kept, the surest first.

    Attributes:
        coverage: Share of the images that are kept, rising to 1; images that are as unsure as each other stay
            together.
        risk: The mean loss of those.
        threshold: The largest uncertainty among those.
        aurc: The area under the risk, the mean over all images of the risk where that image is the last one kept;
            between images of equal uncertainty the mean of all orders.
        best: The same for an uncertainty that sorts the images by their loss.
    """

    coverage: np.ndarray
    risk: np.ndarray
    threshold: np.ndarray
    aurc: float
    best: float


def risk_coverage(losses: Any, uncertainty: Any) -> RiskCoverage:
    """Returns how the loss of what is kept rises with the share that is kept.

    Args:
        losses: `(n,)`, for instance 1 where the decision was wrong and 0 where it was right.
        uncertainty: `(n,)`, any number that is larger for images to refer, such as an entropy.

    Raises:
        ValueError: If the shapes differ, there is no image, or a value is not finite.

    Reference:
        Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, arXiv 1705.08500; Geifman et al.,
        arXiv 1805.08206, for the area.

    Example:
        >>> curve = risk_coverage([0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3])
        >>> curve.coverage.tolist(), curve.risk.tolist(), curve.aurc
        ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.25], 0.0625)
    """
    losses, uncertainty = (np.asarray(x, np.float64) for x in (losses, uncertainty))
    if losses.ndim != 1 or losses.shape != uncertainty.shape or not len(losses):
        raise InputError(
            f"`losses` and `uncertainty` must be (n,), at least one. Received: shapes {losses.shape}, "
            f"{uncertainty.shape}"
        )
    for name, values in (("losses", losses), ("uncertainty", uncertainty)):
        if not np.isfinite(values).all():
            raise InputError(f"`{name}` must be finite. Received: {name}={values[~np.isfinite(values)][0]}")
    threshold, place = np.unique(uncertainty, return_inverse=True)
    mean = np.bincount(place, losses) / np.bincount(place)
    # Among images that are equally unsure each has their mean loss: that is the mean of all orders.
    smoothed = mean[place][np.argsort(uncertainty, kind="stable")]
    kept = np.cumsum(np.bincount(place))
    risk = np.cumsum(np.bincount(place, losses)) / kept
    return RiskCoverage(kept / len(losses), risk, threshold, _area(smoothed), _area(np.sort(losses)))


def referral_threshold(losses: Any, uncertainty: Any, *, risk: float) -> float:
    """Returns the largest uncertainty up to which the images that are kept have at most a wanted mean loss.

    Choose it on validation images: it promises nothing for others, and the less the fewer they were.

    Args:
        losses: As for `risk_coverage`.
        uncertainty: As for `risk_coverage`.
        risk: The mean loss to stay within, at least 0.

    Returns:
        The threshold; an image is referred where its uncertainty is above it. Minus infinity, so that all are
        referred, if even the surest have a larger loss.

    Raises:
        ValueError: As `risk_coverage`, or if the risk is negative.

    Example:
        >>> referral_threshold([0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3], risk=0.1)
        0.3
    """
    if not risk >= 0:
        raise InputError(f"`risk` must be at least 0. Received: risk={risk}")
    curve = risk_coverage(losses, uncertainty)
    within = np.flatnonzero(curve.risk <= risk)
    return float(curve.threshold[within[-1]]) if len(within) else -np.inf


def _area(losses: np.ndarray) -> float:
    return float(np.mean(np.cumsum(losses) / np.arange(1, len(losses) + 1)))
