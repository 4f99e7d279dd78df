"""Uncertainty from samples, prediction sets and referral: hand-computed cases, loops, promises and bad input."""

import json
import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from medkeras import uncertainty

RNG = np.random.default_rng(0)


def drawn(samples=7, count=5, classes=3, spread=2.0):
    return softmax(RNG.normal(0, spread, (samples, count, classes)), axis=-1)


def test_entropies_are_those_of_scipy():
    samples = drawn()
    found = uncertainty.summarize(samples, task="multiclass")
    np.testing.assert_allclose(found.mean, samples.mean(0))
    np.testing.assert_allclose(found.entropy, scipy_entropy(samples.mean(0), axis=-1))
    np.testing.assert_allclose(found.expected_entropy, scipy_entropy(samples, axis=-1).mean(0))
    divergence = scipy_entropy(samples, samples.mean(0, keepdims=True), axis=-1).mean(0)
    np.testing.assert_allclose(found.mutual_information, divergence, atol=1e-12)
    np.testing.assert_allclose(found.normalized_entropy, found.entropy / math.log(3))
    np.testing.assert_allclose(found.variance, samples.var(0))


def test_each_label_is_a_question_of_two_answers():
    samples = RNG.random((6, 4, 3))
    found = uncertainty.summarize(samples, task="multilabel")
    for label in range(3):
        pairs = np.stack([1 - samples[..., label], samples[..., label]], axis=-1)
        alone = uncertainty.summarize(pairs, task="binary")
        for name in ("entropy", "normalized_entropy", "expected_entropy", "mutual_information"):
            np.testing.assert_allclose(getattr(found, name)[:, label], getattr(alone, name), err_msg=name)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_entropies_keep_their_bounds(task):
    for spread in (0.0, 1.0, 50.0):
        found = uncertainty.summarize(drawn(spread=spread), task=task)
        for values in (found.normalized_entropy, found.mutual_information / np.log(3)):
            assert values.min() >= 0 and values.max() <= 1 + 1e-12
        assert (found.mutual_information <= found.entropy + 1e-12).all()
    certain = uncertainty.summarize([[[1.0, 0.0]], [[1.0, 0.0]]], task="binary")
    assert certain.entropy.tolist() == certain.mutual_information.tolist() == [0.0]
    same = uncertainty.summarize(np.repeat(drawn(1), 5, axis=0), task="multiclass")
    np.testing.assert_allclose(same.mutual_information, 0, atol=1e-12)
    np.testing.assert_allclose(same.variance, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (np.zeros((0, 2, 3)), r"at least one. Received: samples of shape \(0, 2, 3\)"),
        (np.ones((4, 2)), r"\(samples, n, classes\)"),
        ([[[3.0, -1.0]]], "Probabilities lie in"),
        ([[[np.nan, 0.5]]], "Probabilities lie in"),
    ],
)
def test_samples_are_probabilities(samples, text):
    with pytest.raises(ValueError, match=text):
        uncertainty.summarize(samples, task="binary" if np.shape(samples)[-1] == 2 else "multiclass")


