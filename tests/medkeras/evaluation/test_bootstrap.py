"""Bootstrap intervals: coverage, patients, pairs, repeatability."""

import numpy as np
import pytest
import scipy.stats

from medkeras.evaluation import (
    Interval,
    OperatingPoint,
    bootstrap,
    bootstrap_all,
    evaluate,
    named_measure,
    paired_bootstrap,
)


def predictions(count=80):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    score = 1 / (1 + np.exp(-(2 * labels - 1 + rng.normal(0, 1, count))))
    return labels, np.stack([1 - score, score], 1)


@pytest.mark.parametrize("name", ["auc", "average_precision", "accuracy", "mcc", "f1"])
def test_the_value_is_the_measure_and_lies_inside(name):
    labels, probabilities = predictions()
    interval = bootstrap(name, labels, probabilities, repeats=200)
    result = evaluate(labels, probabilities, task="binary", class_names=["a", "b"])
    assert interval.value == (result["macro"] | result)[name]
    assert interval.low < interval.value < interval.high


def test_the_interval_of_an_accuracy_is_the_binomial_one():
    labels, probabilities = predictions(count=400)
    interval = bootstrap("accuracy", labels, probabilities, repeats=1000)
    half = 1.96 * np.sqrt(interval.value * (1 - interval.value) / 400)
    assert interval.low == pytest.approx(interval.value - half, abs=0.01)
    assert interval.high == pytest.approx(interval.value + half, abs=0.01)


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        values = rng.normal(0, 1, 60)
        interval = bootstrap(lambda x, _: x.mean(), values, values, repeats=200, level=0.9, seed=seed)
        covered += interval.low <= 0 <= interval.high
    assert 78 <= covered <= 98


def test_more_images_and_lower_levels_are_narrower():
    def width(**options):
        labels, probabilities = predictions(count=options.pop("count", 80))
        interval = bootstrap("auc", labels, probabilities, repeats=300, **options)
        return interval.high - interval.low

    assert width(count=800) < width() / 2
    assert width(level=0.5) < width()


def test_copies_of_the_same_patient_carry_no_new_information():
    labels, probabilities = predictions(count=60)
    patients = np.array([f"p{i}" for i in range(60)])
    copies = [np.repeat(part, 4, axis=0) for part in (labels, probabilities, patients)]
    alone = bootstrap("accuracy", labels, probabilities, repeats=500)
    grouped = bootstrap("accuracy", *copies[:2], groups=copies[2], repeats=500)
    naive = bootstrap("accuracy", *copies[:2], repeats=500)
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.2)
    assert naive.high - naive.low < 0.7 * (alone.high - alone.low)


def test_patients_are_drawn_whole():
    groups = np.array(["a", "b", "a", "c", "b", "a"])
    sizes = {"a": 3, "b": 2, "c": 1}

    def whole(drawn, _):
        names, counts = np.unique(drawn, return_counts=True)
        assert all(count % sizes[name] == 0 for name, count in zip(names, counts, strict=True))
        return float(sum(count // sizes[name] for name, count in zip(names, counts, strict=True)))

    assert bootstrap(whole, groups, groups, groups=groups, repeats=50) == Interval(3.0, 3.0, 3.0)


def test_the_seed_decides():
    labels, probabilities = predictions()
    draws = [bootstrap("auc", labels, probabilities, repeats=50, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_a_pair_is_compared_on_the_same_draws():
    labels, good = predictions()
    poor = 0.5 + (good - 0.5) * np.where(np.arange(80) % 4 == 0, -1, 1)[:, None]
    difference = paired_bootstrap("auc", labels, good, poor, repeats=300)
    swapped = paired_bootstrap("auc", labels, poor, good, repeats=300)
    assert difference.low > 0
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx(
        (-difference.value, -difference.high, -difference.low)
    )
    same = paired_bootstrap("auc", labels, good, good.copy(), repeats=50)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_frozen_operating_point_can_be_measured():
    labels, probabilities = predictions()
    point = OperatingPoint("binary", (0.2,), "by hand")
    measure = named_measure("sensitivity", task="binary", operating_point=point)
    interval = bootstrap(measure, labels, probabilities, repeats=100)
    assert interval.value == np.mean(probabilities[labels == 1, 1] > 0.2)


def test_several_labels_with_unknown_ones():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (60, 3)).astype("float32")
    scores = (labels * 0.4 + rng.random((60, 3)) * 0.6).clip(0, 1)
    labels[rng.random((60, 3)) < 0.3] = np.nan
    interval = bootstrap("auc", labels, scores, repeats=100)
    assert 0.5 < interval.low < interval.value < interval.high <= 1


def test_several_measures_share_their_draws():
    labels, probabilities = predictions()
    patients, names = np.arange(80) // 2, ("auc", "kappa")
    measures = {name: named_measure(name, task="binary") for name in names}
    found = bootstrap_all(
        lambda x, p: {name: measure(x, p) for name, measure in measures.items()},
        [labels, probabilities],
        groups=patients,
        repeats=50,
    )
    assert found == {n: bootstrap(n, labels, probabilities, groups=patients, repeats=50) for n in names}
    with pytest.raises(ValueError, match=r"lengths \[80, 79\]"):
        bootstrap_all(lambda x, p: {}, [labels, probabilities[1:]])
    with pytest.raises(ValueError, match=r"lengths \[0\]"):
        bootstrap_all(lambda x: {}, [[]])


def test_what_is_undefined_stays_undefined():
    interval = bootstrap("auc", [1, 1], [[0.5, 0.5], [0.4, 0.6]], repeats=10)
    assert np.isnan([interval.value, interval.low, interval.high]).all()


def test_draws_without_both_classes_are_left_out():
    labels, probabilities = [0, 0, 1], [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]
    interval = bootstrap("auc", labels, probabilities, repeats=100)
    assert (interval.value, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_scipy_takes_no_single_patient_and_no_undefined_draw():
    """Why the draws are ours: a single patient is an answer, and a draw of one class is left out."""
    with pytest.raises(ValueError, match="two or more observations"):
        scipy.stats.bootstrap((np.zeros(1),), np.mean, method="percentile")
    values = bootstrap("accuracy", [0, 1], [[0.9, 0.1], [0.8, 0.2]], groups=["a", "a"], repeats=20)
    assert (values.low, values.value, values.high) == (0.5, 0.5, 0.5)

    def auc(rows):
        chosen = rows.astype(int)
        return named_measure("auc", task="binary")(labels[chosen], probabilities[chosen])

    labels, probabilities = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    found = scipy.stats.bootstrap((np.arange(3),), auc, vectorized=False, method="percentile", n_resamples=100, rng=0)
    assert np.isnan(found.confidence_interval.low)
    assert bootstrap("auc", labels, probabilities, repeats=100).low == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats=0"),
        ({"level": 1.0}, "level=1.0"),
        ({"groups": ["a"]}, "one entry per image, 80. Received: 1"),
        ({"measure": "dice"}, "name='dice'"),
        ({"task": "multiclass", "labels": np.zeros(3, int)}, r"labels.shape=\(3,\)"),
        ({"measure": lambda x, y: 0.0, "labels": np.zeros(3)}, "3 labels, 80 probabilities"),
    ],
)
def test_bad_arguments_are_named(options, message):
    labels, probabilities = predictions()
    arguments = {"measure": "auc", "labels": labels, "probabilities": probabilities, "repeats": 5} | options
    with pytest.raises(ValueError, match=message):
        bootstrap(**arguments)
