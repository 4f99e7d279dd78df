"""Weights against class imbalance, from the training labels alone."""

import numpy as np

SCHEMES = {"inverse": 1.0, "sqrt": 0.5}


def class_weights(labels: np.ndarray, num_classes: int, *, scheme: str = "inverse") -> dict[int, float]:
    """Returns a weight per class for `fit(class_weight=...)`; its mean over the given images is 1.

    Args:
        labels: Class indices, `(n,)`.
        num_classes: Number of classes.
        scheme: `"inverse"` to the class frequency, or to its square root, `"sqrt"`.

    Raises:
        ValueError: If the scheme is unknown or a class has no image.

    Example:
        >>> class_weights(np.array([0, 0, 0, 1]), 2)
        {0: 0.6666666666666666, 1: 2.0}
    """
    if scheme not in SCHEMES:
        raise ValueError(f"`scheme` must be one of {', '.join(SCHEMES)}. Received: scheme={scheme!r}")
    counts = np.bincount(labels, minlength=num_classes)
    if len(counts) > num_classes or (counts == 0).any():
        raise ValueError(f"Each of {num_classes} classes needs an image. Received: counts={counts.tolist()}")
    weights = counts ** -SCHEMES[scheme]
    weights *= counts.sum() / (weights * counts).sum()
    return dict(enumerate(weights.tolist()))


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
