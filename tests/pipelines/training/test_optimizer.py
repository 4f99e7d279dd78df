"""Optimizers and schedules: numpy as oracle, today's defaults unchanged, and what is exempt from weight decay."""

import math

import keras
import numpy as np
import pytest

from pipelines.inference.trained_model import load_model
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.train import train
from pipelines.training.checkpointing import Checkpoints
from pipelines.training.config import ALWAYS, TrainConfig
from pipelines.training.learning_rate import learning_rates
from pipelines.training.optimizer import DecayedAdam, DecayedSGD, DecoupledAdam, build_optimizer, is_exempt
from tiny_model import tiny_models  # noqa: F401  registers its models for each test


def config(**changes):
    return TrainConfig(**({"data": "phantom", "model": "tiny_net", "run": "unused"} | changes))


def rates(steps, per_epoch, **changes):
    schedule = learning_rates(config(**changes), per_epoch)
    return np.array([float(schedule(step)) for step in range(steps)])


def test_the_defaults_are_what_they_were():
    """AdamW, a rise over 5 % of the steps, a cosine to zero; every weight decays."""
    model = small_model()
    optimizer = build_optimizer(config(), model, steps_per_epoch=10)
    rates = keras.optimizers.schedules.CosineDecay(0.0, 190, warmup_target=1e-3, warmup_steps=10)
    before = keras.optimizers.AdamW(rates, weight_decay=1e-4, name="adamw")
    asked, kept = optimizer.get_config(), before.get_config()
    assert asked.pop("decay") == kept.pop("weight_decay") == 1e-4 and asked.pop("weight_decay") is None
    assert asked == kept
    before.build(model.trainable_variables)
    assert [v.path for v in optimizer.variables] == [v.path for v in before.variables]


def test_decoupled_decay_is_that_of_keras_to_the_bit():
    rng = np.random.default_rng(0)
    rates = keras.optimizers.schedules.CosineDecay(0.0, 6, warmup_target=0.3, warmup_steps=3)
    ours, theirs = small_model(), small_model()
    optimizers = DecoupledAdam(rates, decay=0.2), keras.optimizers.AdamW(rates, weight_decay=0.2)
    for optimizer in optimizers:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    for _ in range(6):
        gradients = [keras.ops.convert_to_tensor(rng.normal(size=v.shape), "float32") for v in ours.trainable_variables]
        for optimizer, model in zip(optimizers, (ours, theirs), strict=True):
            optimizer.apply(gradients, model.trainable_variables)
    for one, other in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_step_is_traced_once(monkeypatch):
    """Moments that the first step has to make are traced a second time without making them."""
    model = small_model()
    model.compile(build_optimizer(config(), model, steps_per_epoch=2), "sparse_categorical_crossentropy")
    traces, step = [], model.train_step
    monkeypatch.setattr(model, "train_step", lambda data: (traces.append(1), step(data))[1])
    model.fit(np.zeros((8, 6, 6, 2), "float32"), np.zeros(8), batch_size=4, epochs=2, verbose=0)
    assert traces == [1]


def test_a_cosine_with_its_own_rise_and_end():
    got = rates(500, 5, epochs=100, learning_rate=1e-4, warm_up=1, warm_up_start=1e-3, end_factor=1e-2)
    step = np.arange(500)
    rise = 1e-4 * (1e-3 + (1 - 1e-3) * step / 5)
    fall = 1e-4 * (1e-2 + (1 - 1e-2) * 0.5 * (1 + np.cos(np.pi * (step - 5) / 495)))
    np.testing.assert_allclose(got, np.where(step < 5, rise, fall), rtol=1e-5)


def test_steps_and_a_constant():
    got = rates(120, 3, epochs=40, warm_up=0, schedule="step", step_epochs=10, step_factor=0.8)
    np.testing.assert_allclose(got, 1e-3 * 0.8 ** (np.arange(120) // 30), rtol=1e-6)
    got = rates(40, 10, epochs=4, warm_up=0.5, warm_up_start=0.2, schedule="constant", step_factor=0.5)
    np.testing.assert_allclose(got, 1e-3 * np.minimum(0.2 + 0.8 * np.arange(40) / 5, 1), rtol=1e-6)
    assert rates(1, 10, epochs=4, warm_up=0)[0] == pytest.approx(1e-3)


def small_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 3), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    )
    model.add(keras.layers.Dense(2))
    return model


def test_sgd_is_that_of_the_published_code():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 4)).astype("float32")
    variable, velocity, expected = keras.Variable(weight), 0.0, weight.astype("float64")
    optimizer = DecayedSGD(0.05, momentum=0.9, decay=0.01)
    for _ in range(6):
        gradient = rng.normal(size=(3, 4))
        velocity = 0.9 * velocity + gradient + 0.01 * expected
        expected = expected - 0.05 * velocity
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
    np.testing.assert_allclose(variable, expected, atol=1e-5)


