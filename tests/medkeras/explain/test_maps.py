"""Feature maps on the image grid, and class maps through FocusNet."""

import keras
import numpy as np
import pytest

import medkeras
from gradient_checks import cam_model
from medkeras.explain import activations, class_map, explain, pathway_maps, resize_maps
from medkeras.models import ExplainPoint, Grid, ImageClassifier
from medkeras.models.base import image_input

RNG = np.random.default_rng(0)
MODELS = {
    "2d": ("focusnet2d_tiny", (28, 28, 1), {}),
    "3d": ("focusnet3d_tiny", (16, 16, 16, 1), {}),
    "2d repaired": ("focusnet2d_tiny", (28, 28, 1), {"compat": "repaired"}),
    "3d repaired": ("focusnet3d_tiny", (16, 16, 16, 1), {"compat": "repaired"}),
}


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    name, shape, options = MODELS[request.param]
    keras.utils.set_random_seed(0)  # With some weights no class has a map.
    return medkeras.models.create(name, input_shape=shape, num_classes=3, **options)


def resize_twin(maps, size):
    """Linear interpolation between cell centres, one axis at a time, the ends held."""
    for axis, pixels in enumerate(size, start=1):
        cells = maps.shape[axis]
        centres = (np.arange(cells) + 0.5) / cells
        wanted = (np.arange(pixels) + 0.5) / pixels
        maps = np.apply_along_axis(lambda line, c=centres, w=wanted: np.interp(w, c, line), axis, maps)
    return maps


@pytest.mark.parametrize(("grid", "size"), [((7, 7), (28, 28)), ((3, 5), (10, 4)), ((2, 3, 4), (7, 6, 5))])
def test_resize_equals_its_twin(grid, size):
    maps = uniform(2, *grid, 3)
    np.testing.assert_allclose(resize_maps(maps, size), resize_twin(maps, size), atol=1e-5)
    np.testing.assert_allclose(resize_maps(maps, grid), maps, atol=1e-6)
    np.testing.assert_allclose(resize_maps(np.ones_like(maps), size), 1.0, atol=1e-5)


def test_resize_equals_keras_when_it_enlarges():
    maps = uniform(2, 4, 6, 3)
    oracle = keras.ops.image.resize(maps, (12, 30), interpolation="bilinear", data_format="channels_last")
    np.testing.assert_allclose(resize_maps(maps, (12, 30)), oracle, atol=1e-5)


def test_pathway_maps_are_the_mean_activity(model):
    images, size = uniform(2, *model.image_shape), model.image_shape[:-1]
    maps = pathway_maps(model, images)
    values = model.tensors(*maps)(images)
    assert list(maps) == ["magno", "parvo", "konio", "features"]
    for name, found in maps.items():
        mean = np.mean(values[name], axis=-1, keepdims=True)
        np.testing.assert_allclose(found, resize_twin(mean, size)[..., 0], atol=1e-4 * mean.max())


def test_images_do_not_depend_on_their_batch(model):
    images = uniform(9, *model.image_shape)
    together, alone = explain(model, images), explain(model, images[8:])
    np.testing.assert_allclose(together[8:].class_map, alone.class_map, atol=1e-3)
    np.testing.assert_allclose(together[8:].probabilities, alone.probabilities, atol=1e-5)
    for name, maps in together[8:].pathways.items():
        np.testing.assert_allclose(maps, alone.pathways[name], atol=1e-4)
    np.testing.assert_allclose(together[8:].fixations.boxes, alone.fixations.boxes, atol=1e-3)


def test_explanation_holds_what_the_model_has(model):
    images = uniform(2, *model.image_shape)
    explanation = explain(model, images)
    probabilities = medkeras.tasks.to_probabilities(model(images), model.task)
    np.testing.assert_allclose(explanation.probabilities, probabilities, atol=1e-5)
    assert (explanation.fixations.priorities is None) == (model.compat == "repaired")
    assert explanation.class_map.shape == images.shape[:-1]
    bare = explain(cam_model((6, 6, 1)), uniform(1, 6, 6, 1))
    assert bare.fixations is None and bare.pathways == {} and bare.class_map is not None


