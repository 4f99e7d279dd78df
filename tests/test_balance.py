"""Class weights against scikit-learn and their defining properties."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from pipelines.balance import class_weights, positive_weights

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
