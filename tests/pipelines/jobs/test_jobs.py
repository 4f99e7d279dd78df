"""The jobs after training, on one small run: evaluate and predict, with scikit-learn as the oracle."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

import pipelines
from medkeras.models import registry
from pipelines.cli.main import main
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.predict import predict_run
from pipelines.jobs.train import train
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from tiny_model import PRESETS

FIGURES = ("roc", "precision_recall", "confusion_matrix", "history", "reliability", "risk_coverage", "uncertain")


def make_run(folder, **changes):
    values = {
        "data": "phantom",
        "model": "tiny_net",
        "batch_size": 16,
        "learning_rate": 1e-2,
        "source_options": {"images": 120, "size": 16},
        "epochs": 2,
        "augment": "none",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_PRESETS", PRESETS)
        return train(TrainConfig(run=str(folder), **(values | changes)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "run", augment="standard")


@pytest.fixture(scope="module")
def evaluated(run):
    return evaluate_run(run.path)


@pytest.fixture(scope="module")
def images(run, tmp_path_factory):
    """The run's test images as files, in a folder of folders."""
    folder = tmp_path_factory.mktemp("images")
    records = load_data(TrainConfig.from_run(run)).records["test"]
    for i, name in enumerate(records.table["id"]):
        (folder / f"{i % 3}").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{i % 3}" / f"{name}.png"), records.read(i))
    return folder


def test_training_leaves_a_whole_run_folder(run):
    names = {p.name for p in run.path.iterdir() if not p.name.startswith(("metrics", "predictions", "figures"))}
    assert names == {
        "config.yaml", "environment.json", "leakage.csv", "splits.csv", "checkpoints", "history.csv", "model.keras",
        "operating_point.json", "calibration.json",
    }  # fmt: skip
    history = pd.read_csv(run / "history.csv")
    assert history["epoch"].tolist() == [1, 2]
    assert {"loss", "auc", "accuracy", "val_loss", "val_auc", "val_accuracy"} <= set(history)
    assert run.read_json("environment.json")["packages"]["keras"]
    splits = pd.read_csv(run / "splits.csv")
    assert len(splits) == 120
    assert (splits.groupby("patient")["split"].nunique() == 1).all()


