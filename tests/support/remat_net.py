"""A small graph with all that makes it hard to run a part again: norms, random layers, added losses, a shared layer.

As a program: trains it with and without keeping activations, and compares, on the backend of the environment.
"""

import keras
import numpy as np

from medkeras.backend.rematerialization import rematerialize
from medkeras.layers import DropPath

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.uniform(size=(6, 8, 8, 2)).astype("float32"), np.array([0, 2, 2, 1, 0, 2])


@keras.saving.register_keras_serializable("tests")
class AddsLoss(keras.layers.Layer):
    """Adds a loss, and counts how often it is run."""

    runs = 0

    def call(self, inputs):
        AddsLoss.runs += 1
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(keras.ops.cast(inputs, "float32"))))
        return inputs


def network():
    """A seeded model of seven residual blocks, with a functional model in the middle."""
    keras.utils.set_random_seed(0)
    shared = keras.layers.Conv2D(4, 3, padding="same", name="shared")

    def block(x, index):
        y = keras.layers.BatchNormalization(momentum=0.5, name=f"norm_{index}")(x)
        y = keras.layers.Dropout(0.3, seed=index)(keras.ops.relu(shared(y)))
        return keras.layers.Add()([x, DropPath(0.3, seed=index)(y)])

    image = keras.Input((8, 8, 2))
    x = AddsLoss()(keras.layers.Conv2D(4, 3, padding="same")(image))
    for index in range(4):
        x = block(x, index)
    inside = y = keras.Input((8, 8, 4))
    for index in range(4, 7):
        y = block(y, index)
    x = keras.Model(inside, y, name="inner")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, dtype="float32")(x))


def steps(model, count=3, **options):
    """Trains a few steps; returns the losses, and all variables: weights, statistics, states of random numbers."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, **{"jit_compile": False, **options})
    losses = model.fit(IMAGES, LABELS, batch_size=6, epochs=count, shuffle=False, verbose=0).history["loss"]
    return losses, [keras.ops.convert_to_numpy(keras.ops.cast(v.value, "float32")) for v in model.variables]


def compare(tolerance=1e-5, **options):
    """Trains the network as it is, and with activations computed again; asserts that both are the same."""
    plain, again = network(), network()
    assert rematerialize(again) < 0.8
    (losses, values), (mine, own) = steps(plain, **options), steps(again, **options)
    np.testing.assert_allclose(mine, losses, rtol=tolerance)
    for variable, value, found in zip(plain.variables, values, own, strict=True):
        np.testing.assert_allclose(found, value, atol=tolerance * max(1, np.abs(value).max()), err_msg=variable.path)


if __name__ == "__main__":
    compare()
