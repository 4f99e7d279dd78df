"""Class weights against scikit-learn and their defining properties."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from pipelines.splits.balance import RESAMPLING, class_weights, positive_weights, resampled_counts

LABELS = np.repeat([0, 1, 2], [60, 30, 10])


def test_inverse_weights_are_scikit_learns():
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(list(class_weights(LABELS, 3).values()), wanted)


@pytest.mark.parametrize("scheme", ["inverse", "sqrt"])
def test_mean_weight_of_the_images_is_one(scheme):
    weights = class_weights(LABELS, 3, scheme=scheme)
    assert np.mean([weights[label] for label in LABELS]) == pytest.approx(1)


def test_sqrt_is_milder():
    inverse, sqrt = class_weights(LABELS, 3), class_weights(LABELS, 3, scheme="sqrt")
    assert sqrt[2] / sqrt[0] == pytest.approx(np.sqrt(inverse[2] / inverse[0]))


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.9999])
def test_effective_numbers_sum_a_geometric_series(beta):
    weights = class_weights(LABELS, 3, scheme="effective", beta=beta)
    effective = np.array([sum(beta**k for k in range(n)) for n in (60, 30, 10)])
    ratios = np.array(list(weights.values())) * effective
    np.testing.assert_allclose(ratios, ratios[0])
    assert np.mean([weights[label] for label in LABELS]) == pytest.approx(1)


def test_effective_numbers_go_from_no_weights_to_inverse_ones():
    assert class_weights(LABELS, 3, scheme="effective", beta=0) == pytest.approx({0: 1, 1: 1, 2: 1})
    inverse = class_weights(LABELS, 3)
    assert class_weights(LABELS, 3, scheme="effective", beta=1 - 1e-9) == pytest.approx(inverse, rel=1e-4)


@pytest.mark.parametrize("seed", range(200))
def test_resampled_counts(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, int(rng.choice([10, 1000, 100_000])), rng.integers(2, 12))
    over, under, root = (np.array(resampled_counts(counts, scheme)) for scheme in RESAMPLING)
    assert np.all(over == counts.max()) and np.all(under == counts.min())
    wanted = counts.sum() * np.sqrt(counts) / np.sqrt(counts).sum()
    assert root.sum() == counts.sum() and np.all(np.abs(root - wanted) < 1)
    assert np.all(root >= 1) and np.all(np.diff(root[np.argsort(counts, kind="stable")]) >= -1)


@pytest.mark.parametrize(
    ("counts", "scheme", "message"),
    [([3, 0], "oversample", r"needs an image. Received: counts=\[3, 0\]"), ([3, 2], "double", "resample='double'")],
)
def test_resampling_that_cannot_be(counts, scheme, message):
    with pytest.raises(ValueError, match=message):
        resampled_counts(counts, scheme)


@pytest.mark.parametrize("beta", [-0.1, 1, 2])
def test_a_beta_out_of_range(beta):
    with pytest.raises(ValueError, match=f"beta={beta}"):
        class_weights(LABELS, 3, scheme="effective", beta=beta)


def test_positive_weights_leave_unknown_labels_out():
    nan = np.nan
    labels = np.array([[1, nan, 0, 1], [0, 1, 0, 1], [0, 0, nan, 1], [0, 0, 0, 1]], np.float32)
    weights = positive_weights(labels)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [3, 2, 1, 1])


@pytest.mark.parametrize(
    ("labels", "classes", "scheme", "message"),
    [
        ([0, 0, 1], 3, "inverse", r"needs an image. Received: counts=\[2, 1, 0\]"),
        ([0, 1, 2], 2, "inverse", "Each of 2 classes"),
        ([0, 1], 2, "log", "scheme='log'"),
    ],
)
def test_bad_input(labels, classes, scheme, message):
    with pytest.raises(ValueError, match=message):
        class_weights(np.array(labels), classes, scheme=scheme)
