"""`evaluate` and its parts against scikit-learn, MedMNIST's evaluator, and what cannot be measured."""

import json
import math
import os
import shutil

import numpy as np
import pytest
from sklearn import metrics

from medkeras import evaluation
from medkeras.evaluation import evaluate, named_measure
from medkeras.evaluation.measures import NAMES

NAN = float("nan")


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def predictions(task, *, count=120, classes=4, seed=0):
    """Labels and probabilities of a fair model, with ties and, for several labels, unknown ones."""
    rng = np.random.default_rng(seed)
    if task == "multilabel":
        labels = rng.integers(0, 2, (count, classes)).astype("float32")
        scores = 1 / (1 + np.exp(-(2 * labels - 1 + rng.normal(0, 1.5, labels.shape))))
        labels[rng.random(labels.shape) < 0.2] = NAN
        return labels, scores.round(2)
    classes = 2 if task == "binary" else classes
    labels = rng.integers(0, classes, count)
    scores = softmax(2 * np.eye(classes)[labels] + rng.normal(0, 1.5, (count, classes))).round(2)
    scores[:, -1] = 1 - scores[:, :-1].sum(-1)
    return labels, scores.clip(0, 1)


def names(classes):
    return [f"c{i}" for i in range(classes)]


@pytest.mark.parametrize("task", ["multiclass", "ordinal"])
def test_many_classes_agree_with_scikit_learn(task):
    labels, scores = predictions(task)
    result = evaluate(labels, scores, task=task, class_names=names(4))
    chosen = scores.argmax(1)
    weights = "quadratic" if task == "ordinal" else None
    assert result["count"] == 120 and result["undefined"] == []
    assert result["confusion_matrix"] == metrics.confusion_matrix(labels, chosen).tolist()
    overall = {
        "accuracy": metrics.accuracy_score(labels, chosen),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, chosen),
        "mcc": metrics.matthews_corrcoef(labels, chosen),
        "kappa": metrics.cohen_kappa_score(labels, chosen, weights=weights),
        "cohen_kappa": metrics.cohen_kappa_score(labels, chosen),
    }
    assert {key: result[key] for key in overall} == pytest.approx(overall)
    precision, sensitivity, f1, support = metrics.precision_recall_fscore_support(labels, chosen)
    for c, measured in enumerate(result["per_class"].values()):
        assert measured == pytest.approx(
            {
                "auc": metrics.roc_auc_score(labels == c, scores[:, c]),
                "average_precision": metrics.average_precision_score(labels == c, scores[:, c]),
                "sensitivity": sensitivity[c],
                "specificity": metrics.recall_score(labels != c, chosen != c),
                "precision": precision[c],
                "f1": f1[c],
                "support": support[c],
            }
        )
    assert result["macro"]["auc"] == pytest.approx(metrics.roc_auc_score(labels, scores, multi_class="ovr"))
    assert result["macro"]["f1"] == pytest.approx(f1.mean())
    weighted = metrics.precision_recall_fscore_support(labels, chosen, average="weighted")
    found = [result["weighted"][name] for name in ("precision", "sensitivity", "f1")]
    assert found == pytest.approx(weighted[:3]) and found[1] == pytest.approx(result["accuracy"])
    auc = metrics.roc_auc_score(labels, scores, multi_class="ovr", average="weighted")
    assert result["weighted"]["auc"] == pytest.approx(auc)


def test_binary_reports_the_positive_class():
    labels, scores = predictions("binary")
    result = evaluate(labels, scores, task="binary", class_names=["no", "yes"])
    chosen = scores[:, 1] > 0.5
    expected = {
        "auc": metrics.roc_auc_score(labels, scores[:, 1]),
        "average_precision": metrics.average_precision_score(labels, scores[:, 1]),
        "sensitivity": metrics.recall_score(labels, chosen),
        "specificity": metrics.recall_score(1 - labels, ~chosen),
        "precision": metrics.precision_score(labels, chosen),
        "f1": metrics.f1_score(labels, chosen),
    }
    assert result["macro"] == pytest.approx(expected)
    assert result["per_class"]["yes"] == pytest.approx(expected | {"support": labels.sum()})
    assert result["weighted"]["f1"] == pytest.approx(metrics.f1_score(labels, chosen, average="weighted"))
    assert result["per_class"]["no"]["sensitivity"] == pytest.approx(expected["specificity"])


