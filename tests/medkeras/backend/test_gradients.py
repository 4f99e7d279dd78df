"""Input gradients, on TensorFlow here and on JAX in a process of its own."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from gradient_checks import CHECKS
from jax_process import JAX
from medkeras.backend.gradients import input_gradient
from paths import ROOT


@pytest.mark.parametrize("check", CHECKS)
def test_on_this_backend(check):
    check()


@pytest.mark.process
def test_on_jax():
    pytest.importorskip("jax")
    result = subprocess.run(
        [sys.executable, "tests/support/gradient_checks.py"],
        cwd=ROOT,
        env=os.environ | JAX | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split() == ["jax", str(len(CHECKS))]


def test_gradient_equals_finite_differences():
    layers = keras.Sequential([keras.layers.Conv2D(3, 3, activation="tanh"), keras.layers.Flatten()])
    x = np.random.default_rng(0).uniform(size=(1, 5, 5, 1)).astype("float32")
    layers(x)
    _, gradient = input_gradient(lambda t: keras.ops.sum(layers(t) ** 2, axis=-1), x)
    for place in ((0, 0, 0, 0), (0, 2, 3, 0)):
        step = np.zeros_like(x)
        step[place] = 1e-2
        rise = np.sum(layers(x + step).numpy() ** 2) - np.sum(layers(x - step).numpy() ** 2)
        np.testing.assert_allclose(gradient[place], rise / 2e-2, rtol=2e-2, atol=1e-3)


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="Received: backend='torch'"):
        input_gradient(keras.ops.sum, [1.0])
