"""ONNX files: their names and what they say of themselves, what is refused, and `medkeras export` and `predict`."""

import importlib.util
import json

import keras
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import tensorflow as tf

from export_models import GlimpseNet, images, randomize
from exported_run import SCALING, make_calibrated_run
from medkeras.export import OnnxModel, compare, export_onnx
from medkeras.models.base import ImageClassifier, image_input
from medkeras.uncertainty import Calibrated
from pipelines.cli.main import main
from pipelines.jobs.predict import predict_run


class BesselNet(ImageClassifier):
    """A model of an operator that ONNX does not have."""

    def __init__(self, input_shape, *, num_classes):
        image, x = image_input(input_shape, "none")
        x = keras.layers.Lambda(tf.math.bessel_i0e)(keras.layers.Flatten()(x))
        logits = keras.layers.Dense(num_classes)(x)
        known = {"image_shape": input_shape, "num_classes": num_classes, "task": None, "class_names": None}
        super().__init__(inputs=image, logits=logits, normalization="none", explain_points={}, name="bessel", **known)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A calibrated model and its file."""
    model = Calibrated(randomize(GlimpseNet((16, 16, 3), num_classes=2, class_names=["no", "yes"])), scaling=SCALING)
    return model, export_onnx(model, tmp_path_factory.mktemp("onnx") / "chest.onnx")


def test_the_file_pins_its_names_and_describes_itself(exported):
    model, file = exported
    content = onnx.load(file)
    onnx.checker.check_model(content, full_check=True)
    assert {node.domain for node in content.graph.node} == {""}
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("image", ["batch", 16, 16, 3])]
    answers = {value.name: value.shape for value in session.get_outputs()}
    assert answers == {name: ["batch", 2] for name in ("probabilities", "logits")}
    labels = OnnxModel(file).labels
    assert labels["class_names"] == ["no", "yes"] and labels["calibration"] == SCALING.to_dict()


def test_the_file_gives_calibrated_probabilities_for_any_batch(exported):
    model, file = exported
    x, opened = images(model, 5), OnnxModel(file, threads=1)
    wanted = np.asarray(model(x, training=False))
    for size in (1, 2, 5):
        np.testing.assert_allclose(opened.predict(x, batch_size=size)["logits"], wanted, atol=1e-5)
    assert compare(model, x, onnx=file)["onnx"]["agreement"] == 1.0
    other = randomize(GlimpseNet((16, 16, 3), num_classes=2), seed=1)
    with pytest.raises(ValueError, match="onnx export must have probabilities within 0.0001 of Keras. R"):
        compare(other, x, onnx=file)


def test_bad_input_is_named(exported, tmp_path, monkeypatch):
    model, file = exported
    (tmp_path / "no.onnx").write_bytes(b"not a model")
    foreign = onnx.load(file)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for call, error, words in (
        (lambda: export_onnx(model, tmp_path / "a.bin"), ValueError, "ends in .onnx. Received: path="),
        (lambda: export_onnx(keras.Sequential(), tmp_path / "a.onnx"), ValueError, "model=Sequential"),
        (lambda: export_onnx(BesselNet((4, 4, 1), num_classes=2), tmp_path / "a.onnx"), ValueError, "needs BesselI0e"),
        (lambda: OnnxModel(tmp_path / "none.onnx"), FileNotFoundError, "none.onnx"),
        (lambda: OnnxModel(tmp_path / "no.onnx"), ValueError, "can open. Received: .*no.onnx"),
        (lambda: OnnxModel(tmp_path / "foreign.onnx"), ValueError, "that `export_onnx` wrote. Received: .*foreign"),
        (lambda: OnnxModel(file).predict(np.zeros((1, 2, 2, 3))), ValueError, r"images.shape=\(1, 2, 2, 3\)"),
    ):
        with pytest.raises(error, match=words) as raised:
            call()
        assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign.onnx", "no.onnx"]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "tf2onnx" else find(name))
    with pytest.raises(ModuleNotFoundError, match=r"ONNX needs tf2onnx: pip install 'medkeras\[onnx\]'"):
        export_onnx(model, tmp_path / "a.onnx")


def test_a_run_is_exported_and_its_file_predicts_as_the_run(tmp_path, capsys):
    run, out = make_calibrated_run(tmp_path / "lungs"), tmp_path / "served.csv"
    np.savez(tmp_path / "scans.npz", images=np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8))
    wanted = predict_run(run.path, [tmp_path / "scans.npz"], tmp_path / "run.csv")
    assert main(["export", str(run.path), "--to", str(tmp_path / "store"), "--format", "onnx"]) == 0
    file = tmp_path / "store" / "lungs" / "onnx" / "1" / "lungs.onnx"
    beside = ["checksums.sha256", "labels.json", "lungs.onnx", "parity.json"]
    assert sorted(path.name for path in file.parent.iterdir()) == beside
    assert json.loads((file.parent / "parity.json").read_text())["onnx"]["probabilities"]["max"] <= 1e-4
    assert OnnxModel(file).labels == json.loads((file.parent / "labels.json").read_text())
    assert main(["predict", "--onnx", str(file), str(tmp_path / "scans.npz"), "--out", str(out)]) == 0
    found = pd.read_csv(out, keep_default_na=False)
    assert list(found) == list(wanted)
    numbers = [name for name in wanted if wanted[name].dtype.kind == "f"]
    np.testing.assert_allclose(found[numbers], wanted[numbers], atol=1e-4)
    file.write_bytes(file.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["predict", "--onnx", str(file), str(tmp_path / "scans.npz"), "--out", str(out)]) == 2
    assert "must have the SHA-256" in capsys.readouterr().err
