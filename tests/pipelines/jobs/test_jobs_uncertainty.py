"""How sure a run is: what is fitted on validation, what the tables and measures say, sampling, and old runs."""

import dataclasses
import io
import shutil
import types

import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

import medkeras
from medkeras.evaluation import OperatingPoint, choose_operating_point
from medkeras.uncertainty import LogitScaling, fit_conformal, fit_scaling, summarize
from pipelines.cli.main import main
from pipelines.inference.answers import Answers, Sampling, answer, predict_logits
from pipelines.inference.calibration import Calibration, Referral, fit_answers, fit_logits
from pipelines.inference.trained_model import Trained, calibrate, load_member, load_model, load_trained
from pipelines.inference.uncertainty import measure_sureness, sureness_columns
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.predict import predict_run
from pipelines.jobs.train import _say_how_sure
from pipelines.report.facts.read import read_facts
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data, load_split
from tiny_model import TinyNet
from untrained_run import write_run

RNG = np.random.default_rng(0)
NAMES = ("healthy", "lesion")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A run that was never calibrated, and its model, which tells bright images from dark ones, too sure of itself."""
    folder = tmp_path_factory.mktemp("runs")
    labels = np.arange(240) % 2
    images = RNG.normal(110 + 14 * labels[:, None, None], 25, (240, 16, 16)) + RNG.normal(0, 12, (240, 1, 1))
    np.savez(folder / "scans.npz", train_images=images.clip(0, 255).astype("uint8"), train_labels=labels[:, None])
    options = {"class_names": NAMES}
    config = TrainConfig(
        data=str(folder / "scans.npz"),
        model="tiny_net",
        run=str(folder / "first"),
        source_options=options,
        fractions=(0.2, 0.4, 0.4),
    )
    keras.utils.set_random_seed(0)
    model = TinyNet((16, 16, 1), num_classes=2, class_names=NAMES)
    x, y = load_data(config).arrays("train")
    head = model.layers[-1]
    features = keras.Model(model.input, head.input).predict(x, verbose=0)
    line = LogisticRegression(C=1e4, max_iter=10000).fit(features, y)
    head.set_weights([np.c_[-2 * line.coef_[0], 2 * line.coef_[0]], np.array([-2, 2]) * line.intercept_])
    run = write_run(config, model)
    run.write_text("history.csv", "epoch,loss\n1,0.5\n")
    return run, model


@pytest.fixture(scope="module")
def run(untouched):
    folder, model = untouched
    calibrate(folder, model, load_split(TrainConfig.from_run(folder), "val"))
    return folder


@pytest.fixture(scope="module")
def evaluated(run):
    return evaluate_run(run.path), pd.read_csv(run / "predictions.csv")


@pytest.fixture(scope="module")
def raw(untouched, run):
    """The model's own logits of validation and test, with the labels."""
    found = {}
    for split in ("val", "test"):
        records = load_split(TrainConfig.from_run(run), split)
        found[split] = records.labels, predict_logits(untouched[1], records)
    return found


def test_all_is_fitted_to_validation(run, raw):
    labels, logits = raw["val"]
    found = Calibration.from_dict(run.read_json("calibration.json"))
    scaling = fit_scaling(labels, logits, task="binary")
    assert found.scaling.scale == pytest.approx(scaling.scale) and scaling.scale[0] < 0.9
    probabilities = scaling.probabilities(logits)
    assert found.sets == fit_conformal(labels, probabilities, task="binary", coverage=0.9)
    point = OperatingPoint.from_dict(run.read_json("operating_point.json"))
    assert point == choose_operating_point(labels, probabilities, task="binary")
    wrong = point.apply(probabilities) != labels
    unsure = stats.entropy(probabilities, axis=1) / np.log(2)
    kept = unsure <= found.referral.threshold
    assert 0 < kept.sum() < len(kept) and wrong[kept].mean() <= 0.05
    for other in unsure[~kept]:
        assert wrong[unsure <= other].mean() > 0.05
    fitted = run.read_json("calibration.json")
    assert (fitted["method"], fitted["images"], fitted["left_out"]) == ("temperature", len(labels), {})
    assert fitted["before"]["nll"] == pytest.approx(log_loss(labels, softmax(logits, axis=1)), rel=1e-6)
    assert fitted["after"]["nll"] == pytest.approx(log_loss(labels, probabilities), rel=1e-6)
    assert fitted["after"]["nll"] < fitted["before"]["nll"] and fitted["after"]["ece"] < fitted["before"]["ece"]