def classified(count, rng, classes=4, sharp=2.0):
    """Labels, and the probabilities of a model that is surer than it should be."""
    logits = rng.normal(0, 1.5, (count, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return labels, softmax(sharp * logits, axis=1)


@pytest.mark.parametrize("method", ["aps", "raps", "threshold"])
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_true_class_as_often_as_promised(method, coverage):
    """On average over many halves of one population, within four standard errors."""
    rng, held, sizes = np.random.default_rng(1), [], []
    for _ in range(40):
        labels, probabilities = classified(400, rng)
        fitted = uncertainty.fit_conformal(
            labels[:200], probabilities[:200], task="multiclass", coverage=coverage, method=method
        )
        sets = fitted.sets(probabilities[200:])
        held.append(sets[np.arange(200), labels[200:]].mean())
        sizes.append(sets.sum(1).mean())
    # The images that a set is fitted to vary as much as those that it is tested on.
    error = math.sqrt(coverage * (1 - coverage) * (1 / 200 + 1 / 200) / 40)
    assert np.mean(held) > coverage - 4 * error
    # Scores of `aps` and `raps` are often equal, 0 for all most probable classes: then more is held than promised.
    assert np.mean(held) < coverage + 1 / 201 + 4 * error + (0 if method == "threshold" else 0.02)
    assert np.mean(sizes) < 4


def test_each_class_is_covered_where_that_is_asked():
    rng = np.random.default_rng(2)
    labels, probabilities = classified(8000, rng)
    # A class that the model hardly believes in is covered less, on average over images.
    probabilities = probabilities * [1.0, 1.0, 1.0, 0.2]
    probabilities /= probabilities.sum(1, keepdims=True)
    first, second = np.s_[:4000], np.s_[4000:]
    shares = {}
    for by_class in (False, True):
        fitted = uncertainty.fit_conformal(
            labels[first], probabilities[first], task="multiclass", method="threshold", class_conditional=by_class
        )
        held = fitted.sets(probabilities[second])[np.arange(4000), labels[second]]
        shares[by_class] = [held[labels[second] == k].mean() for k in range(4)]
    assert shares[False][3] < 0.8
    np.testing.assert_allclose(shares[True], 0.9, atol=0.035)


def test_each_label_is_covered_and_says_whether_it_may_be_absent_or_present():
    rng = np.random.default_rng(3)
    probabilities = rng.random((6000, 3))
    labels = (rng.random(probabilities.shape) < probabilities).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    fitted = uncertainty.fit_conformal(labels[:3000], probabilities[:3000], task="multilabel", coverage=0.9)
    sets = fitted.sets(probabilities[3000:])
    assert sets.shape == (3000, 3, 2) and len(fitted.limits) == 3
    for k in range(3):
        known = ~np.isnan(labels[3000:, k])
        held = np.take_along_axis(sets[known, k], labels[3000:][known, k].astype(int)[:, None], axis=1)
        assert held.mean() == pytest.approx(0.9, abs=0.03)
    assert (sets[probabilities[3000:] > 0.999][:, 1]).all() and not (sets[probabilities[3000:] > 0.999][:, 0]).any()


def test_scores_are_the_probability_of_what_is_more_probable():
    p = [[0.5, 0.2, 0.2, 0.1]]
    by_hand = {"aps": [0.0, 0.5, 0.5, 0.9], "raps": [0.0, 0.6, 0.6, 1.2], "threshold": [0.5, 0.8, 0.8, 0.9]}
    for method, scores in by_hand.items():
        for label, score in enumerate(scores):
            fitted = uncertainty.fit_conformal([label], p, task="multiclass", coverage=0.5, method=method)
            assert fitted.limits == pytest.approx((score,))
            assert fitted.sets(p)[0].tolist() == [s <= score + 1e-12 for s in scores]


def test_too_few_images_for_the_promise_leave_everything_in_the_set():
    probabilities = [[0.9, 0.1]] * 8
    fitted = uncertainty.fit_conformal([0] * 8, probabilities, task="binary", coverage=0.9)
    assert fitted.limits == (math.inf,) and fitted.sets(probabilities).all()
    again = uncertainty.ConformalSets.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert uncertainty.fit_conformal([0] * 9, [[0.9, 0.1]] * 9, task="binary", coverage=0.9).limits == (0.0,)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"coverage": 1.0}, "Received: coverage=1.0"),
        ({"method": "naive"}, "Received: method='naive'"),
        ({"penalty": -1}, "Received: penalty=-1"),
        ({"free": -1}, "Received: free=-1"),
        ({"class_conditional": True}, "none for class 1"),
        ({"labels": [], "probabilities": np.zeros((0, 2))}, "at least one row"),
        ({"probabilities": [[3.0, -1.0], [0.0, 2.0]]}, "Probabilities lie in"),
        ({"task": "multilabel", "labels": [[0, np.nan], [1, np.nan]]}, "none for label 1"),
        ({"task": "multilabel", "labels": [[0, 1], [1, 1]], "class_conditional": True}, "be False for labels"),
    ],
)
def test_sets_that_cannot_be_fitted_state_the_rule(options, text):
    arguments = {"labels": [0, 0], "probabilities": [[0.8, 0.2], [0.4, 0.6]], "task": "binary"} | options
    with pytest.raises(ValueError, match=text):
        uncertainty.fit_conformal(arguments.pop("labels"), arguments.pop("probabilities"), **arguments)
    fitted = uncertainty.fit_conformal([0, 1, 2], np.full((3, 3), 1 / 3), task="multiclass", class_conditional=True)
    with pytest.raises(ValueError, match="of 3 classes"):
        fitted.sets([[0.25] * 4])


def test_the_curve_of_risk_is_that_of_a_loop():
    losses, unsure = RNG.integers(0, 2, 60), RNG.integers(0, 12, 60) / 10
    curve = uncertainty.risk_coverage(losses, unsure)
    for coverage, risk, threshold in zip(curve.coverage, curve.risk, curve.threshold, strict=True):
        kept = unsure <= threshold
        assert coverage == pytest.approx(kept.mean()) and risk == pytest.approx(losses[kept].mean())
    areas = []
    for _ in range(3000):
        order = RNG.permutation(60)
        order = order[np.argsort(unsure[order], kind="stable")]
        areas.append(np.mean(np.cumsum(losses[order]) / np.arange(1, 61)))
    assert curve.aurc == pytest.approx(np.mean(areas), abs=4 * np.std(areas) / math.sqrt(3000))


def test_the_best_curve_sorts_by_loss_and_a_constant_says_nothing():
    losses = np.r_[np.zeros(90), np.ones(10)]
    assert uncertainty.risk_coverage(losses, losses).aurc == uncertainty.risk_coverage(losses, -losses).best < 0.01
    blind = uncertainty.risk_coverage(losses, np.zeros(100))
    assert blind.coverage.tolist() == [1.0] and blind.risk.tolist() == pytest.approx([0.1])
    assert blind.aurc == pytest.approx(0.1)
    assert uncertainty.risk_coverage(losses, -losses).aurc > 0.3


def test_referral_keeps_the_risk_and_as_much_as_it_can():
    losses, unsure = np.array([0, 0, 1, 0, 0, 0, 0, 1, 1]), np.arange(9.0)
    assert uncertainty.referral_threshold(losses, unsure, risk=0.15) == 6
    assert uncertainty.referral_threshold(losses, unsure, risk=0.0) == 1
    assert uncertainty.referral_threshold(losses, unsure, risk=1.0) == 8
    assert uncertainty.referral_threshold(1 - losses, unsure, risk=0.0) == -np.inf


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: uncertainty.risk_coverage([0, 1], [0.1]), "shapes"),
        (lambda: uncertainty.risk_coverage([], []), "at least one"),
        (lambda: uncertainty.risk_coverage([0, np.nan], [0.1, 0.2]), "losses=nan"),
        (lambda: uncertainty.risk_coverage([0, 1], [0.1, np.inf]), "uncertainty=inf"),
        (lambda: uncertainty.referral_threshold([0], [0.1], risk=-0.1), "risk=-0.1"),
    ],
)
def test_wrong_arguments_state_the_rule(call, text):
    with pytest.raises(ValueError, match=text):
        call()
