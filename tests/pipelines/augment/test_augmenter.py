"""The augmenter: keys, batches, tf.data, augmentations of one's own."""

import dataclasses
import itertools
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from pipelines.augment import Augmenter, BiasField, Blur, CoarseDropout, Flip, Intensity, Noise, Warp, choose

EVERYTHING = [
    Warp(rotation=20.0, shear=5.0, flip=("width",), elastic=0.02),
    *(Flip(("height",)), Noise(), Blur(), BiasField(), CoarseDropout(2)),
]


def images_of(shape, batch=6):
    return tf.constant(np.random.default_rng(0).random((batch, *shape)), tf.float32)


@pytest.mark.parametrize("shape", [(12, 16, 3), (10, 12, 14, 1)])
def test_a_record_is_augmented_alike_in_any_batch(shape):
    images, indices = images_of(shape), np.array([4, 0, 7, 9, 2, 5])
    augment = Augmenter(EVERYTHING, image_shape=shape, seed=1)
    whole = augment(images, 3, indices).numpy()
    order = np.array([5, 1, 3, 0, 4, 2])
    mixed = augment(tf.gather(images, order), 3, indices[order]).numpy()
    np.testing.assert_array_equal(mixed, whole[order])
    part = augment(images[1:3], 3, indices[1:3]).numpy()
    np.testing.assert_allclose(part, whole[1:3], atol=1e-5)


def test_tf_data_gives_the_same_batches_with_one_and_with_eight_parallel_calls():
    shape = (12, 16, 3)
    augment, images = Augmenter(EVERYTHING, image_shape=shape, seed=1), images_of(shape, 4)
    batch = {"image": images, "mask": images[..., 0], "label": tf.range(4)}

    def epochs(parallel):
        dataset = tf.data.Dataset.range(6)
        dataset = dataset.map(lambda e: augment.augment_batch(batch, e, tf.range(4)), num_parallel_calls=parallel)
        return [{name: value.numpy() for name, value in b.items()} for b in dataset]

    for one, eight in zip(epochs(1), epochs(8), strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(eight[name], value)
        np.testing.assert_array_equal(one["label"], np.arange(4))


def test_seed_epoch_and_record_each_matter():
    image = tf.tile(images_of((6, 8, 1), 1), (2, 1, 1, 1))
    first, other = (Augmenter([Warp(translation=0.3), Intensity(0.3)], image_shape=(6, 8, 1), seed=s) for s in (0, 1))
    results = [*first(image, 0, [3, 4]), *first(image, 1, [3, 4]), *other(image, 0, [3, 4])]
    for a, b in itertools.combinations(results, 2):
        assert np.abs(a - b).max() > 0.01
    assert all(r.numpy().min() >= 0 and r.numpy().max() <= 1 for r in results)


def test_the_same_augmentation_twice_draws_twice():
    strengths = [drawn[0].numpy() for drawn in Augmenter([Noise(), Noise()], image_shape=(4, 4, 1)).draw(0, [0, 1])]
    assert not np.array_equal(*strengths)


@dataclasses.dataclass(frozen=True)
class Darken:
    """An augmentation of a user, with random numbers of TensorFlow."""

    compiled: ClassVar[bool] = True

    def draw(self, key, image_shape):
        return tf.random.stateless_uniform([], key)

    def apply(self, images, parameters):
        return images * parameters[:, None, None, None]


def test_an_augmentation_of_ones_own_can_stand_in_the_list():
    augment = Augmenter(choose([Flip(), Darken()]), image_shape=(4, 4, 1))
    dark = augment(tf.ones((3, 4, 4, 1)), 0, [5, 6, 5]).numpy()[:, 0, 0, 0]
    assert dark[0] == dark[2] != dark[1] and np.all((dark >= 0) & (dark < 1))
    np.testing.assert_array_equal(dark, augment.draw(0, [5, 6, 5])[1])


@pytest.mark.parametrize("choice", ["none", None, []])
def test_nothing_chosen_changes_nothing(choice):
    images = images_of((4, 4, 1))
    augment = Augmenter(choose(choice), image_shape=(4, 4, 1))
    np.testing.assert_array_equal(augment(images, 0, np.arange(6)), images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: choose("wild"), "none, light, standard, strong.*or a list.*augment='wild'"),
        (lambda: choose([Flip(), 3]), "augment with 3"),
        (lambda: Flip(("time",)), r"axes=\('time',\)"),
        (lambda: Augmenter([Flip(("depth",))], image_shape=(4, 4, 1)), "Only volumes"),
        (lambda: Augmenter([Blur(3.0)], image_shape=(4, 4, 1)), "third of each axis"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
