"""Operating points: chosen as a search over all cuts would, stable, frozen, applied above the threshold."""

import json

import numpy as np
import pytest
from sklearn import metrics

from medkeras.evaluation import OperatingPoint, choose_operating_point

NAN = float("nan")


def two_columns(scores):
    scores = np.asarray(scores, "float64")
    return np.stack([1 - scores, scores], 1)


def sample(seed, count=50):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return labels, ((labels + rng.normal(0, 0.8, count)).clip(-1, 2) + 1).round(1) / 3


def worth(labels, decisions, rule):
    """What the rule wants to maximise, by scikit-learn; None if its bound is not met."""
    sensitivity = metrics.recall_score(labels, decisions)
    specificity = metrics.recall_score(1 - labels, 1 - decisions)
    name, _, bound = rule.partition(":")
    if name == "youden":
        return sensitivity + specificity
    if name == "f1":
        return metrics.f1_score(labels, decisions, zero_division=0)
    fixed, free = (sensitivity, specificity) if name == "sensitivity" else (specificity, sensitivity)
    return free if fixed >= float(bound) else None


@pytest.mark.parametrize("rule", ["youden", "f1", "sensitivity:0.9", "specificity:0.8", "sensitivity:1"])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_threshold_is_better(rule, seed):
    labels, scores = sample(seed)
    point = choose_operating_point(labels, two_columns(scores), task="binary", rule=rule)
    found = worth(labels, point.apply(two_columns(scores)), rule)
    others = [worth(labels, (scores > t).astype(int), rule) for t in (-1, *np.unique(scores))]
    assert found == pytest.approx(max(value for value in others if value is not None))
    assert point.rule == rule and point.task == "binary"


@pytest.mark.parametrize("rule", ["youden", "f1", "sensitivity:0.9", "specificity:0.8"])
def test_rounding_of_the_scores_moves_no_image_across(rule):
    labels, scores = sample(7)
    point = choose_operating_point(labels, two_columns(scores), task="binary", rule=rule)
    expected = point.apply(two_columns(scores))
    noise = np.random.default_rng(0).uniform(-1e-4, 1e-4, len(scores))
    np.testing.assert_array_equal(point.apply(two_columns((scores + noise).clip(0, 1))), expected)


def test_of_equal_cuts_the_more_sensitive_one_is_taken():
    labels, scores = [1, 0, 1, 0], two_columns([0.2, 0.4, 0.6, 0.0])
    assert choose_operating_point(labels, scores, task="binary").thresholds == (pytest.approx(0.1),)


@pytest.mark.parametrize(("rule", "positive"), [("sensitivity:1", [1, 1]), ("specificity:1", [0, 0])])
def test_bounds_are_met_by_scores_of_exactly_0_and_1(rule, positive):
    probabilities = two_columns([0.0, 1.0])
    point = choose_operating_point([1, 0], probabilities, task="binary", rule=rule)
    assert point.apply(probabilities).tolist() == positive


def test_every_label_has_its_threshold_and_unknown_ones_do_not_count():
    (first, a), (second, b) = sample(1), sample(2)
    labels = np.stack([first, second], 1).astype("float64")
    labels[::3, 1] = NAN
    point = choose_operating_point(labels, np.stack([a, b], 1), task="multilabel", rule="f1")
    kept = ~np.isnan(labels[:, 1])
    alone = [
        choose_operating_point(y, two_columns(s), task="binary", rule="f1").thresholds[0]
        for y, s in ((first, a), (second[kept], b[kept]))
    ]
    assert point.thresholds == tuple(alone)
    assert point.apply(np.stack([a, b], 1)).shape == (50, 2)


def test_a_label_never_seen_positive_keeps_one_half_with_a_warning():
    labels, scores = np.array([[0, 0], [1, 0]]), np.array([[0.2, 0.1], [0.6, 0.3]])
    with pytest.warns(UserWarning, match=r"label \[1\]"):
        point = choose_operating_point(labels, scores, task="multilabel")
    assert point.thresholds == (0.4, 0.5)


