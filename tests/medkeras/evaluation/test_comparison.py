"""Two models on the same images: McNemar's published case, SciPy, patients, and every task."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn import metrics

from medkeras.evaluation import compare, delong_test, holm, mcnemar, paired_bootstrap

NAN = float("nan")


def right(both, only_first, only_second, neither):
    """Which images each of two models decides rightly."""
    counts = (both, only_first, only_second, neither)
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


def models(count=90, seed=0):
    """Labels of three ordered classes, and two models of them, the first better."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    scores = [np.exp(sharp * np.eye(3)[labels] + rng.normal(0, 1, (count, 3))) for sharp in (3, 1)]
    return labels, *(s / s.sum(1, keepdims=True) for s in scores)


def test_only_disagreement_tells():
    """Two surveys of approval, Agresti, Categorical Data Analysis, table 10.1: 794, 150, 86 and 570 of 1600."""
    found = mcnemar(*right(794, 150, 86, 570))
    assert (found.only_first, found.only_second) == (150, 86)
    assert found.p_value == pytest.approx(binomtest(86, 236).pvalue)
    assert found.p_value == pytest.approx(mcnemar(*right(0, 150, 86, 0)).p_value)
    assert mcnemar(*right(5, 0, 0, 5)).p_value == mcnemar(*right(5, 3, 3, 5)).p_value == 1
    assert mcnemar([], []).p_value == 1


def test_the_test_of_patients_is_mcnemars_where_nothing_is_shared():
    first, second = right(794, 150, 86, 570)
    patients = np.concatenate([[0, 0], np.arange(1, 1599)])  # The first patient has two images, both right.
    assert mcnemar(first, second, groups=patients).p_value == pytest.approx(2 * norm.sf(64 / 236**0.5))  # z = 4.17


def test_copies_of_the_same_patient_are_no_new_evidence():
    first, second = (np.repeat(each, 3) for each in right(20, 12, 4, 6))
    patients = np.repeat(np.arange(42), 3)
    assert mcnemar(first, second, groups=patients).p_value == pytest.approx(2 * norm.sf(8 / 16**0.5))
    assert mcnemar(first, second).p_value < 0.01


def test_holm():
    found = holm([0.01, 0.04, NAN, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, NAN, 0.06, 0.02])
    assert holm([]).shape == (0,) and holm([0.9, 0.8]).tolist() == [1, 1]


def test_differences_agree_with_scikit_learn_and_the_paired_bootstrap():
    labels, first, second = models()
    found = compare(labels, first, second, task="ordinal", class_names="abc", repeats=100)
    for side, scores in (("first", first), ("second", second)):
        chosen = scores.argmax(1)
        expected = {
            "auc": metrics.roc_auc_score(labels, scores, multi_class="ovr"),
            "average_precision": metrics.average_precision_score(np.eye(3)[labels], scores),
            "brier": np.mean(np.sum((scores - np.eye(3)[labels]) ** 2, axis=1)),
            "accuracy": metrics.accuracy_score(labels, chosen),
            "sensitivity": metrics.recall_score(labels, chosen, average="macro"),
            "kappa": metrics.cohen_kappa_score(labels, chosen, weights="quadratic"),
        }
        assert {name: found["measures"][name][side] for name in expected} == pytest.approx(expected)
    row = found["measures"]["accuracy"]
    drawn = paired_bootstrap("accuracy", labels, first, second, task="ordinal", repeats=100)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((drawn.value, drawn.low, drawn.high))
    assert found["measures"]["brier"]["high"] < 0 < found["measures"]["kappa"]["low"]
    test = delong_test(labels == 1, first[:, 1], second[:, 1])
    assert found["auc"]["b"]["p_value"] == test.p_value <= found["auc"]["b"]["p_holm"]
    assert found["mcnemar"] == mcnemar(first.argmax(1) == labels, second.argmax(1) == labels).to_dict()


def test_patients_widen_what_copies_would_narrow():
    labels, first, second = models()
    copies = [np.repeat(each, 3, axis=0) for each in (labels, first, second)]
    options = {"task": "multiclass", "class_names": "abc", "repeats": 100}
    alone = compare(labels, first, second, groups=np.arange(90), **options)
    grouped = compare(*copies, groups=np.repeat(np.arange(90), 3), **options)
    assert grouped["auc"]["a"]["p_value"] == pytest.approx(alone["auc"]["a"]["p_value"])
    assert grouped["measures"]["auc"] == pytest.approx(alone["measures"]["auc"])


def test_each_decides_at_its_own_operating_point():
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.9])
    probabilities = np.stack([1 - scores, scores], 1)
    decisions = (scores > 0.25).astype(int), (scores > 0.5).astype(int)
    found = compare(
        labels,
        probabilities,
        probabilities,
        task="binary",
        class_names=["well", "ill"],
        decisions=decisions,
        repeats=20,
    )
    assert list(found["auc"]) == ["ill"] and found["auc"]["ill"]["p_value"] == 1
    assert found["measures"]["sensitivity"]["difference"] == 0.5 and found["mcnemar"]["only_first"] == 1


def test_several_labels_are_compared_where_they_are_known():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (80, 2)).astype("float32")
    first, second = ((labels * gap + rng.random((80, 2))) / 2 for gap in (0.9, 0.2))
    labels[:30, 1], labels[3, 0] = NAN, NAN
    patients = np.arange(80) // 2
    found = compare(labels, first, second, task="multilabel", class_names=["mass", "node"], groups=patients, repeats=20)
    test = delong_test(labels[30:, 1], first[30:, 1], second[30:, 1], groups=patients[30:])
    assert found["auc"]["node"]["p_value"] == test.p_value
    wrong = [((each > 0.5) != labels)[30:, 1] for each in (first, second)]
    assert found["mcnemar"]["node"]["only_first"] == np.sum(~wrong[0] & wrong[1])


def test_one_image_of_one_class_has_defined_gaps():
    found = compare([1], [[0.2, 0.8]], [[0.6, 0.4]], task="binary", class_names="ab", repeats=5)
    assert np.isnan(found["auc"]["b"]["difference"]) and np.isnan(found["measures"]["auc"]["low"])
    assert found["measures"]["accuracy"]["difference"] == 1 and found["mcnemar"]["p_value"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second": [[0.5, 0.5]] * 3}, r"labels.shape=\(2,\)"),
        ({"second": [[0.2, 0.3, 0.5]] * 2, "task": "multiclass"}, r"same classes. Received: shapes \(2, 2\) and"),
        ({"decisions": ([0], [0, 1])}, r"labels' shape, \(2,\). Received: shape \(1,\)"),
        ({"decisions": ([0, 2], [0, 1])}, "from 0 to 1. Received: value=2 in row 1"),
        ({"class_names": "a"}, "class_names="),
        ({"groups": [1]}, "one entry per image, 2. Received: 1"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    pair = [[0.5, 0.5]] * 2
    arguments = {"labels": [0, 1], "first": pair, "second": pair, "task": "binary", "class_names": "ab"} | changes
    with pytest.raises(ValueError, match=message):
        compare(**arguments)
    with pytest.raises(ValueError, match=r"same images. Received: shapes \(1,\) and \(2,\)"):
        mcnemar([1], [1, 0])
