"""Measures of restored images against loops, scipy and what they must keep."""

import numpy as np
import pytest
from scipy import ndimage

from medkeras.evaluation import image_quality
from medkeras.evaluation.image_quality import psnr, ssim

RNG = np.random.default_rng(0)
ORIGINAL = RNG.random((3, 15, 19, 2))
RESTORED = np.clip(ORIGINAL + 0.1 * RNG.normal(size=ORIGINAL.shape), 0, 1)


def looped_ssim(x, y, weights, *, ddof):
    """The article's equation 13, window by window, for one channel."""
    side, values = len(weights), []
    count = side**2 / (side**2 - ddof)
    for i, j in np.ndindex(x.shape[0] - side + 1, x.shape[1] - side + 1):
        a, b = (image[i : i + side, j : j + side] for image in (x, y))
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        variances = [count * (weights * (p - m) ** 2).sum() for p, m in ((a, mean_a), (b, mean_b))]
        covariance = count * (weights * (a - mean_a) * (b - mean_b)).sum()
        top = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
        values.append(top / ((mean_a**2 + mean_b**2 + 1e-4) * (sum(variances) + 9e-4)))
    return np.mean(values)


def gaussian():
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    return ndimage.gaussian_filter(impulse, 1.5, truncate=3.5, mode="constant")


@pytest.mark.parametrize(
    ("window", "weights", "ddof"),
    [(None, gaussian(), 0), (3, np.full((3, 3), 1 / 9), 1), (7, np.full((7, 7), 1 / 49), 1)],
)
def test_structural_similarity_is_that_of_the_article(window, weights, ddof):
    expected = [
        np.mean([looped_ssim(x[..., c], y[..., c], weights, ddof=ddof) for c in range(2)])
        for x, y in zip(RESTORED, ORIGINAL, strict=True)
    ]
    np.testing.assert_allclose(ssim(RESTORED, ORIGINAL, window=window), expected, rtol=1e-10)


def test_signal_to_noise_is_the_logarithm_of_the_squared_error():
    expected = [10 * np.log10(1 / np.mean((x - y) ** 2)) for x, y in zip(RESTORED, ORIGINAL, strict=True)]
    np.testing.assert_allclose(psnr(RESTORED, ORIGINAL), expected)


@pytest.mark.parametrize("measure", [psnr, ssim, lambda *a, **o: ssim(*a, **o, window=7)])
def test_a_measure_knows_the_range_the_order_and_each_image_alone(measure):
    values = measure(RESTORED, ORIGINAL)
    np.testing.assert_allclose(measure(255 * RESTORED, 255 * ORIGINAL, data_range=255), values)
    np.testing.assert_allclose(measure(ORIGINAL, RESTORED), values)
    np.testing.assert_allclose(measure(RESTORED[1:2], ORIGINAL[1:2]), values[1:2])
    worse = np.clip(ORIGINAL + 2 * (RESTORED - ORIGINAL), 0, 1)
    assert (measure(worse, ORIGINAL) < values).all()


def test_equal_images_are_perfect():
    assert np.isposinf(psnr(ORIGINAL, ORIGINAL)).all()
    np.testing.assert_allclose(ssim(ORIGINAL, ORIGINAL), 1)
    assert ssim(np.zeros((1, 11, 11, 1)), np.zeros((1, 11, 11, 1))) == 1


@pytest.mark.parametrize(
    ("restored", "options"),
    [
        (ORIGINAL[:2], {}),
        (ORIGINAL + np.nan, {}),
        (ORIGINAL, {"data_range": 0}),
        (ORIGINAL, {"window": 4}),
        (ORIGINAL, {"window": 1}),
        (ORIGINAL, {"window": 17}),
    ],
)
def test_what_cannot_be_compared_is_refused(restored, options):
    with pytest.raises(ValueError, match="Received: "):
        image_quality.ssim(restored, ORIGINAL, **options)


def test_images_alone_are_refused():
    with pytest.raises(ValueError, match="height, width, channels"):
        psnr(ORIGINAL[0], ORIGINAL[0])