@pytest.mark.parametrize("task", ["multiclass", "ordinal"])
def test_many_classes_take_the_most_probable(task):
    probabilities = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
    point = choose_operating_point([1, 0], probabilities, task=task)
    assert point == OperatingPoint.default(task, 3) and point.thresholds is None
    assert point.apply(probabilities).tolist() == [1, 0]


def test_a_score_at_the_threshold_is_not_above_it():
    assert OperatingPoint("binary", (0.5,), "x").apply([[0.5, 0.5]]).tolist() == [0]


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_a_point_survives_json(task):
    point = OperatingPoint.default(task, 2)
    assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict()))) == point


def test_a_point_remembers_where_it_was_chosen_and_what_it_reached_there():
    labels, scores = sample(3)
    labels = np.stack([labels, np.zeros(50)], 1)
    with pytest.warns(UserWarning):
        point = choose_operating_point(labels, np.stack([scores, scores], 1), task="multilabel", chosen_on="val")
    first, second = point.reached
    decided = scores > point.thresholds[0]
    assert first.sensitivity == pytest.approx(metrics.recall_score(labels[:, 0], decided))
    assert first.specificity == pytest.approx(metrics.recall_score(1 - labels[:, 0], ~decided))
    assert (first.positives, first.negatives) == (labels[:, 0].sum(), 50 - labels[:, 0].sum()) and second is None
    again = OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict())))
    assert again == point and (again.reached, again.chosen_on) == (point.reached, "val")


def test_a_file_of_an_earlier_version_is_read_and_written_as_it_was():
    values = {"task": "binary", "thresholds": [0.3], "rule": "youden"}
    point = OperatingPoint.from_dict(values)
    assert point.reached is None and point.chosen_on is None and point.to_dict() == values


@pytest.mark.parametrize(
    "rule", ["best", "youden:0.5", "sensitivity", "sensitivity:", "specificity:x", "sensitivity:1.1"]
)
def test_unknown_rules_are_refused(rule):
    with pytest.raises(ValueError, match=f"Received: rule='{rule}'"):
        choose_operating_point([0, 1], two_columns([0.2, 0.6]), task="binary", rule=rule)


@pytest.mark.parametrize(
    ("task", "thresholds"),
    [
        ("binary", None),
        ("binary", (0.1, 0.2)),
        ("multilabel", ()),
        ("multiclass", (0.5,)),
        ("binary", (NAN,)),
        ("x", None),
    ],
)
def test_thresholds_that_do_not_fit_the_task_are_refused(task, thresholds):
    with pytest.raises(ValueError, match="Received"):
        OperatingPoint(task, thresholds, "x")


def test_probabilities_that_do_not_fit_the_thresholds_are_refused():
    point = OperatingPoint("multilabel", (0.5, 0.5), "x")
    for probabilities in ([[0.5, 0.5, 0.5]], [[0.5, 1.5]]):
        with pytest.raises(ValueError, match="Received"):
            point.apply(probabilities)


def test_rounding_does_not_break_a_tie():
    """0.3 + 1.0 and 0.6 + 0.7 are one sum, of which the second is the smaller in floats: sensitivity decides."""
    positive, negative = [0.9] * 3 + [0.6] * 3 + [0.1] * 4, [0.6] * 3 + [0.1] * 7
    assert 0.6 + 0.7 < 0.3 + 1.0
    point = choose_operating_point([1] * 10 + [0] * 10, two_columns(positive + negative), task="binary")
    assert point.thresholds == (pytest.approx(0.35),) and point.reached[0].sensitivity == 0.6


def test_of_equal_f1_the_more_sensitive_cut_is_taken():
    """Two of four found without a mistake, or all four with four mistakes: F1 is 2/3 for both."""
    labels, scores = [1] * 4 + [0] * 5, [0.9, 0.9, 0.5, 0.5] + [0.5] * 4 + [0.1]
    point = choose_operating_point(labels, two_columns(scores), task="binary", rule="f1")
    assert point.thresholds == (pytest.approx(0.3),) and point.reached[0].sensitivity == 1
