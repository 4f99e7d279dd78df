"""Random numbers from keys: their distribution, their independence, the same in every form."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pipelines.augment.random_numbers import fold_in, normal, uniform

KEY = tf.constant([7, 3], tf.int64)


def keys_of(count):
    return fold_in(KEY, tf.range(count))


def test_uniform_numbers_are_even_within_a_key_and_across_keys():
    drawn = uniform(keys_of(4000), [64]).numpy()
    assert 0 <= drawn.min() and drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    for numbers in (drawn[:, 0], drawn[0], drawn[:, 63]):
        assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    cells = (drawn * 16).astype(int)
    for first, second in ((cells[:, :-1], cells[:, 1:]), (cells[:-1], cells[1:])):
        counts = np.bincount((16 * first + second).ravel(), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn.T) - np.eye(64)).max() < 6 / np.sqrt(4000)


def test_uniform_numbers_fill_their_range():
    drawn = uniform(KEY, [10000], -3.0, 5.0).numpy()
    assert -3 <= drawn.min() < -2.99 and 4.99 < drawn.max() < 5


@pytest.mark.parametrize("byte", range(4))
def test_every_byte_of_a_key_is_even_and_independent_of_the_others(byte):
    keys = keys_of(200_000).numpy()
    part = (keys >> 8 * byte) & 255
    for half in (0, 1):
        assert stats.chisquare(np.bincount(part[:, half], minlength=256)).pvalue > 1e-3
    joint = np.bincount((part[:, 0] >> 4) * 16 + (part[:, 1] >> 4), minlength=256)
    assert stats.chisquare(joint).pvalue > 1e-3


def test_normal_numbers_are_within_a_thousandth_of_the_normal_distribution():
    drawn = normal(keys_of(1000), [2000]).numpy().ravel()
    assert stats.kstest(drawn, "norm").statistic < 0.001 + 1.95 / np.sqrt(drawn.size)
    assert drawn.mean() == pytest.approx(0, abs=0.003) and drawn.std() == pytest.approx(1, abs=0.002)
    assert stats.kurtosis(drawn) == pytest.approx(-0.03, abs=0.02)
    assert np.mean(np.abs(drawn) > 3) == pytest.approx(2 * stats.norm.sf(3), rel=0.15)


def test_neighbouring_pixels_and_records_are_not_correlated():
    drawn = normal(keys_of(50), [64, 64]).numpy()
    for first, second in ((drawn[:, 1:], drawn[:, :-1]), (drawn[..., 1:], drawn[..., :-1]), (drawn[1:], drawn[:-1])):
        assert abs(np.mean(first * second)) < 5 / np.sqrt(first.size)


def test_each_half_of_64_bits_counts():
    data = tf.constant([0, 1, 2**31, 2**32, 2**33, 2**63 - 1, -1], tf.int64)
    assert len(np.unique(fold_in(KEY, data), axis=0)) == 7
    keys = tf.constant([[0, 0], [0, 1], [1, 0], [2**32 - 1, 0]], tf.int64)
    assert len(np.unique(fold_in(keys, 5), axis=0)) == 4


def test_many_keys_at_once_give_what_each_gives_alone():
    keys = keys_of(5)
    together = normal(keys, [3, 4]).numpy()
    for key, row in zip(keys, together, strict=True):
        np.testing.assert_array_equal(normal(key, [3, 4]), row)
    vectorized = tf.vectorized_map(lambda k: normal(k, [3, 4]), keys, fallback_to_while_loop=False)
    np.testing.assert_allclose(vectorized, together, atol=1e-6)


def test_graph_and_xla_give_the_same_bits():
    def draw(keys):
        return fold_in(keys, 9), uniform(keys, [50]), normal(keys, [50])

    keys = keys_of(4)
    eager = draw(keys)
    for compiled in (False, True):
        other = tf.function(draw, jit_compile=compiled)(keys)
        np.testing.assert_array_equal(other[0], eager[0])
        np.testing.assert_array_equal(other[1], eager[1])
        np.testing.assert_allclose(other[2], eager[2], atol=1e-6)


def test_keys_are_seeds_of_tensorflow():
    drawn = [tf.random.stateless_uniform([4], key).numpy() for key in keys_of(2)]
    assert not np.array_equal(*drawn)
