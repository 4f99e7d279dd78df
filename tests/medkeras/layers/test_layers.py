"""The reusable layers: contract, numpy twins and properties."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from harness import run_layer_test
from medkeras import layers

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


@pytest.mark.parametrize("rank", [2, 3])
def test_glimpse_keeps_the_contract(rank):
    images, places = uniform(3, *[8] * rank, 2), uniform(3, rank) * 2 - 1
    run_layer_test(lambda **k: layers.Glimpse(0.5, **k), [images, places], weights=(0, 0))
    run_layer_test(lambda **k: layers.Glimpse(0.75, size=3, **k), [images, places], weights=(0, 0))


@pytest.mark.parametrize("shape", [(8, 7), (6, 5, 8)])
def test_max_pool_equals_the_keras_layer(shape):
    inputs = uniform(2, *shape, 3)
    oracle = {2: keras.layers.MaxPooling2D, 3: keras.layers.MaxPooling3D}[len(shape)](2)
    np.testing.assert_array_equal(layers.HalvingMaxPool()(inputs), oracle(inputs))
    run_layer_test(lambda **k: layers.HalvingMaxPool(**k), inputs, weights=(0, 0))


def test_grouped_conv_equals_the_keras_layer():
    inputs = uniform(2, 6, 6, 4)
    layer = layers.GroupedConv(8, kernel_size=3, groups=2)
    oracle = keras.layers.Conv2D(8, 3, padding="same", groups=2)
    ours, _ = layer(inputs), oracle(inputs)
    oracle.kernel.assign(ops.concatenate([c.kernel for c in layer.convs], axis=-1))
    oracle.bias.assign(ops.concatenate([c.bias for c in layer.convs], axis=-1))
    np.testing.assert_allclose(ours, oracle(inputs), atol=1e-5)
    run_layer_test(
        lambda **k: layers.GroupedConv(8, kernel_size=3, groups=2, **k), uniform(2, 4, 4, 4, 4), weights=(4, 0)
    )


def linear_twin(image, positions):
    """Reads one image at the grid of positions with zeros outside, by explicit neighbours."""
    rank = len(positions)
    padded = np.pad(image, [(2, 2)] * rank + [(0, 0)])
    result = np.zeros([len(p) for p in positions] + [image.shape[-1]])
    for index in itertools.product(*(range(len(p)) for p in positions)):
        place = np.clip([positions[a][i] for a, i in enumerate(index)], -2, np.array(image.shape[:rank]) + 0.999)
        base = np.floor(place).astype(int)
        for corner in itertools.product((0, 1), repeat=rank):
            weight = np.prod([1 - abs(p - (b + c)) for p, b, c in zip(place, base, corner, strict=True)])
            result[index] += weight * padded[tuple(b + c + 2 for b, c in zip(base, corner, strict=True))]
    return result


@pytest.mark.parametrize("rank", [2, 3])
def test_sampling_equals_a_numpy_twin(rank):
    images = uniform(2, 5, 6, 4, 2)[:, :, :, 0] if rank == 2 else uniform(2, 5, 6, 4, 2)
    positions = [RNG.uniform(-2, n + 1, (2, 3)).astype("float32") for n in images.shape[1:-1]]
    ours = np.asarray(layers.sample_axes(ops.convert_to_tensor(images), [ops.convert_to_tensor(p) for p in positions]))
    for i in range(2):
        np.testing.assert_allclose(ours[i], linear_twin(images[i], [p[i] for p in positions]), atol=1e-5)


@pytest.mark.parametrize(("shape", "cells"), [((32, 14), 7), ((28, 5), 3), ((6, 9, 8), 4)])
def test_average_grid_equals_the_keras_layer(shape, cells):
    inputs = uniform(2, *shape, 3)
    oracle = {2: keras.layers.AdaptiveAveragePooling2D, 3: keras.layers.AdaptiveAveragePooling3D}[len(shape)](cells)
    np.testing.assert_allclose(layers.average_grid(inputs, cells), oracle(inputs), atol=1e-6)


def test_a_glimpse_at_a_whole_pixel_is_a_slice():
    images = uniform(1, 9, 9, 1)
    layer = layers.Glimpse(5 / 9)
    for row, column in itertools.product(range(5), repeat=2):
        place = np.array([[row / 2 - 1, column / 2 - 1]], "float32")
        np.testing.assert_allclose(layer([images, place]), images[:, row : row + 5, column : column + 5], atol=1e-6)


def test_no_place_leaves_the_image():
    layer, ones = layers.Glimpse(0.4), np.ones((50, 13, 17, 1), "float32")
    places = np.concatenate([RNG.uniform(-1, 1, (46, 2)), [[1, 1], [-1, 1], [1, -1], [-1, -1]]]).astype("float32")
    np.testing.assert_allclose(layer([ones, places]), 1.0, atol=1e-5)


def test_the_gradient_reaches_the_place():
    import tensorflow as tf

    ramp = tf.reshape(tf.range(64.0), (1, 8, 8, 1))
    place = tf.Variable([[0.1, -0.2]])
    with tf.GradientTape() as tape:
        total = tf.reduce_mean(layers.Glimpse(0.5)([ramp, place]))
    # Moving a place by 1 moves the window by 2 pixels: rows are 8 apart in value, columns 1.
    np.testing.assert_allclose(tape.gradient(total, place), [[16.0, 2.0]], rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: layers.Glimpse(0.0), "extent=0.0"),
        (lambda: layers.Glimpse(0.5, size=0), "size=0"),
        (lambda: layers.GroupedConv(3, kernel_size=3, groups=2), "filters=3, groups=2"),
        (lambda: layers.GroupedConv(4, kernel_size=3, groups=2)(np.ones((1, 4, 4, 3))), "channels=3"),
    ],
)
def test_wrong_arguments_state_the_rule(make, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        make()
