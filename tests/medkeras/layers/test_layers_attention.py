"""Channel attention, bilinear attention pooling and aligned resizing: contract, numpy twins, hard cases."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from harness import run_layer_test
from medkeras import layers
from medkeras.backend.gradients import input_gradient

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def pooling_twin(features, attention, epsilon, pooling="average"):
    """The formula in float64, one map and one image at a time."""
    reduce = {"average": np.mean, "max": np.max}[pooling]
    vectors = []
    for image, maps in zip(features.astype("float64"), attention.astype("float64"), strict=True):
        g = np.concatenate([reduce(image * maps[..., m : m + 1], axis=(0, 1)) for m in range(maps.shape[-1])])
        s = np.sign(g) * np.sqrt(np.abs(g) + epsilon)
        vectors.append(s / max(np.linalg.norm(s), 1e-12))
    return np.stack(vectors)


@pytest.mark.parametrize("spatial", [(5, 4), (3, 4, 5)])
def test_channel_attention_equals_a_numpy_twin(spatial):
    inputs = normal(3, *spatial, 8)
    layer = layers.ChannelAttention(4)
    ours = layer(inputs)
    squeeze, excite = (w.numpy() for w in layer.weights)
    axes = tuple(range(1, len(spatial) + 1))
    logits = sum(np.maximum(pooled @ squeeze, 0) @ excite for pooled in (inputs.mean(axes), inputs.max(axes)))
    gate = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(ours, inputs * gate.reshape(3, *[1] * len(spatial), 8), atol=1e-5)
    run_layer_test(lambda **k: layers.ChannelAttention(4, **k), inputs, weights=(2, 0))


@pytest.mark.parametrize("axes", [(1, 2), (3,), (1, 2, 3)])
def test_the_gradient_of_a_maximum_goes_to_the_first_place_that_has_it(axes):
    x = normal(2, 3, 4, 5)
    x[1] = 0.5
    largest = x.max(axis=axes, keepdims=True)
    weight = normal(*largest.shape)
    value, gradient = input_gradient(lambda x: ops.sum(layers.steady_max(x, axes) * weight), ops.convert_to_tensor(x))
    np.testing.assert_allclose(value, (largest * weight).sum(), rtol=1e-5)
    gradient = np.asarray(gradient)
    np.testing.assert_array_equal(gradient.sum(axis=axes, keepdims=True), weight)
    assert (np.count_nonzero(gradient, axis=axes) == 1).all()
    assert (x[gradient != 0] == np.broadcast_to(largest, x.shape)[gradient != 0]).all()
    assert gradient[1][(0,) * 3] != 0


def test_channel_attention_has_a_hidden_unit_however_few_the_channels():
    layer = layers.ChannelAttention(16)
    layer(normal(1, 2, 2, 3))
    assert [tuple(w.shape) for w in layer.weights] == [(3, 1), (1, 3)]


def test_channel_attention_survives_large_maps_in_half_precision():
    """The sum of 64 x 64 values of 100 is outside float16."""
    inputs = np.full((1, 64, 64, 2), 100, "float16")
    assert np.isfinite(layers.ChannelAttention(1, dtype="mixed_float16")(inputs)).all()


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-12])
def test_pooling_equals_a_numpy_twin(pooling, epsilon):
    features, attention = normal(3, 5, 4, 6), normal(3, 5, 4, 2)
    attention[:, :, :, 1] = np.maximum(attention[:, :, :, 1], 0)
    layer = layers.BilinearAttentionPooling(pooling=pooling, epsilon=epsilon)
    expected = pooling_twin(features, attention, epsilon, pooling)
    np.testing.assert_allclose(layer([features, attention]), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_pooling_keeps_the_contract(pooling):
    inputs = [normal(3, 5, 4, 6), np.abs(normal(3, 5, 4, 2))]
    run_layer_test(lambda **k: layers.BilinearAttentionPooling(pooling=pooling, **k), inputs, weights=(0, 0))


def test_pooling_is_float32_under_any_policy():
    inputs = [normal(2, 3, 3, 4), np.abs(normal(2, 3, 3, 2)) * 1e-4]
    expected = layers.BilinearAttentionPooling()(inputs)
    for policy in ("mixed_float16", "mixed_bfloat16"):
        half = layers.BilinearAttentionPooling(dtype=policy)(inputs)
        assert half.dtype == "float32"
        np.testing.assert_array_equal(half, expected)


def test_the_first_map_comes_first():
    features, attention = np.ones((1, 2, 2, 3), "float32"), np.zeros((1, 2, 2, 2), "float32")
    attention[..., 1] = 1
    vector = np.asarray(layers.BilinearAttentionPooling()([features, attention]))[0]
    np.testing.assert_allclose(vector, [0, 0, 0, *[3**-0.5] * 3], atol=1e-6)


def test_attention_of_another_size_is_resized_with_aligned_corners():
    features, attention = normal(2, 5, 7, 3), normal(2, 3, 4, 2)
    layer = layers.BilinearAttentionPooling()
    resized = np.asarray(layers.resize_aligned(attention, (5, 7)))
    np.testing.assert_array_equal(layer([features, attention]), layer([features, resized]))
    run_layer_test(lambda **k: layers.BilinearAttentionPooling(**k), [features, attention], weights=(0, 0))


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_empty_maps_give_zeros_and_finite_gradients(pooling):
    """One image without attention does not spoil its batch."""
    features, attention = tf.constant(normal(2, 3, 3, 4)), np.abs(normal(2, 3, 3, 2))
    attention[0] = 0
    attention = tf.constant(attention)
    with tf.GradientTape() as tape:
        tape.watch([features, attention])
        vectors = layers.BilinearAttentionPooling(pooling=pooling)([features, attention])
        total = tf.reduce_sum(vectors * normal(2, 8))
    np.testing.assert_array_equal(vectors[0], 0)
    np.testing.assert_allclose(np.linalg.norm(vectors[1]), 1, atol=1e-6)
    gradients = tape.gradient(total, [features, attention])
    assert all(np.isfinite(g).all() for g in gradients)
    assert all(np.abs(g[1]).max() > 0 for g in gradients)


def test_the_gradient_of_pooling_is_that_of_the_formula():
    features, attention = normal(1, 2, 3, 2), np.abs(normal(1, 2, 3, 2)) + 0.1
    direction = normal(1, 4).astype("float64")

    def value(maps):
        return float(np.sum(pooling_twin(features, maps, 1e-6) * direction))

    maps = tf.constant(attention)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(layers.BilinearAttentionPooling()([features, maps]) * direction.astype("float32"))
    analytic, attention = np.asarray(tape.gradient(total, maps)), attention.astype("float64")
    for index in np.ndindex(attention.shape):
        step = np.zeros_like(attention)
        step[index] = 1e-5
        numeric = (value(attention + step) - value(attention - step)) / 2e-5
        np.testing.assert_allclose(analytic[index], numeric, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "size"), [((5, 4), (9, 7)), ((9, 6), (3, 6)), ((1, 4), (3, 1)), ((3, 4, 2), (5, 2, 3))]
)
def test_aligned_resizing_equals_scipy(shape, size):
    from scipy.ndimage import map_coordinates

    images = normal(2, *shape, 2)
    places = np.meshgrid(
        *(np.linspace(0, n - 1 if m > 1 else 0, m) for n, m in zip(shape, size, strict=True)), indexing="ij"
    )
    ours = np.asarray(layers.resize_aligned(images, size))
    for b, c in np.ndindex(2, 2):
        expected = map_coordinates(images[b, ..., c].astype("float64"), places, order=1)
        np.testing.assert_allclose(ours[b, ..., c], expected, atol=1e-5)


def test_resizing_to_the_same_size_changes_nothing():
    images = normal(1, 14, 14, 3)
    np.testing.assert_array_equal(layers.resize_aligned(images, (14, 14)), images)
    compiled = tf.function(lambda x: layers.resize_aligned(x, (28, 28)), jit_compile=True)
    np.testing.assert_allclose(
        compiled(images), layers.resize_aligned(ops.convert_to_tensor(images), (28, 28)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: layers.ChannelAttention(0), "reduction=0"),
        (lambda: layers.BilinearAttentionPooling(pooling="sum"), "pooling='sum'"),
        (lambda: layers.BilinearAttentionPooling(epsilon=0.0), "epsilon=0.0"),
        (lambda: layers.resize_aligned(np.ones((1, 2, 2, 1)), (4,)), r"size=\(4,\)"),
        (lambda: layers.resize_aligned(np.ones((1, 2, 2, 1)), (4, 0)), r"size=\(4, 0\)"),
    ],
)
def test_wrong_arguments_state_the_rule(make, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        make()
