"""Monte Carlo dropout: only the declared layers are on, the rest runs once, and the same seed repeats."""

import functools

import keras
import numpy as np
import pytest
from scipy.special import softmax

import medkeras
from harness import run_layer_test
from medkeras.layers import AlwaysOn
from medkeras.uncertainty import MonteCarloDropout, entropy, stochastic_layers
from mini_backbone import OPTIONS, mini_backbone  # noqa: F401  registers it for each test

RNG = np.random.default_rng(0)
SMALL = {
    "focusnet2d_tiny": {"input_shape": (28, 28, 1)},
    "dualattendmed_tiny": {"input_shape": (16, 16, 3), **OPTIONS},
}


def images_for(model, count=3):
    return RNG.random((count, *model.image_shape)).astype("float32")


def small(name, **options):
    keras.utils.set_random_seed(0)
    return medkeras.models.create(name, num_classes=3, **SMALL[name], **options)


def networks(place):
    """A functional model of its own with BatchNorm, and dropout in its middle, its head or a model inside it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(image)
    if place == "middle":
        x = keras.layers.SpatialDropout2D(0.5)(x)
    if place == "two ways":
        x = keras.layers.Concatenate()([keras.layers.Dropout(0.5)(x), x])
    if place == "inside":
        part = keras.Input(x.shape[1:])
        x = keras.Model(part, keras.layers.GaussianDropout(0.5)(part), name="part")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    if place in ("head", "middle"):
        x = keras.layers.Dropout(0.5)(x)
        x = keras.layers.Dropout(0.2)(keras.layers.Dense(8, activation="relu")(x))
    return keras.Model(image, keras.layers.Dense(3)(x))


def call_in_training(call, inputs, training=False):
    return call(inputs, training=True)


def by_hand(model, images, layers, samples, seed):
    """The probabilities, sample by sample, of images that are repeated as the sampler repeats them."""
    repeated = np.repeat(images, samples, axis=0)
    calls = [layer.call for layer in layers]
    for i, (layer, call) in enumerate(zip(layers, calls, strict=True)):
        layer.seed_generator.state.assign(np.array([seed, i << 16], "uint32"))
        layer.call = functools.partial(call_in_training, call)
    try:
        logits = np.asarray(model(repeated, training=False))
    finally:
        for layer, call in zip(layers, calls, strict=True):
            layer.call = call
    return softmax(logits.reshape(len(images), samples, -1), axis=-1).swapaxes(0, 1)


@pytest.mark.parametrize("place", ["head", "middle", "two ways", "inside"])
def test_samples_are_those_of_dropout_turned_on_by_hand(place):
    model = networks(place)
    images, layers = RNG.random((4, 8, 8, 3)).astype("float32"), stochastic_layers(model)
    sampled = MonteCarloDropout(model, samples=5, task="multiclass")
    before = [np.asarray(w) for w in model.weights]
    found = sampled.sample(images, seed=3)
    np.testing.assert_allclose(found, by_hand(model, images, layers, 5, 3), atol=1e-5)
    assert found.shape == (5, 4, 3) and found.std(axis=0).max() > 1e-3
    np.testing.assert_array_equal(sampled.sample(images, seed=3), found)
    again = MonteCarloDropout(model, samples=5, task="multiclass")
    np.testing.assert_allclose(again.sample(images, seed=3), found, atol=1e-6)
    assert np.abs(sampled.sample(images, seed=4) - found).max() > 1e-3
    for one, other in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_lies_before_the_dropout_runs_once():
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, inputs):
            calls.append(inputs.shape[0])
            return inputs

    image = keras.Input((4,))
    x = keras.layers.Dropout(0.5)(Counted()(image))
    sampled = MonteCarloDropout(keras.Model(image, keras.layers.Dense(2)(x)), samples=9, task="binary")
    sampled.model.run_eagerly = True
    calls.clear()
    sampled.sample(np.ones((3, 4), "float32"))
    assert calls == [3]


@pytest.mark.parametrize("name", SMALL)
def test_models_of_the_package_are_sampled_and_left_as_they_were(name):
    model = small(name, dropout=0.4)
    images = images_for(model)
    plain = model.predict(images, verbose=0)
    before = [np.array(v) for v in model.variables]  # Statistics of norms and states of random numbers among them.
    found = MonteCarloDropout(model, samples=20).predict(images, seed=1)
    assert found.mean.shape == (3, 3) and (found.mutual_information > 0).all()
    assert (found.normalized_entropy <= 1).all() and (found.expected_entropy <= found.entropy).all()
    np.testing.assert_array_equal(model.predict(images, verbose=0), plain)
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any("seed" in v.path for v in model.variables)


def test_samples_that_agree_have_no_mutual_information():
    """At a rate that drops nothing, every sample is the plain prediction."""
    model = small("focusnet2d_tiny", dropout=1e-9)
    images = images_for(model)
    found = MonteCarloDropout(model, samples=4).predict(images)
    plain = softmax(model.predict(images, verbose=0), axis=-1)
    np.testing.assert_allclose(found.mean, plain, atol=1e-6)
    np.testing.assert_allclose(found.entropy, entropy(plain, task="multiclass"), atol=1e-5)
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-6)


def linear(activation=None):
    image = keras.Input((4,))
    return keras.Model(image, keras.layers.Dense(2, activation=activation)(keras.layers.Dropout(0.5)(image)))


def test_a_model_of_another_package_may_give_probabilities():
    images = RNG.random((3, 4)).astype("float32")
    found = MonteCarloDropout(linear("sigmoid"), samples=6, task="multilabel", from_logits=False).predict(images)
    assert found.entropy.shape == (3, 2) and (found.mean < 1).all()


def test_a_compiled_model_is_sampled_too():
    model = networks("two ways")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((4, 8, 8, 3), "float32"), np.arange(4) % 3, verbose=0)
    sampled = MonteCarloDropout(model, samples=2, task="multiclass")
    assert sampled.sample(np.ones((1, 8, 8, 3), "float32")).shape == (2, 1, 3)
    assert len(model.optimizer.variables) > 2 and not sampled.model.compiled


class Written(keras.Model):
    """A model that is no graph."""

    def __init__(self):
        super().__init__()
        self.drop, self.dense = keras.layers.Dropout(0.5), keras.layers.Dense(2)

    def call(self, x, training=False):
        return self.dense(self.drop(x, training=training))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MonteCarloDropout(small("focusnet2d_tiny", dropout=0.0)), "a model with a dropout layer"),
        (lambda: MonteCarloDropout(small("focusnet2d_tiny", dropout=0.5), samples=0), "Received: samples=0"),
        (lambda: MonteCarloDropout(Written(), task="binary"), "a functional model. Received: Written"),
        (lambda: MonteCarloDropout(networks("head")), "Received: task=None"),
        (lambda: MonteCarloDropout(networks("head"), task="binary"), "binary task has 2 classes"),
        (
            lambda: MonteCarloDropout(networks("head"), task="multiclass", from_logits=False).predict(
                np.ones((1, 8, 8, 3), "float32")
            ),
            "Probabilities lie in|sum to 1",
        ),
        (
            lambda: MonteCarloDropout(linear(), samples=2, task="multilabel").predict(np.full((1, 4), np.nan)),
            "Received: value=nan",
        ),
    ],
)
def test_what_cannot_be_sampled_states_the_rule(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@keras.saving.register_keras_serializable("tests")
class Louder(keras.layers.Layer):
    """Multiplies in training."""

    def build(self, input_shape):
        self.factor = self.add_weight(shape=input_shape[-1:], initializer="random_normal", name="factor")

    def call(self, inputs, training=False):
        return inputs * (1 + self.factor) if training else inputs

    def compute_output_shape(self, input_shape):
        return input_shape


def test_a_layer_that_is_always_on_keeps_the_contract():
    inputs = RNG.normal(size=(4, 5)).astype("float32")
    run_layer_test(lambda **k: AlwaysOn(Louder(**k), **k), inputs, weights=(1, 0))
    layer = AlwaysOn(Louder())
    np.testing.assert_array_equal(layer(inputs, training=False), inputs * (1 + layer.layer.factor.numpy()))
