"""The order of an epoch: every record once, or each class as often as wanted, from seed, epoch and position alone."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.input.order import EpochOrder

LABELS = np.array([0] * 30 + [1] * 7 + [2] * 3)


def shown(order, epoch=0, positions=None):
    positions = range(order.size) if positions is None else positions
    records, copies = order(tf.constant(epoch, tf.int64), tf.constant(list(positions), tf.int64))
    return records.numpy(), copies.numpy()


@pytest.mark.parametrize("size", [1, 2, 3, 10, 97])
@pytest.mark.parametrize("seed", [0, 2**40])
def test_every_record_comes_once_an_epoch(size, seed):
    order = EpochOrder(size=size, seed=seed)
    for epoch in (0, 1, 10**12):
        records, copies = shown(order, epoch)
        assert sorted(records) == list(range(size)) and not copies.any()


def test_order_differs_between_epochs_and_seeds():
    orders = [tuple(shown(EpochOrder(size=40, seed=s), e)[0]) for s in (0, 1) for e in (0, 1)]
    assert len(set(orders)) == 4


def test_a_position_is_known_without_those_before_it():
    order = EpochOrder(size=40, seed=3, labels=LABELS, class_counts=[30, 30, 30])
    whole = np.array(shown(order, 5))
    np.testing.assert_array_equal(np.array(shown(order, 5, [17, 3, 88])), whole[:, [17, 3, 88]])


def test_every_place_is_equally_likely():
    """Chi-square of (record, place) over 1,500 epochs, 19^2 degrees of freedom: beyond 450 by chance once in 1e3."""
    order, n, epochs = EpochOrder(size=20, seed=1), 20, 1500
    draw = tf.function(order)
    counts = np.zeros((n, n))
    for epoch in range(epochs):
        records, _ = draw(tf.constant(epoch, tf.int64), tf.range(n, dtype=tf.int64))
        counts[np.arange(n), records.numpy()] += 1
    expected = epochs / n
    assert 275 < ((counts - expected) ** 2 / expected).sum() < 450


@pytest.mark.parametrize("wanted", [[30, 30, 30], [3, 3, 3], [10, 5, 0], [61, 7, 10]])
def test_classes_are_shown_as_often_as_wanted_and_their_images_evenly(wanted):
    order = EpochOrder(size=40, seed=3, labels=LABELS, class_counts=wanted)
    records, copies = shown(order, 2)
    assert np.bincount(LABELS[records], minlength=3).tolist() == wanted
    for c, count in enumerate(wanted):
        times = np.bincount(records, minlength=40)[LABELS == c]
        assert times.max() - times.min() <= 1 and times.sum() == count
    assert len(set(zip(records, copies, strict=True))) == len(records)


def test_undersampling_shows_other_images_in_other_epochs():
    order = EpochOrder(size=40, seed=3, labels=LABELS, class_counts=[3, 3, 3])
    seen = {i for epoch in range(150) for i in shown(order, epoch)[0]}
    assert len(seen) == 40


def test_a_class_without_images_cannot_be_drawn():
    with pytest.raises(ValueError, match="where it has any. Received: 4 of class 3"):
        EpochOrder(size=40, labels=LABELS, class_counts=[1, 1, 1, 4])