def test_columns_say_how_sure(run, raw, evaluated):
    _, table = evaluated
    found = Calibration.from_dict(run.read_json("calibration.json"))
    probabilities = found.scaling.probabilities(raw["test"][1])
    np.testing.assert_allclose(table[[f"probability_{name}" for name in NAMES]], probabilities, atol=1e-6)
    np.testing.assert_allclose(table["entropy"], stats.entropy(probabilities, axis=1), atol=1e-6)
    np.testing.assert_allclose(table["normalized_entropy"], table["entropy"] / np.log(2))
    sets = ["|".join(np.array(NAMES)[row]) for row in found.sets.sets(probabilities)]
    assert table["set"].tolist() == sets and set(sets) <= {"healthy", "lesion", "healthy|lesion"}
    is_referred = table["normalized_entropy"] > found.referral.threshold
    assert table["decision"].tolist() == ["refer" if r else "accept" for r in is_referred]
    assert not {"mutual_information", "unsure_of"} & set(table)


def test_measures_are_those_of_other_packages(run, raw, evaluated):
    metrics, table = evaluated
    found, labels = metrics["calibration"], raw["test"][0]
    for name, scores in (("before", softmax(raw["test"][1], axis=1)[:, 1]), ("after", table["probability_lesion"])):
        assert found[name]["nll"] == pytest.approx(log_loss(labels, scores), rel=1e-5)
        assert found[name]["brier"] == pytest.approx(brier_score_loss(labels, scores), rel=1e-5)
        parts = found[name]["brier_decomposition"]
        total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within_bins"]
        assert total == pytest.approx(found[name]["brier"])
        for error in ("ece", "ece_equal_mass"):
            assert 0 <= found[name][error]["low"] <= found[name][error]["high"] <= 1
    holds = [label in members.split("|") for label, members in zip(table["label"], table["set"], strict=True)]
    covered = found["sets"]["covered"]
    assert covered["value"] == pytest.approx(np.mean(holds))
    interval = stats.binomtest(sum(holds), len(holds)).proportion_ci()
    assert (covered["low"], covered["high"]) == pytest.approx((interval.low, interval.high))
    assert found["sets"]["mean_size"] == pytest.approx(table["set"].str.split("|").str.len().mean())
    wrong, kept = table["label"] != table["prediction"], table["decision"] == "accept"
    selective = found["selective"]
    assert selective["referred"] == pytest.approx(1 - kept.mean()) and 0 < kept.mean() < 1
    assert selective["risk_kept"] == pytest.approx(wrong[kept].mean())
    order = np.argsort(table["normalized_entropy"], kind="stable")
    area = np.mean(np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1))
    assert selective["aurc"] == pytest.approx(area)
    assert selective["aurc_best"] <= selective["aurc"] == pytest.approx(selective["aurc_max_softmax"])


def test_files_are_predicted_as_the_evaluation_did(run, evaluated, tmp_path):
    records = load_split(TrainConfig.from_run(run), "test")
    np.savez(tmp_path / "few.npz", images=np.stack([records.read(i) for i in range(4)]))
    table = predict_run(run.path, [tmp_path / "few.npz"], tmp_path / "out.csv")
    expected = evaluated[1].iloc[:4]
    for name in ("set", "decision", "prediction"):
        assert table[name].tolist() == expected[name].tolist()
    np.testing.assert_allclose(table["entropy"], expected["entropy"], atol=1e-5)