def test_unknown_labels_are_left_out_label_by_label():
    labels, scores = predictions("multilabel")
    result = evaluate(labels, scores, task="multilabel", class_names=names(4))
    rows = []
    for c in range(4):
        known = ~np.isnan(labels[:, c])
        true, score = labels[known, c], scores[known, c]
        rows.append(
            {
                "auc": metrics.roc_auc_score(true, score),
                "f1": metrics.f1_score(true, score > 0.5),
                "accuracy": metrics.accuracy_score(true, score > 0.5),
                "mcc": metrics.matthews_corrcoef(true, score > 0.5),
                "kappa": metrics.cohen_kappa_score(true, score > 0.5),
            }
        )
        measured = result["per_class"][f"c{c}"]
        assert measured["auc"] == pytest.approx(rows[c]["auc"])
        assert measured["support"] == true.sum()
        assert result["confusion_matrices"][f"c{c}"] == metrics.confusion_matrix(true, score > 0.5).tolist()
    for key in rows[0]:
        found = result["macro"][key] if key in result["macro"] else result[key]
        assert found == pytest.approx(np.mean([row[key] for row in rows]))
    support = [measured["support"] for measured in result["per_class"].values()]
    assert result["weighted"]["f1"] == pytest.approx(np.average([row["f1"] for row in rows], weights=support))


@pytest.mark.parametrize("seed", range(5))
def test_rankings_agree_with_scikit_learn_under_ties(seed):
    rng = np.random.default_rng(seed)
    positive, scores = rng.random(60) < 0.3, rng.integers(0, 4 + 20 * seed, 60) / 100
    assert evaluation.roc_auc(positive, scores) == pytest.approx(metrics.roc_auc_score(positive, scores))
    expected = metrics.average_precision_score(positive, scores)
    assert evaluation.average_precision(positive, scores) == pytest.approx(expected)
    false_rates, true_rates, _ = evaluation.roc_curve(positive, scores)
    assert np.trapezoid(true_rates, false_rates) == pytest.approx(evaluation.roc_auc(positive, scores))
    recalls, precisions, _ = evaluation.precision_recall_curve(positive, scores)
    assert -np.sum(np.diff(recalls) * precisions[:-1]) == pytest.approx(expected)


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel"])
def test_a_named_measure_is_what_evaluate_reports(task):
    labels, scores = predictions(task)
    point = None
    if task in ("binary", "multilabel"):
        point = evaluation.choose_operating_point(labels, scores, task=task, rule="sensitivity:0.9")
    result = evaluate(labels, scores, task=task, class_names=names(scores.shape[1]), operating_point=point)
    frozen = result.get("operating_point", result)
    for name in NAMES:
        for where, chosen in ((result, None), (frozen, point)):
            value = named_measure(name, task=task, operating_point=chosen)(labels, scores)
            if name in where["macro"] or name in where:
                assert value == (where["macro"] | where)[name], name


def test_the_order_of_the_images_does_not_matter():
    labels, scores = predictions("multiclass")
    order = np.random.default_rng(0).permutation(len(labels))
    first = evaluate(labels, scores, task="multiclass", class_names=names(4))
    assert evaluate(labels[order], scores[order], task="multiclass", class_names=names(4)) == first


def test_the_frozen_threshold_gives_a_second_accuracy():
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    probabilities = np.stack([1 - scores, scores], 1)
    point = evaluation.OperatingPoint("binary", (0.25,), "by hand")
    result = evaluate([0, 0, 1, 1], probabilities, task="binary", class_names=["no", "yes"], operating_point=point)
    assert result["accuracy"] == 0.5
    assert result["operating_point"]["accuracy"] == 1.0
    assert result["operating_point"]["thresholds"] == [0.25]
    assert "auc" not in result["operating_point"]["macro"]
    json.dumps(result, allow_nan=True)


def test_a_single_class_leaves_measures_undefined_and_says_which():
    probabilities = np.array([[0.3, 0.7], [0.6, 0.4]])
    result = evaluate([1, 1], probabilities, task="binary", class_names=["no", "yes"])
    for path in ("macro.auc", "macro.average_precision", "macro.specificity", "mcc", "kappa"):
        assert path in result["undefined"]
    assert math.isnan(result["mcc"]) and math.isnan(result["per_class"]["no"]["auc"])
    assert result["accuracy"] == result["macro"]["sensitivity"] == 0.5


def test_the_mean_is_over_the_labels_that_can_be_judged():
    labels = np.array([[0, 0, NAN], [1, 0, NAN], [1, 0, NAN]])
    probabilities = np.array([[0.1, 0.1, 0.5], [0.9, 0.2, 0.5], [0.8, 0.1, 0.5]])
    result = evaluate(labels, probabilities, task="multilabel", class_names=names(3))
    assert result["macro"]["auc"] == result["macro"]["sensitivity"] == result["macro"]["f1"] == 1.0
    assert {"per_class.c1.auc", "per_class.c2.auc", "per_class.c1.sensitivity"} <= set(result["undefined"])
    assert result["per_class"]["c2"]["support"] == 0


def test_a_class_that_is_never_predicted_has_no_precision():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.2, 0.2]])
    result = evaluate([0, 1, 2], probabilities, task="multiclass", class_names=names(3))
    assert math.isnan(result["per_class"]["c2"]["precision"]) and result["per_class"]["c2"]["f1"] == 0
    assert result["macro"]["precision"] == result["weighted"]["precision"] == pytest.approx((0.5 + 1) / 2)


