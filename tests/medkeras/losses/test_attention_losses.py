"""Losses on attention maps and class centres against numpy."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from medkeras.losses.attention import attention_alignment, attention_diversity
from medkeras.losses.centres import CentreLoss

RNG = np.random.default_rng(0)


def maps_of(batch=3, grid=(4, 5), count=6):
    return RNG.random((batch, *grid, count)).astype("float32")


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 2)])
def test_alignment_is_the_distance_from_mean_or_target(grid):
    maps = maps_of(grid=grid)
    own = ((maps - maps.mean(axis=-1, keepdims=True)) ** 2).mean()
    assert float(attention_alignment(maps)) == pytest.approx(own, rel=1e-5)
    target = RNG.random((3, *grid))
    assert float(attention_alignment(maps, target)) == pytest.approx(((maps - target[..., None]) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 2)])
def test_diversity_is_the_mean_over_pairs(published, grid):
    maps = maps_of(grid=grid) * 0.5
    flat = maps.reshape(3, -1, 6)
    pairs = [
        [((image[:, i] * image[:, j]) ** 2).sum() - 0.1 for i, j in itertools.combinations(range(6), 2)]
        for image in flat
    ]
    wanted = np.maximum(np.array(pairs) * (-1 if published else 1), 0).mean()
    assert wanted > 0
    assert float(attention_diversity(maps, published=published)) == pytest.approx(wanted, rel=1e-4)


def test_only_our_diversity_keeps_maps_apart():
    same = np.ones((1, 2, 2, 3), "float32")
    apart = np.eye(3, dtype="float32")[None, None]
    assert float(attention_diversity(same)) > float(attention_diversity(apart)) == 0
    assert float(attention_diversity(same, published=True)) < float(attention_diversity(apart, published=True))
    assert float(attention_diversity(same[..., :1])) == 0


def unit(features):
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def test_centres_follow_their_own_class_alone():
    features, labels = unit(RNG.standard_normal((6, 8))).astype("float32"), np.array([0, 0, 2, 0, 2, 2])
    loss, centres = CentreLoss(4, rate=0.1, margin=0.2), np.zeros((4, 8))
    for _ in range(5):
        normal = centres / np.maximum(np.linalg.norm(centres, axis=-1, keepdims=True), 1e-12)
        wanted = np.maximum(np.linalg.norm(features - normal[labels], axis=-1) - 0.2, 0).mean()
        assert float(loss(features, labels, training=True)) == pytest.approx(wanted, rel=1e-5)
        for i, label in enumerate(labels):
            centres[label] += 0.1 * (features[i] - normal[label])
        np.testing.assert_allclose(ops.convert_to_numpy(loss.centres), centres, atol=1e-5)
    assert not ops.convert_to_numpy(loss.centres)[[1, 3]].any()


def test_centres_stay_outside_training_and_are_never_trained():
    loss = CentreLoss(3)
    loss(unit(RNG.standard_normal((4, 5))), np.array([0, 1, 2, 0]))
    assert not ops.convert_to_numpy(loss.centres).any()
    assert loss.trainable_variables == [] and len(loss.non_trainable_variables) == 1


def test_gradient_pulls_features_to_their_centre_and_is_finite_there():
    import tensorflow as tf

    loss = CentreLoss(2, margin=0.0)
    loss(np.array([[1.0, 0.0]], "float32"), np.array([0]), training=True)
    features = tf.constant([[0.0, 1.0], [1.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = loss(features, tf.constant([0, 0]))
    gradient = tape.gradient(value, features).numpy()
    np.testing.assert_allclose(gradient[0], np.array([-1, 1]) / np.sqrt(2) / 2, atol=1e-5)
    np.testing.assert_array_equal(gradient[1], 0)


def test_configuration_is_whole():
    loss = CentreLoss(3, rate=0.2, margin=0.3, name="centre")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config() and again.rate == 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes=1"),
        ({"num_classes": 2, "rate": 0}, "rate=0"),
        ({"num_classes": 2, "margin": -1}, "margin=-1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CentreLoss(**arguments)
