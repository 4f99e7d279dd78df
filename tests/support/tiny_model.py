"""A model that trains in a second, by name, for tests of the jobs and of the command line.

It is registered only while a test runs, so that tests over all models do not meet it. As a program, this file
is the command line with that model: `python tests/support/tiny_model.py train ...`.
"""

import sys

import keras
import pytest

from medkeras.models import ImageClassifier, Preset, registry
from medkeras.models.base import image_input


@keras.saving.register_keras_serializable("medkeras_tests")
class TinyNet(ImageClassifier):
    """One convolution, BatchNorm, dropout and a head: a bit of each kind of state, in 2D or 3D."""

    def __init__(
        self,
        input_shape,
        *,
        num_classes,
        filters=4,
        rate=0.2,
        task=None,
        class_names=None,
        normalization="half",
        name="tiny_net",
    ):
        image, x = image_input(input_shape, normalization)
        is_volume = len(input_shape) == 4
        convolution = keras.layers.Conv3D if is_volume else keras.layers.Conv2D
        x = keras.layers.BatchNormalization()(convolution(filters, 3, strides=2)(x))
        dropout = keras.layers.Dropout(rate)
        x = dropout(keras.ops.max(keras.ops.relu(x), axis=(1, 2, 3) if is_volume else (1, 2)))
        super().__init__(
            inputs=image,
            logits=keras.layers.Dense(num_classes)(x),
            image_shape=input_shape,
            num_classes=num_classes,
            task=task,
            class_names=class_names,
            normalization=normalization,
            explain_points={},
            stochastic=[dropout],
            name=name,
        )
        self.filters, self.rate = filters, rate


PRESETS = {
    "tiny_net": Preset(TinyNet, "for tests", (16, 16, 1)),
    "tiny_net3d": Preset(TinyNet, "for tests", (16, 16, 16, 1)),
}


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch):
    for name, preset in PRESETS.items():
        monkeypatch.setitem(registry._PRESETS, name, preset)


if __name__ == "__main__":
    from pipelines.cli.main import main

    registry.register(PRESETS)
    sys.exit(main())
