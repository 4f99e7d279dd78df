"""How well a score ranks the positive images above the negative ones."""

from typing import Any

import numpy as np

from medkeras.errors import InputError


def roc_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Returns the area under the ROC curve: the share of (positive, negative) pairs in the right order.

    Ties count one half. Same value as scikit-learn's, without its checks, which a bootstrap would pay a
    thousand times.

    Args:
        positive: Boolean `(n,)`.
        scores: `(n,)`, larger for more likely.

    Returns:
        A value in [0, 1]; NaN without a positive or without a negative.

    Example:
        >>> roc_auc(np.array([True, False, False]), np.array([0.8, 0.3, 0.8]))
        0.75
    """
    positives, negatives = scores[positive], np.sort(scores[~positive])
    pairs = len(positives) * len(negatives)
    below = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
    return float(below.sum() / 2 / pairs) if pairs else np.nan


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean of the precisions at which each positive image is found, ties being found together.

    Same value as scikit-learn's `average_precision_score`.

    Args:
        positive: Boolean `(n,)`.
        scores: `(n,)`, larger for more likely.

    Returns:
        A value in [0, 1]; NaN without a positive or without a negative.

    Example:
        >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
        0.8333333333333333
    """
    positives = np.sort(scores[positive])
    if len(positives) in (0, len(scores)):
        return np.nan
    found = len(positives) - np.searchsorted(positives, positives, "left")
    called = len(scores) - np.searchsorted(np.sort(scores), positives, "left")
    return float(np.mean(found / called))


def roc_curve(positive: Any, scores: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the ROC curve: false positive rates, true positive rates and the thresholds between them.

    Args:
        positive: Boolean `(n,)`, both values present.
        scores: `(n,)`, larger for more likely.

    Raises:
        ValueError: If there is no positive or no negative.

    Example:
        >>> false_rates, true_rates, _ = roc_curve([False, True], [0.2, 0.7])
        >>> false_rates.tolist(), true_rates.tolist()
        ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    from sklearn import metrics

    return metrics.roc_curve(*_both_present(positive, scores))


def precision_recall_curve(positive: Any, scores: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the precision-recall curve: recalls (falling to 0), precisions and the thresholds.

    Args:
        positive: Boolean `(n,)`, both values present.
        scores: `(n,)`, larger for more likely.

    Raises:
        ValueError: If there is no positive or no negative.

    Example:
        >>> recalls, precisions, _ = precision_recall_curve([False, True], [0.2, 0.7])
        >>> recalls.tolist(), precisions.tolist()
        ([1.0, 1.0, 0.0], [0.5, 1.0, 1.0])
    """
    from sklearn import metrics

    precisions, recalls, thresholds = metrics.precision_recall_curve(*_both_present(positive, scores))
    return recalls, precisions, thresholds


def _both_present(positive: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        raise InputError(
            "A curve needs a positive and a negative image. "
            f"Received: {int(positive.sum())} positive of {positive.size}"
        )
    return positive, np.asarray(scores)
