"""Two-stage inference: against a numpy twin, in the model contract, exported, and where attention is missing."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, log_softmax, logit, softmax

import medkeras
from export_models import images as waves
from export_models import randomize
from jax_process import JAX
from medkeras.explain import class_map, localize
from medkeras.export import check_builtin, compare, export_litert, export_saved_model
from medkeras.layers import AttentionCrop
from medkeras.models import TwoStage, two_stage
from medkeras.models.dualattendmed.two_stage import PROTOCOLS
from paths import ROOT, SUPPORT
from spot_net import SpotNet

RNG = np.random.default_rng(0)


def create(shape=(48, 56, 3), **options):
    """A small model that attends to few places of waves, as after training."""
    keras.utils.set_random_seed(0)
    options = {"num_classes": 3, "attention_maps": 1, **options}
    model = medkeras.models.create("dualattendmed_tiny", input_shape=shape, **options)
    maps = np.asarray(keras.Model(model.input, model.get_layer("attention").output)(waves(model, 8, seed=1)))
    norm = model.get_layer("attention_norm")
    norm.moving_mean.assign(maps.mean(axis=(0, 1, 2)) + 1.5 * maps.std(axis=(0, 1, 2)))
    norm.moving_variance.assign(maps.var(axis=(0, 1, 2)))
    return model


@pytest.fixture(scope="module")
def model():
    return create(dropout=0.2)


@pytest.fixture
def spots():
    keras.utils.set_random_seed(1)
    return randomize(SpotNet((32, 40, 1), num_classes=3))


def box_twin(attention, size, threshold, padding, peak):
    """The box of one map, by interpolation of rows and columns with aligned corners."""
    largest = attention.max()
    for axis, pixels in enumerate(size):
        places, cells = np.linspace(0, attention.shape[axis] - 1, pixels), np.arange(attention.shape[axis])
        attention = np.apply_along_axis(lambda line, p=places, c=cells: np.interp(p, c, line), axis, attention)
    largest = attention.max() if peak == "image" else largest
    corners = []
    for axis, pixels in enumerate(size):
        hit = np.flatnonzero((attention >= threshold * largest).any(axis=1 - axis))
        corners.append((max(int(hit[0] - padding * pixels), 0), min(int(hit[-1] + padding * pixels), pixels)))
    return corners


def crop_twin(image, box):
    for axis, (start, stop) in enumerate(box):
        places = np.linspace(start, stop - 1, image.shape[axis])
        pixels = np.arange(image.shape[axis])
        image = np.apply_along_axis(lambda line, p=places, x=pixels: np.interp(p, x, line), axis, image)
    return image.astype("float32")


def looks_twin(model, images, crops, peak, flips):
    """The logits of every look, `(looks, batch, classes)`."""
    seen = model.tensors("attention", "logits")(images)
    looks = [np.asarray(seen["logits"])]
    for threshold, padding in crops:
        boxes = [
            box_twin(a, images.shape[1:3], threshold, padding, peak) for a in np.asarray(seen["attention"])[..., 0]
        ]
        assert any(box != [(0, n) for n in images.shape[1:3]] for box in boxes)
        looks.append(np.asarray(model(np.stack([crop_twin(*pair) for pair in zip(images, boxes, strict=True)]))))
    return looks + (looks_twin(model, images[:, :, ::-1], crops, peak, False) if flips else [])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_is_its_looks_averaged(model, protocol):
    images = waves(model, 5)
    both = two_stage(model, protocol)
    looks = np.stack(looks_twin(model, images, both.crops, both.peak, both.flips))
    assert len(looks) == {"dualattendmed": 2, "ws-dan": 2, "cal": 8}[protocol]
    logits = np.asarray(both(images))
    if protocol == "ws-dan":
        np.testing.assert_allclose(softmax(logits, axis=-1), softmax(looks, axis=-1).mean(0), atol=1e-5)
    else:
        np.testing.assert_allclose(logits, looks.mean(0), atol=2e-4)


def test_the_published_inference_has_flips(model):
    images = waves(model, 3)
    both = two_stage(model, flips=True)
    looks = looks_twin(model, images, [(0.5, 0.1)], "map", True)
    assert len(looks) == 4
    np.testing.assert_allclose(both.predict(images, verbose=0), np.mean(looks, axis=0), atol=2e-4)


@pytest.mark.parametrize("task", ["ordinal", "multilabel"])
def test_probabilities_are_averaged_as_the_task_has_them(task):
    model = create(task=task)
    images = waves(model, 4)
    looks = np.stack(looks_twin(model, images, [(0.5, 0.1)], "map", False))
    logits = TwoStage(model, average="probabilities")(images)
    if task == "multilabel":
        np.testing.assert_allclose(logits, logit(expit(looks.astype("float64")).mean(0)), atol=1e-3)
    else:
        np.testing.assert_allclose(logits, np.log(softmax(looks, axis=-1).mean(0)), atol=1e-4)


def test_certain_logits_stay_finite_as_probabilities():
    """Beyond logits of 104, float32 probabilities are exactly 0 and 1, and have no logarithm."""
    for task, expected in (("multiclass", lambda x: log_softmax(x, axis=-1)), ("multilabel", lambda x: x)):
        model = create(task=task, scale=1e5)
        images = waves(model, 2)
        logits = np.asarray(model(images))
        assert np.abs(logits).max() > 300
        # At threshold 0 of maps that are not negative, the crop is the image.
        both = TwoStage(model, crops=[(0, 0.1)], average="probabilities")(images)
        np.testing.assert_allclose(both, expected(logits.astype("float64")), rtol=1e-4)


def test_a_crop_that_is_the_whole_image_changes_nothing(model):
    images = waves(model, 3)
    np.testing.assert_allclose(TwoStage(model, crops=[(0, 0.1)])(images), model(images), atol=1e-5)


@pytest.mark.parametrize("attention", [np.zeros((1, 3, 3)), np.full((1, 3, 3), 0.7), np.full((1, 3, 3), np.nan)])
def test_maps_that_say_nothing_leave_the_whole_image(attention):
    image = RNG.uniform(size=(1, 9, 12, 2)).astype("float32")
    np.testing.assert_array_equal(AttentionCrop(0.5)([image, attention.astype("float32")]), image)


def test_a_model_without_attention_looks_at_the_whole_image_twice():
    model = create()
    model.get_layer("attention_norm").beta.assign([-1e3])
    np.testing.assert_array_equal(two_stage(model, "cal")(waves(model, 2)), 0)


def test_constant_images_have_finite_answers(model):
    constant = np.array([0, 0.5, 1], "float32")[:, None, None, None] * np.ones((48, 56, 3), "float32")
    for protocol in PROTOCOLS:
        assert np.isfinite(two_stage(model, protocol)(constant)).all()


def test_it_has_the_contract_of_its_classifier(spots, tmp_path):
    both = two_stage(spots, flips=True, name="twice")
    assert (both.task, both.class_names, both.image_shape) == (spots.task, spots.class_names, spots.image_shape)
    assert both.classifier is spots and both.stochastic == spots.stochastic
    assert [id(w) for w in both.weights] == [id(w) for w in spots.weights]
    images = waves(spots, 3)
    both.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(loaded) is TwoStage and loaded.get_config() == both.get_config() and loaded.name == "twice"
    np.testing.assert_allclose(loaded(images), both(images), atol=1e-6)
    np.testing.assert_allclose(both(images[1:2]), both(images)[1:2], atol=1e-5)
    np.testing.assert_allclose(both.predict(images, verbose=0), both(images), atol=1e-5)
    compiled = tf.function(lambda x: both(x, training=False), jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(images)), both(images), atol=1e-5)


def test_the_file_of_a_trained_model_opens_again(model, tmp_path):
    both, images = two_stage(model), waves(model, 2)
    both.compile("sgd", medkeras.tasks.default_loss(both.task))
    both.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    assert loaded.get_config() == both.get_config() and len(loaded.weights) == len(model.weights)
    np.testing.assert_allclose(loaded(images), both(images), atol=1e-5)


def test_it_is_explained_by_its_first_look(model):
    both, images = two_stage(model), waves(model, 2)
    assert both.explain_points == model.explain_points
    for name in both.explain_points:
        np.testing.assert_array_equal(both.tensors(name)(images)[name], model.tensors(name)(images)[name])
    np.testing.assert_allclose(class_map(both, images, target=1), class_map(model, images, target=1), atol=1e-5)


def test_mixed_precision_gives_nearly_the_same_probabilities(model):
    both = two_stage(model)
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        half = TwoStage.from_config(both.get_config())
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    half.set_weights(both.get_weights())
    images = waves(model, 3)
    logits = half(images)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(softmax(logits, axis=-1), softmax(both(images), axis=-1), atol=0.1)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_exports_equal_keras_with_builtin_operators(task, tmp_path):
    spots = randomize(SpotNet((32, 40, 1), num_classes=3, task=task))
    both = two_stage(spots, "ws-dan" if task == "multilabel" else "dualattendmed", flips=True)
    saved = export_saved_model(both, tmp_path / "1")
    file = export_litert(saved, tmp_path / "model.tflite")
    check_builtin(file)
    images = waves(both, 9)
    assert np.abs(both(images) - spots(images)).max() > 1e-3
    report = compare(both, images, saved_model=saved, litert=file)
    assert report["saved_model"]["agreement"] == report["litert"]["agreement"] == 1.0
    labels = json.loads((saved / "assets.extra" / "labels.json").read_text())
    assert labels["two_stage"] == both.settings() and labels["class_names"] == ["0", "1", "2"]


ON_JAX = """
import keras
import numpy as np
import medkeras
from medkeras.explain import localize
model = keras.models.load_model("FOLDER/model.keras")
images = np.load("FOLDER/images.npy")
found = localize(model, images, threshold=0.6)
np.savez("FOLDER/jax.npz", logits=model.predict(images, verbose=0), maps=found.maps)
"""


@pytest.mark.process
def test_jax_gives_the_same(spots, tmp_path):
    both, images = two_stage(spots, "ws-dan", flips=True), waves(spots, 3)
    code = "import spot_net\n" + ON_JAX.replace("FOLDER", str(tmp_path))
    both.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    environment = os.environ | JAX | {"PYTHONPATH": f"{ROOT}:{SUPPORT}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)
    found = np.load(tmp_path / "jax.npz")
    np.testing.assert_allclose(found["logits"], both(images), atol=1e-4)
    np.testing.assert_allclose(found["maps"], localize(both, images, threshold=0.6).maps, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: two_stage(m, "wsdan"), "protocol='wsdan'"),
        (lambda m: TwoStage(m, crops=[]), r"crops=\[\]"),
        (lambda m: TwoStage(m, crops=[0.5]), r"crops=\[0.5\]"),
        (lambda m: TwoStage(m, crops=[(1.5, 0.1)]), "threshold=1.5"),
        (lambda m: TwoStage(m, crops=[(0.5, 1)]), "padding=1"),
        (lambda m: TwoStage(m, peak="pixel"), "peak='pixel'"),
        (lambda m: TwoStage(m, average="votes"), "average='votes'"),
        (lambda m: TwoStage(m, point="logits"), "point='logits'"),
        (lambda m: TwoStage(two_stage(m)), "TwoStage"),
        (lambda m: TwoStage(keras.Sequential()), "Sequential"),
    ],
)
def test_wrong_arguments_state_the_rule(model, call, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        call(model)
