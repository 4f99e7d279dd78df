"""HEMF and CAME on images that are the same everywhere: finite answers, and gradients of the usual size."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import medkeras
from harness import run_layer_test
from jax_process import JAX
from medkeras import layers
from paths import ROOT

RNG = np.random.default_rng(0)
# Norms in a row, as many as the published networks have between image and fusion: each could multiply by 1,000.
DEEP = {
    "hemf_tiny": {"local_depths": (1, 5, 1, 1), "global_depths": (1, 1, 2, 1), "widths": (8, 8, 8, 8), "heads": 2},
    "came_tiny": {"depths": (1, 2, 1, 1), "widths": (8, 8, 8, 8)},
}
LARGEST = 1e4  # of a gradient; of noise it is about 1


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def images(kind, count=3, edge=32):
    x = uniform(count, edge, edge, 3)
    if kind == "one black":
        x[0] = 0
    else:
        x[:] = {"black": 0, "grey": 0.5}[kind]
    return x


@pytest.fixture(scope="module", params=["float32", "mixed_float16", "mixed_bfloat16"])
def policy(request):
    return request.param


@pytest.fixture(scope="module", params=sorted(DEEP))
def step(request, policy):
    """Logits and gradients of a fresh network, whose biases are zero."""
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = medkeras.models.create(
            request.param,
            input_shape=(32, 32, 3),
            num_classes=3,
            normalization="none",
            memory=4,
            **DEEP[request.param],
        )
    finally:
        keras.mixed_precision.set_dtype_policy("float32")

    def run(x):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(np.arange(3), logits, from_logits=True))
        return logits, tape.gradient(loss, [w.value for w in model.trainable_weights])

    return run  # not compiled: that takes longer than five steps


@pytest.mark.parametrize("kind", ["black", "one black", "grey"])
def test_answers_are_finite_and_gradients_of_the_usual_size(step, kind):
    logits, gradients = step(images(kind))
    assert np.isfinite(logits).all()
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() < LARGEST


def gradients_of(layer, x, **options):
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        outputs = layer(inputs, **options)
        loss = tf.reduce_sum(outputs * tf.constant(np.cos(np.arange(x.size)).reshape(x.shape).astype("float32")))
    return outputs, tape.gradient(loss, [inputs, *(w.value for w in layer.trainable_weights)])


@pytest.mark.parametrize(
    ("ours", "usual", "options"),
    [
        (layers.SteadyLayerNorm, keras.layers.LayerNormalization, {}),
        (layers.SteadyBatchNorm, keras.layers.BatchNormalization, {"training": True}),
        (layers.SteadyBatchNorm, keras.layers.BatchNormalization, {"training": False}),
    ],
)
def test_norms_equal_the_usual_ones_but_pass_nothing_where_all_is_the_same(ours, usual, options):
    x = uniform(2, 3, 5, 4) - 0.5
    x[0, 1, 2] = 0  # a place without variance
    x[..., 3] = 0  # and a channel
    mine, theirs = ours(epsilon=1e-6), usual(epsilon=1e-6)
    for layer in (mine, theirs):
        layer.build(x.shape)
        for weight in layer.weights:
            weight.assign(np.linspace(0.5, 1.5, 4))
    outputs, (dx, *dw) = gradients_of(mine, x, **options)
    expected, (usual_dx, *usual_dw) = gradients_of(theirs, x, **options)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for gradient, other in zip(dw, usual_dw, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-5)
    same = np.zeros(x.shape, bool)
    if ours is layers.SteadyLayerNorm:
        same[0, 1, 2] = True
    elif options["training"]:
        same[..., 3] = True
    np.testing.assert_allclose(np.where(same, 0, usual_dx), dx, atol=1e-5 * np.abs(np.where(same, 0, usual_dx)).max())
    assert np.abs(usual_dx[same]).max(initial=100) >= 100, "the case under test does not occur"


@pytest.mark.parametrize(("layer", "weights"), [(layers.SteadyLayerNorm, (2, 0)), (layers.SteadyBatchNorm, (2, 2))])
def test_layers_keep_the_contract(layer, weights):
    run_layer_test(lambda **k: layer(**k), uniform(2, 4, 5, 8), weights=weights)


ON_JAX = """
import jax, numpy as np, keras
from medkeras import layers
assert keras.backend.backend() == "jax"
for layer, options in ((layers.SteadyLayerNorm(), {}), (layers.SteadyBatchNorm(), {"training": True})):
    layer.build((2, 3, 5, 4))
    given = [v.value for v in layer.trainable_variables], [v.value for v in layer.non_trainable_variables]
    loss = lambda x: (layer.stateless_call(*given, x, **options)[0] * np.arange(4.0)).sum()
    assert np.abs(jax.grad(loss)(np.zeros((2, 3, 5, 4), "float32"))).max() == 0
    assert np.abs(jax.grad(loss)(np.cos(np.arange(120.0)).reshape(2, 3, 5, 4))).max() > 0
"""


@pytest.mark.process
def test_norms_pass_nothing_on_jax_either():
    environment = os.environ | JAX
    subprocess.run([sys.executable, "-c", ON_JAX], check=True, env=environment, cwd=ROOT, timeout=300)
