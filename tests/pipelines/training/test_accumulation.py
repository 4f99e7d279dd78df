"""Several steps as one update, and running means of the weights."""

import keras
import numpy as np
import pytest

from pipelines.training.config import TrainConfig
from pipelines.training.learning_rate import learning_rates
from pipelines.training.optimizer import build_optimizer
from pipelines.training.weight_averaging import ValidateAveraged, averaged_weights

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(48, 5)).astype("float32"), np.arange(48) % 2


def config(**changes):
    return TrainConfig(**({"data": "phantom", "model": "tiny_net", "run": "unused", "epochs": 4} | changes))


def dense_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])


def fitted(batch_size, **changes):
    """A model after four epochs of an optimizer; 48 images in batches of equal size."""
    model = dense_model()
    optimizer = build_optimizer(config(**changes), model, steps_per_epoch=48 // batch_size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(IMAGES, LABELS, batch_size=batch_size, epochs=4, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "learning_rate": 0.05, "clip_norm": 0.1, "weight_decay": 0.1},
        {"optimizer": "sgd", "learning_rate": 0.5, "schedule": "step", "step_epochs": 1, "ema": 0.9, "warm_up": 1},
    ],
)
def test_micro_batches_are_one_big_batch(changes):
    """With clipping of the sum, a schedule of updates, decay and means: all as with the big batch."""
    big, small = fitted(24, **changes), fitted(4, accumulate=6, **changes)
    for one, other in zip(big.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for one, other in zip(big.optimizer.means, small.optimizer.means, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert int(big.optimizer.iterations) == int(small.optimizer.iterations) == 8
    start = dense_model().get_weights()
    assert max(abs(one - other).max() for one, other in zip(start, small.get_weights(), strict=True)) > 0.05


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_the_schedule_counts_updates(schedule):
    options = {"schedule": schedule, "step_epochs": 1, "epochs": 10}
    once, held = learning_rates(config(**options), 6), learning_rates(config(accumulate=4, **options), 24)
    np.testing.assert_allclose(
        [float(held(step)) for step in range(240)], np.repeat([float(once(s)) for s in range(60)], 4)
    )


def test_more_steps_than_an_epoch_has_are_refused():
    with pytest.raises(ValueError, match="at most the steps of an epoch, 3. Received: accumulate=4"):
        build_optimizer(config(accumulate=4), dense_model(), steps_per_epoch=3)


def test_means_are_those_of_numpy_and_validation_measures_them():
    model = dense_model()
    model.compile(build_optimizer(config(ema=0.8, learning_rate=0.1), model, steps_per_epoch=6), "mse")
    images, targets = IMAGES, RNG.normal(size=(48, 2))
    path, measured = [], []

    class Notes(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            path.append(model.get_weights())

        def on_epoch_end(self, epoch, logs=None):
            measured.append(logs["val_loss"])
            for own, now in zip(path[-1], model.get_weights(), strict=True):
                np.testing.assert_array_equal(own, now)

    callbacks = [ValidateAveraged(), Notes()]
    model.fit(
        images, targets, validation_data=(images, targets), batch_size=8, epochs=4, verbose=0, callbacks=callbacks
    )
    means = [weight.astype("float64") for weight in path[0]]
    for n, weights in enumerate(path[1:], start=1):
        decay = min(0.8, n / (n + 9))
        means = [decay * mean + (1 - decay) * weight for mean, weight in zip(means, weights, strict=True)]
    with averaged_weights(model):
        for mean, weight in zip(means, model.get_weights(), strict=True):
            np.testing.assert_allclose(weight, mean, atol=1e-5)
        loss = float(np.mean((np.asarray(model(images)) - targets) ** 2))
    assert measured[-1] == pytest.approx(loss, rel=1e-5)
    assert loss != pytest.approx(float(np.mean((np.asarray(model(images)) - targets) ** 2)), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ema": 1.0}, "`ema` must be > 0 and < 1. Received: ema=1.0"),
        ({"accumulate": 0}, "`accumulate` must be >= 1. Received: accumulate=0"),
        ({"save_steps": 0}, "`save_steps` must be >= 1. Received: save_steps=0"),
    ],
)
def test_what_no_training_can_have_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        config(**changes)
