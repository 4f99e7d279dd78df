"""Two evaluated runs beside each other: matched by id, refused where they are not of the same, written and said."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medkeras.evaluation import compare, evaluate
from medkeras.evaluation.thresholds import OperatingPoint
from pipelines.inference.predictions import read_predictions
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.compare import compare_runs

NAN = float("nan")
NAMES = {"binary": ["well", "ill"], "multiclass": ["a", "b", "c"], "multilabel": ["mass", "node", "NA"]}


def joined(rows, names):
    return ["|".join(np.array(names)[row]) for row in np.asarray(rows, dtype=bool)]


def write(folder, task, labels, probabilities, *, patients=None, order=None, unknown=True):
    """What `evaluate` leaves of a run, as far as a comparison reads it."""
    names, run, count = NAMES[task], RunFolder(folder), len(labels)
    point = OperatingPoint.default(task, len(names))
    decided = point.apply(probabilities)
    table = pd.DataFrame({"id": [f"{i:03d}" for i in range(count)], "split": "test"})
    table["patient"] = [f"p{i // 2}" for i in range(count)] if patients is None else patients
    if task == "multilabel":
        table["label"], table["prediction"] = joined(labels == 1, names), joined(decided, names)
        if unknown:
            table["unknown"] = joined(np.isnan(labels), names)
    else:
        table["label"], table["prediction"] = np.array(names)[labels], np.array(names)[decided]
    for name, column in zip(names, probabilities.T, strict=True):
        table[f"probability_{name}"] = column
    table = table.iloc[range(count) if order is None else order]
    run.write_text("predictions.csv", table.to_csv(index=False))
    run.write_json("metrics.json", evaluate(labels, probabilities, task=task, class_names=names))
    return run.path


def models(task, count=60, seed=0):
    """Labels and the probabilities of two models."""
    rng, classes = np.random.default_rng(seed), len(NAMES[task])
    if task == "multilabel":
        labels = rng.integers(0, 2, (count, classes)).astype("float64")
        pair = [(gap * labels + (1 - gap) * rng.random(labels.shape)) for gap in (0.4, 0.2)]
        labels[rng.random(labels.shape) < 0.2] = NAN
        return labels, *pair
    labels = rng.integers(0, classes, count)
    pair = [np.exp(gap * np.eye(classes)[labels] + rng.normal(0, 1, (count, classes))) for gap in (2, 1)]
    return labels, *(scores / scores.sum(1, keepdims=True) for scores in pair)


def test_labels_that_are_all_known_need_no_column_of_unknown_ones(tmp_path):
    labels, first, _ = models("multilabel")
    labels = np.nan_to_num(labels)
    found = read_predictions(write(tmp_path / "one", "multilabel", labels, first, unknown=False))
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.probabilities, first)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_runs_are_matched_by_id_and_compared_by_patient(task, tmp_path):
    labels, first, second = models(task)
    shuffled = np.random.default_rng(1).permutation(60)
    one = write(tmp_path / "one", task, labels, first)
    # Another salt gives patients other names.
    write(tmp_path / "two", task, labels, second, order=shuffled, patients=[f"q{i // 2}" for i in range(60)])
    stream = io.StringIO()
    console = Console(file=stream, width=120)
    found = compare_runs(one, tmp_path / "two", repeats=50, console=console)
    groups = np.arange(60) // 2
    expected = compare(labels, first, second, task=task, class_names=NAMES[task], groups=groups, repeats=50)
    for name, row in expected["measures"].items():  # The draws are of patients in another order.
        assert {k: found["measures"][name][k] for k in ("first", "second", "difference")} == pytest.approx(
            {k: row[k] for k in ("first", "second", "difference")}
        )
    for part in ("auc", "mcnemar"):
        for name, row in expected[part].items():
            assert found[part][name] == pytest.approx(row)
    assert found["patients"] == 30
    written = one / "comparisons" / "two"
    assert json.loads((written / "comparison.json").read_text())["auc"] == found["auc"]
    table = pd.read_csv(written / "comparison.csv").set_index("measure")
    assert table.loc["auc", "low"] == pytest.approx(found["measures"]["auc"]["low"])
    assert (written / "figures/differences.png").stat().st_size > 5000
    said = stream.getvalue()
    assert "60 images of 30 patients" in said and "McNemar" in said
    assert ("by Holm" in said) == (task != "binary")


def test_what_is_read_is_what_was_predicted(tmp_path):
    labels, first, _ = models("multilabel")
    found = read_predictions(write(tmp_path / "one", "multilabel", labels, first))
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.probabilities, first)
    np.testing.assert_array_equal(found.decisions, first > 0.5)
    assert found.class_names == ("mass", "node", "NA") and found.ids[1] == "001" and found.patients[3] == "p1"


def test_a_run_beside_itself_differs_in_nothing(tmp_path):
    labels, first, _ = models("binary")
    one = write(tmp_path / "one", "binary", labels, first)
    found = compare_runs(one, one, out=tmp_path / "out", repeats=20)
    for row in found["measures"].values():
        assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)
    assert found["auc"]["ill"]["p_value"] == found["mcnemar"]["p_value"] == 1
    assert (tmp_path / "out/comparison.csv").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("truth", "same truth. Received: different labels for 007, and 2 images in all"),
        ("images", "same images. Received: 60 and 59 images, 59 of them in both"),
        ("classes", r"same classes. Received: well, ill \(binary\) and a, b, c \(multiclass\)"),
        ("patients", "of one patient in one and of several in two"),
        ("missing", "predictions.csv and metrics.json. Received: .*two"),
        ("columns", "Cannot read .*two/predictions.csv: it must have the column probability_ill"),
        ("twice", "with an id in two rows"),
        ("old", "must say which labels are unknown; evaluate the run again"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(changes, message, tmp_path):
    task = {"old": "multilabel", "classes": "multiclass"}.get(changes, "binary")
    labels, first, second = models("binary")
    one, two = write(tmp_path / "one", "binary", labels, first), tmp_path / "two"
    options = {}
    if changes == "truth":
        labels = np.where(np.isin(np.arange(60), [7, 9]), 1 - labels, labels)
    elif changes in ("images", "twice"):
        options["order"] = np.arange(59) if changes == "images" else np.arange(60) // 2
    elif changes == "patients":
        options["patients"] = [f"p{i}" for i in range(60)]
    elif changes in ("classes", "old"):
        labels, second, _ = models(task)
        options["unknown"] = False
    write(two, task, labels, second, **options)
    if changes == "missing":
        (two / "metrics.json").unlink()
    elif changes == "columns":
        pd.read_csv(two / "predictions.csv").drop(columns="probability_ill").to_csv(two / "predictions.csv")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        compare_runs(one, two, repeats=5)
    assert not (one / "comparisons").exists()
