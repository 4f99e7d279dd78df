"""Retention, external attention, window attention, spatial gate, drop path: contract, numpy twins, hard cases."""

import numpy as np
import pytest
import tensorflow as tf

from harness import run_layer_test
from medkeras import layers
from medkeras.layers.attention.retention import log_decay, rotary_tables
from medkeras.models.hemf.convert import _by_halves

RNG = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return (scale * RNG.normal(size=shape)).astype("float32")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def randomize(layer, inputs, scale=0.4):
    layer(inputs)
    for weight in layer.weights:
        weight.assign(normal(*weight.shape, scale=scale))
    return layer


def interleaved(array, heads):
    """Undoes the order of channels in which queries and keys are kept here: pairs are neighbours again."""
    outputs = array.reshape(*array.shape[:-1], heads, 2, -1)
    return np.swapaxes(outputs, -1, -2).reshape(array.shape)


def retention_twin(layer, x):
    """One row, one column and one head at a time, in float64, neighbouring channels rotated as published."""
    heads, (batch, height, width, channels) = layer.heads, x.shape
    size = channels // heads
    q, k = (
        x @ interleaved(d.kernel.numpy(), heads).astype(float) + interleaved(d.bias.numpy(), heads)
        for d in (layer.query, layer.key)
    )
    v = x @ layer.value.kernel.numpy().astype(float) + layer.value.bias.numpy()
    speeds = 10_000.0 ** -(np.arange(size // 2) / (size // 2 - 1))
    phase = np.repeat(np.arange(height * width).reshape(height, width)[..., None] * speeds, 2, axis=-1)

    def rotate(a):
        e, o = a[..., 0::2], a[..., 1::2]
        turned = np.stack([-o, e], axis=-1).reshape(a.shape)
        return a * np.cos(phase) + turned * np.sin(phase)

    seen = np.zeros((batch, height, width, channels))
    full = np.zeros((batch, height, width, height, width))
    for n in range(heads):
        part = slice(n * size, (n + 1) * size)
        gamma = np.log(1 - 2 ** (-1 - 3 * n / heads))
        qn, kn = rotate(q[..., part]), rotate(k[..., part] * size**-0.5)
        far = {m: gamma * np.abs(np.subtract.outer(np.arange(m), np.arange(m))) for m in (height, width)}
        for b in range(batch):
            by_row = [softmax(qn[b, y] @ kn[b, y].T + far[width]) for y in range(height)]
            u = np.stack([by_row[y] @ v[b, y, :, part] for y in range(height)])
            for column in range(width):
                by_column = softmax(qn[b, :, column] @ kn[b, :, column].T + far[height])
                seen[b, :, column, part] = by_column @ u[:, column]
                for y in range(height):
                    full[b, y, column] += by_column[y][:, None] * np.stack([r[column] for r in by_row]) / heads
    kernel = layer.local.kernel.numpy()[..., 0]
    padded = np.pad(v, ((0, 0), (2, 2), (2, 2), (0, 0)))
    local = (
        sum(padded[:, i : i + height, j : j + width] * kernel[i, j] for i in range(5) for j in range(5))
        + layer.local.bias.numpy()
    )
    return (seen + local) @ layer.project.kernel.numpy() + layer.project.bias.numpy(), full


@pytest.mark.parametrize(
    ("shape", "heads"), [((2, 3, 5, 16), 4), ((1, 16, 16, 8), 2), ((2, 7, 2, 12), 2), ((1, 1, 1, 4), 1)]
)
def test_retention_equals_a_numpy_twin(shape, heads):
    x = normal(*shape)
    layer = randomize(layers.AxialRetention(heads), x)
    ours = layer(x)
    expected, full = retention_twin(layer, x)
    np.testing.assert_allclose(ours["output"], expected, atol=3e-5 * np.abs(expected).max())
    composed = np.asarray(layers.retention_map(ours["rows"], ours["columns"]))
    np.testing.assert_allclose(composed, full.transpose(0, 3, 4, 1, 2).reshape(composed.shape), atol=1e-5)
    np.testing.assert_allclose(composed.sum(axis=(1, 2)), 1, atol=1e-5)


def test_official_rows_come_to_halves_and_back():
    array = normal(12, 5)
    np.testing.assert_array_equal(interleaved(_by_halves(array, 3).T, 3), array.T)
    np.testing.assert_array_equal(_by_halves(np.arange(8), 2), [0, 2, 1, 3, 4, 6, 5, 7])


def test_decay_has_the_published_values():
    published = [-0.693147, -0.487032, -0.352828, -0.260393, -0.194528, -0.146545, -0.111057, -0.084526]
    table = log_decay(56, 8)
    np.testing.assert_allclose(table[:, 7, 8], published, atol=1e-6)
    np.testing.assert_allclose(table[:, 3, 50], np.array(published) * 47, rtol=1e-5)


@pytest.mark.parametrize("edge", [16, 28, 40, 56, 64])
def test_phases_follow_the_raster_index_at_any_size(edge):
    sine, cosine = rotary_tables(edge, edge + 3, 12)
    phase = (2 * (edge + 3) + 5) * 10_000.0 ** -(np.arange(6) / 5)
    np.testing.assert_allclose(sine[2, 5], np.sin(phase), atol=1e-4)
    np.testing.assert_allclose(cosine[2, 5], np.cos(phase), atol=1e-4)


def test_first_heads_look_nearer_than_last_ones():
    rows = np.asarray(layers.AxialRetention(4)(np.zeros((1, 1, 20, 16), "float32"))["rows"])[0, 0, :, 0]
    reach = (rows * np.arange(20)).sum(axis=-1)
    assert np.all(np.diff(reach) > 0.1)


def memory_twin(layer, x):
    heads, key, value = layer.heads, layer.key.numpy().astype(float), layer.value.numpy().astype(float)
    tokens = x.reshape(len(x), -1, heads, x.shape[-1] // heads).astype(float)
    logits = tokens @ key
    maps = np.exp(logits - logits.max(axis=1, keepdims=True))
    maps /= maps.sum(axis=1, keepdims=True)
    weights = maps / (layer.epsilon + maps.sum(axis=-1, keepdims=True))
    return (weights @ value).reshape(x.shape), maps.reshape(*x.shape[:-1], -1)


@pytest.mark.parametrize(("heads", "epsilon"), [(1, 0.0), (4, 0.0), (2, 0.01)])
def test_external_attention_equals_a_numpy_twin(heads, epsilon):
    x = normal(2, 4, 3, 8)
    layer = randomize(layers.ExternalAttention(heads=heads, memory=5, epsilon=epsilon), x, 1.0)
    ours, (output, maps) = layer(x), memory_twin(layer, x)
    np.testing.assert_allclose(ours["output"], output, atol=1e-5)
    np.testing.assert_allclose(ours["maps"], maps, atol=1e-6)


@pytest.mark.parametrize(("heads", "epsilon"), [(2, 0.0), (2, 1e-6), (1, 0.0)])
def test_a_thousand_extreme_inputs_give_no_nan(heads, epsilon):
    """Also where the share of every unit underflows to zero, 0 / 0 in the published code; one head is CAME's."""
    scales = 10.0 ** RNG.uniform(-30, 15, (1000, 1, 1, 1)) * 10.0 ** RNG.uniform(-6, 6, (1000, 4, 4, 1))
    x = (RNG.normal(size=(1000, 4, 4, 8)) * scales).astype("float32")
    layer = randomize(layers.ExternalAttention(heads=heads, memory=6, epsilon=epsilon), x[:1], 1.0)
    key = layer.key.numpy()
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        seen = layer(inputs)
        loss = tf.reduce_sum(tf.tanh(seen["output"]) ** 2)
    gradients = tape.gradient(loss, [inputs, layer.key.value, layer.value.value])
    for values in (*seen.values(), *gradients):
        assert np.isfinite(np.asarray(values)).all()
    logits = x.reshape(1000, 16, heads, -1) @ key
    naive = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert (naive.sum(axis=-1) == 0).sum() > 1000, "the case under test does not occur"
    if not epsilon:  # the weights of every place still sum to 1
        layer.value.assign(np.ones_like(layer.value))
        np.testing.assert_allclose(layer(x)["output"], 1, atol=1e-5)


def window_twin(layer, x):
    """Every pair of places, in float64: same window and same side of the shift, or no attention."""
    (batch, height, width, channels), n, heads = x.shape, layer.window, layer.heads
    size = channels // heads
    sizes = [-(-e // n) * n for e in (height, width)]
    qkv = (x.reshape(batch, -1, channels) @ layer.qkv.kernel.numpy() + layer.qkv.bias.numpy()).astype(float)
    places = [(y, c) for y in range(height) for c in range(width)]
    rolled = np.array([[(p - layer.shift) % e for p, e in zip(place, sizes, strict=True)] for place in places])
    wrapped = np.array([[p < layer.shift for p in place] for place in places])
    same = (rolled[:, None] // n == rolled // n).all(-1) & (wrapped[:, None] == wrapped).all(-1)
    # In a row of windows shifted over the edge, the last window holds both ends of the map, kept apart.
    delta = rolled[:, None] - rolled + n - 1
    index = np.where(same, delta[..., 0] * (2 * n - 1) + delta[..., 1], 0)
    out = np.zeros((batch, len(places), channels))
    for head in range(heads):
        q, k, v = (qkv[..., i * channels + head * size : i * channels + (head + 1) * size] for i in range(3))
        logits = q @ k.transpose(0, 2, 1) * size**-0.5 + layer.table.numpy()[index, head]
        out[..., head * size : (head + 1) * size] = softmax(np.where(same, logits, -1e30)) @ v
    return (out @ layer.project.kernel.numpy() + layer.project.bias.numpy()).reshape(x.shape)


@pytest.mark.parametrize(
    ("shape", "window", "shift"),
    [((2, 8, 8, 4), 4, 0), ((2, 8, 12, 4), 4, 2), ((1, 5, 6, 4), 4, 1), ((1, 7, 7, 4), 7, 3), ((2, 2, 3, 4), 7, 3)],
)
def test_window_attention_equals_a_numpy_twin(shape, window, shift):
    x = normal(*shape)
    layer = randomize(layers.WindowAttention(2, window=window, shift=shift), x)
    np.testing.assert_allclose(layer(x), window_twin(layer, x), atol=1e-5)


def test_spatial_gate_equals_a_numpy_twin():
    x = normal(2, 6, 5, 4)
    layer = layers.SpatialGate(3)
    ours = layer(x)
    pooled = np.pad(np.stack([x.mean(-1), x.max(-1)], axis=-1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = layer.weights[0].numpy()[..., 0]
    logits = sum((pooled[:, i : i + 6, j : j + 5] * kernel[i, j]).sum(-1) for i in range(3) for j in range(3))
    np.testing.assert_allclose(ours[..., 0], 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    layer, x = layers.DropPath(0.3, seed=1), np.ones((4000, 2, 2, 1), "float32")
    dropped = np.asarray(layer(x, training=True))
    assert np.all((dropped == dropped[:, :1, :1]).all(axis=(1, 2)))
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.7], rtol=1e-6)
    assert abs(dropped.mean() - 1) < 0.04  # four standard errors
    np.testing.assert_array_equal(layer(x), x)


@pytest.mark.parametrize(
    ("make", "weights"),
    [
        (lambda **k: layers.AxialRetention(2, **k), (10, 0)),
        (lambda **k: layers.ExternalAttention(heads=2, memory=4, epsilon=1e-6, **k), (2, 0)),
        (lambda **k: layers.WindowAttention(2, window=3, shift=1, **k), (5, 0)),
        (lambda **k: layers.SpatialGate(3, **k), (1, 0)),
        (lambda **k: layers.DropPath(0.5, **k), (0, 0)),
    ],
    ids=["retention", "external", "window", "gate", "drop_path"],
)
def test_layers_keep_the_contract(make, weights):
    run_layer_test(make, normal(2, 4, 5, 8), weights=weights)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: layers.AxialRetention(0), "heads=0"),
        (lambda x: layers.AxialRetention(3)(x), "heads=3"),
        (lambda x: layers.AxialRetention(4)(x), "heads=4"),
        (lambda x: layers.AxialRetention(2, decay_start=0.0), "decay_start=0.0"),
        (lambda x: layers.ExternalAttention(memory=0), "memory=0"),
        (lambda x: layers.ExternalAttention(epsilon=-1.0), "epsilon=-1.0"),
        (lambda x: layers.ExternalAttention(heads=3)(x), "heads=3"),
        (lambda x: layers.WindowAttention(2, window=3, shift=3), "shift=3"),
        (lambda x: layers.WindowAttention(3)(x), "heads=3"),
        (lambda x: layers.SpatialGate(4), "kernel_size=4"),
        (lambda x: layers.DropPath(1.0), "rate=1.0"),
    ],
)
def test_wrong_arguments_state_the_rule(call, text):
    with pytest.raises(ValueError, match=f"Received: .*{text}"):
        call(np.zeros((1, 2, 2, 8), "float32"))