def test_samples_on_the_command_line(run, evaluated):
    names = ("calibration.json", "operating_point.json")
    frozen = [(run / name).read_text() for name in names]
    assert main(["evaluate", str(run.path), "--uncertainty", "mc-dropout", "--samples", "8", "--seed", "2"]) == 0
    table, metrics = pd.read_csv(run / "predictions.csv"), run.read_json("metrics.json")
    assert metrics["uncertainty"] == {"method": "mc-dropout", "samples": 8, "seed": 2}
    np.testing.assert_allclose(table["entropy"], table["expected_entropy"] + table["mutual_information"])
    np.testing.assert_allclose(table["entropy"], stats.entropy(table.filter(like="probability_"), axis=1))
    assert table["mutual_information"].max() > 1e-4
    assert 0 <= metrics["calibration"]["selective"]["aurc_mutual_information"] <= 1
    # The samples have rules of their own, chosen once on validation; those of one prediction stay.
    own = Calibration.from_dict(run.read_json("calibration_mc-dropout_8.json"))
    assert own.scaling == Calibration.from_dict(run.read_json("calibration.json")).scaling
    is_referred = table["normalized_entropy"] > own.referral.threshold
    assert (is_referred == (table["decision"] == "refer")).all()
    assert frozen == [(run / name).read_text() for name in names]

    trained = load_trained(run, sampling=Sampling("mc-dropout", samples=8))
    records = load_split(TrainConfig.from_run(run), "test")
    same, other = (trained.answer(records, seed=seed).sureness() for seed in (2, 3))
    np.testing.assert_allclose(same["entropy"], table["entropy"])
    assert not np.allclose(other["entropy"], table["entropy"])


def test_views_are_samples_of_the_calibrated_model(run):
    trained = load_trained(run)
    records = load_split(TrainConfig.from_run(run), "test").select(range(5))
    seen = answer(trained.model, records, sampling=Sampling("tta"), batch_size=2)
    once = answer(trained.model, records)
    np.testing.assert_allclose(seen.once, once.probabilities, atol=1e-6)
    assert seen.sureness()["mutual_information"].min() > 0 == once.sureness()["mutual_information"].max()


@pytest.fixture
def member(run, tmp_path):
    """A second run on the same split, less sure of itself."""
    other = RunFolder(tmp_path / "second")
    shutil.copytree(run.path, other.path)
    model = load_model(other)
    model.layers[-1].set_weights([weights * 0.3 for weights in model.layers[-1].get_weights()])
    model.save(other / "model.keras")
    return other


def test_an_ensemble_is_the_mean_of_its_calibrated_runs(run, member, tmp_path):
    records = load_split(TrainConfig.from_run(run), "test")
    each = [load_trained(folder).answer(records).probabilities for folder in (run, member)]
    assert np.abs(each[0] - each[1]).max() > 0.05
    out, frozen = tmp_path / "answers.csv", set(run.path.glob("*ensemble*"))
    images = np.stack([records.read(i) for i in range(8)])
    np.savez(tmp_path / "new.npz", images=images)
    words = ["predict", str(run.path), str(tmp_path / "new.npz"), "--out", str(out)]
    assert main([*words, "--uncertainty", "ensemble", "--member", str(member.path)]) == 0
    table = pd.read_csv(out)
    np.testing.assert_allclose(table.filter(like="probability_"), np.mean(each, axis=0)[:8], atol=1e-5)
    assert table["mutual_information"].min() > 0
    (point,) = set(run.path.glob("operating_point_ensemble_*.json")) - frozen
    assert point.name.replace("operating_point", "calibration") in {p.name for p in run.path.iterdir()}
    # Another model in the same folder makes another ensemble, with an operating point of its own.
    model = load_model(member)
    model.layers[-1].set_weights([weights * 2 for weights in model.layers[-1].get_weights()])
    model.save(member / "model.keras")
    trained = load_trained(run, sampling=Sampling("ensemble", members=(str(member.path),)))
    assert len(set(run.path.glob("operating_point_ensemble_*.json")) - frozen) == 2
    assert len(trained.members) == 1 and trained.answer(records).found.mean.shape == (len(records), 2)
    metrics = evaluate_run(member.path, uncertainty="ensemble", members=[run.path])
    point = member.read_json(f"operating_point_ensemble_{metrics['uncertainty']['digest']}.json")
    assert read_facts(member)["operating_point"] == point


