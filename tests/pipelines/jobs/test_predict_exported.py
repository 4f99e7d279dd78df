"""`medkeras predict` with an exported model itself: the table of the run, and what is refused."""

import dataclasses
import io
import json
import shutil

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from exported_run import make_calibrated_run
from pipelines.cli.main import main
from pipelines.inference.exported_model import open_file, open_saved_model
from pipelines.jobs.export import export_run
from pipelines.jobs.predict import predict_run
from pipelines.sources.unlabelled import open_inputs


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run whose images are small and made square, three scans, the run's table of them, and its exported files."""
    folder, rng = tmp_path_factory.mktemp("exported"), np.random.default_rng(0)
    for i in range(40):
        place = folder / "data" / ("healthy", "lesion")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{i}.png"), rng.integers(0, 256, (20, 16), np.uint8))
    read = {"data": folder / "data", "source_options": {"max_pixels": 4000}}
    run = make_calibrated_run(folder / "lungs", preprocess=("square",), **read)
    scans = folder / "scans"
    scans.mkdir()
    for i, shape in enumerate(((40, 30), (50, 64, 3), (16, 16))):
        cv2.imwrite(str(scans / f"{i}.png"), cv2.GaussianBlur(rng.integers(0, 256, shape, np.uint8), (5, 5), 0))
    table = predict_run(run.path, [scans], folder / "run.csv")
    store = export_run(run.path, folder / "store", samples=2, signatures=())
    return {"scans": scans, "table": table, "saved_model": folder / "store" / "lungs" / "1", "litert": store["litert"]}


def predict(*words, out):
    return main(["predict", *map(str, words), "--out", str(out)])


def test_the_table_is_that_of_the_run_and_no_keras_model_is_loaded(exported, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a Keras model was loaded")

    monkeypatch.setattr(keras.models, "load_model", refuse)
    wanted = exported["table"]
    numbers = [name for name in wanted if wanted[name].dtype.kind == "f"]
    assert {"set", "decision", "prediction"} < set(wanted) - set(numbers)
    saved = exported["saved_model"]
    for option, path, bound in (
        ("--saved-model", saved, 1e-5),
        ("--saved-model", saved.parent, 1e-5),
        ("--tflite", exported["litert"], 1e-4),
    ):
        out = tmp_path / "out.csv"
        assert predict(option, path, exported["scans"], out=out) == 0
        found = pd.read_csv(out, keep_default_na=False)
        assert list(found) == list(wanted)
        np.testing.assert_allclose(found[numbers], wanted[numbers], atol=bound)
        pd.testing.assert_frame_equal(found.drop(columns=numbers), wanted.drop(columns=numbers), check_dtype=False)


def test_bad_images_are_named_or_skipped(exported, tmp_path, capsys):
    bad, out = tmp_path / "bad.png", tmp_path / "out.csv"
    bad.write_bytes(b"no image")
    words = ("--tflite", exported["litert"], exported["scans"] / "0.png", bad)
    assert predict(*words, out=out) == 2 and not out.exists()
    assert "bad.png" in capsys.readouterr().err
    assert predict(*words, "--on-error", "skip", out=out) == 0
    assert len(pd.read_csv(out)) == 1 and str(bad) in (tmp_path / "rejected.csv").read_text()
    cv2.imwrite(str(bad), np.zeros((70, 70), np.uint8))
    assert predict("--tflite", exported["litert"], bad, out=tmp_path / "large.csv") == 2  # As the run reads its files.
    assert "max_pixels=4000" in capsys.readouterr().err


def test_the_highest_version_is_asked(exported, tmp_path):
    shutil.copytree(exported["saved_model"], tmp_path / "10")
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "saved_model.pb").write_bytes(b"torn")
    assert open_saved_model(tmp_path).model.class_names == ("healthy", "lesion")


