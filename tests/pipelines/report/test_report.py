"""The report: the same numbers everywhere, whatever the data are called, whatever the run has; and in a browser."""

import base64
import html.parser
import itertools
import json
import re
import shutil
import subprocess

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from medkeras.evaluation import evaluate, evaluate_localization
from medkeras.models import Preset, registry
from paths import ROOT
from pipelines.cli.main import main
from pipelines.evaluation import intervals
from pipelines.inference import trained_model as trained
from pipelines.inference import uncertainty
from pipelines.inference.predictions import read_predictions
from pipelines.io.run_folder import RunFolder
from pipelines.jobs import report as report_job
from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.report import report_run
from pipelines.report.card import render_card
from pipelines.report.checklist import ITEMS, answers
from pipelines.report.facts.author import FIELDS, read_author
from pipelines.report.facts.headline import headlines
from pipelines.report.facts.read import read_facts
from pipelines.report.page import choose_pictures as report_pictures
from pipelines.report.page import curves, sections_measured
from pipelines.report.page.markup import interval, number, tag
from pipelines.report.page.pictures import choose, make_picture
from pipelines.report.page.render import render_page
from pipelines.report.page.svg import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Line
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split
from spot_net import SpotNet
from untrained_run import write_run

WELL, ILL = 'well & "sound"', "<script>alert('ill')</script>"
FILE = "p{0}<img src=x onerror=alert(1)>&\"'{1}.png"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(html.parser.HTMLParser):
    """All elements of a page with their attributes, and its text by section."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.text, self.section = [], {}, ""
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes, self.section))
        if tag == "section":
            self.section = attributes["id"]

    def handle_endtag(self, tag):
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, "") + data

    def all(self, *tags):
        return [(tag, attributes) for tag, attributes, _ in self.elements if tag in tags]

    def numbers(self, section):
        return [float(a["value"]) for t, a, where in self.elements if t == "data" and where == section]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An evaluated run, never trained, of classes and files with the worst names; it has all that a run can have."""
    folder = tmp_path_factory.mktemp("report")
    rng, rows = np.random.default_rng(0), []
    for k in range(60):
        image, mask = rng.integers(40, 120, (32, 32)).astype(np.uint8), np.zeros((32, 32), np.uint8)
        if k % 2:
            y, x = rng.integers(4, 20, 2)
            image[y : y + 8, x : x + 8] += np.uint8(rng.integers(20, 120))
            mask[y : y + 8, x : x + 8] = 255
        path, mask_path = FILE.format(k // 2, k % 2), f"mask{k}.png"
        cv2.imwrite(str(folder / path), image)
        cv2.imwrite(str(folder / mask_path), mask)
        split = ("train", "val", "test", "test")[k // 2 % 4]
        rows.append([path, f"p{k // 2}", (WELL, ILL)[k % 2], split, "fm"[k % 3 > 0], mask_path])
    columns = ["path", "patient", "label", "split", "sex & age", "mask"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "table.csv", index=False)
    config = TrainConfig(
        data=str(folder / "table.csv"),
        model="spot_net",
        run=str(folder / "first"),
        image_size=32,
        channels=1,
        source_options={"mask_column": "mask"},
    )
    keras.utils.set_random_seed(0)
    names = load_names(config)
    model = SpotNet((32, 32, 1), num_classes=2, class_names=names)
    run = write_run(config, model)
    run.write_text("history.csv", "epoch,loss,val_loss\n1,0.7,0.8\n2,0.5,0.6\n")
    run.write_text("leakage.csv", "kind,split_a,id_a,label_a,split_b,id_b,label_b,distance\n")
    made = {"python": "3", "platform": "here", "cpu_count": 2, "backend": "tensorflow", "packages": {"keras": "3"}}
    run.write_json("environment.json", made | {"command": ["/usr/bin/medkeras", "train", "a b"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._PRESETS, "spot_net", Preset(SpotNet, "for tests", (32, 32, 1)))
        patch.setattr(intervals, "REPEATS", 50)
        patch.setattr(uncertainty, "REPEATS", 20)
        trained.calibrate(run, model, load_split(config, "val"))
        evaluate_run(run.path, subgroups=["sex & age"])
    maps = [rng.random((8, 8)) for _ in range(4)]
    masks = [values > 0.8 for values in maps]
    found = evaluate_localization(maps, masks, threshold=0.5, groups=[1, 1, 2, 2]).to_dict()
    about = {"split": "test", "images": 8, "with_lesion": 4, "without_lesion": 4, "patients": 2}
    run.write_json(
        "localization/localization.json", {**about, "threshold_from": "validation", "maps": {"attention": found}}
    )
    return run


def load_names(config):
    from pipelines.training.data import load_data

    return load_data(config, leakage="off").info.class_names


@pytest.fixture(scope="module")
def second(run):
    """A copy of the run that decides some images otherwise."""
    other = RunFolder(run.path.parent / "second")
    shutil.copytree(run.path, other.path)
    table = pd.read_csv(other / "predictions.csv")
    columns = [name for name in table if name.startswith("probability_")]
    table.loc[::3, columns] = table.loc[::3, columns[::-1]].to_numpy()
    table.loc[::3, "prediction"] = table.loc[::3, "prediction"].map({WELL: ILL, ILL: WELL})
    table.to_csv(other / "predictions.csv", index=False)
    return other


@pytest.fixture(scope="module")
def written(run, second):
    """The report of both runs: page, card and facts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "REPEATS", 20)
        path = report_run(run.path, [second.path], pictures=2)
    facts = json.loads((run / "report/metrics.json").read_text())
    return path.read_text(), (run / "model_card.md").read_text(), facts


def test_the_numbers_are_those_of_the_run(run, written):
    source, card, facts = written
    page, metrics = Page(source), run.read_json("metrics.json")
    assert [row["name"] for row in facts["headline"]][:4] == ["AUC", "Sensitivity", "Specificity", "Precision"]
    own = metrics["class_intervals"][metrics["class_names"][1]]
    expected = [
        own[name][end]
        for name in ("auc", "sensitivity", "specificity", "precision")
        for end in ("value", "low", "high")
    ]
    ece, sets = metrics["calibration"]["after"]["ece"], metrics["calibration"]["sets"]["covered"]
    expected += [found[end] for found in (ece, sets) for end in ("value", "low", "high")]
    expected.append(metrics["calibration"]["selective"]["referred"])
    assert page.numbers("summary") == pytest.approx([value for value in expected if value is not None])
    shown = page.numbers("performance")
    for name, found in own.items():
        if name in ("auc", "average_precision", "sensitivity", "specificity", "precision"):
            assert found["value"] in shown
    assert all(found["value"] in shown for found in metrics["intervals"].values())
    matrix = np.ravel(metrics["operating_point"]["confusion_matrix"]).tolist()
    assert page.numbers("decisions")[-4:] == matrix and page.numbers("decisions")[0] == pytest.approx(
        run.read_json("operating_point.json")["thresholds"][0]
    )
    located = run.read_json("localization/localization.json")["maps"]["attention"]
    assert {located["iou"]["value"], located["pointing"]["high"]} <= set(page.numbers("localization"))
    groups = pd.read_csv(run / "subgroups.csv")
    assert set(groups["sensitivity"]) | set(groups["images"]) <= set(page.numbers("subgroups"))
    # The card has them in three decimals, and the file as they are.
    assert f"| {own['auc']['value']:.3f} ({own['auc']['low']:.3f} to {own['auc']['high']:.3f}) |" in card
    # Of two classes there is one kappa.
    overall = {name: found for name, found in metrics["intervals"].items() if name != "cohen_kappa"}
    assert facts["overall"] == overall and facts["calibration"] == metrics["calibration"]
    splits = pd.read_csv(run / "splits.csv")
    for split, counts in facts["data"]["counts"].items():
        table = splits[splits["split"] == split]
        assert (counts["images"], counts["patients"]) == (len(table), table["patient"].nunique())
        assert counts["classes"] == {name: (table["label"] == name).sum() for name in metrics["class_names"]}
        assert {counts["images"], counts["patients"]} <= set(page.numbers("data"))


def test_whatever_the_data_are_called_is_text(run, written):
    source, card, _ = written
    page = Page(source)
    assert len(page.all("script")) == 1 and "alert(" not in source.split("<script>")[1]
    assert not [
        key for _, attributes in page.all(*{tag for tag, *_ in page.elements}) for key in attributes if key[:2] == "on"
    ]
    for section in ("data", "performance", "decisions", "gallery"):
        assert ILL in page.text[section] and WELL in page.text[section]
    names = {
        attributes["alt"].removeprefix("Image ") for tag, attributes in page.all("img") if "class" not in attributes
    }
    assert names <= set(pd.read_csv(run / "splits.csv")["id"]) and any("<img src=x" in name for name in names)
    assert "sex & age: f" in page.text["subgroups"]
    assert "<script" not in card and "<img" not in card and "&lt;script&gt;" in card


def test_the_page_stands_alone_and_can_be_walked_through(written):
    source, *_ = written
    page = Page(source)
    assert (
        len(source.encode()) < 5e6 and "http://" not in source and "https://" not in source and "@import" not in source
    )
    assert not page.all("link", "iframe", "object", "base")
    for _, attributes in page.all("img"):
        assert attributes["src"].startswith("data:image/") and attributes["alt"].strip()
    for _, attributes in page.all("svg"):
        assert attributes.get("aria-hidden") or attributes["aria-label"].strip()
    assert len(page.all("img")) == 3 * len(page.all("input")) > 0
    levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    anchors = {a["href"] for _, a in page.all("a")}
    assert {f"#{name}" for name in ids} >= anchors and "#main" in anchors
    assert page.all("main") and page.all("nav") and page.all("header")
    assert dict(page.all("html")[0][1])["lang"] == "en"
    assert all("aria-label" in a for _, a in page.all("input"))
    (policy,) = [a["content"] for _, a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "'unsafe-inline'" not in policy.split("script-src")[1]


def test_runs_are_compared_or_it_says_why_not(run, second, written, tmp_path):
    source, card, facts = written
    found = RunFolder(run / "comparisons/second").read_json("comparison.json")
    (shown,) = facts["comparisons"]
    assert shown["measures"] == found["measures"] and (shown["first"], shown["second"]) == ("first", "second")
    for row in found["measures"].values():
        assert {row["difference"], row["low"], row["high"]} <= set(Page(source).numbers("comparison"))
    assert "### first less second" in card
    other = RunFolder(tmp_path / "third")
    shutil.copytree(second.path, other.path, ignore=shutil.ignore_patterns("metrics.json"))
    assert "Not compared. `medkeras evaluate` writes" in report_job._compare(run, other, 0)["reason"]
    assert "comparison" not in Page(render_page(facts | {"comparisons": []}, {}, [])).text


def test_what_is_missing_is_named_with_its_command(tmp_path, run, capsys):
    bare = RunFolder(tmp_path / "it's bare")
    bare.write_config(run.read_config())
    facts = read_facts(bare) | {"comparisons": []}
    page = Page(render_page(facts, {}, [], note="none"))
    said = f"'{tmp_path}/it'\"'\"'s bare'"
    for section, command in {
        "summary": "evaluate", "performance": "evaluate", "decisions": "evaluate", "sureness": "train",
        "localization": "localize", "training": "train", "data": "train", "reproduce": "train",
    }.items():  # fmt: skip
        assert f"medkeras {command}" in page.text[section] and said in page.text[section], section
    assert "No search for leaks is on record" in page.text["data"]
    assert page.numbers("performance") == [] and "Not in this run" in render_card(facts)
    states = {answer.item.asks: answer.state for answer in answers(facts)}
    assert states["Uncertainty of the measures"] == "not answered by this run"
    for path in (tmp_path / "nothing", bare.path):
        assert main(["report", str(path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("error: A run folder holds ")


def test_what_belongs_to_samples_and_the_commands(tmp_path, run, written):
    *_, facts = written
    assert facts["commands"][0] == "medkeras train 'a b'"
    assert facts["commands"][1] == f"medkeras evaluate {run.path} --subgroup 'sex & age'"
    copy = RunFolder(tmp_path / "sampled")
    shutil.copytree(run.path, copy.path)
    copy.write_json(
        "metrics.json", run.read_json("metrics.json") | {"uncertainty": {"method": "mc-dropout", "samples": 9}}
    )
    assert read_facts(copy)["operating_point"] is None
    copy.write_json("operating_point_mc-dropout_9.json", {"thresholds": [0.25], "rule": "youden"})
    sampled = read_facts(copy)
    assert sampled["operating_point"]["thresholds"] == [0.25]
    assert sampled["commands"][1].endswith("--uncertainty mc-dropout --samples 9")


def test_verdicts_of_a_comparison_follow_the_intervals():
    ends = {"auc": (0.01, 0.2), "accuracy": (-0.2, -0.01), "brier": (-0.1, 0.1)}
    rows = {n: {"first": 0.6, "second": 0.5, "difference": 0.1, "low": a, "high": b} for n, (a, b) in ends.items()}
    found = {"first": "a", "second": "b", "count": 9, "patients": 5, "measures": rows}
    shown = sections_measured.comparison({"comparisons": [found]})
    assert re.findall(">(apart|not told apart)<", shown) == ["apart", "apart", "not told apart"]


def test_groups_that_are_small_or_differ_are_marked(written):
    row = written[2]["subgroups"][0]
    for is_small, stands_out, said in (
        ("True", "auc", "too few to compare"),
        ("False", "auc|brier", "AUC, Brier score"),
    ):
        changed = {**row, "is_small": is_small, "stands_out": stands_out}
        assert f"<td>{said}</td>" in sections_measured.subgroups({"subgroups": [changed]})


@pytest.mark.parametrize(
    ("method", "left_out", "said"),
    [
        ("temperature", {}, "calibrated by temperature"),
        ("temperature", {"scaling": "a class is missing"}, "left as the model gives them"),
        ("none", {}, "left as the model gives them"),
        ("vector", {"sets": "too few"}, "calibrated by vector"),
    ],
)
def test_how_it_was_calibrated_is_told(written, method, left_out, said):
    fitted = {"method": method, "images": 7, "left_out": left_out}
    page = Page(render_page({**written[2], "calibrated": fitted, "comparisons": []}, {}, []))
    assert said in page.text["sureness"] and "rest on 7 validation images" in page.text["sureness"]
    assert all(f"No {what}: {why}" in page.text["sureness"] for what, why in left_out.items())


def test_the_rule_of_the_decisions_is_told(written):
    point = {"thresholds": None, "rule": "argmax"}
    for changed, said in ((point, "most probable class is decided"), (None, "no operating point")):
        assert said in sections_measured.decisions({**written[2], "operating_point": changed})
    told = sections_measured.decisions(written[2])
    assert "the largest sum of sensitivity and specificity, on the validation images" in told


def test_the_map_that_found_most_is_shown(monkeypatch):
    monkeypatch.setattr(report_pictures, "map_names", lambda model: ["a", "b", "c"])
    monkeypatch.setattr(report_pictures, "is_of_class", lambda model, name: name == "b")
    monkeypatch.setattr(report_pictures, "saliency_maps", lambda model, images, **how: how)
    measured = {name: {"iou": {"value": value}} for name, value in (("a", 0.2), ("b", 0.6), ("gone", 0.9))}
    maps, note = report_pictures._maps(None, None, [1, 0], {"localization": {"maps": measured}})
    assert maps["point"] == "b" and maps["target"].tolist() == [1, 0] and "mean IoU is 0.600" in note


@pytest.fixture
def copied(tmp_path, run):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns("figures", "comparisons", "report*"))
    return copy


@pytest.mark.parametrize(
    ("file", "section", "content"),
    [
        ("metrics.json", "performance", ""),
        ("metrics.json", "decisions", "[]"),
        ("operating_point.json", "decisions", '{"rule": "youden"}'),
        ("calibration.json", "sureness", '{"left_out": 3}'),
        ("environment.json", "reproduce", '{"packages": {"keras": 3}}'),
        ("localization/localization.json", "localization", '{"maps": 3}'),
        ("localization/localization.json", "localization", '{"maps": {}}'),
        ("subgroups.csv", "subgroups", "class,column,group\n"),
        ("history.csv", "training", "epoch,loss\n1,much\n"),
        ("splits.csv", "data", "id\n"),
        ("leakage.csv", "data", ""),
        ("rejected.csv", "data", ""),
        ("errors.csv", "gallery", "id,label,decided,probability_of_truth\na,b,c,d\n"),
        ("decision_curve.csv", "performance", "class,threshold\n"),
    ],
)
def test_a_damaged_file_is_named_where_it_would_be_shown(copied, file, section, content):
    copied.write_text(file, content)
    facts = read_facts(copied) | {"comparisons": []}
    (row,) = [row for row in facts["missing"] if "damaged" in row]
    assert f"Cannot read {file}: " in row["damaged"] and str(copied.path) not in row["damaged"]
    page = Page(render_page(facts, {}, []))
    assert row["damaged"] in page.text[section] and row["command"] in page.text[section]
    said = "Cannot read " + file.replace("_", "\\_")
    assert row["damaged"] in page.text["summary"] and said in render_card(facts)


def places(value, place=()):
    yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*place, key))


@pytest.mark.parametrize("file", ["metrics.json", "calibration.json", "localization/localization.json"])
def test_whatever_a_file_holds_the_report_is_written(copied, file):
    rng, whole = np.random.default_rng(0), copied.read_json(file)
    everywhere = list(places(whole))[1:]
    for k in rng.choice(len(everywhere), 15):
        content, (*above, last) = json.loads(json.dumps(whole)), everywhere[k]
        inner = content
        for key in above:
            inner = inner[key]
        inner[last] = (None, "x", 3, [], {}, [{}])[rng.integers(6)]
        copied.write_json(file, content)
        facts = read_facts(copied) | {"comparisons": []}
        assert "#summary" in render_page(facts, {}, []) and render_card(facts)


def test_a_report_without_what_cannot_be_read_is_written(copied, monkeypatch, capsys):
    monkeypatch.setattr(curves, "REPEATS", 2)
    table = (copied / "predictions.csv").read_text().splitlines()
    copied.write_text("predictions.csv", "\n".join([table[0], table[1].replace(",0.", ",much0."), *table[2:]]))
    copied.write_text("calibration.json", "{}")
    assert main(["report", str(copied.path)]) == 0
    page, told = Page((copied / "report.html").read_text()), capsys.readouterr().out
    for said in ("predictions.csv: the column probability_", "calibration.json: it must have `"):
        assert said in page.text["summary"] and said in told
    assert "predictions.csv cannot be read" in page.text["gallery"] and not page.all("img")
    assert page.numbers("performance") and "ROC curve" not in page.text["performance"]


def test_what_no_report_can_do_without_is_named(copied):
    copied.write_text("config.yaml", "data: 3\nmodel: a\n")
    with pytest.raises(ValueError, match=r"config.yaml: `data` must be text. Received: 3"):
        read_facts(copied)
    with pytest.raises(ValueError, match="`pictures` must be at least 0. Received: pictures=-1"):
        report_run(copied.path, pictures=-1)


def test_a_run_without_its_table_of_predictions_has_fewer_figures(run, tmp_path, monkeypatch):
    found = read_predictions(run.path).unsureness()
    np.testing.assert_allclose(found, pd.read_csv(run / "predictions.csv")["normalized_entropy"], atol=1e-6)
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns("predictions.csv"))
    page = Page(report_run(copy.path).read_text())
    assert "medkeras evaluate finds out" in page.text["gallery"] and page.numbers("summary")
    assert "ROC curve" not in page.text["performance"] and "Decision curve" in page.text["performance"]


def test_without_pictures_no_image_is_in_the_page(run, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "REPEATS", 2)
    page = Page(report_run(run.path, out=tmp_path, pictures=0).read_text())
    assert not page.all("img", "input") and "left out" in page.text["gallery"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_card.md", "report", "report.html"]


def test_images_that_are_gone_do_not_stop_the_report(run, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "REPEATS", 2)
    gone = OSError("gone:\nscans")
    monkeypatch.setattr(report_pictures, "load_calibrated", lambda folder: (_ for _ in ()).throw(gone))
    page = Page(report_run(run.path, out=tmp_path).read_text())
    assert "The images cannot be shown: gone: scans" in page.text["gallery"]


@pytest.mark.parametrize("task", ["multiclass", "ordinal", "multilabel"])
def test_other_tasks_and_earlier_versions(tmp_path, task):
    rng = np.random.default_rng(0)
    names = ["a|b" if task != "multilabel" else "a", "b{x}", "c"]
    p = rng.dirichlet(np.ones(3), 30)
    labels = rng.integers(0, 3, 30)
    if task == "multilabel":
        labels = (rng.random((30, 3)) < 0.5).astype(float)
        labels[0, 0] = np.nan
    run = RunFolder(tmp_path / "run")
    run.write_config({"data": "/home/me/scans.csv", "model": "m"})
    metrics = evaluate(labels, p, task=task, class_names=names)
    run.write_json("metrics.json", metrics | {"split": "test", "patients": 30})
    facts = read_facts(run) | {"comparisons": []}
    charts = curves.ranking_charts(labels, p, p > 0.5, task=task, class_names=names, patients=np.arange(30))
    page = Page(render_page(facts, {"ranking": charts}, []))
    shown = page.numbers("performance")
    assert all(metrics["per_class"][name]["auc"] in shown for name in names)
    counts = metrics["confusion_matrices"].values() if task == "multilabel" else [metrics["confusion_matrix"]]
    assert page.numbers("decisions") == np.ravel(list(counts)).tolist()
    assert "/home/me" not in page.text[""] + page.text["data"]
    assert "several labels" in page.text["data"] if task == "multilabel" else "a|b" in page.text["data"] + page.text[""]


@pytest.mark.parametrize("value, said", [(1.0, "100"), (0.999, "99.9"), (0.937, "94"), (0.004, "0.4"), (0.0, "0")])
def test_sentences_do_not_round_to_perfection(value, said):
    metrics = {"task": "multiclass", "class_names": ["a"], "intervals": {"accuracy": {"value": value}}}
    assert headlines(metrics)[0]["sentence"].startswith(f"Of 100 images, about {said} get ")
    assert headlines({"task": "ordinal", "class_names": ["a"], "intervals": {"kappa": {"value": None}}}) == []


def test_authors_write_what_no_run_knows(tmp_path, run):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    copy.write_text("report.yaml", "title: Ill <b>or</b> not\nethics: [Approved., 'No. 5 & 6']\nintended_use: ''\n")
    facts = read_facts(copy) | {"comparisons": []}
    page, states = Page(render_page(facts, {}, [])), {answer.item.author: answer for answer in answers(facts)}
    assert "Ill <b>or</b> not" in page.text[""] and not page.all("b")
    assert "No. 5 & 6" in page.text["statements"] and "To be filled in: approval" not in page.text["statements"]
    assert "To be filled in: who shall use it" in page.text["authors"]
    assert states["ethics"].state == "answered" and states["funding"].state == "not answered by this run"
    assert states["funding"].add == "`funding` in report.yaml"
    copy.write_text("report.yaml", "# Not yet.\n")
    assert not any(read_author(copy).values())
    damaged = {"a: 1": "with a", "- x": "Received: list", "title: {a: 1}": "title=", "a: [": "report.yaml: while pars"}
    for text, what in (damaged | {"ethic: x": "contact; perhaps `ethics`. Received: "}).items():
        copy.write_text("report.yaml", text)
        with pytest.raises(ValueError, match=re.escape(what)):
            read_author(copy)


def test_the_checklist_asks_for_all_that_authors_can_write(written):
    *_, facts = written
    assert {item.author for item in ITEMS} | {"contact", "conflicts", "intended_use"} >= set(FIELDS)
    assert {item.author for item in ITEMS if item.author} <= set(FIELDS)
    found = {answer.item.asks: answer for answer in answers(facts)}
    assert found["Fairness: performance by group"].state == "answered"
    assert found["Size of the sample, and why"].state == "in part"
    assert found["Ethical approval and consent"].state == "not answered by this run"
    without = answers(facts | {"subgroups": None})
    assert [a.state for a in without if a.item.section == "subgroups"] == ["not answered by this run"]


def test_the_checklist_has_every_number_of_both():
    def numbers(text):
        for part in filter(None, text.split(", ")):
            first, _, last = part.partition(" to ")
            if first.isdigit():
                yield from map(str, range(int(first), int(last or first) + 1))
            else:
                yield from (first[:-1] + chr(k) for k in range(ord(first[-1]), ord((last or first)[-1]) + 1))

    claim = [number for item in ITEMS for number in numbers(item.claim)]
    assert sorted(claim, key=int) == [str(n) for n in range(1, 45) if n != 2]
    lettered = {
        3: "abc",
        5: "ab",
        6: "abc",
        8: "abc",
        9: "abc",
        12: "abcdefg",
        18: "abcdef",
        20: "abc",
        23: "ab",
        27: "abc",
    }
    tripod = {f"{n}{letter}" for n in range(1, 28) for letter in lettered.get(n, [""])}
    assert len(tripod) == 52
    assert {number for item in ITEMS for number in numbers(item.tripod)} == tripod - {"2", "12f", "24"}


def test_pictures_are_chosen_by_rule():
    rng = np.random.default_rng(0)
    wrong, unsure, patients = rng.random(60) < 0.3, rng.random(60), np.arange(60) // 3
    classes = np.array(["a", "b", "c"])[np.arange(60) % 3]
    found = choose(wrong, unsure, classes, patients=patients, count=6, seed=1)
    assert all(len(rows) == 6 == len(set(patients[rows])) for rows in found.values())
    assert not wrong[found["correct"]].any() and wrong[found["wrong"]].all()
    assert sorted(classes[found["correct"]]) == ["a", "a", "b", "b", "c", "c"]
    assert (np.diff(unsure[found["wrong"]]) > 0).all() and (np.diff(unsure[found["uncertain"]]) < 0).all()
    assert unsure[found["uncertain"][0]] == unsure.max() and unsure[found["wrong"][0]] == unsure[wrong].min()
    assert found == choose(wrong, unsure, classes, patients=patients, count=6, seed=1)
    assert choose(np.zeros(3), np.ones(3), classes[:3], patients=np.arange(3), count=2)["wrong"] == []


def decoded(uri):
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_picture_holds_image_map_and_outline():
    image = np.zeros((5, 40, 600, 1), np.float32)
    image[3, :, 300:] = 0.8
    values, mask = np.zeros(image.shape[:-1]), np.zeros(image.shape[:-1], bool)
    values[3, 10, 500], values[1, 0, 0], mask[3, 10:21, 400:501] = 2.0, np.nan, True
    shown = make_picture("wrong", "volume", (), image=image, values=values, mask=mask)
    assert shown.size == (26, 384)
    pixels, overlay = decoded(shown.image), decoded(shown.overlay)
    assert pixels.shape == (26, 384, 3) and pixels[:, :150].max() < 20 and pixels[:, 240:].min() > 190
    assert overlay.shape == (26, 384, 4) and overlay[..., 3].argmax() == np.ravel_multi_index((6, 320), (26, 384))
    assert overlay[:, :300, 3].max() == 0
    places = np.array([[float(x) for x in point.split(",")] for point in shown.outline[0].split()])
    assert np.allclose(places.min(0), [256, 7], atol=1.5) and np.allclose(places.max(0), [320, 13], atol=1.5)
    tall = make_picture("wrong", "volume", (), image=image[:, :, :40], spacing=(3.0, 2.0, 1.0))
    assert tall.size == (80, 40) and decoded(tall.image).shape == (80, 40, 3)
    plain = make_picture("wrong", "x", (), image=np.ones((4, 4, 3)))
    assert plain.overlay is None and plain.outline == () and decoded(plain.image).min() > 250


def test_lines_of_a_chart_lie_where_the_values_are():
    line = Line("a < b", [0, 0.5, 1], [0, np.nan, 1], band=([0, 1], [0, 0.5], [0.5, 1]))
    drawn = Chart("t", [line], "x", "y", xlim=(0, 1), ylim=(0, 1), points=[(0.5, 0.5, "here")]).draw()
    path = re.search(r'd="(M[^"]*)" class="line s0"', drawn)[1]
    bottom = HEIGHT - 40
    assert path == f"M{LEFT} {bottom}M{WIDTH - RIGHT} {TOP}"
    assert f'cx="{(LEFT + WIDTH - RIGHT) / 2:g}" cy="{(TOP + bottom) / 2:g}"' in drawn
    assert "a &lt; b" in drawn and "a < b" not in drawn
    history = curves.history_charts(
        {"epoch": [1, 2, 3], "auc": [0.5, 1, 1], "val_auc": [1, 1, 1], "loss": [3, 2, 1], "lr": [1, 1, 1]}
    )
    assert [(chart.title, len(chart.lines)) for chart in history] == [("loss", 1), ("AUC", 2)]
    ticks = re.findall(r'class="tick middle">([^<]*)<', history[0].draw())
    assert ticks == ["1", "2", "3"]


def test_the_operating_point_lies_on_the_roc_curve():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.random(200)
    charts = curves.ranking_charts(labels, np.stack([1 - scores, scores], 1), (scores > 0.5).astype(int), task="binary",
                                   class_names=["a", "b"], patients=np.arange(200))  # fmt: skip
    (x, y, _), roc = charts[0].points[0], charts[0].lines[1]
    assert y == pytest.approx((scores[labels == 1] > 0.5).mean()) and x == pytest.approx(
        (scores[labels == 0] > 0.5).mean()
    )
    assert roc.y[roc.x >= x - 1e-9].min() - 1e-9 <= y <= roc.y[roc.x <= x + 1e-9].max() + 1e-9
    about = {"task": "binary", "class_names": ["a", "b"]}
    found = curves.reliability_chart(labels, np.stack([1 - scores**3, scores**3], 1), **about)
    assert found.lines[1].marks[0] == max(found.lines[1].marks) and found.draw().count('class="mark s0"') == 10
    risk = curves.risk_chart(np.array([0, 1, 0, np.nan]), np.array([0.1, 0.9, 0.2, 0.3]))
    assert np.allclose(risk.lines[1].y, [0, 0, 1 / 3]) and np.allclose(risk.lines[0].y, [0, 0, 1 / 3])


def test_markup_escapes_all_but_itself():
    assert tag("p", "<b>", tag("i", "&"), None, title='"', hidden=True, id=None) == (
        '<p title="&#34;" hidden>&lt;b&gt;<i>&amp;</i></p>'
    )
    assert number(float("nan")) == number(None) == "–" and interval({"value": None}) == "–"
    assert interval({"value": 0.5, "low": None, "high": None}) == number(0.5)


def test_the_package_ships_the_parts_of_the_page():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    shipped = set(setup["options.package_data"]["pipelines"].split())
    parts = {path for path in (ROOT / "pipelines/report/page").iterdir() if path.suffix not in (".py", "")}
    assert {f"report/page/{path.name}" for path in parts} <= shipped and len(parts) == 3


PROBE = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const control = document.querySelector("input.fade"), overlay = document.querySelector(".overlay");
  const seen = () => getComputedStyle(overlay).opacity;
  const shown = [seen()];
  for (const value of [0, 30]) {
    control.value = value;
    control.dispatchEvent(new Event("input"));
    shown.push(seen());
  }
  control.focus();
  const button = document.getElementById("theme"), ground = () => getComputedStyle(document.body).backgroundColor;
  const light = ground();
  button.click();
  const drawn = [...document.images].map((image) => image.complete && image.naturalWidth > 0);
  const found = {shown, images: drawn.length, drawn: drawn.every(Boolean), focused: document.activeElement === control,
    themed: light !== ground(), width: document.documentElement.scrollWidth, inner: window.innerWidth,
    errors: window.errors, stops: [...document.querySelectorAll(".scroll")].every(
      (part) => (part.tabIndex === 0) === part.scrollWidth > part.clientWidth)};
  document.body.dataset.found = JSON.stringify(found);
}, 50));
</script>
"""


# A window has at least 500 pixels, a frame as few as a phone.
HOST = """<!doctype html><iframe style="width: 360px; height: 740px; border: 0" srcdoc="{page}"></iframe><script>
const wait = setInterval(() => {{
  const found = document.querySelector("iframe").contentDocument?.body?.dataset.found;
  if (found) {{ document.body.dataset.found = found; clearInterval(wait); }}
}}, 20);
</script>"""


@pytest.mark.process
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, package chromium of Debian")
def test_in_a_browser(written, tmp_path):
    source, *_ = written
    # The probe may run; all else of the policy stays.
    source = re.sub(r"script-src [^\"]*\"", "script-src 'unsafe-inline'\"", source, count=1)
    watch = "<script>window.errors = []; window.onerror = (e) => { window.errors.push(e); };</script>"
    source = source.replace("<head>", f"<head>{watch}").replace("</body>", PROBE + "</body>")
    (tmp_path / "page.html").write_text(HOST.format(page=html.escape(source)))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    options += ["--virtual-time-budget=3000", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *options, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    found = json.loads(dict(Page(done.stdout).all("body")[0][1])["data-found"])
    assert found["errors"] == [] and found["drawn"] and found["images"] > 6
    assert found["shown"] == ["1", "0", "0.3"] and found["focused"] and found["themed"]
    assert found["width"] <= found["inner"] == 360 and found["stops"]
