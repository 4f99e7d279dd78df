"""Fixations: the windows that are reported are the windows that the model saw."""

import numpy as np
import pytest

import medkeras
from medkeras.explain import fixations, resize_maps
from medkeras.layers import Glimpse
from medkeras.models.focusnet import published

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def create(name, shape, **options):
    model = medkeras.models.create(name, input_shape=shape, num_classes=2, normalization="none", **options)
    return restless(model)


def restless(model):
    """Makes the places spread: a sharp priority map, or offsets of several pixels."""
    if model.compat:
        model.get_layer("offset").offset.bias.assign([3.3, -40.0, 2.0][: len(model.image_shape) - 1])
    else:
        layer = model.get_layer("priority")
        layer.query.kernel.assign(layer.query.kernel * 200)
        layer.query.bias.assign(RNG.normal(size=layer.query.bias.shape) * 20)
    return model


def recorded(monkeypatch, layer, model, images):
    """What the layer really cut, `(count, batch, *window, channels)`."""
    seen, call = [], layer.call
    monkeypatch.setattr(layer, "call", lambda self, inputs: seen.append(call(self, inputs)) or seen[-1])
    model(images)
    return np.stack(seen)


def read(image, positions):
    """Reads an image on the grid of positions by linear interpolation, zeros outside."""
    for axis, places in enumerate(positions):
        line = np.arange(image.shape[axis])
        weights = np.maximum(1 - np.abs(np.asarray(places)[:, None] - line), 0)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("focusnet2d_tiny", (28, 28, 1), {"saccades": 3}),
        ("focusnet2d_tiny", (29, 38, 3), {"extent": 0.4}),
        ("focusnet3d_tiny", (16, 19, 22, 1), {"extent": 0.45, "depth": 1}),
        ("focusnet2d_tiny", (28, 40, 1), {"compat": "repaired"}),
        ("focusnet2d_tiny", (12, 28, 1), {"compat": "repaired"}),
    ],
)
def test_the_box_is_where_the_model_looked(monkeypatch, name, shape, options):
    model, images = create(name, shape, **options), uniform(4, *shape)
    looked = fixations(model, images)
    layer = published.HardCrop if model.compat else Glimpse
    glimpses = recorded(monkeypatch, layer, model, images)
    assert glimpses.shape[0] == looked.places.shape[1] == model.saccades
    for k, cut in enumerate(glimpses):
        for image, place, box, window in zip(images, looked.places[:, k], looked.boxes[:, k], cut, strict=True):
            np.testing.assert_allclose(box.mean(axis=-1), place, atol=1e-4)
            np.testing.assert_allclose(box[:, 1] - box[:, 0], window.shape[:-1], atol=1e-4)
            positions = [low + 0.5 + np.arange(n) for (low, _), n in zip(box, window.shape, strict=False)]
            np.testing.assert_allclose(read(image, positions), window, atol=2e-4)


def test_a_shifted_volume_is_boxed_by_what_is_left_of_it(monkeypatch):
    model, volumes = create("focusnet3d_tiny", (28, 28, 28, 1), compat="repaired"), uniform(1, 28, 28, 28, 1)
    looked = fixations(model, volumes)
    (window, *_) = recorded(monkeypatch, published.ShiftedVolume, model, volumes)
    place, box = looked.places[0, 0], looked.boxes[0, 0]
    np.testing.assert_allclose(read(volumes[0], place[:, None] + np.arange(28) - 13.5), window[0], atol=1e-4)
    np.testing.assert_allclose(box, np.clip(np.stack([place - 14, place + 14], -1), -0.5, 27.5), atol=1e-4)
    assert place[1] == pytest.approx(13.5 - 7 * 27 / 28)


@pytest.mark.parametrize(("name", "shape"), [("focusnet2d_tiny", (29, 38, 1)), ("focusnet3d_tiny", (16, 16, 20, 1))])
def test_boxes_stay_inside_and_places_spread(name, shape):
    model, images = create(name, shape), uniform(6, *shape)
    looked = fixations(model, images)
    size = np.array(shape[:-1])
    assert np.all(looked.boxes[..., 0] >= -0.5) and np.all(looked.boxes[..., 1] <= size - 0.5)
    assert np.ptp(looked.places, axis=(0, 1)).max() > 2, "the test's own premise: the places differ"
    raw = model.tensors("priority")(images)["priority"]
    expected = np.moveaxis(resize_maps(raw, shape[:-1]), -1, 1)
    np.testing.assert_allclose(looked.priorities, expected, atol=1e-6)


def test_the_place_follows_the_axes():
    """All priority on the last row and first column: the window stands in that corner."""
    model = create("focusnet2d_tiny", (28, 36, 1), saccades=1)
    layer = model.get_layer("priority")
    layer.call = lambda inputs: type(layer).call(layer, inputs) | {"fixation": np.array([[1.0, -1.0]], "float32")}
    looked = fixations(model, uniform(1, 28, 36, 1))
    np.testing.assert_allclose(looked.boxes[0, 0], [[13.5, 27.5], [-0.5, 17.5]], atol=1e-4)
    np.testing.assert_allclose(looked.places[0, 0], [20.5, 8.5], atol=1e-4)


def test_a_slice_holds_its_images():
    model = create("focusnet2d_tiny", (28, 28, 1))
    looked = fixations(model, uniform(3, 28, 28, 1))
    np.testing.assert_array_equal(looked[1:].boxes, looked.boxes[1:])
    np.testing.assert_array_equal(looked[1:].priorities, looked.priorities[1:])
    assert looked[:1].places.shape == (1, 2, 2)
