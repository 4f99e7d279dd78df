"""What version 0.1 wrote is read, used and continued: a run, an upscaler, exported files and saved models."""

import filecmp
import shutil

import keras
import numpy as np
import pandas as pd
import pytest

import medkeras
from paths import TESTS
from pipelines.cli.main import main
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split

OLD = TESTS / "data" / "version_0_1"
MODELS = sorted(path.stem for path in (OLD / "models").glob("*.json"))


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(OLD / "run", tmp_path / "run")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The test images of the run, as an npz."""
    records = load_split(TrainConfig.from_run(RunFolder(OLD / "run")), "test")
    path = tmp_path_factory.mktemp("images") / "test.npz"
    np.savez(path, images=np.stack([records.read(i) for i in range(len(records))]))
    return path


def probabilities(path):
    table = pd.read_csv(path)
    return table[["probability_healthy", "probability_lesion"]].to_numpy(), list(table["prediction"])


def call(*words):
    assert main([*map(str, words)]) == 0


def test_evaluate_gives_the_predictions_and_measures_of_then(run):
    call("evaluate", run)
    found, wanted = probabilities(run / "predictions.csv"), probabilities(OLD / "run" / "predictions.csv")
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
    assert found[1] == wanted[1]
    then, now = (RunFolder(folder).read_json("metrics.json") for folder in (OLD / "run", run))
    for name in ("accuracy", "mcc", "confusion_matrix", "patients", "count"):
        assert now[name] == pytest.approx(np.asarray(then[name]), abs=1e-6), name
    for name in ("auc", "average_precision"):
        assert now["macro"][name] == pytest.approx(then["macro"][name], abs=1e-6), name
    for name in ("config.yaml", "splits.csv", "operating_point.json", "calibration.json", "model.keras"):
        assert filecmp.cmp(run / name, OLD / "run" / name, shallow=False), name


def test_predict_explain_report_and_export_take_the_run(run, images, tmp_path):
    wanted = probabilities(OLD / "run" / "predictions.csv")
    call("predict", run, images, "--out", tmp_path / "p.csv")
    np.testing.assert_allclose(probabilities(tmp_path / "p.csv")[0], wanted[0], atol=1e-5)
    assert probabilities(tmp_path / "p.csv")[1] == wanted[1]
    call("explain", run, "--samples", "2", "--out", tmp_path / "maps")
    assert len(list((tmp_path / "maps").glob("*.png"))) >= 2
    call("report", run)
    page = (run / "report.html").read_text()
    assert "0.877" in page and "data:image" in page and "Cannot read" not in page
    call("export", run, "--to", tmp_path / "store", "--name", "again")
    call("predict", "--saved-model", tmp_path / "store" / "again", images, "--out", tmp_path / "s.csv")
    np.testing.assert_allclose(probabilities(tmp_path / "s.csv")[0], wanted[0], atol=1e-5)


def test_localize_takes_the_run(run):
    call("localize", run, "--samples", "1")
    assert (run / "localization").is_dir()


@pytest.mark.parametrize("option", ["--saved-model", "--tflite"])
def test_predict_takes_exported_files(option, images, tmp_path):
    store = OLD / "saved_models" / "phantom"
    path = store if option == "--saved-model" else store / "litert" / "1" / "phantom.tflite"
    call("predict", option, path, images, "--out", tmp_path / "p.csv")
    found, wanted = probabilities(tmp_path / "p.csv"), probabilities(OLD / "run" / "predictions.csv")
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-4)
    assert found[1] == wanted[1]


def test_a_training_goes_on_where_it_stood(run, tmp_path):
    then = pd.read_csv(OLD / "run" / "history.csv")
    options = [word for option in ("saccades=1", "depth=1", "channels=4") for word in ("--model-option", option)]
    words = ["--data", "phantom", "--model", "focusnet2d_tiny", "--image-size", "24", "--learning-rate", "8e-3"]
    call("train", *words, "--source-option", "images=240", *options, "--run", run, "--epochs", len(then) + 1)
    now = pd.read_csv(run / "history.csv")
    assert len(now) == len(then) + 1
    pd.testing.assert_frame_equal(now[: len(then)], then, check_like=True)


def test_another_configuration_is_refused_and_nothing_is_written(run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["train", "--data", "phantom", "--model", "focusnet2d_tiny", "--run", str(run)]) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_enhance_takes_the_upscaler(run, images, tmp_path):
    call("enhance", run, images, "--upscaler", OLD / "upscaler_run" / "upscaler", "--steps", "1", "--max-regions", "1",
         "--smallest", "16", "--samples", "1", "--out", tmp_path / "enhanced")  # fmt: skip
    assert list((tmp_path / "enhanced").rglob("*.png"))


def test_an_upscaler_is_not_trained_over(tmp_path, capsys):
    folder = shutil.copytree(OLD / "upscaler_run", tmp_path / "up")
    assert main(["train-upscaler", "--data", "phantom", "--run", str(folder), "--preset", "ldm_4x_tiny"]) == 2
    assert "An upscaler is trained into a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", MODELS)
def test_saved_configurations_of_every_architecture_make_its_model(name):
    model = keras.models.model_from_json((OLD / "models" / f"{name}.json").read_text())
    assert isinstance(model, medkeras.models.ImageClassifier)
    shape = (2, *model.image_shape)
    assert model(np.zeros(shape, "float32")).shape == (2, 3)


def test_saved_layers_are_found_in_their_new_rooms():
    model = keras.models.load_model(OLD / "models" / "layers.keras", compile=False)
    assert np.isfinite(model(np.ones((2, 16, 16, 4), "float32"))).all()
