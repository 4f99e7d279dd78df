"""Keras preprocessing layers, and those of other libraries, in a list of augmentations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.augment import Augmenter, Flip, KerasLayer, choose


def images_of(shape, batch=6):
    return tf.constant(np.random.default_rng(0).random((batch, *shape)), tf.float32)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.RandomRotation(0.1),
        keras.layers.RandomFlip(),
        keras.layers.RandomBrightness(0.2, value_range=(0, 1)),
        keras.layers.RandomZoom(0.2),
        keras.layers.RandomErasing(value_range=(0, 1)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_keras_layers_repeat_in_tf_data(layer):
    augment = Augmenter(choose([layer, Flip()]), image_shape=(8, 8, 1), seed=3)
    images = images_of((8, 8, 1), 4)

    def epoch():
        dataset = tf.data.Dataset.range(12).map(lambda e: augment(images, e, tf.range(4)), num_parallel_calls=4)
        return np.stack(list(dataset.as_numpy_iterator()))

    first = epoch()
    np.testing.assert_array_equal(first, epoch())
    assert len(np.unique(first.reshape(12, -1).round(4), axis=0)) > 6


@pytest.mark.parametrize(
    "layer", [keras.layers.RandomFlip(), keras.layers.RandomRotation(0.2)], ids=lambda layer: layer.name
)
def test_masks_go_along_with_keras_layers(layer):
    mask = np.zeros((8, 32, 32), "float32")
    mask[:, 6:16, 4:20] = 1
    batch = {"image": tf.constant(mask[..., None]), "mask": tf.constant(mask)}
    moved = Augmenter([KerasLayer(layer)], image_shape=(32, 32, 1)).augment_batch(batch, 0, tf.range(8))
    assert np.abs(moved["mask"] - mask).max() == 1
    # Where the interpolated image is on one side of one half, the nearest pixel is too.
    clear = np.abs(moved["image"][..., 0] - 0.5) > 0.499
    np.testing.assert_array_equal((moved["image"].numpy()[..., 0] > 0.5)[clear], (moved["mask"].numpy() > 0.5)[clear])
    with pytest.raises(ValueError, match="batch with boxes"):
        KerasLayer(layer).apply_batch(batch | {"boxes": tf.zeros((8, 1, 4))}, tf.zeros((8, 2), tf.int64))


def test_any_layer_can_be_applied():
    augment = Augmenter(choose([keras.layers.Rescaling(0.5)]), image_shape=(4, 4, 1))
    np.testing.assert_allclose(augment(tf.ones((2, 4, 4, 1)), 0, [0, 1]), 0.5)
    assert isinstance(augment.augmentations[0], KerasLayer)


class TransformationOfAnotherForm(keras.layers.Layer):
    """Like KerasCV's layers: the method has the name of the core's, and another signature."""

    def get_random_transformation(self, **kwargs):
        raise TypeError("not the core's")

    def call(self, images, training=False):
        return 1 - images if training else images


def test_layers_of_another_library_are_just_called():
    images = tf.random.stateless_uniform((4, 8, 8, 1), (0, 1))
    augment = Augmenter(choose([TransformationOfAnotherForm()]), image_shape=(8, 8, 1))
    np.testing.assert_allclose(augment(images, 0, [0, 1, 2, 3]), 1 - images, atol=1e-6)
    with pytest.raises(ValueError, match="batch with mask"):
        augment.augment_batch({"image": images, "mask": images[..., 0]}, 0, [0, 1, 2, 3])


def test_keras_cv_layers_plug_in():
    keras_cv = pytest.importorskip("keras_cv", reason="the extra [keras-cv] is not installed")
    images = tf.random.stateless_uniform((4, 16, 16, 3), (0, 1))
    layers = [keras_cv.layers.RandomShear(x_factor=0.3), keras_cv.layers.RandomCutout(0.5, 0.5)]
    changed = Augmenter(choose(layers), image_shape=(16, 16, 3))(images, 0, [0, 1, 2, 3])
    assert changed.shape == images.shape
    assert np.abs(changed - images).max() > 0.1
