"""Subgroups and intervals of a run: columns as they are asked for, tables, figures, and the whole way of `evaluate`."""

import io
import json
import types

import cv2
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medkeras.evaluation import (
    auc_interval,
    average_precision,
    bootstrap,
    brier_score,
    decision_curve,
    groups_of,
    measure_subgroups,
)
from pipelines.evaluation import interval_figures, intervals
from pipelines.evaluation.intervals import class_intervals, net_benefit, overall_intervals
from pipelines.evaluation.one_vs_rest import events
from pipelines.evaluation.subgroups import Column, say_what_stands_out, stands_out, subgroup_columns, subgroup_table

NAN = float("nan")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """A hundred draws show what a thousand do."""
    monkeypatch.setattr(intervals, "REPEATS", 100)


def records(count=400, **columns):
    """A table of two images per patient, with metadata."""
    table = pd.DataFrame({"id": np.arange(count).astype(str), "patient": (np.arange(count) // 2).astype(str)})
    return types.SimpleNamespace(table=table.assign(split="test", **columns))


def predictions(task, count=400, seed=0):
    rng = np.random.default_rng(seed)
    if task == "multilabel":
        labels = rng.integers(0, 2, (count, 2)).astype("float64")
        scores = 0.3 * labels + 0.7 * rng.random((count, 2))
        labels[rng.random(labels.shape) < 0.3] = NAN
        return labels, scores, (scores > 0.5).astype(int), ["mass", "node"]
    labels = rng.integers(0, 3 if task == "ordinal" else 2, count)
    scores = np.exp(2 * np.eye(labels.max() + 1)[labels] + rng.normal(0, 1, (count, labels.max() + 1)))
    scores /= scores.sum(1, keepdims=True)
    return labels, scores, scores.argmax(1), list("abc")[: scores.shape[1]]


def asked_of(task, **options):
    labels, scores, decided, names = predictions(task, **options)
    return events(labels, scores, decided, task=task, class_names=names)


@pytest.mark.parametrize("task", ["binary", "ordinal", "multilabel"])
def test_overall_intervals_are_those_of_the_bootstrap(task):
    labels, scores, _, _ = predictions(task, count=60)
    patients = np.arange(60) // 2
    found = overall_intervals(labels, scores, task=task, patients=patients, seed=3)
    name = {"binary": "average_precision", "ordinal": "kappa", "multilabel": "auc"}[task]
    expected = bootstrap(name, labels, scores, task=task, groups=patients, repeats=100, seed=3)
    assert found[name] == pytest.approx(expected.to_dict())
    assert found["brier"]["value"] == pytest.approx(brier_score(labels, scores, task=task))


def test_class_intervals_are_of_the_known_labels():
    _, event = asked_of("multilabel")
    patients = np.arange(400) // 2
    found = class_intervals([event], patients=patients)["node"]
    groups = patients[event.rows]
    assert 200 < len(groups) < 350
    assert found["auc"] == auc_interval(event.positive, event.scores, groups=groups).to_dict()
    assert found["average_precision"]["value"] == average_precision(event.positive, event.scores)
    assert found["precision"]["value"] == pytest.approx(event.positive[event.decided].mean())
    for interval in found.values():
        assert interval["low"] <= interval["value"] <= interval["high"]
    nothing = types.SimpleNamespace(name="x", rows=np.array([], int), positive=np.array([], bool))
    nothing.scores, nothing.decided = np.array([]), np.array([], bool)
    assert np.isnan(class_intervals([nothing], patients=patients)["x"]["sensitivity"]["value"])


def test_net_benefit_has_a_row_per_class_and_threshold():
    asked = asked_of("ordinal")
    table = net_benefit(asked)
    assert len(table) == 3 * 99
    curve = decision_curve(asked[1].positive, asked[1].scores)
    np.testing.assert_array_equal(table[table["class"] == "b"]["net_benefit"], curve.net_benefit)


def test_columns_are_asked_for_by_name_and_edges():
    assert Column.parse("age:40,60.5") == Column("age", (40.0, 60.5)) and Column.parse("sex") == Column("sex")
    some = records(4, age=[30, 40, 50, NAN], sex=list("MFMF"))
    assert subgroup_columns(some, ["age:40", "sex"]) == [Column("age", (40.0,)), Column("sex")]
    assert subgroup_columns(some, []) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["scanner"], "columns that the data have: age, sex. Received: scanner"),
        (["id"], "Received: id"),
        (["sex", "sex"], "Each column is grouped by once. Received: sex, sex"),
        (["age:old"], "age:40,60. Received: 'age:old'"),
        (["age:"], "Received: 'age:'"),
        ([":3"], "Received: ':3'"),
        (["sex:1"], r"sex: Numbers are cut at rising edges. Received: edges=\[1.0\] for a column of text"),
        (["age:3,1"], r"age: Numbers are cut at rising edges. Received: edges=\[3.0, 1.0\]"),
    ],
)
def test_columns_that_are_not_there_are_named(asked, message):
    with pytest.raises(ValueError, match=message):
        subgroup_columns(records(2, age=[30, 40], sex=["M", "F"]), asked)


def test_the_table_has_every_group_of_every_class():
    rng = np.random.default_rng(0)
    some = records(age=rng.normal(50, 15, 400).round(), sex=rng.choice(["F", "M"], 400))
    asked = asked_of("multilabel")
    table = subgroup_table(some, asked, subgroup_columns(some, ["age", "sex"]))
    assert table.groupby("class")["group"].count().to_dict() == {"mass": 6, "node": 6}
    patients, node = some.table["patient"].to_numpy(), asked[1]
    index, names = groups_of(some.table["sex"].to_numpy())
    alone = measure_subgroups(
        node.positive, node.scores, node.decided, index[node.rows], names, patients=patients[node.rows], questions=4
    )
    rows = table[(table["class"] == "node") & (table["column"] == "sex")]
    for (_, row), group in zip(rows.iterrows(), alone, strict=True):
        expected = {"class": "node", "column": "sex"} | group.to_dict()
        np.testing.assert_equal(row.to_dict(), expected)