def test_adam_has_the_weights_in_its_gradient():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=5).astype("float32")
    variable, first, second, expected = keras.Variable(weight), 0.0, 0.0, weight.astype("float64")
    optimizer = DecayedAdam(0.01, decay=0.1)
    for step in range(1, 7):
        gradient = rng.normal(size=5)
        decayed = gradient + 0.1 * expected
        first, second = 0.9 * first + 0.1 * decayed, 0.999 * second + 0.001 * decayed**2
        rate = 0.01 * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        expected = expected - rate * first / (np.sqrt(second) + 1e-7)
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
    np.testing.assert_allclose(variable, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("decay_vectors", [True, False])
def test_biases_and_norms_decay_only_where_they_should(name, decay_vectors):
    model = small_model()
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones(variable.shape))
    options = {"learning_rate": 0.1, "weight_decay": 0.5, "warm_up": 0, "schedule": "constant", "momentum": 0.0}
    optimizer = build_optimizer(
        config(optimizer=name, decay_vectors=decay_vectors, **options), model, steps_per_epoch=10
    )
    optimizer.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    for variable in model.trainable_variables:
        decays = decay_vectors or variable.name == "kernel"
        np.testing.assert_allclose(variable, 0.95 if decays else 1.0, rtol=1e-6)
    assert [v.name for v in model.trainable_variables if is_exempt(v)] == ["bias", "gamma", "beta", "bias"]


def test_gradients_are_clipped_together():
    model = small_model()
    before = [np.array(v) for v in model.trainable_variables]
    options = {"learning_rate": 1.0, "weight_decay": 0.0, "warm_up": 0, "schedule": "constant", "momentum": 0.0}
    optimizer = build_optimizer(config(optimizer="sgd", clip_norm=0.5, **options), model, steps_per_epoch=10)
    optimizer.apply([keras.ops.ones(v.shape) for v in model.trainable_variables], model.trainable_variables)
    moved = [np.asarray(v) - b for v, b in zip(model.trainable_variables, before, strict=True)]
    assert math.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(0.5, rel=1e-4)


def test_a_training_by_sgd_and_steps_continues_to_the_bit(tmp_path):
    """Steps do not depend on the number of epochs: one and one more are two, with means and sums of gradients."""
    options = {
        "image_size": 16,
        "batch_size": 8,
        "source_options": {"images": 60, "size": 16},
        "leakage": "off",
        "augment": "none",
        "optimizer": "sgd",
        "schedule": "step",
        "warm_up": 0,
        "step_epochs": 1,
        "decay_vectors": False,
        "accumulate": 2,
        "ema": 0.9,
        "clip_norm": 1.0,
    }
    whole = train(config(run=str(tmp_path / "whole"), epochs=2, **options))
    train(config(run=str(tmp_path / "parts"), epochs=1, **options))
    parts = train(config(run=str(tmp_path / "parts"), epochs=2, recipe="named", **options))
    ends = [np.load(run / "checkpoints/00002/variables.npz") for run in (whole, parts)]
    for name in ends[0].files:
        np.testing.assert_array_equal(ends[0][name], ends[1][name])
    assert (whole / "history.csv").read_text() == (parts / "history.csv").read_text()
    assert whole.read_json("environment.json")["deterministic"] is True
    model, best = load_model(whole), Checkpoints(whole).progress().best_epoch
    own = list(np.load(whole / f"checkpoints/{best:05d}/variables.npz").values())
    for weight in model.trainable_weights:
        places = [i for i, array in enumerate(own) if np.array_equal(array, weight)]
        assert places and min(places) > len(model.weights), "the saved model has the means, not the weights"
    again = TrainConfig.from_run(parts)
    assert (again.recipe, again.optimizer, again.schedule) == ("named", "sgd", "step")
    values = {k: v for k, v in again.to_dict().items() if k in ALWAYS}
    RunFolder(tmp_path / "old").write_config(values)
    old = TrainConfig.from_run(RunFolder(tmp_path / "old"))
    assert (old.optimizer, old.schedule, old.warm_up, old.decay_vectors) == ("adamw", "cosine", None, True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"optimizer": "lion"}, "one of adamw, sgd, adam. Received: optimizer='lion'"),
        ({"schedule": "linear"}, "one of cosine, step, constant"),
        ({"learning_rate": 0.0}, "`learning_rate` must be > 0. Received: learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "Received: learning_rate=nan"),
        ({"learning_rate": float("inf")}, "Received: learning_rate=inf"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be >= 0. Received: weight_decay=-0.0001"),
        ({"momentum": 1.0}, "`momentum` must be >= 0 and < 1"),
        ({"warm_up": 21}, "`warm_up` must be <= epochs=20. Received: warm_up=21"),
        ({"warm_up": -1.0}, "Received: warm_up=-1.0"),
        ({"warm_up_start": 1.5}, "`warm_up_start` must be >= 0 and <= 1"),
        ({"step_factor": 0.0}, "`step_factor` must be > 0 and <= 1"),
        ({"step_epochs": 0}, "Received: step_epochs=0"),
        ({"end_factor": 2.0}, "Received: end_factor=2.0"),
        ({"clip_norm": 0.0}, "`clip_norm` must be > 0"),
        ({"train_preprocess": ("crop",)}, "Received: 'crop'"),
    ],
)
def test_what_no_training_can_have_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        config(**changes)
