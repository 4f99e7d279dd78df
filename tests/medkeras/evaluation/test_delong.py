"""DeLong's interval and test: a published table, all pairs in a loop, the bootstrap, patients, and what has none."""

import itertools

import numpy as np
import pytest

from medkeras.evaluation import auc_interval, bootstrap_all, delong_test, delong_variance, roc_auc


def sample(count=60, seed=0, models=2):
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.4
    shared = rng.normal(0, 1, count)
    scores = [positive + shared + rng.normal(0, 0.6 + model, count) for model in range(models)]
    return positive, [each.round(1) for each in scores]


def loop_covariance(positive, *models):
    """Covariance matrix of the areas, pair by pair as the paper writes it."""
    pairs = [[(x > y) + (x == y) / 2 for x in s[positive] for y in s[~positive]] for s in models]
    psi = np.array(pairs).reshape(len(models), positive.sum(), (~positive).sum())
    by_positive, by_negative = np.atleast_2d(np.cov(psi.mean(axis=2))), np.atleast_2d(np.cov(psi.mean(axis=1)))
    return by_positive / positive.sum() + by_negative / (~positive).sum()


def test_a_published_rating_study():
    """Hanley and McNeil's 109 CT images: area 0.8932, standard error 0.0307, 0.83295 to 0.95339 (Stata's roctab)."""
    counts = [[33, 6, 6, 11, 2], [3, 2, 2, 11, 33]]
    ratings = np.concatenate([np.repeat(np.arange(1, 6), row) for row in counts])
    positive = np.repeat([0, 1], np.sum(counts, axis=1))
    interval = auc_interval(positive, ratings, logit=False)
    assert interval.value == pytest.approx(0.8932, abs=5e-5)
    assert delong_variance(positive, ratings) ** 0.5 == pytest.approx(0.0307, abs=5e-5)
    assert (interval.low, interval.high) == pytest.approx((0.83295, 0.95339), abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_all_pairs_give_the_same_variance_and_test(seed):
    positive, (first, second) = sample(seed=seed)
    matrix = loop_covariance(positive, first, second)
    assert delong_variance(positive, first) == pytest.approx(matrix[0, 0])
    test = delong_test(positive, first, second)
    error = np.sqrt(matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1])
    assert test.interval.value == pytest.approx(roc_auc(positive, first) - roc_auc(positive, second))
    assert test.interval.high - test.interval.value == pytest.approx(1.959964 * error)
    from scipy.stats import norm

    assert test.p_value == pytest.approx(2 * norm.sf(abs(test.interval.value) / error))


def test_the_interval_on_the_logit_scale_is_that_of_log_odds():
    positive, (scores, _) = sample()
    interval, plain = auc_interval(positive, scores), auc_interval(positive, scores, logit=False)

    def log_odds(p):
        return np.log(p / (1 - p))

    assert log_odds(interval.high) + log_odds(interval.low) == pytest.approx(2 * log_odds(interval.value))
    assert interval.high < 1 and interval.value - interval.low > plain.value - plain.low
    narrow = auc_interval(positive, scores, level=0.5)
    assert interval.low < narrow.low < narrow.high < interval.high


def test_intervals_are_about_those_of_the_bootstrap():
    positive, scores = sample(count=300)
    patients = np.arange(300) // 3
    scores = [s + np.random.default_rng(1).normal(0, 1, 100)[patients] for s in scores]

    def measures(p, a, b):
        return {"auc": roc_auc(p, a), "difference": roc_auc(p, a) - roc_auc(p, b)}

    for groups in (None, patients):
        found = bootstrap_all(measures, [positive, *scores], groups=groups, repeats=500)
        exact = auc_interval(positive, scores[0], groups=groups)
        test = delong_test(positive, *scores, groups=groups)
        for mine, drawn in ((exact, found["auc"]), (test.interval, found["difference"])):
            width = drawn.high - drawn.low
            assert (mine.low, mine.high) == pytest.approx((drawn.low, drawn.high), abs=0.12 * width)


def test_copies_of_the_same_patient_carry_no_new_information():
    positive, scores = sample()
    copies = [np.repeat(each, 4) for each in (positive, *scores, np.arange(60))]
    grouped = delong_test(*copies[:3], groups=copies[3])
    alone = delong_test(positive, *scores)
    assert grouped.p_value == pytest.approx(alone.p_value) and grouped.interval.low == pytest.approx(alone.interval.low)
    assert delong_test(*copies[:3]).p_value < alone.p_value
    singly = delong_variance(positive, scores[0], groups=[f"p{i}" for i in range(60)])
    assert singly == pytest.approx(delong_variance(positive, scores[0]))


def test_a_patient_with_both_kinds_of_image_counts_once():
    """Pairs of images of the same size in every patient: what they share cancels from the area, and is not counted."""
    rng = np.random.default_rng(0)
    own = rng.normal(0, 3, 200)
    scores = np.concatenate([own, own + 1 + rng.normal(0, 0.3, 200)])
    positive, patients = np.repeat([0, 1], 200), np.tile(np.arange(200), 2)
    assert delong_variance(positive, scores, groups=patients) < 0.1 * delong_variance(positive, scores)


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    positive = np.repeat([0, 1], 40)
    from scipy.stats import norm

    truth = norm.cdf(1.5 / np.sqrt(2))
    intervals = [auc_interval(positive, rng.normal(0, 1, 80) + 1.5 * positive) for _ in range(400)]
    assert 0.92 <= np.mean([i.low <= truth <= i.high for i in intervals]) <= 0.98


def test_equal_rankings_do_not_differ():
    positive, (scores, _) = sample()
    test = delong_test(positive, scores, np.exp(scores))
    assert (test.interval.value, test.interval.low, test.interval.high, test.p_value) == (0, 0, 0, 1)
    assert str(test) == "0.000 (0.000 to 0.000), p = 1"


@pytest.mark.parametrize(
    ("positive", "scores", "value"),
    [
        ([], [], np.nan),
        ([1], [0.3], np.nan),
        ([0, 0], [0.3, 0.4], np.nan),
        ([0, 1], [0.3, 0.4], 1.0),
        ([0, 0, 1], [0.3, 0.4, 0.35], 0.5),
        ([0, 0, 1, 1], [1, 2, 3, 4], 1.0),
        ([0, 0, 1, 1], [1, 1, 1, 1], 0.5),
    ],
)
def test_what_says_nothing_of_chance_has_no_interval(positive, scores, value):
    for logit, groups in itertools.product((True, False), (None, [0] * len(scores))):
        interval = auc_interval(positive, scores, logit=logit, groups=groups)
        np.testing.assert_equal((interval.value, interval.low, interval.high), (value, np.nan, np.nan))


@pytest.mark.parametrize(
    ("positive", "scores", "options", "message"),
    [
        ([0, 1], [0.1], {}, r"positive.shape=\(2,\), scores.shape=\(1,\)"),
        ([0, np.nan], [0.1, 0.2], {}, "left out before. Received: value=nan in row 1"),
        ([0, 2], [0.1, 0.2], {}, "value=2 in row 1"),
        ([0, 1], [np.nan, 0.2], {}, "Scores are numbers. Received: value=nan in row 0"),
        ([0, 1], [0.1, 0.2], {"level": 0}, "level=0"),
        ([0, 1], [0.1, 0.2], {"groups": ["a"]}, "one entry per image, 2. Received: 1"),
    ],
)
def test_bad_arguments_are_named(positive, scores, options, message):
    with pytest.raises(ValueError, match=message):
        auc_interval(positive, scores, **options)
