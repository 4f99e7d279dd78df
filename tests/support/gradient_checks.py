"""What must hold of gradients and class maps on every backend; as a program, it checks them on its own."""

import keras
import numpy as np
from keras import ops

from medkeras.backend.gradients import input_gradient
from medkeras.explain import class_map
from medkeras.models import ExplainPoint, Grid, ImageClassifier
from medkeras.models.base import image_input

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def cam_model(shape, classes=3, task=None):
    """Convolution, global mean, linear head: the one case in which the class map is known in closed form."""
    keras.utils.set_random_seed(1)  # With other weights, all features of an image may be 0.
    image, x = image_input(shape, "none")
    conv = keras.layers.Conv2D if len(shape) == 3 else keras.layers.Conv3D
    features = conv(5, 3, padding="same", activation="relu")(x)
    logits = keras.layers.Dense(classes, name="head")(ops.mean(features, axis=tuple(range(1, len(shape)))))
    return ImageClassifier(
        inputs=image,
        logits=logits,
        image_shape=shape,
        num_classes=classes,
        task=task,
        class_names=None,
        normalization="none",
        explain_points={"features": ExplainPoint(features, Grid(), "the convolution")},
    )


def cam(model, images, targets, contrast=0):
    """Class activation maps (Zhou et al.): the features weighted by the head's column of each target."""
    features = ops.convert_to_numpy(model.tensors("features")(images)["features"])
    kernel = ops.convert_to_numpy(model.get_layer("head").kernel)
    kernel = kernel - contrast * kernel.mean(axis=1, keepdims=True)
    maps = np.maximum(np.einsum("b...c,cb->b...", features, kernel[:, targets]), 0)
    largest = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    return maps / np.where(largest > 0, largest, 1)


def check_gradient_of_known_functions():
    x = uniform(3, 4)
    value, gradient = input_gradient(lambda t: ops.sum(ops.sin(t) * t, axis=-1), x)
    np.testing.assert_allclose(ops.convert_to_numpy(value), (np.sin(x) * x).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), np.cos(x) * x + np.sin(x), rtol=1e-5)
    _, nothing = input_gradient(lambda t: ops.ones((2,)), x)
    np.testing.assert_array_equal(ops.convert_to_numpy(nothing), np.zeros_like(x))


def check_layers_keep_nothing():
    layer = keras.layers.Dense(2, activity_regularizer="l2")
    layer(uniform(1, 4))
    input_gradient(layer, uniform(3, 4))
    assert np.isfinite([float(loss) for loss in layer.losses]).all()


def check_class_and_evidence_map_equal_cam():
    for shape in ((6, 7, 2), (4, 5, 6, 1)):
        model, images = cam_model(shape), uniform(9, *shape)
        best = ops.convert_to_numpy(model(images)).argmax(-1)
        each = np.arange(9) % 3
        for target, targets in ((None, best), (1, np.full(9, 1)), (each, each)):
            expected = cam(model, images, targets)
            np.testing.assert_allclose(class_map(model, images, target=target), expected, atol=1e-5)
            against_others = cam(model, images, targets, contrast=1)
            np.testing.assert_allclose(
                class_map(model, images, method="hires_cam", target=target), against_others, atol=1e-5
            )


CHECKS = [check_gradient_of_known_functions, check_layers_keep_nothing, check_class_and_evidence_map_equal_cam]

if __name__ == "__main__":
    for check in CHECKS:
        check()
    print(keras.backend.backend(), len(CHECKS))