def test_evaluation_agrees_with_scikit_learn_and_writes_all(run, evaluated):
    metrics = evaluated
    table = pd.read_csv(run / "predictions.csv")
    assert table["split"].unique().tolist() == ["test"]
    positive = table["label"] == "lesion"
    assert metrics["macro"]["auc"] == pytest.approx(roc_auc_score(positive, table["probability_lesion"]))
    assert metrics["accuracy"] == pytest.approx(accuracy_score(positive, table["probability_lesion"] > 0.5))
    frozen = run.read_json("operating_point.json")["thresholds"][0]
    assert ((table["prediction"] == "lesion") == (table["probability_lesion"] > frozen)).all()
    assert metrics["operating_point"]["accuracy"] == pytest.approx((table["prediction"] == table["label"]).mean())
    interval = metrics["intervals"]["auc"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert metrics["patients"] == table["patient"].nunique() < metrics["count"]
    assert json.loads((run / "metrics.json").read_text())["macro"]["auc"] == metrics["macro"]["auc"]
    for name in FIGURES:
        assert cv2.imread(str(run / "figures" / f"{name}.png")).shape[0] > 100


def test_the_threshold_is_chosen_on_validation_and_stays(run):
    before = (run / "operating_point.json").read_text()
    validation = evaluate_run(run.path, split="val")
    decided = validation["operating_point"]
    best = decided["macro"]["sensitivity"] + decided["macro"]["specificity"]
    table = pd.read_csv(run / "evaluations/val/predictions.csv")
    scores, positive = table["probability_lesion"], table["label"] == "lesion"
    for threshold in scores:
        other = scores > threshold
        assert other[positive].mean() + (~other[~positive]).mean() <= best + 1e-9
    assert (run / "operating_point.json").read_text() == before


def test_other_data_is_evaluated_apart(run, evaluated):
    metrics = evaluate_run(run.path, data="phantom", images=40, size=24)
    assert metrics["count"] == 40 and metrics["split"] == "all"
    assert json.loads((run / "metrics.json").read_text())["count"] == evaluated["count"]
    (folder,) = [p for p in (run / "evaluations").iterdir() if p.name != "val"]
    assert len(pd.read_csv(folder / "predictions.csv")) == 40


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data", "phantom:multiclass"], "speckled"),
        (["--data", "phantom:binary3d", "--source-option", "images=8"], "3D"),
        (["--data", "none.csv"], "none.csv"),
        (["--split", "tune"], "tune"),
        (["--data", "phantom", "--split", "test"], "split='test'"),
    ],
)
def test_data_that_do_not_fit_the_run(run, arguments, named, capfd):
    assert main(["evaluate", str(run.path), *arguments]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and named in lines[0]


def test_prediction_of_files_equals_evaluation(run, evaluated, images, tmp_path):
    table = predict_run(run.path, [images], tmp_path / "new" / "out.csv")
    expected = pd.read_csv(run / "predictions.csv").set_index("id")
    found = pd.read_csv(tmp_path / "new" / "out.csv")
    assert found["file"].tolist() == table["file"].tolist()
    assert len(found) == len(expected)
    rows = expected.loc[[name.rsplit("/", 1)[-1].removesuffix(".png") for name in found["file"]]]
    np.testing.assert_allclose(found["probability_lesion"], rows["probability_lesion"], atol=1e-6)
    assert found["prediction"].tolist() == rows["prediction"].tolist()


def test_prediction_of_an_npz_and_of_other_sizes(run, tmp_path):
    volume = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", test_images=volume)
    cv2.imwrite(str(tmp_path / "b.JPEG"), volume[0])
    table = predict_run(run.path, [tmp_path / "a.npz", tmp_path / "b.JPEG"], tmp_path / "out.csv")
    assert len(table) == 6 and table["file"][4].endswith("a.npz#test_images_4")
    np.testing.assert_allclose(table.filter(like="probability").sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("case", ["missing", "damaged", "empty folder", "npz without images", "out below a file"])
def test_bad_inputs_are_named_and_nothing_is_written(run, case, tmp_path, capfd):
    bad, out = tmp_path / "bad.png", tmp_path / "out.csv"
    good = tmp_path / "good.png"
    cv2.imwrite(str(good), np.zeros((16, 16), np.uint8))
    if case == "damaged":
        bad.write_bytes(good.read_bytes()[:-10])
    elif case == "empty folder":
        bad.mkdir()
    elif case == "npz without images":
        bad = tmp_path / "bad.npz"
        np.savez(bad, labels=np.zeros(3))
    elif case == "out below a file":
        (tmp_path / "file").write_text("")
        bad, out = good, tmp_path / "file" / "out.csv"
    assert main(["predict", str(run.path), str(good), str(bad), "--out", str(out)]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and str(out.parent if case == "out below a file" else bad) in lines[0]
    assert not out.exists()


def test_bad_inputs_can_be_skipped_and_are_listed(run, tmp_path):
    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((16, 16), np.uint8))
    (tmp_path / "bad.png").write_bytes(b"")
    out = tmp_path / "out" / "out.csv"
    assert main(["predict", str(run.path), str(tmp_path), "--out", str(out), "--on-error", "skip"]) == 0
    assert pd.read_csv(out)["file"].tolist() == [str(tmp_path / "good.png")]
    assert pd.read_csv(out.with_name("rejected.csv"))["id"].tolist() == [str(tmp_path / "bad.png")]


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("phantom:multiclass", {"balance": "class-weights", "loss": "focal", "monitor": "accuracy"}),
        ("phantom:multilabel", {"balance": "class-weights", "monitor": "loss"}),
        ("phantom:multilabel", {"loss": "focal"}),
        ("phantom:binary3d", {"model": "tiny_net3d", "patience": 1, "epochs": 3, "tensorboard": True}),
    ],
)
def test_every_task_goes_the_whole_way(source, changes, tmp_path):
    options = {"images": 60 if "3d" in source else 120, "size": 16}
    run = make_run(tmp_path / "run", data=source, source_options=options, **({"epochs": 1} | changes))
    metrics = evaluate_run(run.path)
    assert 0 <= metrics["macro"]["auc"] <= 1
    table = pd.read_csv(run / "predictions.csv", keep_default_na=False)
    names = {name for names in table["prediction"] for name in names.split("|") if name}
    assert names <= set(metrics["class_names"])
    assert (run / "tensorboard").is_dir() == bool(changes.get("tensorboard"))


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path):
    run = make_run(tmp_path / "run", epochs=30, patience=2, learning_rate=0.03, monitor="loss", calibration="none")
    history = pd.read_csv(run / "history.csv")
    best = int(history["val_loss"].idxmin())
    assert len(history) == min(30, best + 1 + 2)
    evaluate_run(run.path, split="val")
    table = pd.read_csv(run / "evaluations/val/predictions.csv")
    true = np.where(table["label"] == "lesion", table["probability_lesion"], table["probability_healthy"])
    assert -np.log(true).mean() == pytest.approx(history["val_loss"][best], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": "phantom:multilabel", "monitor": "accuracy"}, "monitor='accuracy'"),
        (
            {"data": "phantom:multilabel", "loss": "focal", "balance": "class-weights"},
            "balance='class-weights'",
        ),
        ({"model_options": {"wings": 2}}, "wings=2"),
        ({"data": "phantom:binary3d"}, "2D images"),
    ],
)
def test_configurations_without_sense_are_refused(changes, named, tmp_path):
    with pytest.raises(ValueError, match=named):
        make_run(tmp_path / "run", **({"source_options": {"images": 60, "size": 16}} | changes))
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_not_ended_is_not_used(tmp_path):
    run = make_run(tmp_path / "run", epochs=1)
    (run / "operating_point.json").unlink()
    with pytest.raises(FileNotFoundError, match="has not ended"):
        predict_run(run.path, [tmp_path], tmp_path / "out.csv")
    (run / "model.keras").write_bytes(b"half")
    with pytest.raises(ValueError, match="Cannot load .*model.keras"):
        evaluate_run(run.path)


def test_a_config_file_that_lost_a_field_is_named(run, tmp_path):
    other = RunFolder(tmp_path)
    other.write_config({k: v for k, v in run.read_config().items() if k != "seed"})
    with pytest.raises(ValueError, match="config.yaml: it must have `seed`"):
        TrainConfig.from_run(other)


def test_the_configuration_loads_the_same_data_again(run):
    config = TrainConfig.from_run(run)
    first, again = load_data(config), pipelines.load("phantom", seed=0, images=120, size=16)
    assert first.info.manifest.equals(again.info.manifest)
