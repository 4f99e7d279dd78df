"""A classifier whose attributions are known: logits that are a weighted sum of the pixels."""

import keras
import numpy as np

from medkeras.models import ImageClassifier
from medkeras.models.base import image_input


def linear_model(shape=(4, 6, 2), classes=3):

    image, x = image_input(shape, "none")
    logits = keras.layers.Dense(classes, use_bias=False, name="head")(keras.layers.Flatten()(x))
    return ImageClassifier(
        inputs=image,
        logits=logits,
        image_shape=shape,
        num_classes=classes,
        task=None,
        class_names=["a", "b", "c"],
        normalization="none",
        explain_points={},
    )


def weights_of(model, target):
    return np.asarray(model.get_layer("head").kernel)[:, target].reshape(model.image_shape)
