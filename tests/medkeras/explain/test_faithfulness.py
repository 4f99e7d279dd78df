"""Faithfulness: curves that are known in closed form, and maps that do not listen to the model."""

import dataclasses

import keras
import numpy as np
import pytest

from linear_model import linear_model, weights_of
from medkeras.explain import (
    deletion_curve,
    explain,
    explainable,
    insertion_curve,
    integrated_gradients,
    randomization_check,
)
from medkeras.explain.methods.registry import METHODS
from small_models import small

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


@pytest.fixture(scope="module")
def linear():
    return linear_model()


def deletion_twin(model, image, values, target, steps, fill):
    """One image, step by step, pixel by pixel."""
    order = sorted(range(values.size), key=lambda i: (-values.ravel()[i], i))
    found = []
    for step in range(steps + 1):
        view = image.copy().reshape(-1, image.shape[-1])
        for i in order[: int(np.rint(step / steps * values.size))]:
            view[i] = fill
        found.append(float(keras.ops.softmax(model(view.reshape(1, *image.shape)))[0, target]))
    return found


def test_the_deletion_curve_equals_its_twin(linear):
    images, maps = uniform(2, 4, 6, 2), np.round(uniform(2, 4, 6), 1)  # With ties.
    curve = deletion_curve(linear, images, maps, target=[0, 2], steps=7, baseline=0.25)
    twins = [deletion_twin(linear, x, m, t, 7, 0.25) for x, m, t in zip(images, maps, (0, 2), strict=True)]
    np.testing.assert_allclose(curve.probabilities, twins, atol=1e-5)
    np.testing.assert_allclose(curve.areas, np.trapezoid(curve.probabilities, curve.shares), atol=1e-6)


def test_the_curves_tell_good_maps_from_bad(linear):
    """Of a linear model the best order is known: by what each pixel adds to the logit."""
    images = uniform(4, 4, 6, 2)
    maps = integrated_gradients(linear, images, target=1, baseline=0)
    good, bad = (deletion_curve(linear, images, m, target="b", baseline=0) for m in (maps, -maps))
    assert (good.areas < bad.areas).all()
    np.testing.assert_allclose(good.probabilities[:, [0, -1]], bad.probabilities[:, [0, -1]], atol=1e-6)


def test_insertion_goes_from_the_blurred_image_to_the_image(linear):
    image = np.zeros((1, 4, 6, 2), "float32")
    weights = weights_of(linear, 1).sum(-1)
    place = np.unravel_index(weights.argmax(), weights.shape)
    image[0, place[0], place[1]] = 1
    curve = insertion_curve(linear, image, weights[None], target=1, steps=24)
    assert curve.shares[0] == 0 and curve.shares[-1] == 1 and curve.probabilities.shape == (1, 25)
    expected = float(keras.ops.softmax(linear(image))[0, 1])
    assert curve.probabilities[0, -1] == pytest.approx(expected, abs=1e-5)


def test_a_map_of_the_image_alone_is_found_out(monkeypatch):
    """A "method" that shows the brightness does not change with the weights; one that asks the model does."""
    model = small("vit_tiny")
    images = uniform(2, *model.image_shape)
    before = model.get_weights()
    brightness = dataclasses.replace(METHODS["smooth_grad"], maps=lambda model, images, target=None: images.mean(-1))
    monkeypatch.setitem(METHODS, "brightness", brightness)
    shown = randomization_check(model, images, method="brightness", stages=2)
    assert shown.similarities == pytest.approx((1.0, 1.0)) and not shown.changes
    asked = randomization_check(model, images, method="smooth_grad", stages=2, samples=1)
    assert asked.changes and asked.shares == (0.5, 1.0)
    assert asked == randomization_check(model, images, method="smooth_grad", stages=2, samples=1)
    for weights, unchanged in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, unchanged)


def test_a_keras_model_is_checked_on_a_copy():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    images = uniform(3, 6, 6, 1)
    before = explain(model, images, method="integrated_gradients").maps
    assert randomization_check(model, images, method="integrated_gradients").changes
    np.testing.assert_array_equal(explain(model, images, method="integrated_gradients").maps, before)
    assert deletion_curve(model, images, before, steps=3).probabilities.shape == (3, 4)
    with pytest.raises(ValueError, match="Received: sequential"):
        randomization_check(explainable(model), images, method="integrated_gradients")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m, x: deletion_curve(m, x, x), r"maps of shape \(2, 4, 6, 2\)"),
        (lambda m, x: deletion_curve(m, x, x[..., 0] * np.nan), "must be finite"),
        (lambda m, x: insertion_curve(m, x, x[:1, ..., 0]), r"maps of shape \(1, 4, 6\)"),
        (lambda m, x: insertion_curve(m, x, x[..., 0], steps=0), "Received: steps=0"),
        (lambda m, x: deletion_curve(m, x, x[..., 0], target="x"), "Received: target='x'"),
        (lambda m, x: randomization_check(m, x, method="occlusion", stages=0), "Received: stages=0"),
        (lambda m, x: randomization_check(m, x, method="grad_cam"), "Received: method='grad_cam'"),
    ],
)
def test_wrong_arguments_state_the_rule(linear, call, text):
    with pytest.raises(ValueError, match=text):
        call(linear, uniform(2, 4, 6, 2))