def test_what_rounding_moves_off_one_is_divided_by_its_sum(exported):
    def rounded(images):
        return np.tile(np.float32([0.25, 0.7]), (len(images), 1))

    opened = dataclasses.replace(open_file(exported["litert"], ".tflite"), probabilities=rounded)
    records = open_inputs([exported["scans"]], model=opened.model)
    found = opened.answer(records, batch_size=2).probabilities
    np.testing.assert_allclose(found, np.tile([0.25 / 0.95, 0.7 / 0.95], (3, 1)), rtol=1e-6)
    several = dataclasses.replace(opened, model=dataclasses.replace(opened.model, task="multilabel"))
    records = open_inputs([exported["scans"]], model=several.model)
    np.testing.assert_allclose(several.answer(records).probabilities, rounded([0] * 3), rtol=1e-6)


def test_what_is_no_exported_model_is_refused(exported, tmp_path, capsys):
    saved, edge = tmp_path / "saved", tmp_path / "edge"

    def copied():
        for folder, source in (
            (saved, exported["saved_model"]),
            (edge, exported["saved_model"].parent / "litert" / "1"),
        ):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(source, folder)

    def labels(path, **changes):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def flip(path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    file, beside = edge / "lungs.tflite", saved / "assets.extra"
    weights = saved / "variables" / "variables.data-00000-of-00001"
    for change, words, message in (
        (lambda: None, ["--saved-model", tmp_path / "none"], "There is no such SavedModel. Received: "),
        (lambda: None, ["--saved-model", tmp_path], "A SavedModel is a folder with saved_model.pb. Received: "),
        (lambda: None, ["--saved-model", file], "A SavedModel is a folder with saved_model.pb. Received: "),
        (lambda: None, ["--tflite", saved], "There is no such .tflite file. Received: "),
        (lambda: None, ["--tflite", exported["scans"] / "0.png"], "The file must be a .tflite file. Received: "),
        (lambda: None, ["--onnx", file], "The file must be a .onnx file. Received: "),
        (lambda: flip(weights), ["--saved-model", saved], f"{weights} must have the SHA-256"),
        (lambda: flip(file), ["--tflite", file], f"{file} must have the SHA-256"),
        (lambda: weights.unlink(), ["--saved-model", saved], "Received: no such file"),
        (lambda: file.rename(edge / "b.tflite"), ["--tflite", edge / "b.tflite"], "checksums.sha256 without b.tflite"),
        (lambda: (beside / "labels.json").unlink(), ["--saved-model", saved], "has labels.json beside it"),
        (lambda: (edge / "labels.json").write_text("{}"), ["--tflite", file], "what an export writes. Received: "),
        (lambda: labels(edge / "labels.json", task=3), ["--tflite", file], "labels.json, `task` must be text. "),
        (lambda: labels(edge / "labels.json", input={}), ["--tflite", file], "labels.json, `input` must have `shape`"),
        (lambda: labels(edge / "labels.json", sureness=[]), ["--tflite", file], "labels.json, `sureness` must be a "),
        (lambda: labels(edge / "labels.json", class_names=[1]), ["--tflite", file], "`class_names[0]` must be text. "),
        (lambda: None, ["--saved-model", saved, "--tflite", file], "One exported model predicts at a time"),
        (lambda: None, ["--tflite", file, "--uncertainty", "mc-dropout"], "Received: --uncertainty"),
    ):
        copied()
        change()
        assert predict(*words, exported["scans"], out=tmp_path / "out.csv") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    copied()
    for checksums in (beside / "checksums.sha256", edge / "checksums.sha256"):
        checksums.unlink()
    said = io.StringIO()
    open_file(file, ".tflite", console=Console(file=said))
    assert f"{edge} has no checksums.sha256: its files are not checked" in said.getvalue()
    for path, opened in ((edge, lambda: open_file(file, ".tflite")), (beside, lambda: open_saved_model(saved))):
        other = {"class_names": ["a", "b", "c"], "task": "multiclass", "operating_point": None, "sureness": None}
        labels(path / "labels.json", **other)
        with pytest.raises(ValueError, match="of the model that it lies beside.*2 classes$"):
            opened()
    (saved / "saved_model.pb").write_bytes(b"torn")
    with pytest.raises(ValueError, match="Cannot load"):
        open_saved_model(saved)
    assert predict(tmp_path / "run", out=tmp_path / "out.csv") == 2
    assert "A prediction needs a RUN and an INPUT" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
