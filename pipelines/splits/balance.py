"""Weights against class imbalance, from the training labels alone."""

from collections.abc import Sequence

import numpy as np

from medkeras.errors import InputError

SCHEMES = ("inverse", "sqrt", "effective")
RESAMPLING = ("oversample", "undersample", "sqrt")
BETA = 0.999  # After 1 / (1 - BETA) images of a class, another one adds little.


def class_weights(
    labels: np.ndarray, num_classes: int, *, scheme: str = "inverse", beta: float = BETA
) -> dict[int, float]:
    """Returns a weight per class for `fit(class_weight=...)`; its mean over the given images is 1.

    Args:
        labels: Class indices, `(n,)`.
        num_classes: Number of classes.
        scheme: `"inverse"` to the class frequency, to its square root, `"sqrt"`, or to the effective number of
            images, `"effective"`, `(1 - beta^n) / (1 - beta)`.
        beta: For `"effective"`, in [0, 1): 0 weighs all classes alike, near 1 is `"inverse"`.

    Raises:
        ValueError: If the scheme is unknown, `beta` is out of range, or a class has no image.

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, arXiv 1901.05555.

    Example:
        >>> class_weights(np.array([0, 0, 0, 1]), 2)
        {0: 0.6666666666666666, 1: 2.0}
    """
    if scheme not in SCHEMES:
        raise InputError(f"`scheme` must be one of {', '.join(SCHEMES)}. Received: scheme={scheme!r}")
    if not 0 <= beta < 1:
        raise InputError(f"`beta` must be in [0, 1). Received: beta={beta}")
    counts = np.bincount(labels, minlength=num_classes)
    if len(counts) > num_classes or (counts == 0).any():
        raise InputError(f"Each of {num_classes} classes needs an image. Received: counts={counts.tolist()}")
    weights = 1 / {"inverse": counts, "sqrt": np.sqrt(counts), "effective": _effective(counts, beta)}[scheme]
    weights *= counts.sum() / (weights * counts).sum()
    return dict(enumerate(weights.tolist()))


def _effective(counts: np.ndarray, beta: float) -> np.ndarray:
    return (1 - beta**counts) / (1 - beta)


def resampled_counts(counts: Sequence[int] | np.ndarray, scheme: str) -> list[int]:
    """Returns how many images of each class an epoch shows when the classes are resampled.

    Args:
        counts: Images of each class.
        scheme: `"oversample"` shows each class as often as the largest, `"undersample"` as the smallest;
            `"sqrt"` keeps the length of an epoch and shows classes in proportion to the root of their size.

    Raises:
        ValueError: If the scheme is unknown or a class has no image.

    Example:
        >>> [resampled_counts([90, 10], scheme) for scheme in RESAMPLING]
        [[90, 90], [10, 10], [75, 25]]
    """
    counts = np.asarray(counts)
    if scheme not in RESAMPLING:
        raise InputError(f"`resample` must be one of {', '.join(RESAMPLING)}. Received: resample={scheme!r}")
    if (counts == 0).any():
        raise InputError(f"Each class needs an image. Received: counts={counts.tolist()}")
    if scheme == "sqrt":
        shares = np.sqrt(counts) / np.sqrt(counts).sum()
        return _rounded(shares * counts.sum()).tolist()
    return [int(counts.max() if scheme == "oversample" else counts.min())] * len(counts)


def _rounded(wanted: np.ndarray) -> np.ndarray:
    """Rounds to whole numbers of at least 1 that keep the sum: where most is cut off, one is added back."""
    counts = np.maximum(wanted.astype(int), 1)
    missing = max(round(wanted.sum()) - counts.sum(), 0)
    counts[np.argsort(counts - wanted, kind="stable")[:missing]] += 1
    return counts


def positive_weights(labels: np.ndarray) -> np.ndarray:
    """Returns the weight of positives per label, known negatives over known positives, float32 `(labels,)`.

    Args:
        labels: 0, 1 or NaN for unknown, `(n, labels)`. A label without positives or without negatives
            weighs 1.

    Example:
        >>> positive_weights(np.array([[1, 0], [0, np.nan], [0, 1]])).tolist()
        [2.0, 1.0]
    """
    positives, negatives = np.sum(labels == 1, axis=0), np.sum(labels == 0, axis=0)
    both = (positives > 0) & (negatives > 0)
    return np.where(both, negatives / np.maximum(positives, 1), 1.0).astype(np.float32)
