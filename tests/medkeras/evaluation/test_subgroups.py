"""Subgroups: groups of a column, each measured as if alone, differences, small groups; and the worst errors."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medkeras.evaluation import (
    auc_interval,
    difference_of,
    groups_of,
    measure_subgroups,
    proportion_interval,
    share_interval,
    worst_errors,
)

NAN = float("nan")


def people(count=600, worse="none", seed=0):
    """Labels, probabilities and sex; the model is a coin for one sex, or for none."""
    rng = np.random.default_rng(seed)
    positive, sex = rng.random(count) < 0.4, rng.choice(["F", "M"], count, p=[0.4, 0.6])
    scores = np.where(sex == worse, rng.random(count), (positive + rng.normal(0.5, 0.7, count)) / 2).clip(0, 1)
    return positive, scores, sex


def measured(positive, scores, decisions, values, *, edges=None, **options):
    return measure_subgroups(positive, scores, decisions, *groups_of(values, edges=edges), **options)


def test_numbers_are_cut_and_text_is_taken():
    index, names = groups_of([39.9, 40, 60, 12], edges=[40, 60])
    assert [names[k] for k in index] == ["under 40", "40 to under 60", "60 and over", "under 40"]
    index, names = groups_of(np.arange(100))
    assert np.bincount(index).tolist() == [25, 25, 25, 25] and names[1] == "24.75 to under 49.5"
    assert groups_of([3, 1, 3, 10])[1] == ["1", "3", "10"]
    assert groups_of(np.array(["M", "", "F", None, "M"], dtype=object))[1] == ["F", "M", "unknown"]
    index, names = groups_of([NAN, 2.0])
    assert names == ["2", "unknown"] and index.tolist() == [1, 0]
    assert groups_of([NAN, NAN])[1] == ["unknown"] and groups_of([])[1] == []


def test_each_group_is_measured_as_if_alone():
    positive, scores, sex = people()
    patients = np.arange(600) // 2
    for name, group in zip("FM", measured(positive, scores, scores > 0.5, sex, patients=patients), strict=True):
        own = sex == name
        assert (group.group, group.images, group.positives) == (name, own.sum(), positive[own].sum())
        assert group.patients == len(np.unique(patients[own])) and not group.is_small
        found = group.measures
        assert found["auc"] == auc_interval(positive[own], scores[own], groups=patients[own])
        assert found["auc"].value == pytest.approx(roc_auc_score(positive[own], scores[own]))
        ill = own & positive
        assert found["sensitivity"] == share_interval(scores[ill] > 0.5, groups=patients[ill])
        assert found["specificity"].value == pytest.approx(np.mean(scores[own & ~positive] <= 0.5))
        assert found["calibration"].value == pytest.approx(np.mean(positive[own]) - np.mean(scores[own]))


def test_calibration_has_the_interval_of_a_mean():
    positive, scores, _ = people(300)
    (group,) = measured(positive, scores, scores > 0.5, ["a"] * 300)
    found, apart = group.measures["calibration"], positive - scores
    assert found.high - found.value == pytest.approx(1.959964 * apart.std(ddof=1) / 300**0.5)
    copies = [np.repeat(each, 3) for each in (positive, scores, scores > 0.5)]
    (again,) = measured(*copies, ["a"] * 900, patients=np.repeat(np.arange(300), 3))
    assert again.measures["calibration"].high == pytest.approx(found.high)


def test_a_group_that_is_served_worse_stands_out():
    positive, scores, sex = people(worse="F")
    women, men = measured(positive, scores, scores > 0.5, sex)
    assert women.differences["auc"] == difference_of(women.measures["auc"], men.measures["auc"])
    assert "auc" in women.stands_out and women.differences["auc"].high < -0.1
    assert men.differences == {} and men.stands_out == ()
    row = women.to_dict()
    assert row["auc_difference"] == pytest.approx(women.measures["auc"].value - men.measures["auc"].value)
    assert np.isnan(men.to_dict()["auc_difference"]) and "auc" in row["stands_out"].split("|")


def test_many_groups_alike_seldom_stand_out():
    """Of 60 tables without a difference, about 5 % may claim one; of plain 95 % intervals most would."""
    tables, plain = 0, 0
    for seed in range(60):
        positive, scores, _ = people(600, seed=seed)
        found = measured(positive, scores, scores > 0.5, np.arange(600) % 4)
        tables += any(group.stands_out for group in found)
        plain += any(d.low > 0 or d.high < 0 for group in found for d in group.differences.values())
    assert tables <= 8 < plain
    positive, scores, sex = people(worse="F")
    assert not measured(positive, scores, scores > 0.5, sex, questions=10**12)[0].stands_out


def test_small_groups_are_shown_and_not_compared():
    positive, scores, _ = people(300)
    values = np.repeat(["few", "many", "most"], [10, 100, 190])
    few, many, most = measured(positive, scores, scores > 0.5, values)
    assert few.is_small and few.differences == {} and few.images == 10 and not np.isnan(few.measures["auc"].value)
    assert not many.is_small and set(many.differences) == {"auc", "sensitivity", "specificity", "calibration"}
    assert most.differences == {}
    # The rule counts patients: a hundred images of nine patients are few.
    few_patients = measured(positive, scores, scores > 0.5, values, patients=np.arange(300) % 9)
    assert all(group.is_small and not group.differences for group in few_patients)


def test_groups_without_images_or_without_a_kind_have_defined_gaps():
    positive, scores = np.array([0, 0, 1]), np.array([0.1, 0.6, 0.7])
    found = measured(positive, scores, scores > 0.5, [20.0, 21.0, 50.0], edges=[30, 40])
    assert [group.images for group in found] == [2, 0, 1] and all(group.is_small for group in found)
    young, empty, old = (group.measures for group in found)
    assert np.isnan([young["auc"].value, young["sensitivity"].value, old["specificity"].low]).all()
    assert young["specificity"] == proportion_interval(1, 2)
    assert np.isnan([empty[name].value for name in empty]).all() and np.isnan(old["calibration"].low)
    assert measured([], [], [], []) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": ["a"]}, "2 images, 2 decisions, 1 groups"),
        ({"decisions": [1]}, "2 images, 1 decisions, 2 groups"),
        ({"edges": [1]}, r"edges=\[1\] for a column of text"),
        ({"values": [1, 2], "edges": [2, 1]}, r"rising edges. Received: edges=\[2, 1\]"),
        ({"positive": [0, NAN]}, "value=nan in row 1"),
        ({"patients": [1]}, "one entry per image, 2. Received: 1"),
        ({"smallest": 1}, "smallest=1"),
        ({"level": 2}, "level=2"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"positive": [0, 1], "scores": [0.1, 0.2], "decisions": [0, 1], "values": ["a", "b"]} | changes
    with pytest.raises(ValueError, match=message):
        measured(**arguments)
    with pytest.raises(ValueError, match=r"from 0 to 0. Received: \[0, 1\]"):
        measure_subgroups([0, 1], [0.1, 0.2], [0, 1], [0, 1], ["only"])
    with pytest.raises(ValueError, match="at most 20. Received: 21, such as 'p0'"):
        groups_of([f"p{k}" for k in range(21)])


def test_the_worst_errors_come_first():
    scores = np.array([0.9, 0.4, 0.2, 0.6, 0.7])
    probabilities = np.stack([1 - scores, scores], 1)
    rows, classes, given = worst_errors([0, 1, 1, 0, 1], probabilities, scores > 0.5, task="binary")
    assert rows.tolist() == [0, 2, 1, 3] and classes.tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(given, [0.1, 0.2, 0.4, 0.4])
    assert worst_errors([0, 1, 1, 0, 1], probabilities, scores > 0.5, task="binary", count=1)[0].tolist() == [0]
    assert len(worst_errors([1], [[0.2, 0.8]], [1], task="binary")[0]) == 0


def test_errors_of_several_labels_are_label_by_label():
    labels, probabilities = np.array([[1, NAN], [0, 1]]), np.array([[0.2, 0.9], [0.95, 0.8]])
    rows, columns, given = worst_errors(labels, probabilities, probabilities > 0.5, task="multilabel")
    assert rows.tolist() == [1, 0] and columns.tolist() == [0, 0]
    np.testing.assert_allclose(given, [0.05, 0.2])
    with pytest.raises(ValueError, match=r"labels' shape, \(2, 2\). Received: shape \(2,\)"):
        worst_errors(labels, probabilities, [0, 1], task="multilabel")
    with pytest.raises(ValueError, match="count=-1"):
        worst_errors(labels, probabilities, probabilities > 0.5, task="multilabel", count=-1)
