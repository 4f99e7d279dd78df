"""Keras models of other packages: laid flat, explained, and left as they are."""

import keras
import numpy as np
import pytest
from keras import layers

from medkeras.explain import class_map, explain, explainable, integrated_gradients, methods_of

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def nested(activation="softmax"):
    """A sequential model within a functional one within a functional one, with a branch inside."""
    block = keras.Sequential([keras.Input((8, 10, 4)), layers.Conv2D(4, 3, padding="same", name="conv")], name="block")
    inner_image = keras.Input((16, 20, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(inner_image)
    x = layers.ReLU(name="sum")(layers.Add()([x, block(x)]))
    backbone = keras.Model(inner_image, x, name="backbone")
    image = keras.Input((16, 20, 1))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(2.0)(image))))
    return keras.Model(image, layers.Dense(3, activation, name="head")(x), name="whole")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return nested()


def test_a_nested_model_is_laid_flat_and_left_as_it_is(model):
    images = uniform(2, 16, 20, 1)
    found = explainable(model)
    assert found.task == "multiclass" and found.explain_points["features"].description == "output of backbone/sum"
    np.testing.assert_allclose(keras.ops.softmax(found(images)), model(images), atol=1e-6)
    features = found.tensors("features")(images)["features"]
    np.testing.assert_allclose(features, model.get_layer("backbone")(images * 2), atol=1e-6)
    # Its layers were called by nobody else, or `output` would be ambiguous; and its head still has its softmax.
    assert model.get_layer("head").output is model.output
    assert model.get_layer("backbone").get_layer("sum").output.shape == (None, 8, 10, 4)
    assert model.get_layer("head").activation is keras.activations.softmax
    assert explainable(model) is found


def test_grad_cam_of_a_nested_model_is_known(model):
    """Behind a mean, the class map is the features weighted by the head's column."""
    images = uniform(3, 16, 20, 1)
    features = np.asarray(model.get_layer("backbone")(images * 2))
    kernel = np.asarray(model.get_layer("head").kernel)[:, 1]
    cells = np.maximum(features @ kernel, 0)
    found = explain(model, images, method="grad_cam", target=1)
    assert found.maps.shape == (3, 16, 20)
    for values, cell in zip(found.maps, cells, strict=True):
        if cell.max() > 0:
            assert np.corrcoef(values.reshape(8, 2, 10, 2).mean((1, 3)).ravel(), cell.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(found.probabilities, model(images), atol=1e-6)
    np.testing.assert_allclose(found.maps, class_map(explainable(model), images, target=1), atol=1e-6)


def test_a_layer_can_be_named(model):
    images = uniform(1, 16, 20, 1)
    for name in ("backbone/block/conv", "conv"):
        found = explainable(model, layer=name).explain_points["features"]
        assert found.description == "output of backbone/block/conv"
    assert explain(model, images, method="layer_cam", layer="conv").maps.shape == (1, 16, 20)


def two_maps():
    """Two maps are pooled and joined: no map is passed by all of the answer but the first."""
    image = keras.Input((None, None, None, 1))
    first = layers.Conv3D(2, 3, name="first")(image)
    second = layers.Conv3D(3, 3, name="second")(image)
    x = layers.Concatenate()([layers.GlobalAveragePooling3D()(m) for m in (first, second)])
    return keras.Model(image, layers.Dense(2, "sigmoid")(x))


def test_a_feature_map_is_not_guessed():
    model, volumes = two_maps(), uniform(1, 6, 8, 7, 1)
    found = explainable(model, image_shape=(6, 8, 7, 1))
    assert found.task == "multilabel" and not found.explain_points
    assert methods_of(found) == ["integrated_gradients", "smooth_grad", "occlusion"]
    with pytest.raises(ValueError, match="integrated_gradients, smooth_grad, occlusion. Received: method='grad_cam'"):
        explain(model, volumes, method="grad_cam")
    assert explain(model, volumes, method="grad_cam", layer="second").maps.shape == (1, 6, 8, 7)
    assert explain(model, volumes, method="occlusion", patch=4).maps.shape == (1, 6, 8, 7)
    with pytest.raises(ValueError, match="second, first. Received: layer='third'"):
        explain(model, volumes, method="grad_cam", layer="third")


def test_attributions_follow_the_logit_and_the_weights():
    """A softmax at the end has no part in them: they share out the rise of the logit, which a new weight changes."""
    head = layers.Dense(2, "softmax", use_bias=False)
    model = keras.Sequential([keras.Input((4, 5, 1)), layers.Flatten(), head])
    images = uniform(2, 4, 5, 1)
    for factor in (1, -3):
        head.kernel.assign(head.kernel * factor)
        expected = images[..., 0] * np.asarray(head.kernel)[:, 1].reshape(4, 5)
        maps = explain(model, images, method="integrated_gradients", target=1).maps
        np.testing.assert_allclose(maps, expected, atol=1e-5)
    np.testing.assert_allclose(integrated_gradients(explainable(model), images, target=1), expected, atol=1e-5)


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: (Subclassed(), {}), "Received: Subclassed"),
        (lambda: (keras.Sequential([layers.Dense(2)]), {}), "Received: Sequential"),
        (lambda: (keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3)]), {}), r"outputs \[\(None, 6, 6, 2\)"),
        (lambda: (keras.Sequential([keras.Input((8,)), layers.Dense(2)]), {}), "image_shape=None"),
        (lambda: (two_maps(), {}), "image_shape=None"),
        (lambda: (two_maps(), {"image_shape": (6, 8, 1)}), r"image_shape=\(6, 8, 1\)"),
        (lambda: (nested(), {"task": "binary"}), "num_classes=3"),
        (lambda: (nested(), {"layer": "head"}), "Received: layer='head'"),
        (lambda: (nested(), {"class_names": ["a"]}), r"class_names=\('a',\)"),
    ],
)
def test_other_models_are_refused(make, text):
    model, options = make()
    with pytest.raises(ValueError, match=text):
        explainable(model, **options)
