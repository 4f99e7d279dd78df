"""Augmentation: numpy and scipy as oracles, the same numbers in every form and for every batch."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.augment import (
    AUGMENTATIONS,
    Affine,
    Augmenter,
    Flip,
    Intensity,
    KerasLayer,
    Noise,
    choose,
    warp,
)

SHAPES = [(9, 7, 1), (6, 8, 3), (4, 6, 5, 1)]


def images_of(shape, batch=6):
    return tf.constant(np.random.default_rng(0).random((batch, *shape)), tf.float32)


def interpolate(image, coordinates):
    """Linear interpolation at `(axes, positions)`, edge repeated, one position at a time."""
    sizes = np.array(image.shape[:-1])
    output = np.zeros((coordinates.shape[1], image.shape[-1]))
    for n, position in enumerate(np.clip(coordinates.T, 0, sizes - 1)):
        low = np.floor(position).astype(int)
        for corner in itertools.product((0, 1), repeat=len(sizes)):
            share = np.prod(np.where(corner, position - low, 1 - (position - low)))
            output[n] += share * image[tuple(np.minimum(low + corner, sizes - 1))]
    return output.reshape(image.shape)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 5, 2)])
def test_warp_is_linear_interpolation(shape):
    images, rng = images_of(shape, 2), np.random.default_rng(1)
    sizes = np.array(shape[:-1])[:, None]
    coordinates = rng.uniform(-2, sizes + 1, (2, len(sizes), np.prod(sizes)))
    warped = warp(images, tf.constant(coordinates, tf.float32))
    for image, at, got in zip(images.numpy(), coordinates, warped.numpy(), strict=True):
        np.testing.assert_allclose(got, interpolate(image, at), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_with_the_identity_changes_nothing(shape):
    images = images_of(shape)
    rank = len(shape) - 1
    identity = tf.concat([tf.eye(rank, batch_shape=[6]), tf.zeros((6, rank, 1))], axis=2)
    np.testing.assert_allclose(Affine().apply(images, identity), images, atol=1e-6)


def test_affine_turns_and_shifts_about_the_centre():
    images = images_of((7, 7, 1), 2)
    quarter = tf.constant([[0.0, -1, 0], [1, 0, 0]])
    shift = tf.constant([[1.0, 0, 0], [0, 1, 2]])
    turned, shifted = Affine().apply(images, tf.stack([quarter, shift])).numpy()
    np.testing.assert_allclose(turned, np.rot90(images[0], -1), atol=1e-5)
    np.testing.assert_allclose(shifted[:, :5], images[1, :, 2:], atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_draws_within_its_ranges(shape):
    affine = Affine(rotation=30, scale=0.2, translation=0.1)
    drawn = np.stack([affine.draw(tf.constant([i, 5]), shape) for i in range(200)])
    determinant = np.linalg.det(drawn[..., :-1]) ** (1 / (len(shape) - 1))
    assert determinant.min() < 1 / 1.15 and determinant.max() > 1.15
    assert np.all((determinant > 1 / 1.2001) & (determinant < 1.2001))
    angle = np.degrees(np.arctan2(drawn[:, -1, -3], drawn[:, -1, -2]))
    assert 28 < np.abs(angle).max() <= 30.001
    assert np.all(np.abs(drawn[..., -1]) <= 0.1 * np.array(shape[:-1]) + 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_mirrors_each_axis_on_its_own(shape):
    axes = ("width", "height", "depth")[: len(shape) - 1]
    images = images_of(shape, 2 ** len(axes))
    chosen = np.array(list(itertools.product((False, True), repeat=len(axes))))
    flipped = Flip(axes).apply(images, tf.constant(chosen)).numpy()
    for image, flags, got in zip(images.numpy(), chosen, flipped, strict=True):
        np.testing.assert_array_equal(got, np.flip(image, [len(axes) - 1 - i for i in np.flatnonzero(flags)]))


def test_flip_is_fair_and_axes_are_independent():
    drawn = np.stack([Flip(("width", "height")).draw(tf.constant([i, 0]), (4, 4, 1)) for i in range(400)])
    assert np.all(np.abs(drawn.mean(axis=0) - 0.5) < 0.08)
    assert abs((drawn[:, 0] == drawn[:, 1]).mean() - 0.5) < 0.08


def test_intensity_is_gamma_contrast_brightness():
    images = images_of((6, 8, 1), 2)
    shift, contrast, gamma = np.array([0.05, -0.1]), np.array([1.2, 0.8]), np.array([0.9, 1.1])
    parameters = tuple(tf.constant(p, tf.float32) for p in (shift, contrast, gamma))
    for i, got in enumerate(Intensity().apply(images, parameters).numpy()):
        raised = images[i].numpy() ** gamma[i]
        wanted = (raised - raised.mean()) * contrast[i] + raised.mean() + shift[i]
        np.testing.assert_allclose(got, np.clip(wanted, 0, 1), atol=1e-6)


def test_noise_has_the_strength_it_says():
    drawn = np.stack([Noise(0.1).draw(tf.constant([i, 0]), (32, 32, 1)) for i in range(100)])
    strengths = drawn.std(axis=(1, 2, 3))
    assert strengths.max() < 0.11 and strengths.min() < 0.02 and abs(strengths.mean() - 0.05) < 0.012
    assert abs(np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1]) < 0.15


@pytest.mark.parametrize("shape", SHAPES)
def test_eager_graph_and_xla_agree(shape):
    images, indices = images_of(shape), tf.range(6, dtype=tf.int64)
    augment = Augmenter(AUGMENTATIONS["standard"], image_shape=shape, seed=1)
    parameters = augment.draw(2, indices)
    for compiled in (False, True):
        graph = images
        for augmentation, own in zip(augment.augmentations, parameters, strict=True):
            graph = tf.function(augmentation.apply, jit_compile=compiled)(graph, own)
        eager = images
        for augmentation, own in zip(augment.augmentations, parameters, strict=True):
            eager = augmentation.apply(eager, own)
        np.testing.assert_allclose(graph, eager, atol=1e-5)
    np.testing.assert_allclose(tf.function(augment)(images, 2, indices), augment(images, 2, indices), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_record_is_augmented_alike_in_any_batch(shape):
    images, indices = images_of(shape), np.array([4, 0, 7, 9, 2, 5])
    augment = Augmenter(AUGMENTATIONS["standard"], image_shape=shape, seed=1)
    whole = augment(images, 3, indices).numpy()
    order = np.array([5, 1, 3, 0, 4, 2])
    mixed = augment(tf.gather(images, order), 3, indices[order]).numpy()
    np.testing.assert_array_equal(mixed, whole[order])


def test_seed_epoch_and_record_each_matter():
    image = tf.tile(images_of((6, 8, 1), 1), (2, 1, 1, 1))
    first, other = (Augmenter(AUGMENTATIONS["standard"], image_shape=(6, 8, 1), seed=s) for s in (0, 1))
    results = [*first(image, 0, [3, 4]), *first(image, 1, [3, 4]), *other(image, 0, [3, 4])]
    for a, b in itertools.combinations(results, 2):
        assert np.abs(a - b).max() > 0.01
    assert all(r.numpy().min() >= 0 and r.numpy().max() <= 1 for r in results)


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


def test_any_layer_can_be_applied():
    augment = Augmenter(choose([keras.layers.Rescaling(0.5)]), image_shape=(4, 4, 1))
    np.testing.assert_allclose(augment(tf.ones((2, 4, 4, 1)), 0, [0, 1]), 0.5)
    assert isinstance(augment.augmentations[0], KerasLayer)


@pytest.mark.parametrize("choice", ["none", None, []])
def test_nothing_chosen_changes_nothing(choice):
    images = images_of((4, 4, 1))
    augment = Augmenter(choose(choice), image_shape=(4, 4, 1))
    np.testing.assert_array_equal(augment(images, 0, np.arange(6)), images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: choose("wild"), "none, light, standard, strong or a list.*augment='wild'"),
        (lambda: choose([Flip(), 3]), "augment with 3"),
        (lambda: Flip(("time",)), r"axes=\('time',\)"),
        (lambda: Augmenter([Flip(("depth",))], image_shape=(4, 4, 1)), "Only volumes"),
        (lambda: Affine(rotation=200), "Received: Affine"),
        (lambda: Affine(translation=1.0), "Received: Affine"),
        (lambda: Intensity(contrast=1.0), "Received: Intensity"),
        (lambda: Intensity(gamma=-0.1), "Received: Intensity"),
        (lambda: Noise(-1), "std=-1"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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


def test_keras_cv_layers_plug_in():
    keras_cv = pytest.importorskip("keras_cv", reason="the extra [keras-cv] is not installed")
    images = tf.random.stateless_uniform((4, 16, 16, 3), (0, 1))
    layers = [keras_cv.layers.RandomShear(x_factor=0.3), keras_cv.layers.RandomCutout(0.5, 0.5)]
    changed = Augmenter(choose(layers), image_shape=(16, 16, 3))(images, 0, [0, 1, 2, 3])
    assert changed.shape == images.shape
    assert np.abs(changed - images).max() > 0.1
