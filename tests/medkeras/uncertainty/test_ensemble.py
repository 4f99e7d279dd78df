"""Ensembles and test-time augmentation: each sample is one model's, or one view's, own prediction."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from medkeras.uncertainty import DeepEnsemble, MonteCarloDropout, TestTimeAugmentation
from medkeras.uncertainty.tta import DEFAULT_VIEWS, VIEWS
from tiny_model import TinyNet

RNG = np.random.default_rng(0)
SHAPE, VOLUME = (10, 10, 1), (6, 8, 8, 1)
IMAGES = {len(shape): RNG.random((5, *shape)).astype("float32") for shape in (SHAPE, VOLUME)}
CLASSES = ("a", "b", "c")


def tiny(seed=0, shape=SHAPE, **options):
    keras.utils.set_random_seed(seed)
    return TinyNet(shape, **{"num_classes": 3, "class_names": CLASSES, **options})


def foreign(pixels="flatten", outputs=3, shape=SHAPE, activation=None):
    """A model of another package that looks at each pixel by its place, or at the mean of all alone."""
    keras.utils.set_random_seed(1)
    image = keras.Input(shape)
    x = keras.layers.Flatten()(image) if pixels == "flatten" else keras.layers.GlobalAveragePooling2D()(image)
    x = keras.layers.Dense(8, activation="tanh")(x)
    return keras.Model(image, keras.layers.Dense(outputs, activation=activation)(x))


def probabilities(model, images):
    return softmax(np.asarray(model.predict(images, verbose=0), np.float64), axis=-1)


def test_samples_of_an_ensemble_are_its_models_predictions():
    models = [tiny(0), tiny(1), foreign()]
    ensemble, images = DeepEnsemble(models, task="multiclass"), IMAGES[3]
    found = ensemble.sample(images, batch_size=2)
    assert found.shape == (3, 5, 3) and found.dtype == np.float32
    for sample, model in zip(found, models, strict=True):
        np.testing.assert_allclose(sample, probabilities(model, images), atol=1e-6)
    summary = ensemble.predict(images)
    np.testing.assert_allclose(summary.mean, found.mean(0), atol=1e-6)
    assert (summary.mutual_information > 1e-6).all() and (summary.normalized_entropy <= 1).all()
    np.testing.assert_array_equal(ensemble.sample(images, batch_size=2), found)


def test_a_model_agrees_with_itself():
    model, images = tiny(), IMAGES[3]
    found = DeepEnsemble([model, model]).predict(images)
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-7)
    np.testing.assert_allclose(found.mean, probabilities(model, images), atol=1e-6)


def moved(images, axis, pixels):
    """The images moved along an axis, their border repeated."""
    padded = np.pad(images, [(1, 1) if i == axis % images.ndim else (0, 0) for i in range(images.ndim)], mode="edge")
    return np.take(padded, np.arange(1, images.shape[axis] + 1) - pixels, axis=axis)


ORACLES = {
    "identity": lambda x: x,
    "brighter": lambda x: np.clip(1.1 * x, 0, 1),
    "darker": lambda x: 0.9 * x,
    "shift_left": lambda x: moved(x, -2, -1),
    "shift_right": lambda x: moved(x, -2, 1),
    "shift_up": lambda x: moved(x, -3, -1),
    "shift_down": lambda x: moved(x, -3, 1),
    "flip_width": lambda x: x[..., ::-1, :],
    "flip_height": lambda x: x[..., ::-1, :, :],
    "flip_depth": lambda x: x[:, ::-1],
    "turn_90": lambda x: np.rot90(x, 1, (-3, -2)),
    "turn_180": lambda x: np.rot90(x, 2, (-3, -2)),
    "turn_270": lambda x: np.rot90(x, 3, (-3, -2)),
}


@pytest.mark.parametrize("shape", [SHAPE, VOLUME])
def test_samples_of_views_are_the_models_predictions_of_them(shape):
    images = IMAGES[len(shape)]
    views = [view for view in VIEWS if len(shape) == 4 or view != "flip_depth"]
    model = foreign(shape=shape)
    seen = TestTimeAugmentation(model, views=views, task="multiclass")
    found = seen.sample(images, batch_size=2)
    assert found.shape == (len(views), 5, 3) and set(ORACLES) == set(VIEWS)
    for sample, view in zip(found, views, strict=True):
        np.testing.assert_allclose(sample, probabilities(model, ORACLES[view](images)), atol=1e-5, err_msg=view)
    assert (seen.predict(images).mutual_information > 1e-6).all()
    np.testing.assert_array_equal(seen.sample(images, batch_size=2), found)


def test_a_model_that_sees_no_difference_is_not_less_sure():
    """Means over all pixels stay under flips and turns, and not under more light."""
    model, images = foreign("mean"), IMAGES[3]
    views = ("identity", "flip_width", "flip_height", "turn_90", "turn_180")
    found = TestTimeAugmentation(model, views=views, task="multiclass").predict(images)
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-7)
    np.testing.assert_allclose(found.variance, 0, atol=1e-12)
    lit = TestTimeAugmentation(model, views=("identity", "brighter"), task="multiclass").predict(images)
    assert (lit.mutual_information > 1e-9).all()


def test_the_default_views_neither_mirror_nor_turn():
    assert TestTimeAugmentation(tiny()).views == DEFAULT_VIEWS
    assert not any(view.startswith(("flip", "turn")) for view in DEFAULT_VIEWS)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_entropies_of_every_sampler_keep_their_bounds(task):
    model, images = tiny(task=task), IMAGES[3]
    ensemble = DeepEnsemble([model, tiny(1, task=task)])
    for sampler in (MonteCarloDropout(model, samples=4), ensemble, TestTimeAugmentation(model)):
        found = sampler.predict(images)
        assert found.entropy.shape == ((5,) if task == "multiclass" else (5, 3))
        assert found.normalized_entropy.min() >= 0 and found.normalized_entropy.max() <= 1 + 1e-9
        assert (found.expected_entropy <= found.entropy + 1e-9).all() and (found.mutual_information >= 0).all()


def test_images_are_not_rounded_before_models_of_half_precision():
    """A model that takes float32 sees the whole number, whatever the policy is when it is sampled."""
    model, images = foreign(), IMAGES[3]
    try:
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
        half = tiny()
        ensemble = DeepEnsemble([model, half], task="multiclass")
        for sampler in (ensemble, TestTimeAugmentation(model, task="multiclass")):
            np.testing.assert_allclose(sampler.sample(images)[0], probabilities(model, images), atol=1e-6)
        seen = TestTimeAugmentation(half, views=["identity", "flip_width"]).sample(images)
        np.testing.assert_allclose(seen.sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(seen[0], probabilities(half, images), atol=2e-2)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_probabilities_are_taken_as_they_are():
    model = foreign(activation="sigmoid")
    options = {"task": "multilabel", "from_logits": False}
    alone = model.predict(IMAGES[3], verbose=0)
    for sampler in (DeepEnsemble([model, model], **options), TestTimeAugmentation(model, views="identity", **options)):
        np.testing.assert_allclose(sampler.predict(IMAGES[3]).mean, alone, atol=1e-6)


class Written(keras.Model):
    """A model that is no graph."""


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: DeepEnsemble([tiny()]), "at least two models. Received: 1"),
        (lambda: DeepEnsemble([tiny(), Written()]), "An ensemble needs a functional model. Received: Written"),
        (lambda: DeepEnsemble([foreign(), foreign()]), "Received: task=None"),
        (lambda: DeepEnsemble([tiny(), tiny(task="ordinal")]), "one task. Received: multiclass and ordinal"),
        (lambda: DeepEnsemble([tiny(), tiny(class_names="acb")]), r"one class names. Received: .*'b', 'c'.*'c', 'b'"),
        (
            lambda: DeepEnsemble([tiny(), tiny(shape=(12, 12, 1))]),
            r"one image shape. .*\(10, 10, 1\) and \(12,",
        ),
        (lambda: DeepEnsemble([tiny(), foreign(outputs=4)], task="multiclass"), "one number of classes. .*3 and 4"),
        (lambda: TestTimeAugmentation(Written(), task="binary"), "a functional model. Received: Written"),
        (lambda: TestTimeAugmentation(foreign()), "Received: task=None"),
        (lambda: TestTimeAugmentation(tiny(), views=()), r"names of identity, .* Received: views=\(\)"),
        (lambda: TestTimeAugmentation(tiny(), views=["mirror"]), r"Received: views=\('mirror',\)"),
        (lambda: TestTimeAugmentation(tiny(), views=["darker"] * 2), "each once"),
        (lambda: TestTimeAugmentation(tiny(), views=["flip_depth"]), "is for volumes"),
        (lambda: TestTimeAugmentation(tiny(shape=(10, 12, 1)), views=["turn_90"]), "a height equal to the width"),
        (lambda: TestTimeAugmentation(foreign("mean", shape=(None, None, 1)), task="multiclass"), "of a fixed shape"),
        (lambda: DeepEnsemble([tiny(), tiny(1)]).predict(IMAGES[3] * np.nan), "Received: value=nan"),
        (lambda: TestTimeAugmentation(tiny(), views=["identity"]).predict(IMAGES[3] * np.nan), "Received: value=nan"),
    ],
)
def test_what_does_not_fit_states_the_rule(make, text):
    with pytest.raises(ValueError, match=text):
        make()
