"""Intervals of shares: Newcombe's published ones, SciPy's, patients, and differences."""

import numpy as np
import pytest
from scipy.stats import binomtest

from medkeras.evaluation import Interval, difference_of, proportion_interval, share_interval


@pytest.mark.parametrize(
    ("hits", "count", "wilson", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_published_intervals(hits, count, wilson, exact):
    """Newcombe, Statistics in Medicine 17:857, 1998, table I, methods 3 and 5."""
    for method, ends in (("wilson", wilson), ("exact", exact)):
        found = proportion_interval(hits, count, method=method)
        assert (found.value, found.low, found.high) == pytest.approx((hits / count, *ends), abs=6e-5)


@pytest.mark.parametrize("method", ["wilson", "exact"])
@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (3, 7), (40, 40), (99, 200)])
def test_scipy_gives_the_same(hits, count, method):
    found = proportion_interval(hits, count, method=method, level=0.9)
    expected = binomtest(hits, count).proportion_ci(0.9, method)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_published_differences():
    """Newcombe, Statistics in Medicine 17:873, 1998, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    for (a, b), (c, d), ends in (((56, 70), (48, 80), (0.0524, 0.3339)), ((9, 10), (3, 10), (0.1705, 0.8090))):
        found = difference_of(proportion_interval(a, b), proportion_interval(c, d))
        assert (found.low, found.high) == pytest.approx(ends, abs=6e-5)
    back = difference_of(proportion_interval(48, 80), proportion_interval(56, 70))
    assert (back.low, back.high) == pytest.approx((-0.3339, -0.0524), abs=6e-5)


def test_images_of_one_patient_tell_less():
    rng = np.random.default_rng(0)
    alone = rng.random(50) < 0.7
    copies, patients = np.repeat(alone, 4), np.repeat(np.arange(50), 4)
    grouped, single = share_interval(copies, groups=patients), share_interval(alone)
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high), abs=0.01)
    naive = share_interval(copies)
    assert naive == proportion_interval(4 * alone.sum(), 200)
    assert naive.high - naive.low < 0.6 * (grouped.high - grouped.low)


def test_scipy_takes_no_effective_numbers():
    """Why the intervals are ours: 3 of 4 images of 2.5 patients' worth have an interval between those of whole ones."""
    with pytest.raises(TypeError, match="integer"):
        binomtest(1.875, 2.5)
    for method in ("wilson", "exact"):
        few, some, more = (proportion_interval(0.75 * count, count, method=method) for count in (2, 2.5, 3))
        assert few.low < some.low < more.low < 0.75 < more.high < some.high < few.high


def test_one_image_per_patient_is_wilsons():
    happened = np.array([1, 0, 1, 1, 0, 1])
    found, expected = share_interval(happened, groups=list("fbadce")), proportion_interval(4, 6)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_where_all_agree_patients_are_counted():
    found = share_interval(np.ones(30), groups=np.arange(30) // 3)
    assert found == proportion_interval(10, 10)


def test_coverage_with_patients():
    rng = np.random.default_rng(0)
    patients, covered = np.repeat(np.arange(60), 3), {"by patient": 0, "by image": 0}
    for _ in range(300):
        happened = rng.random(180) < np.repeat(rng.beta(1.6, 0.4, 60), 3)
        for name, groups in (("by patient", patients), ("by image", None)):
            interval = share_interval(happened, groups=groups)
            covered[name] += interval.low <= 0.8 <= interval.high
    assert covered["by patient"] / 300 > 0.92 > 0.88 > covered["by image"] / 300


def test_none_is_undefined():
    for found in (share_interval([]), share_interval([], groups=[]), proportion_interval(0, 0)):
        np.testing.assert_equal((found.value, found.low, found.high), (np.nan,) * 3)
    unknown = difference_of(Interval(0.5, 0.4, 0.6), proportion_interval(0, 0))
    assert np.isnan([unknown.value, unknown.low, unknown.high]).all()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, 2), {}, "hits=3, count=2"),
        ((-1, 2), {}, "hits=-1"),
        ((1, 2), {"method": "wald"}, "wilson, exact. Received: method='wald'"),
        ((1, 2), {"level": 1}, "level=1"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        proportion_interval(*arguments, **options)
    with pytest.raises(ValueError, match="one entry per image, 2. Received: 1"):
        share_interval([1, 0], groups=[1])
