"""How near a restored image comes to the original: peak signal-to-noise ratio and structural similarity."""

from typing import Any

import numpy as np

from medkeras.errors import InputError

SIGMA, RADIUS = 1.5, 5  # of the Gaussian window, in pixels
K1, K2 = 0.01, 0.03


def psnr(restored: Any, original: Any, *, data_range: float = 1.0) -> np.ndarray:
    """Returns the peak signal-to-noise ratio of each image in decibels, float64 `(n,)`; infinite for equal images.

    Args:
        restored: `(n, height, width, channels)`.
        original: The same shape.
        data_range: Distance between the lowest and the highest value that an image can have: 1 for images in [0, 1],
            255 for 8 bits.

    Raises:
        ValueError: If shapes differ, a value is not finite, or an argument is out of range.

    Example:
        >>> psnr(np.full((1, 4, 4, 1), 0.6), np.full((1, 4, 4, 1), 0.5)).round(3).tolist()
        [20.0]
    """
    restored, original = _checked(restored, original, data_range)
    error = np.mean((restored - original) ** 2, axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / error)


def ssim(restored: Any, original: Any, *, data_range: float = 1.0, window: int | None = None) -> np.ndarray:
    """Returns the structural similarity of each image, float64 `(n,)`; 1 for equal images.

    The mean over all windows that lie within the image, and over the channels.

    Args:
        restored: `(n, height, width, channels)`.
        original: The same shape.
        data_range: As for `psnr`.
        window: None for the article's Gaussian window, 11 pixels wide with a deviation of 1.5; or the side of a
            square window in which all pixels count alike, odd and at least 3, with unbiased variances as
            scikit-image takes them by default. Published values follow either; say which.

    Raises:
        ValueError: If shapes differ, a value is not finite, an argument is out of range, or an image is smaller than
            the window.

    Reference:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004.

    Example:
        >>> image = np.random.default_rng(0).random((1, 16, 16, 1))
        >>> ssim(image, image).tolist(), ssim(1 - image, image).item() < 0
        ([1.0], True)
    """
    x, y = _checked(restored, original, data_range)
    weights, unbiased = _window(window)
    if min(x.shape[1:3]) < len(weights):
        raise InputError(
            f"An image must hold the window of {len(weights)} pixels. Received: {x.shape[1]} x {x.shape[2]}"
        )
    mean_x, mean_y = _means(x, weights), _means(y, weights)
    variance_x = unbiased * (_means(x * x, weights) - mean_x**2)
    variance_y = unbiased * (_means(y * y, weights) - mean_y**2)
    covariance = unbiased * (_means(x * y, weights) - mean_x * mean_y)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return np.mean(likeness / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)), axis=(1, 2, 3))


def _window(window: int | None) -> tuple[np.ndarray, float]:
    """Returns the weights of the window along one axis, and the factor that makes its variances unbiased."""
    if window is None:
        weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
        return weights / weights.sum(), 1.0
    if window < 3 or window % 2 == 0:
        raise InputError(f"`window` must be odd and at least 3, or None. Received: window={window}")
    return np.full(window, 1 / window), window**2 / (window**2 - 1)


def _means(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the weighted mean of each window within the images."""
    for axis in (1, 2):
        images = np.lib.stride_tricks.sliding_window_view(images, len(weights), axis=axis) @ weights
    return images


def _checked(restored: Any, original: Any, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    restored, original = np.asarray(restored, "float64"), np.asarray(original, "float64")
    if restored.shape != original.shape or restored.ndim != 4 or not restored.size:
        raise InputError(
            "Both must be (n, height, width, channels), of one shape. "
            f"Received: restored.shape={restored.shape}, original.shape={original.shape}"
        )
    for name, images in (("restored", restored), ("original", original)):
        if not np.isfinite(images).all():
            raise InputError(f"`{name}` must be finite. Received: NaN or infinity")
    if not 0 < data_range < np.inf:
        raise InputError(f"`data_range` must be positive. Received: data_range={data_range}")
    return restored, original
