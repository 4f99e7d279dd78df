"""Points and bands of curves, and net benefit, against scikit-learn's curves and definitions written as loops."""

import numpy as np
import pytest
from sklearn import metrics

from medkeras.evaluation import (
    curve_band,
    decision_curve,
    precision_at,
    sensitivity_at,
    specificity_at,
    youden_index,
)

PLACES = np.linspace(0, 1, 21)


def sample(count=70, seed=0):
    """Labels and probabilities with ties."""
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.4
    return positive, (0.3 * positive + 0.7 * rng.random(count)).round(1 + seed % 2)


@pytest.mark.parametrize("seed", range(4))
def test_points_are_the_best_of_scikit_learns_curves(seed):
    positive, scores = sample(seed=seed)
    false_rates, hit_rates, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    for bound in PLACES:
        found = sensitivity_at(positive, scores, specificity=bound)
        assert found == pytest.approx(hit_rates[1 - false_rates >= bound - 1e-9].max())
        found = specificity_at(positive, scores, sensitivity=bound)
        assert found == pytest.approx((1 - false_rates)[hit_rates >= bound - 1e-9].max())
    assert youden_index(positive, scores) == pytest.approx((hit_rates - false_rates).max())
    precisions, recalls, _ = metrics.precision_recall_curve(positive, scores)
    for bound in PLACES[1:]:  # The last point that reaches the recall, recalls falling.
        last = np.flatnonzero(recalls >= bound - 1e-9)[-1]
        assert precision_at(positive, scores, recall=bound) == pytest.approx(precisions[last])
    for measure, name in ((sensitivity_at, "specificity"), (specificity_at, "sensitivity"), (precision_at, "recall")):
        each = [measure(positive, scores, **{name: bound}) for bound in PLACES]
        np.testing.assert_array_equal(measure(positive, scores, **{name: PLACES}), each)


def test_one_kind_alone_has_no_points_and_ties_everywhere_only_the_ends():
    for positive in ([1, 1], [0], []):
        scores = np.full(len(positive), 0.3)
        assert np.isnan(sensitivity_at(positive, scores, specificity=0.5))
        assert np.isnan(specificity_at(positive, scores, sensitivity=[0.5, 1])).all()
        assert np.isnan(youden_index(positive, scores)) and np.isnan(precision_at(positive, scores, recall=1))
    tied = [0, 1, 1], [0.5, 0.5, 0.5]
    assert sensitivity_at(*tied, specificity=[0, 0.1]).tolist() == [1, 0]
    assert youden_index(*tied) == 0 and precision_at(*tied, recall=0.1) == 2 / 3


def test_a_band_holds_the_curve_and_narrows_with_images():
    def band(positive, scores, **options):
        def curve(positive, scores):
            return sensitivity_at(positive, scores, specificity=PLACES)

        low, high = curve_band(curve, positive, scores, repeats=200, **options)
        return low, curve(positive, scores), high

    low, middle, high = band(*sample(100))
    assert (low <= middle).all() and (middle <= high).all()
    width = (high - low).mean()
    for narrower in (band(*sample(1000)), band(*sample(100), level=0.5)):
        assert (narrower[2] - narrower[0]).mean() < 0.6 * width
    copies = [np.repeat(each, 4) for each in (*sample(100), np.arange(100))]
    low, _, high = band(*copies[:2], groups=copies[2])
    assert (high - low).mean() == pytest.approx(width, rel=0.1)


def test_a_band_of_nothing_is_undefined():
    for edge in curve_band(lambda p, s: sensitivity_at(p, s, specificity=PLACES), [1, 1], [0.2, 0.3], repeats=3):
        assert np.isnan(edge).all()


def test_net_benefit_counts_as_it_is_defined():
    positive, scores = sample()
    curve = decision_curve(positive, scores)
    assert len(curve.thresholds) == 99
    for k, t in enumerate(curve.thresholds):
        acted = scores >= t
        benefit = (np.sum(acted & positive) - np.sum(acted & ~positive) * t / (1 - t)) / len(scores)
        assert curve.net_benefit[k] == pytest.approx(benefit)
        assert curve.treat_all[k] == pytest.approx(positive.mean() - (~positive).mean() * t / (1 - t))
        # Fewer acted on than everybody, at the worth of those that were missed.
        saved = (np.sum(~acted & ~positive) - np.sum(~acted & positive) * (1 - t) / t) / len(scores)
        assert curve.net_reduction[k] == pytest.approx(saved)
    assert curve.prevalence == positive.mean()
    everybody = decision_curve(positive, scores.clip(0.01, 1))  # All are at least at the first threshold.
    assert everybody.net_benefit[0] == everybody.treat_all[0]


def test_a_perfect_model_has_the_benefit_of_all_the_ill():
    curve = decision_curve([0, 0, 0, 1], [0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(curve.net_benefit, 0.25)
    assert curve.is_useful.all()
    reversed_curve = decision_curve([0, 0, 0, 1], [1.0, 1.0, 1.0, 0.0])
    assert not reversed_curve.is_useful.any()


def test_a_constant_probability_is_everybody_or_nobody():
    curve = decision_curve([0, 0, 1], [0.4, 0.4, 0.4], thresholds=[0.3, 0.4, 0.5])
    np.testing.assert_allclose(curve.net_benefit, [curve.treat_all[0], curve.treat_all[1], 0])
    assert not curve.is_useful.any()
    assert np.isnan(decision_curve([], []).net_benefit).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decision_curve([0, 1], [0.1, 1.2]), r"in \[0, 1\]. Received: scores=1.2"),
        (lambda: decision_curve([0, 1], [0.1, 0.2], thresholds=[0.5, 1]), r"thresholds=\[0.5, 1.0\]"),
        (lambda: decision_curve([0, np.nan], [0.1, 0.2]), "value=nan in row 1"),
        (lambda: sensitivity_at([0, 1], [0.1, 0.2], specificity=1.5), "specificity=1.5"),
        (lambda: precision_at([0, 1], [0.1], recall=0.5), r"scores.shape=\(1,\)"),
        (lambda: curve_band(max, [0, 1], [0.1, 0.2], repeats=0), "repeats=0"),
        (lambda: curve_band(max, [0, 1], [0.1, 0.2], level=1), "level=1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
