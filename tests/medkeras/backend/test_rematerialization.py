"""Activations that are computed again: the same training in less memory, on every backend and kind of step."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from jax_process import JAX
from medkeras.backend.rematerialization import kept_share, rematerialize
from medkeras.models import preset
from medkeras.tasks import default_loss
from paths import ROOT
from remat_net import IMAGES, AddsLoss, compare, network, steps
from small_models import SHAPES, small


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=["graph", "eager", "xla"])
def test_steps_statistics_and_random_states_are_those_without(options):
    compare(**options)


def test_scaled_losses_in_half_precision_train_whole_weights_as_without():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        compare(tolerance=0.05)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.process
def test_the_same_on_jax():
    done = subprocess.run(
        [sys.executable, "tests/support/remat_net.py"],
        cwd=ROOT,
        env=os.environ | JAX | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_layer_is_run_again_in_training_alone():
    model = network()
    rematerialize(model)
    AddsLoss.runs = 0
    model(IMAGES, training=False)
    assert AddsLoss.runs == 1
    steps(model, count=1, run_eagerly=True)
    assert AddsLoss.runs == 3


def test_inference_and_the_saved_model_stay_as_they_are(tmp_path):
    model = small("dualattendmed_tiny")
    images, variables = np.ones((2, *model.image_shape), "float32"), len(model.variables)
    expected = model.predict(images, verbose=0)
    assert rematerialize(model) < 1
    np.testing.assert_array_equal(model.predict(images, verbose=0), expected)
    assert len(model.variables) == variables
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)
    assert kept_share(loaded) == 1


@pytest.mark.parametrize("name", ["vit_tiny", "dcat_tiny", "dualattendmed_tiny", "hemf_tiny", "focusnet2d"])
def test_each_architecture_has_the_gradients_it_has_without(name):
    import tensorflow as tf

    shape = SHAPES[len(preset(name).input_shape)]
    images = np.random.default_rng(0).uniform(size=(3, *shape)).astype("float32")

    def gradients(again):
        keras.utils.set_random_seed(0)
        model = small(name)
        assert not again or rematerialize(model) < 1
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = default_loss(model.task)(np.array([0, 1, 2]), logits) + sum(model.losses)
        found = tape.gradient(loss, [v.value for v in model.trainable_variables], unconnected_gradients="zero")
        return [loss.numpy(), *(g.numpy() for g in found), *(v.numpy() for v in model.non_trainable_variables)]

    for plain, own in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_allclose(own, plain, atol=2e-5 * max(1, np.abs(plain).max()))


def chain(length, units=8):
    x = image = keras.Input((units,))
    for _ in range(length):
        x = keras.layers.Dense(units)(x)
    return keras.Model(image, x)


def test_what_is_kept_of_a_chain_is_that_of_a_square_root():
    # 36 equal calls: five cuts between six stretches of six keep 5, and 6 are there at once.
    assert rematerialize(chain(36)) == pytest.approx(11 / 36)
    assert rematerialize(chain(1)) == 1


def test_it_is_done_once():
    model = chain(36)
    share = rematerialize(model)
    call = model.call
    assert rematerialize(model) == kept_share(model) == share
    assert model.call == call


def test_a_model_without_a_graph_is_refused():
    with pytest.raises(ValueError, match="Only the graph of a functional model .* Received: other"):
        rematerialize(keras.Model(name="other"))