def test_what_stands_out_is_said_and_drawn():
    labels, scores, decided, names = predictions("binary")
    view = np.repeat(["AP", "PA", "LL"], [250, 140, 10])
    scores[view == "PA"] = scores[view == "PA"][:, ::-1]
    some = records(view=view)
    asked = events(labels, scores, scores.argmax(1), task="binary", class_names=names)
    table = subgroup_table(some, asked, subgroup_columns(some, ["view"]))
    (found,) = stands_out(table)
    assert (found["class"], found["column"], found["group"]) == ("b", "view", "PA") and "auc" in found["measures"]
    lines = say_what_stands_out(table)
    assert lines[0].startswith("b, view PA: auc differs by -0.") and "; 1 of 3 have fewer than 10" in lines[-1]
    figure = interval_figures.subgroups_figure(table, title="b")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert [label.split("  ")[0] for label in labels] == ["view AP", "view LL", "view PA"]
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [point.get_xdata()[0] for point in points] == pytest.approx(table["auc"].tolist())
    assert [point.get_markerfacecolor() == "white" for point in points] == table["is_small"].tolist()
    assert points[2].get_color() != points[0].get_color()


def test_decision_curves_have_a_panel_per_class():
    figure = interval_figures.decision_curve_figure(net_benefit(asked_of("ordinal")))
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    shown = figure.axes[1].lines[2].get_ydata()
    np.testing.assert_array_equal(
        shown, decision_curve(asked_of("ordinal")[1].positive, asked_of("ordinal")[1].scores).net_benefit
    )
    for draw in (interval_figures.decision_curve_figure, lambda t: interval_figures.subgroups_figure(t, title="")):
        with pytest.raises(ValueError, match="Received: 0 rows"):
            draw(pd.DataFrame())


def test_evaluate_writes_all_of_it(tmp_path):
    """The whole way of a run: images in a table with age and sex, several labels, some of them unknown."""
    import keras

    from pipelines.jobs.compare import compare_runs
    from pipelines.jobs.evaluate import evaluate_run
    from pipelines.training.config import TrainConfig
    from tiny_model import TinyNet
    from untrained_run import write_run

    rng = np.random.default_rng(0)
    rows = ["path,patient,split,mass,node,age,sex"]
    for i in range(120):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 256, (16, 16), np.uint8))
        split = "train" if i < 20 else "val" if i < 40 else "test"
        labels = [str(v) for v in rng.integers(0, 2, 2)]
        labels[1] = labels[1] if i % 5 else "-1"
        rows.append(f"{i}.png,p{i // 2},{split},{labels[0]},{labels[1]},{rng.integers(20, 90)},{'FM'[i % 2]}")
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    options = {"label_columns": ["mass", "node"]}
    config = TrainConfig(
        data=str(tmp_path / "images.csv"), model="tiny_net", run=str(tmp_path / "run"), source_options=options
    )
    keras.utils.set_random_seed(0)
    model = TinyNet((16, 16, 1), num_classes=2, class_names=("mass", "node"), task="multilabel")
    run = write_run(config, model)
    run.write_text("history.csv", "epoch,loss\n1,0.5\n")
    run.write_json("operating_point.json", {"task": "multilabel", "thresholds": [0.5, 0.5], "rule": "0.5"})
    with pytest.raises(ValueError, match="age, sex. Received: scanner"):
        evaluate_run(run.path, subgroups=["scanner"])
    assert not (run / "metrics.json").exists()
    stream = io.StringIO()
    metrics = evaluate_run(run.path, subgroups=["age:50", "sex"], console=Console(file=stream, width=200))
    assert "subgroups: " in stream.getvalue() and "average precision" in stream.getvalue()
    written = json.loads((run / "metrics.json").read_text())
    assert written["class_intervals"]["mass"]["auc"]["value"] == pytest.approx(metrics["per_class"]["mass"]["auc"])
    assert written["subgroups"]["columns"] == ["age:50", "sex"]
    table = pd.read_csv(run / "predictions.csv", keep_default_na=False)
    known = ~table["unknown"].str.contains("node")
    assert (~known).sum() == 16
    groups = pd.read_csv(run / "subgroups.csv").set_index(["class", "group"])
    assert groups.loc[("mass", "F"), "images"] + groups.loc[("mass", "M"), "images"] == 80
    assert groups.loc["node", "images"].sum() == 2 * known.sum()
    errors = pd.read_csv(run / "errors.csv")
    assert errors["probability_of_truth"].is_monotonic_increasing and (errors["probability_of_truth"] <= 0.5).all()
    row = errors.iloc[0]
    image = table[table["id"] == row["id"]].iloc[0]
    present = image[f"probability_{row['label']}"]
    assert row["probability_of_truth"] == pytest.approx(1 - present if row["decided"] == "present" else present)
    assert len(pd.read_csv(run / "decision_curve.csv")) == 2 * 99
    for name in ("decision_curve", "subgroups_mass", "subgroups_node"):
        assert cv2.imread(str(run / f"figures/{name}.png")).shape[0] > 100
    found = compare_runs(run.path, run.path, out=tmp_path / "same", repeats=5)
    assert found["measures"]["auc"]["first"] == pytest.approx(metrics["macro"]["auc"])
    assert found["measures"]["sensitivity"]["first"] == pytest.approx(
        metrics["operating_point"]["macro"]["sensitivity"]
    )