def test_a_member_that_has_seen_the_test_split_is_refused(run, member):
    splits = pd.read_csv(member / "splits.csv")
    seen = splits.index[splits["split"] == "test"][0]
    sampling = Sampling("ensemble", members=(str(member.path),))
    for split in ("train", "val"):
        moved = splits.copy()
        moved.loc[seen, "split"] = split
        member.write_text("splits.csv", moved.to_csv(index=False))
        told = f"--split-file .*splits.csv. Received: .*1 patients of the test split, {splits['patient'][seen]} "
        with pytest.raises(ValueError, match=told):
            load_trained(run, sampling=sampling)
    moved = splits.replace({"split": {"val": "train"}})
    member.write_text("splits.csv", moved.to_csv(index=False))
    with pytest.raises(ValueError, match="patients of the val split"):
        load_trained(run, sampling=sampling)
    # Of other data nothing is known: the same names may be other patients.
    member.write_config(member.read_config() | {"data": "elsewhere.npz"})
    assert load_member(run, member).num_classes == 2
    with pytest.raises(ValueError, match="looks once"):
        load_trained(run, protocol="ws-dan", sampling=sampling)
    (member / "operating_point.json").unlink()
    with pytest.raises(FileNotFoundError, match="training has not ended.*second"):
        load_member(run, member)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--uncertainty", "ensemble"], "uncertainty='ensemble', members=()"),
        (["--member", "somewhere"], "uncertainty='none', members=('somewhere',)"),
        (["--uncertainty", "ensemble", "--member", "nowhere"], "Received: nowhere"),
        (["--uncertainty", "mc-dropout", "--samples", "0"], "`samples` must be at least 1. Received: samples=0"),
        (["--uncertainty", "guess"], "one of none, mc-dropout, tta, ensemble. Received: uncertainty='guess'"),
    ],
)
def test_bad_sampling_is_named(run, words, text, capfd):
    assert main(["evaluate", str(run.path), *words]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert text in line


def test_a_run_of_an_earlier_version_is_as_it_was(untouched, raw, tmp_path):
    """Without `calibration.json`: the model's own probabilities, and no word on sets or referral."""
    run = RunFolder(tmp_path / "old")
    config = {k: v for k, v in untouched[0].read_config().items() if k not in ("calibration", "coverage", "risk")}
    run.write_config(config)
    for name in ("splits.csv", "history.csv", "model.keras"):
        shutil.copy(untouched[0] / name, run / name)
    run.write_json("operating_point.json", OperatingPoint("binary", (0.4,), "youden").to_dict())
    metrics = evaluate_run(run.path)
    table = pd.read_csv(run / "predictions.csv")
    np.testing.assert_allclose(table["probability_lesion"], softmax(raw["test"][1], axis=1)[:, 1], atol=1e-6)
    assert "entropy" in table and not {"set", "decision"} & set(table)
    found = metrics["calibration"]
    assert found["method"] is None and found["sets"] is None and found["before"] == found["after"]
    assert "threshold" not in found["selective"]


def test_a_model_without_dropout_cannot_be_sampled(untouched, tmp_path, capfd):
    config = TrainConfig.from_run(untouched[0])
    model = medkeras.models.create(
        "focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2, class_names=NAMES, depth=1, saccades=1, dropout=0.0
    )
    run = write_run(dataclasses.replace(config, run=str(tmp_path / "dry")), model)
    run.write_json("operating_point.json", OperatingPoint("binary", (0.4,), "youden").to_dict())
    assert main(["evaluate", str(run.path), "--uncertainty", "mc-dropout"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "needs a model with a dropout layer" in line and "focusnet2d_tiny" in line
    assert not (run / "metrics.json").exists()


def distant(count=60, classes=3):
    """Labels and logits of a model that is too sure of itself."""
    logits = RNG.normal(0, 1.5, (count, classes))
    labels = np.array([RNG.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return labels, 3 * logits


def test_what_cannot_be_fitted_is_left_out_and_said():
    labels, logits = distant()
    never_wrong = fit_logits(logits.argmax(axis=1), logits, task="multiclass")
    assert never_wrong.scaling == LogitScaling("multiclass") and "decided wrongly" in never_wrong.left_out["scaling"]
    without = np.where(labels == 2, 1, labels)
    absent = fit_logits(without, logits, task="multiclass", method="vector")
    assert absent.scaling == LogitScaling("multiclass") and "none for [2]" in absent.left_out["scaling"]
    answers = Answers.of_logits(logits, absent.scaling)
    found, _ = fit_answers(absent, without, answers)
    assert found.sets is not None and found.referral is not None

    told = Console(record=True, width=300, file=io.StringIO())
    _say_how_sure(absent, told)
    assert told.export_text() == f"no scaling: {absent.left_out['scaling']}\n"
    with pytest.raises(ValueError, match="training diverged"):
        fit_logits(labels, np.where(logits > 0, np.nan, logits), task="multiclass")


def test_labels_that_nobody_knows_leave_all_out():
    logits = RNG.normal(size=(4, 2))
    labels = np.full((4, 2), np.nan)
    found = fit_logits(labels, logits, task="multilabel")
    with pytest.warns(UserWarning, match="0.5 is kept"):
        found, point = fit_answers(found, labels, Answers.of_logits(logits, found.scaling))
    assert sorted(found.left_out) == ["referral", "scaling", "sets"] and point.thresholds == (0.5, 0.5)


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    labels, logits = distant()
    base = fit_logits(labels, logits, task="multiclass", method="vector")
    assert len(base.scaling.scale) == 3
    answers = Answers.of_logits(logits, base.scaling)
    np.testing.assert_allclose(answers.once, softmax(base.scaling.apply(logits), axis=1))
    np.testing.assert_allclose(np.log(answers.raw), log_softmax(logits, axis=1))
    found, _ = fit_answers(base, labels, answers, coverage=0.8)
    # With so small a risk nothing may be kept: minus infinity, which JSON does not know.
    none, _ = fit_answers(base, (labels + 1) % 3, answers, risk=0.0)
    for one in (found, none, Calibration(LogitScaling("binary"))):
        RunFolder(tmp_path).write_json("calibration.json", one.to_dict())
        assert Calibration.from_dict(RunFolder(tmp_path).read_json("calibration.json")) == one


def labelled(calibration):
    """Three labels of four images, one of them unknown, and a run that answers for them."""
    labels = np.array([[0, 1, 0], [1, 1, 0], [0, np.nan, 1], [0, 0, 0]])
    probabilities = np.array([[0.2, 0.9, 0.1], [0.7, 0.6, 0.1], [0.1, 0.5, 0.4], [0.1, 0.2, 0.3]])
    found = Answers("multilabel", summarize(probabilities[None], task="multilabel"), probabilities, probabilities)
    model = types.SimpleNamespace(class_names=("cyst", "mass", "nodule"))
    point = OperatingPoint("multilabel", (0.5,) * 3, "by hand")
    return labels, found, Trained(model, Sampling(), point, calibration)


def test_of_several_labels_the_least_sure_one_speaks():
    sets = fit_conformal([[0, 1, 0], [1, 0, 1]], [[0.3, 0.7, 0.3]] * 2, task="multilabel", coverage=0.6)
    referral = Referral(0.99, 0.05)
    labels, answers, trained = labelled(Calibration(LogitScaling("multilabel"), sets, referral))
    table = sureness_columns(answers, trained)
    assert table["unsure_of"].tolist() == ["cyst", "mass", "mass", "nodule"]
    chosen = [0.2, 0.6, 0.5, 0.3]
    np.testing.assert_allclose(table["entropy"], [stats.entropy([p, 1 - p]) for p in chosen])
    assert table["decision"].tolist() == ["accept", "accept", "refer", "accept"]
    # Each label's limit is 0.7: it may be present from 0.3 on, and absent up to 0.7.
    assert table["set"].tolist() == ["mass", "cyst|mass", "mass|nodule", "nodule"]
    assert table["set_absent"].tolist() == ["cyst|nodule", "cyst|mass|nodule", "cyst|mass|nodule", "cyst|mass|nodule"]
    found = measure_sureness(labels, answers, trained, groups=np.arange(4))
    wrong = np.array([0, 0, 0.5, 0])
    assert found["selective"]["risk"] == pytest.approx(wrong.mean())
    assert found["selective"]["risk_kept"] == 0 and found["selective"]["referred"] == 0.25
    assert [found["sets"]["per_class"][name]["value"] for name in ("cyst", "mass", "nodule")] == [1, 1, 1]
    assert found["sets"]["covered"] == {"value": 1.0, "low": None, "high": None}


def test_the_options_of_training_reach_it(monkeypatch, capfd):
    seen = []
    monkeypatch.setattr("pipelines.jobs.train.train", lambda config, console: seen.append(config))
    words = ["train", "--data", "phantom", "--model", "focusnet2d", "--run", "r"]
    assert main(words) == main([*words, "--calibration", "vector", "--coverage", "0.8", "--risk", "0.1"]) == 0
    assert seen[0] == TrainConfig(data="phantom", model="focusnet2d", run="r")
    assert (seen[1].calibration, seen[1].coverage, seen[1].risk) == ("vector", 0.8, 0.1)
    for option, value in (("calibration", "platt"), ("coverage", "1"), ("risk", "-0.1")):
        assert main([*words, f"--{option}", value]) == 2
        assert f"`{option}` must be" in capfd.readouterr().err
