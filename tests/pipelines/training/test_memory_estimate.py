"""The memory of a step before the first one: small graphs by hand, and what a system says is free."""

import keras
import pytest
from rich.console import Console

from pipelines.distribution.strategy import choose_strategy
from pipelines.jobs import train as job
from pipelines.training import memory_estimate
from pipelines.training.build import build_training
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from pipelines.training.memory_estimate import estimate_memory, free_memory
from tiny_model import tiny_models  # noqa: F401  registers its models for each test

FLOAT = 4


def test_the_tensors_of_a_graph_are_counted_by_hand():
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3)(image)  # (6, 6, 4)
    x = keras.layers.Flatten()(keras.ops.relu(x))
    inner = keras.Sequential([keras.Input((144,)), keras.layers.Dense(10), keras.layers.Dense(2)])
    model = keras.Model(image, inner(x))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    found = estimate_memory(model, batch_size=5, optimizer=optimizer, passes=3)
    weights = 3 * 3 * 4 + 4 + 144 * 10 + 10 + 10 * 2 + 2
    assert (found.weights, found.gradients) == (FLOAT * weights, FLOAT * weights)
    assert FLOAT * 2 * weights <= found.optimizer < FLOAT * 2 * weights + 64
    assert found.activations == 3 * 5 * FLOAT * (6 * 6 * 4 + 6 * 6 * 4 + 10 + 2)
    assert found.step == found.gradients + found.activations


def test_layers_of_layers_are_counted_inside_and_with_the_batch():
    def model():
        image = keras.Input((16, 8))
        x = keras.layers.MultiHeadAttention(2, 4)(image, image)
        return keras.Model(image, x)

    one, four = (estimate_memory(model(), batch_size=n).activations for n in (1, 4))
    scores = 2 * 16 * 16 * FLOAT
    assert one > 2 * scores, "scores and their softmax are inside the layer"
    assert four == pytest.approx(4 * one, rel=0.01)


def test_a_subclassed_model_has_no_graph():
    with pytest.raises(ValueError, match="functional model. Received: other"):
        estimate_memory(keras.Model(name="other"), batch_size=1)


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    free = free_memory()
    assert free is None or 2**20 < free < 2**50
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(memory_estimate, "CGROUP", tmp_path)
    assert free is None or free_memory() == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free is None or free_memory() > 600_000


def test_a_training_that_needs_more_than_is_free_says_so_before_its_first_step(monkeypatch, tmp_path):
    options = {"image_size": 16, "batch_size": 8, "source_options": {"images": 30, "size": 16}, "leakage": "off"}
    config = TrainConfig(data="phantom", model="tiny_net", run=str(tmp_path), **options)
    data, distribution = load_data(config), choose_strategy("none")
    training, model = build_training(config, data)
    console = Console(record=True, width=300)
    monkeypatch.setattr(job, "SMALL_BATCH", 0)
    job._say_memory(training, model, data, distribution, console)
    monkeypatch.setattr(job, "free_memory", lambda: 1000)
    job._say_memory(training, model, data, distribution, console)
    first, second, warning = console.export_text().strip().splitlines()
    assert first == second and first.startswith("memory, as estimated: 0.6 GB (weights 0.0")
    assert "0.0 GB are free: less --batch-size" in warning
