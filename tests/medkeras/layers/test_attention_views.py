"""Crop, drop and aligned resizing as layers: the contract, the functions they stand for, and bad arguments."""

import keras
import numpy as np
import pytest

from harness import run_layer_test
from medkeras import layers

RNG = np.random.default_rng(0)


@pytest.fixture(params=[((8, 8, 3), (4, 4)), ((6, 8, 7, 1), (3, 4, 4))], ids=["2D", "3D"])
def inputs(request):
    return [RNG.uniform(size=(2, *shape)).astype("float32") for shape in request.param]


def test_crop_and_drop_keep_the_contract(inputs):
    run_layer_test(lambda **k: layers.AttentionCrop(0.6, **k), inputs, weights=(0, 0))
    run_layer_test(lambda **k: layers.AttentionDrop(0.6, fill=0.5, peak="image", **k), inputs, weights=(0, 0))


def test_they_do_what_the_functions_do(inputs):
    crop = layers.AttentionCrop(0.7, padding=0.0, peak="image")(inputs)
    np.testing.assert_array_equal(crop, layers.attention_crop(*inputs, threshold=0.7, padding=0.0, peak="image"))
    fill = tuple(RNG.uniform(size=inputs[0].shape[-1]))
    drop = layers.AttentionDrop(0.7, fill=fill)(inputs)
    np.testing.assert_array_equal(drop, layers.attention_drop(*inputs, threshold=0.7, fill=fill))
    assert (np.asarray(drop) != inputs[0]).any()


def test_the_fill_of_each_channel_is_in_the_file(tmp_path):
    image, attention = keras.Input((4, 4, 3)), keras.Input((2, 2))
    model = keras.Model([image, attention], layers.AttentionDrop(fill=[0.1, 0.2, 0.3])([image, attention]))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    arrays = [np.zeros((1, 4, 4, 3), "float32"), np.array([[[1, 0], [0, 0]]], "float32")]
    np.testing.assert_allclose(loaded(arrays)[0, 0, 0], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(loaded(arrays), model(arrays))


@pytest.mark.parametrize(("shape", "size"), [((5, 4), (9, 3)), ((3, 4, 2), (6, 7, 1))])
def test_resizing_keeps_the_contract_and_the_first_pixel(shape, size):
    images = RNG.uniform(size=(2, *shape, 2)).astype("float32")
    run_layer_test(lambda **k: layers.AlignedResizing(size, **k), images, weights=(0, 0))
    resized = np.asarray(layers.AlignedResizing(size)(images))
    np.testing.assert_array_equal(resized, layers.resize_aligned(images, size))
    first = (slice(None), *[0] * len(size))
    np.testing.assert_allclose(resized[first], images[first], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: layers.AttentionCrop(1.1), "threshold=1.1"),
        (lambda: layers.AttentionCrop(padding=1.0), "padding=1.0"),
        (lambda: layers.AttentionDrop(-0.1), "threshold=-0.1"),
        (lambda: layers.AttentionDrop(peak="batch"), "peak='batch'"),
        (lambda: layers.AlignedResizing((4,)), r"size=\(4,\)"),
        (lambda: layers.AlignedResizing((4, 0)), r"size=\(4, 0\)"),
    ],
)
def test_wrong_arguments_state_the_rule(call, text):
    with pytest.raises(ValueError, match=f"Received: {text}"):
        call()