def test_a_constant_answer_is_worth_nothing():
    probabilities = np.tile([0.9, 0.1], (4, 1))
    result = evaluate([0, 1, 0, 1], probabilities, task="binary", class_names=["no", "yes"])
    assert (result["macro"]["auc"], result["mcc"], result["kappa"]) == (0.5, 0.0, 0.0)


@pytest.mark.parametrize(
    ("task", "medmnist_task"),
    [
        ("binary", "binary-class"),
        ("multiclass", "multi-class"),
        ("ordinal", "ordinal-regression"),
        ("multilabel", "multi-label, binary-class"),
    ],
)
def test_auc_and_accuracy_are_those_of_medmnist(task, medmnist_task):
    official = medmnist_evaluator()
    labels, scores = predictions(task)
    labels = np.nan_to_num(labels)
    result = evaluate(labels, scores, task=task, class_names=names(scores.shape[1]))
    assert result["macro"]["auc"] == pytest.approx(official.getAUC(labels, scores, medmnist_task), abs=1e-12)
    assert result["accuracy"] == pytest.approx(official.getACC(labels, scores, medmnist_task), abs=1e-12)


def test_medmnist_evaluator_agrees_on_the_real_test_split(real_data, tmp_path):
    official = medmnist_evaluator()
    source = real_data / "pneumoniamnist" / "pneumoniamnist_rebuilt.npz"
    if not source.is_file():
        pytest.skip(f"no {source.name} in {source.parent}")
    shutil.copy(source, tmp_path / "pneumoniamnist.npz")
    evaluator = official.Evaluator("pneumoniamnist", "test", root=os.fspath(tmp_path))
    labels = evaluator.labels[:, 0]
    rng = np.random.default_rng(0)
    score = 1 / (1 + np.exp(-(labels + rng.normal(0, 1, len(labels)))))
    probabilities = np.stack([1 - score, score], 1).astype("float32")
    result = evaluate(labels, probabilities, task="binary", class_names=["normal", "pneumonia"])
    expected = evaluator.evaluate(probabilities)
    assert result["count"] == 624
    assert result["macro"]["auc"] == pytest.approx(expected.AUC, abs=1e-12)
    assert result["accuracy"] == pytest.approx(expected.ACC, abs=1e-12)


def medmnist_evaluator():
    try:
        from medmnist import evaluator
    except ImportError as error:
        pytest.skip(f"the medmnist package is missing: {error}")
    return evaluator


GOOD = np.array([[0.4, 0.6], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("labels", "probabilities", "task", "message"),
    [
        ([0, 1], [[2.0, -1.0], [0.5, 0.5]], "binary", r"lie in \[0, 1\].*value=2 in row 0"),
        ([0, 1], [[0.4, 0.6], [NAN, 0.5]], "binary", "value=nan in row 1"),
        ([0, 1], [[0.4, 0.6], [0.9, 0.9]], "binary", "softmax.*sum=1.8 in row 1"),
        ([0, 2], GOOD, "binary", "from 0 to 1.*value=2 in row 1"),
        ([0, -1], GOOD, "binary", "value=-1 in row 1"),
        ([0, 0.5], GOOD, "binary", "value=0.5 in row 1"),
        ([0, NAN], GOOD, "binary", "value=nan in row 1"),
        (["a", "b"], GOOD, "binary", "labels.dtype"),
        ([[0], [1]], GOOD, "binary", r"labels.shape=\(2, 1\)"),
        ([0, 1, 1], GOOD, "binary", r"labels.shape=\(3,\)"),
        ([0, 1], [0.4, 0.6], "binary", r"probabilities.shape=\(2,\)"),
        ([], np.zeros((0, 2)), "binary", "at least one row"),
        ([0, 1], [[0.2, 0.3, 0.5]] * 2, "binary", "num_classes=3"),
        ([0, 1], GOOD, "multilabel", r"labels.shape=\(2,\)"),
        ([[0, 2], [1, 1]], GOOD, "multilabel", "0, 1 or NaN.*value=2 in row 0"),
        ([0, 1], GOOD, "regression", "task='regression'"),
    ],
)
def test_bad_predictions_are_refused_with_the_place(labels, probabilities, task, message):
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(labels, probabilities, task=task, class_names=names(np.shape(probabilities)[-1]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate([0, 1], GOOD, task="binary", class_names=["a"]), "2 distinct names"),
        (lambda: evaluate([0, 1], GOOD, task="binary", class_names=["a", "a"]), "2 distinct names"),
        (
            lambda: evaluate(
                [0, 1],
                GOOD,
                task="binary",
                class_names=["a", "b"],
                operating_point=evaluation.OperatingPoint("multilabel", (0.5, 0.5), "x"),
            ),
            "of a multilabel task.*task='binary'",
        ),
        (lambda: named_measure("dice", task="binary"), "name='dice'"),
        (lambda: evaluation.roc_curve([1, 1], [0.2, 0.3]), "2 positive of 2"),
        (lambda: evaluation.precision_recall_curve([0, 0], [0.2, 0.3]), "0 positive of 2"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
