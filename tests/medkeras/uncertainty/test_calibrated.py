"""A calibrated model is its classifier with scaled logits, whatever is then done with it."""

import keras
import numpy as np
import pytest

from medkeras.explain import class_map
from medkeras.export.inference import float32_model
from medkeras.models import two_stage
from medkeras.tasks import to_probabilities
from medkeras.uncertainty import Calibrated, DeepEnsemble, LogitScaling, MonteCarloDropout, with_scaling
from spot_net import SpotNet

IMAGES = np.random.default_rng(0).uniform(size=(3, 16, 16, 1)).astype("float32")
VECTOR = LogitScaling("multiclass", scale=(0.5, 2.0, 1.0), shift=(0.3, 0.0, -0.4))
COOLER = LogitScaling("multiclass", scale=(0.5,))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return SpotNet((16, 16, 1), num_classes=3, class_names=("a", "b", "c"))


@pytest.fixture(scope="module")
def scaled(model):
    return Calibrated(model, VECTOR)


def test_the_logits_are_scaled_and_all_else_is_the_same(model, scaled):
    np.testing.assert_allclose(scaled(IMAGES), VECTOR.apply(model(IMAGES)), rtol=1e-5, atol=1e-5)
    assert [w.path for w in scaled.weights] == [w.path for w in model.weights]
    assert scaled.count_params() == model.count_params()
    for name in ("name", "task", "class_names", "image_shape", "normalization", "stochastic", "mean_pixel"):
        assert getattr(scaled, name) == getattr(model, name), name
    assert scaled.explain_points.keys() == model.explain_points.keys()
    np.testing.assert_allclose(class_map(Calibrated(model, COOLER), IMAGES), class_map(model, IMAGES), atol=1e-5)
    assert with_scaling(model, LogitScaling("multiclass")) is model


def test_a_file_of_it_is_whole(scaled, tmp_path):
    scaled.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert again.scaling == VECTOR and len(again.weights) == len(scaled.weights)
    np.testing.assert_allclose(again(IMAGES), scaled(IMAGES), atol=1e-6)


def test_samples_are_scaled_one_by_one(model, scaled):
    """The same seed drops the same units: only the scaling differs."""
    # Their logarithms are logits but for a constant of each row, which a temperature cancels.
    logits = np.log(MonteCarloDropout(model, samples=6).sample(IMAGES, seed=1))
    found = MonteCarloDropout(Calibrated(model, COOLER), samples=6).sample(IMAGES, seed=1)
    np.testing.assert_allclose(found, to_probabilities(0.5 * logits, "multiclass"), atol=1e-5)
    members = DeepEnsemble([model, scaled]).sample(IMAGES)
    np.testing.assert_allclose(members[1], VECTOR.probabilities(model(IMAGES)), atol=1e-5)


def test_two_looks_are_scaled_after_their_average(model):
    twice = two_stage(model, "ws-dan")
    scaled = with_scaling(twice, VECTOR)
    np.testing.assert_allclose(scaled(IMAGES), VECTOR.apply(twice(IMAGES)), rtol=1e-5, atol=1e-5)
    assert scaled.classifier is twice


def test_half_precision_is_exported_in_whole():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = Calibrated(SpotNet((16, 16, 1), num_classes=3), VECTOR)
    finally:
        keras.config.set_dtype_policy("float32")
    whole = float32_model(half)
    assert whole is not half and all(layer.compute_dtype == "float32" for layer in whole.layers)
    assert str(half.output.dtype) == str(whole.output.dtype) == "float32"
    np.testing.assert_allclose(whole(IMAGES), half(IMAGES), atol=0.02)


@pytest.mark.parametrize(
    ("scaling", "text"),
    [
        (LogitScaling("multilabel"), "multiclass of 3"),
        (LogitScaling("multiclass", scale=(1.0, 2.0)), r"scale=\(1.0, 2.0\)"),
        (LogitScaling("multiclass", shift=(1.0, 2.0)), r"shift=\(1.0, 2.0\)"),
    ],
)
def test_a_scaling_of_something_else_is_refused(model, scaling, text):
    with pytest.raises(ValueError, match=text):
        Calibrated(model, scaling)


def test_only_a_classifier_is_calibrated_and_once(scaled):
    for wrong in (scaled, keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])):
        with pytest.raises(ValueError, match=f"Received: {type(wrong).__name__}"):
            Calibrated(wrong, VECTOR)
