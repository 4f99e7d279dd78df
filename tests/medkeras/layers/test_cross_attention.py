"""Cross-attention: contract, numpy twin, Keras' own layer as oracle, and what must hold."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from harness import run_layer_test
from medkeras import layers

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def built(units, shapes, **options):
    """A layer with weights that are not small, so that its maps are not even."""
    keras.utils.set_random_seed(0)
    layer = layers.CrossAttention(units, **options)
    inputs = [normal(*shape) for shape in shapes]
    layer(inputs)
    for weight in layer.weights:
        weight.assign(weight + 0.5 * normal(*weight.shape))
    return layer, inputs


def twin(layer, receiving, giving):
    """One image, one head and one place at a time, in float64."""
    weights = {"/".join(w.path.split("/")[-2:]): np.asarray(w, "float64") for w in layer.weights}

    def norm(x, name):
        x = x.reshape(-1, x.shape[-1]).astype("float64")
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
        return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    outputs, maps = [], []
    for to, of in zip(receiving, giving, strict=True):
        q, (k, v) = dense(norm(to, "norm_to"), "query"), (dense(norm(of, "norm_of"), n) for n in ("key", "value"))
        size = layer.units // layer.heads
        heads = [np.s_[:, i * size : (i + 1) * size] for i in range(layer.heads)]
        seen = [np.stack([softmax(k[h] @ place / np.sqrt(size)) for place in q[h]]) for h in heads]
        read = np.concatenate([m @ v[h] for m, h in zip(seen, heads, strict=True)], axis=1)
        outputs.append(dense(read, "project").reshape(*to.shape[:-1], layer.units))
        maps.append(np.stack(seen))
    return np.stack(outputs), np.stack(maps)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("shapes", [((2, 3, 4, 6), (2, 3, 4, 6)), ((2, 4, 2, 6), (2, 3, 5, 4)), ((2, 7, 3), (2, 5, 3))])
def test_it_equals_a_numpy_twin(heads, shapes):
    layer, inputs = built(8, shapes, heads=heads)
    seen = layer(inputs)
    output, maps = twin(layer, *inputs)
    np.testing.assert_allclose(seen["output"], output, atol=1e-4)
    np.testing.assert_allclose(seen["maps"], maps, atol=1e-5)
    np.testing.assert_allclose(np.sum(seen["maps"], axis=-1), 1, atol=1e-6)
    assert np.std(seen["maps"]) > 0.03


def test_it_equals_the_attention_of_keras():
    layer, (receiving, giving) = built(8, ((2, 6, 8), (2, 9, 8)), heads=2)
    oracle = keras.layers.MultiHeadAttention(2, 4)
    to, of = (norm(x) for norm, x in zip(layer.norms, (receiving, giving), strict=True))
    oracle(to, of)
    oracle.set_weights(
        [
            array.reshape(shape)
            for name, shapes in {
                "query": [(8, 2, 4), (2, 4)],
                "key": [(8, 2, 4), (2, 4)],
                "value": [(8, 2, 4), (2, 4)],
                "project": [(2, 4, 8), (8,)],
            }.items()
            for array, shape in zip(getattr(layer, name).get_weights(), shapes, strict=True)
        ]
    )
    wanted, maps = oracle(to, of, return_attention_scores=True)
    seen = layer([receiving, giving])
    np.testing.assert_allclose(seen["output"], wanted, atol=1e-5)
    np.testing.assert_allclose(seen["maps"], maps, atol=1e-5)


@pytest.mark.parametrize("shapes", [((3, 4, 4, 6), (3, 2, 3, 5)), ((3, 2, 3, 2, 4), (3, 2, 2, 2, 4))])
def test_it_keeps_the_contract(shapes):
    inputs = [normal(*shape) for shape in shapes]
    run_layer_test(lambda **k: layers.CrossAttention(8, heads=2, **k), inputs, weights=(12, 0))


def test_the_order_of_what_is_given_does_not_matter():
    """Attention has no places of its own: giving the same places in another order gives the same output."""
    layer, (receiving, giving) = built(8, ((2, 3, 4, 6), (2, 3, 4, 6)))
    mixed = giving.reshape(2, 12, 6)[:, RNG.permutation(12)].reshape(giving.shape)
    np.testing.assert_allclose(layer([receiving, mixed])["output"], layer([receiving, giving])["output"], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_constant_maps_are_read_evenly(value):
    layer, _ = built(8, ((1, 3, 3, 6), (1, 4, 4, 6)))
    seen = layer([np.full((1, 3, 3, 6), value), np.full((1, 4, 4, 6), value)])
    np.testing.assert_allclose(seen["maps"], 1 / 16, atol=1e-6)
    assert np.isfinite(seen["output"]).all()


@pytest.mark.parametrize("options", [{"units": 0}, {"units": 8, "heads": 3}, {"units": 8, "heads": 0}])
def test_wrong_arguments_state_the_rule(options):
    with pytest.raises(ValueError, match="a multiple of `heads`. Received: units="):
        layers.CrossAttention(**options)
