"""A model with attention that compiles and converts in a second."""

import keras

from medkeras.models import ExplainPoint, Grid, ImageClassifier
from medkeras.models.base import image_input


@keras.saving.register_keras_serializable("medkeras_tests")
class SpotNet(ImageClassifier):
    """One convolution; its maximum over channels is the attention that its mean is weighted with."""

    def __init__(self, input_shape, *, num_classes, task=None, class_names=None, normalization="half", name="spot_net"):
        image, x = image_input(input_shape, normalization)
        x = keras.layers.Conv2D(6, 5, strides=4, activation="relu")(x)
        dropout = keras.layers.Dropout(0.3)
        spot = keras.ops.max(x, axis=-1, keepdims=True)
        super().__init__(
            inputs=image,
            logits=keras.layers.Dense(num_classes)(dropout(keras.ops.mean(x * spot, axis=(1, 2)))),
            image_shape=input_shape,
            num_classes=num_classes,
            task=task,
            class_names=class_names,
            normalization=normalization,
            explain_points={
                "features": ExplainPoint(x, Grid(), "features"),
                "attention": ExplainPoint(spot, Grid(), "their maximum"),
            },
            stochastic=[dropout],
            name=name,
        )
