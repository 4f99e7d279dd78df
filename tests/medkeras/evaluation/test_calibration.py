"""Calibration measures against scikit-learn, loops and identities, and the scaling of logits against its optimum."""

import numpy as np
import pytest
import scipy.optimize
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from medkeras import evaluation
from medkeras.uncertainty import LogitScaling, fit_scaling

NAN = float("nan")
TASKS = ("binary", "multiclass", "ordinal", "multilabel")


def predictions(task, *, count=400, classes=4, sharp=2.0, seed=0):
    """Labels and logits of a model that is `sharp` times as sure as it is right."""
    rng = np.random.default_rng(seed)
    classes = 2 if task == "binary" else classes
    logits = rng.normal(0, 1.5, (count, classes))
    if task == "multilabel":
        labels = (rng.random(logits.shape) < expit(logits)).astype("float64")
        labels[rng.random(labels.shape) < 0.2] = NAN
        return labels, sharp * logits
    labels = np.array([rng.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return labels, sharp * logits


def probabilities_of(task, logits):
    return expit(logits) if task == "multilabel" else softmax(logits, axis=1)


@pytest.mark.parametrize(("binning", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_bins_are_those_of_scikit_learn(binning, strategy):
    labels, logits = predictions("binary")
    p = probabilities_of("binary", logits)
    found = evaluation.reliability(labels, p, task="binary", bins=10, binning=binning)
    frequency, confidence = calibration_curve(labels, p[:, 1], n_bins=10, strategy=strategy)
    filled = found.count > 0
    np.testing.assert_allclose(found.frequency[filled], frequency, atol=1e-12)
    np.testing.assert_allclose(found.confidence[filled], confidence, atol=1e-12)
    assert found.count.sum() == len(labels) and len(found.edges) == len(found.count) + 1


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("binning", ["width", "mass"])
def test_the_error_is_that_of_a_loop(task, binning):
    labels, logits = predictions(task)
    p = probabilities_of(task, logits)
    if task == "multilabel":
        known = ~np.isnan(labels)
        scores, happened = p[known], labels[known] == 1
    elif task == "binary":
        scores, happened = p[:, 1], labels == 1
    else:
        scores, happened = p.max(1), p.argmax(1) == labels
    edges = np.linspace(0, 1, 16) if binning == "width" else np.quantile(scores, np.linspace(0, 1, 16))
    total, largest = 0.0, 0.0
    for i, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        inside = (scores <= high) & ((scores > low) | (i == 0))
        if inside.any():
            apart = abs(scores[inside].mean() - happened[inside].mean())
            total, largest = total + inside.mean() * apart, max(largest, apart)
    found = evaluation.reliability(labels, p, task=task, binning=binning)
    assert found.error == pytest.approx(total, abs=1e-12)
    assert found.largest_error == pytest.approx(largest, abs=1e-12)
    assert evaluation.expected_calibration_error(labels, p, task=task, binning=binning) == found.error > 0.03


def test_what_is_calibrated_has_a_small_error_and_an_interval_around_it():
    labels, logits = predictions("binary", count=20_000, sharp=1.0)
    p = probabilities_of("binary", logits)
    assert evaluation.expected_calibration_error(labels, p, task="binary") < 0.02
    measure = lambda y, q: evaluation.expected_calibration_error(y, q, task="binary")  # noqa: E731
    labels, logits = predictions("binary", count=500)
    interval = evaluation.bootstrap(measure, labels, probabilities_of("binary", logits), repeats=100)
    assert 0 < interval.low < interval.value < interval.high < 0.3


def test_equal_probabilities_stay_together_and_edges_belong_below():
    p = np.array([0.0, 0.5, 0.5, 0.5, 0.5, 1.0])
    p = np.stack([1 - p, p], 1)
    found = evaluation.reliability([0, 1, 0, 1, 0, 1], p, task="binary", bins=2)
    assert found.count.tolist() == [5, 1]
    found = evaluation.reliability([0, 1, 0, 1, 0, 1], p, task="binary", bins=4, binning="mass")
    assert sorted(found.count.tolist()) == [1, 5]
    same = np.full((3, 2), 0.5)
    found = evaluation.reliability([0, 1, 1], same, task="binary", binning="mass")
    assert found.count.sum() == 3 and found.error == pytest.approx(1 / 6)


@pytest.mark.parametrize("task", TASKS)
def test_proper_scores_are_those_of_scikit_learn(task):
    labels, logits = predictions(task)
    p = probabilities_of(task, logits)
    brier = evaluation.brier_score(labels, p, task=task)
    surprise = evaluation.negative_log_likelihood(labels, p, task=task)
    if task == "multilabel":
        columns = [(y[~np.isnan(y)], q[~np.isnan(y)]) for y, q in zip(labels.T, p.T, strict=True)]
        assert brier == pytest.approx(np.mean([brier_score_loss(*pair) for pair in columns]), abs=1e-12)
        whole = [np.concatenate(part) for part in zip(*columns, strict=True)]
        assert surprise == pytest.approx(log_loss(*whole), abs=1e-9)
    else:
        wanted = brier_score_loss(labels, p[:, 1]) if task == "binary" else ((p - np.eye(4)[labels]) ** 2).sum(1).mean()
        assert brier == pytest.approx(wanted, abs=1e-12)
        assert surprise == pytest.approx(log_loss(labels, p), abs=1e-9)


def test_being_wrong_for_certain_costs_a_finite_surprise():
    assert evaluation.negative_log_likelihood([0], [[0.0, 1.0]], task="binary") == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("binning", ["width", "mass"])
def test_the_parts_of_the_brier_score_are_the_score(task, binning):
    labels, logits = predictions(task)
    p = probabilities_of(task, logits)
    parts = evaluation.brier_decomposition(labels, p, task=task, binning=binning)
    score = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within_bins"]
    assert score == pytest.approx(evaluation.brier_score(labels, p, task=task), abs=1e-12)
    assert min(parts["reliability"], parts["resolution"], parts["uncertainty"]) > 0
    # With as many bins as there are probabilities nothing is lost within them.
    rounded = np.round(p[:, :1], 1)
    rounded = np.concatenate([rounded, 1 - rounded], axis=1)
    happened = np.nan_to_num(labels[:, 0]) if task == "multilabel" else labels == 1
    exact = evaluation.brier_decomposition(happened.astype(int), rounded, task="binary", bins=20)
    assert exact["within_bins"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_the_temperature_is_found(task):
    labels, logits = predictions(task, count=6000, sharp=3.0)
    found = fit_scaling(labels, logits, task=task)
    assert len(found.scale) == 1 and 1 / found.scale[0] == pytest.approx(3.0, rel=0.08)

    def surprise(log_scale):
        return evaluation.negative_log_likelihood(labels, probabilities_of(task, np.exp(log_scale) * logits), task=task)

    best = scipy.optimize.minimize_scalar(surprise, bounds=(-4, 2), method="bounded", options={"xatol": 1e-7})
    assert np.log(found.scale[0]) == pytest.approx(best.x, abs=1e-3)
    before, after = (
        evaluation.expected_calibration_error(labels, probabilities_of(task, x), task=task)
        for x in (logits, found.apply(logits))
    )
    assert after < before / 3
    np.testing.assert_array_equal(found.apply(logits).argmax(1), logits.argmax(1))
    np.testing.assert_allclose(found.probabilities(logits), probabilities_of(task, found.apply(logits)))


def test_a_vector_for_one_label_is_plain_logistic_regression():
    labels, logits = predictions("multilabel", classes=1, sharp=2.0)
    known = ~np.isnan(labels[:, 0])
    found = fit_scaling(labels, logits, task="multilabel", kind="vector")
    oracle = LogisticRegression(C=np.inf, tol=1e-9).fit(logits[known], labels[known, 0])
    assert found.scale[0] == pytest.approx(oracle.coef_[0, 0], rel=1e-3)
    assert found.shift[0] == pytest.approx(oracle.intercept_[0], abs=1e-3)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_vector_undoes_what_was_done_to_each_class(task):
    labels, logits = predictions(task, count=8000, classes=3, sharp=1.0)
    scale, shift = np.array([0.5, 1.0, 2.0]), np.array([1.0, -1.0, 0.0])
    found = fit_scaling(labels, (logits - shift) / scale, task=task, kind="vector")
    np.testing.assert_allclose(found.scale, scale, rtol=0.1)
    apart = np.array(found.shift) - shift
    np.testing.assert_allclose(apart - (apart.mean() if task == "multiclass" else 0), 0, atol=0.12)


def test_one_wrong_image_bounds_the_scale():
    logits = np.array([[9.0, 0.0], [0.0, 9.0]] * 500)
    labels = np.array([0, 1] * 500)
    found = fit_scaling(np.r_[labels, 0], np.r_[logits, [[0.0, 0.1]]], task="binary")
    assert 0 < found.scale[0] <= 1000 and LogitScaling.from_dict(found.to_dict()) == found
    several = np.c_[labels, labels[::-1]].astype(float)
    several[0] = 1 - several[0]
    fit_scaling(several, np.c_[logits[:, 1] - 4, logits[::-1, 1] - 4], task="multilabel")


@pytest.mark.parametrize(
    ("labels", "logits", "options", "text"),
    [
        ([0, 1], [[0.0, 1.0], [2.0, 0.0]], {"kind": "matrix"}, "`kind` must be one of temperature, vector"),
        ([], np.zeros((0, 2)), {}, r"at least one row. Received: logits of shape \(0, 2\)"),
        ([0, 1], [[0.0, np.nan], [2.0, 0.0]], {}, "must be finite.*in row 0"),
        ([0, 1], [[0.2, 0.8], [0.9, 0.1]], {}, "of logits, not of probabilities"),
        ([0, 0], [[0.0, 1.0], [2.0, 0.0]], {}, r"Every class has an image to calibrate on. Received: none for \[1\]"),
        ([[0, 1], [1, 1]], [[0.0, 1.0], [2.0, 0.0]], {"task": "multilabel"}, r"both present and absent.*\[1\]"),
        ([0, 2], [[0.0, 1.0], [2.0, 0.0]], {}, "class indices from 0 to 1"),
        ([0, 1], [[9.0, 0.0], [0.0, 9.0]], {}, "needs an image that is decided wrongly. Received: none among 2"),
        ([0, 1], [[9.0, 0.0], [1.0, 0.0]], {"kind": "vector"}, "decided wrongly. Received: none among 2"),
        (
            [[0, 1], [1, 0], [1, 0]],
            [[-1.0, 1.0], [1.0, 1.0], [2.0, -1.0]],
            {"task": "multilabel", "kind": "vector"},
            r"decided wrongly for each label. Received: none for \[0\]",
        ),
    ],
)
def test_what_cannot_be_calibrated_states_the_rule(labels, logits, options, text):
    with pytest.raises(ValueError, match=text):
        fit_scaling(labels, logits, **({"task": "binary"} | options))


def test_wrong_arguments_state_the_rule():
    with pytest.raises(ValueError, match="`scale` must be positive"):
        LogitScaling("binary", scale=(0.0,))
    with pytest.raises(ValueError, match="one of binary"):
        LogitScaling("regression")
    with pytest.raises(ValueError, match=r"of 3 classes. Received: logits of shape \(1, 2\)"):
        LogitScaling("multiclass", scale=(1.0, 2.0, 1.0)).apply([[0.0, 1.0]])
    with pytest.raises(ValueError, match="Received: bins=0"):
        evaluation.reliability([0], [[0.5, 0.5]], task="binary", bins=0)
    with pytest.raises(ValueError, match="Received: of=2"):
        evaluation.reliability([0], [[0.5, 0.5]], task="binary", of=2)
    with pytest.raises(ValueError, match="none that is known"):
        evaluation.reliability([[NAN]], [[0.5]], task="multilabel")