def test_class_map_is_taken_through_the_whole_model(model):
    """The graph that is cut at the features still answers as the model, and the features still move it."""
    images = np.random.default_rng(1).uniform(size=(2, *model.image_shape)).astype("float32")
    point = model.explain_points["features"]
    assert point.rule == Grid()
    rest = keras.Model([model.input, point.tensor], model.output)
    features = model.tensors("features")(images)["features"]
    images = keras.ops.convert_to_tensor(images)
    np.testing.assert_allclose(rest([images, features]), model(images), atol=1e-5)
    assert np.abs(np.asarray(rest([images, features * 2])) - np.asarray(model(images))).max() > 1e-4
    maps = np.stack([class_map(model, images, target=k) for k in range(3)])
    largest = maps.max(axis=tuple(range(2, maps.ndim)))
    assert maps.min() >= 0 and np.all((np.abs(largest - 1) < 1e-6) | (largest == 0))
    # The logits' gradients differ, so at least one class has another map than the next.
    assert np.abs(maps[0] - maps[1]).max() + np.abs(maps[1] - maps[2]).max() > 1e-3


def test_the_class_map_finds_the_cause():
    """A head that only counts brightness: the map lies on the bright square."""
    model = cam_model((16, 16, 1), classes=2)
    conv, head = (layer for layer in model.layers if layer.weights)
    conv.set_weights([np.ones((3, 3, 1, 5)) / 9, np.zeros(5)])
    head.set_weights([np.stack([-np.ones(5), np.ones(5)], axis=1), np.zeros(2)])
    image = np.zeros((1, 16, 16, 1), "float32")
    image[0, 3:7, 9:13] = 1.0
    found = class_map(model, image)[0]
    assert found[3:7, 9:13].min() > 0.4 and found[4:6, 10:12].min() == 1.0
    assert found[:2].max() == found[8:].max() == 0.0
    # Nothing speaks for the other class: its map is empty, not noise.
    assert not class_map(model, image, target=0).any()


def test_the_evidence_map_finds_a_cause_that_no_mean_weight_can():
    """The class is whether one channel is bright where another is: a product, whose mean gradient misleads."""
    image, x = image_input((12, 12, 2), "none")
    together = keras.ops.mean(x[..., 0] * x[..., 1], axis=(1, 2))
    logits = keras.ops.stack([keras.ops.zeros_like(together), together], axis=-1)
    model = ImageClassifier(
        inputs=image,
        logits=logits,
        image_shape=(12, 12, 2),
        num_classes=2,
        task=None,
        class_names=None,
        normalization="none",
        explain_points={"features": ExplainPoint(x, Grid(), "the image")},
    )
    images = np.zeros((1, 12, 12, 2), "float32")
    images[0, 2:4, 2:4] = 1.0  # Both.
    images[0, 7:10, 7:10, 0] = 1.0  # One alone, and larger.
    expected = images.prod(-1)
    np.testing.assert_allclose(class_map(model, images, method="hires_cam"), expected, atol=1e-6)
    assert class_map(model, images)[0, 8, 8] > 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: class_map(m, uniform(2, 6, 6, 1), method="hires_cam", target=3), "target=3"),
        (lambda m: class_map(m, uniform(2, 6, 6, 1), target=3), "target=3"),
        (lambda m: class_map(m, uniform(2, 6, 6, 1), target=[0]), r"target=\[0\]"),
        (lambda m: class_map(m, uniform(2, 6, 6, 1), target=0.5), "target=0.5"),
        (lambda m: class_map(m, uniform(2, 6, 5, 1)), r"shape \(2, 6, 5, 1\)"),
        (lambda m: explain(m, uniform(6, 6, 1)), r"shape \(6, 6, 1\)"),
        (lambda m: explain(m, np.zeros((0, 6, 6, 1))), r"shape \(0, 6, 6, 1\)"),
        (lambda m: pathway_maps(m, uniform(2, 6, 6, 1)), "'magno'"),
        (lambda m: activations(m, uniform(2, 6, 6, 1), "priority"), "'priority'"),
    ],
)
def test_wrong_arguments_state_the_rule(call, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        call(cam_model((6, 6, 1)))
