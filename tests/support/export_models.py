"""Small models for the export tests, made of the parts that have broken exporters before."""

import keras
import numpy as np
from keras import ops

from medkeras.models.base import ImageClassifier, image_input
from medkeras.models.explain_points import ExplainPoint, Grid


@keras.saving.register_keras_serializable("medkeras_tests")
class GlimpseNet(ImageClassifier):
    """Convolution, BatchNorm, dropout, two attended crops by interpolation matrices, an unrolled GRU cell."""

    def __init__(
        self,
        input_shape,
        *,
        num_classes,
        channels=5,
        task=None,
        class_names=None,
        normalization="half",
        name="glimpse_net",
    ):
        image, x = image_input(input_shape, normalization)
        convolution = keras.layers.Conv3D if len(input_shape) == 4 else keras.layers.Conv2D
        x = convolution(channels, 3, strides=2, padding="same")(x)
        x = keras.layers.Activation("gelu")(keras.layers.BatchNormalization()(x))
        if len(input_shape) == 4:
            x = ops.max(x, axis=1)
        x = keras.layers.MaxPooling2D(2)(x)
        dropout = keras.layers.Dropout(0.5)
        x = dropout(x)
        rows, columns = x.shape[1:3]
        cell, place = keras.layers.GRUCell(channels), keras.layers.Dense(2, "tanh")
        state = ops.mean(x, axis=(1, 2))
        for _ in range(2):
            where = place(state)
            by_row = crop_weights(where[:, 0], rows)
            by_column = crop_weights(where[:, 1], columns)
            glimpse = ops.einsum("bjw,biwc->bijc", by_column, ops.einsum("bih,bhwc->biwc", by_row, x))
            state, _ = cell(ops.reshape(glimpse, (-1, 4 * x.shape[-1])), [state])
        super().__init__(
            inputs=image,
            logits=keras.layers.Dense(num_classes)(state),
            image_shape=input_shape,
            num_classes=num_classes,
            task=task,
            class_names=class_names,
            normalization=normalization,
            explain_points={},
            stochastic=[dropout],
            name=name,
        )
        self.channels = channels


def crop_weights(centre, size):
    """Bilinear weights `(batch, 2, size)` of two samples around `centre` in [-1, 1]."""
    pixels = np.arange(size, dtype="float32")
    samples = (centre[:, None] + np.array([[-0.5, 0.5]], "float32") + 1) * (size - 1) / 2
    return ops.relu(1 - ops.abs(samples[:, :, None] - pixels))


@keras.saving.register_keras_serializable("medkeras_tests")
class Pool3DNet(ImageClassifier):
    """A model that LiteRT's builtin operators cannot hold: it has a 3D max pooling."""

    def __init__(self, input_shape, *, num_classes, task=None, class_names=None, normalization="none", name="pool"):
        image, x = image_input(input_shape, normalization)
        x = keras.layers.GlobalAveragePooling3D()(keras.layers.MaxPooling3D(2)(x))
        super().__init__(
            inputs=image,
            logits=keras.layers.Dense(num_classes)(x),
            image_shape=input_shape,
            num_classes=num_classes,
            task=task,
            class_names=class_names,
            normalization=normalization,
            explain_points={},
            name=name,
        )


class SeenNet(ImageClassifier):
    """One convolution whose features explain it, BatchNorm and dropout before the head, in 2D or 3D."""

    def __init__(self, input_shape=(16, 16, 1), *, num_classes=3, channels=4, task=None, point="features"):
        image, x = image_input(input_shape, "half")
        convolution = keras.layers.Conv3D if len(input_shape) == 4 else keras.layers.Conv2D
        x = keras.layers.BatchNormalization()(convolution(channels, 3, strides=2, padding="same")(x))
        features = keras.layers.ReLU()(x)
        dropout = keras.layers.Dropout(0.4)
        pooled = dropout(ops.mean(features, axis=tuple(range(1, len(input_shape)))))
        super().__init__(
            inputs=image,
            logits=keras.layers.Dense(num_classes)(pooled),
            image_shape=input_shape,
            num_classes=num_classes,
            task=task,
            class_names=[f"finding {i}" for i in range(num_classes)],
            normalization="half",
            explain_points={point: ExplainPoint(features, Grid(), "")},
            stochastic=[dropout],
            name="seen_net",
        )
        self.head = self.layers[-1]
        self.before = keras.Model(image, pooled)  # Dropout off: the head's input.


def randomize(model, seed=0):
    """Gives every weight a value away from its initial one, moving variances kept positive."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" in str(variable.dtype):
            noise = rng.normal(0, 0.3, variable.shape)
            positive = "variance" in variable.path or "gamma" in variable.path
            variable.assign(np.abs(noise) + 0.5 if positive else noise)
    return model


def images(model, count, seed=0):
    """Seeded waves in [0, 1] of the model's shape; on white noise a crop would multiply rounding."""
    rng, shape = np.random.default_rng(seed), model.image_shape
    places = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape[:-1]), indexing="ij"))
    frequency = rng.uniform(-3, 3, (count, shape[-1], len(places)))
    phase = rng.uniform(0, 1, (count, *[1] * len(places), shape[-1]))
    waves = np.sin(2 * np.pi * (np.einsum("bcr,r...->b...c", frequency, places) + phase))
    return (0.5 + 0.5 * waves).astype("float32")
