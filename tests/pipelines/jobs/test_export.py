"""The export job: the layout of the model store, what is printed, and what it refuses."""

import io
import json
import subprocess

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from export_models import GlimpseNet, SeenNet
from exported_run import CALIBRATION, POINT, SCALING, make_calibrated_run, make_run
from medkeras.export import LiteRTModel, operators
from medkeras.uncertainty import LogitScaling
from pipelines.exporting import images as export_images
from pipelines.exporting import model_store
from pipelines.exporting.bounds import parse_bounds
from pipelines.exporting.files import ExportFiles
from pipelines.exporting.model_store import next_version, published
from pipelines.exporting.signatures import choose_signatures
from pipelines.exporting.summary import show_export
from pipelines.inference.exported_model import open_saved_model
from pipelines.jobs import export
from pipelines.jobs.export import export_run
from pipelines.jobs.predict import predict_run
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data, load_split


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_calibrated_run(tmp_path_factory.mktemp("runs") / "lungs")


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_store_has_versions_that_tf_serving_reads(run, tmp_path):
    out = io.StringIO()
    first = export_run(run.path, tmp_path, samples=4, signatures=(), console=Console(file=out, width=100))
    assert (first["name"], first["version"]) == ("lungs", 1)
    assert first["saved_model"] == str(tmp_path / "lungs" / "1")
    assert first["litert"] == str(tmp_path / "lungs" / "litert" / "1" / "lungs.tflite")
    second = export_run(run.path, tmp_path, samples=4, formats=["saved_model"], signatures=())
    assert second["version"] == 2 and "litert" not in second
    assert {p.name for p in (tmp_path / "lungs").iterdir()} == {"1", "2", "litert"}
    beside = tmp_path / "lungs" / "1" / "assets.extra"
    assert files(beside) == ["checksums.sha256", "labels.json", "parity.json", "tf_serving_warmup_requests"]
    assert files(tmp_path / "lungs" / "litert" / "1") == [
        "checksums.sha256",
        "labels.json",
        "lungs.tflite",
        "parity.json",
    ]
    assert json.loads((beside / "parity.json").read_text()) == first["parity"]
    labels = json.loads((beside / "labels.json").read_text())
    assert labels["class_names"] == ["healthy", "lesion"]
    assert labels["operating_point"] == POINT
    assert labels["calibration"] == SCALING.to_dict() and labels["name"] == "glimpse_net"
    assert labels["sureness"] == {name: CALIBRATION.to_dict()[name] for name in ("sets", "referral")}
    assert first["parity"]["samples"] == 4
    assert f"{first['parity']['litert']['logits']['max']:.1e}" in out.getvalue()
    assert first["litert"] in out.getvalue()


def test_a_run_answers_all_that_it_can_and_files_as_it_predicts_them(run, tmp_path):
    """The whole way: `medkeras predict` of files, and the same files' bytes to the exported run."""
    out = io.StringIO()
    console = Console(file=out, width=100)
    found = export_run(run.path, tmp_path / "store", samples=2, formats=["saved_model"], console=console)
    assert "no signature explain: the model has no map of its own and no features" in out.getvalue()
    saved = tf.saved_model.load(found["saved_model"])
    assert set(saved.signatures) == {"serve", "serving_default", "serve_bytes", "uncertainty"}
    labels = json.loads((tmp_path / "store" / "lungs" / "1" / "assets.extra" / "labels.json").read_text())
    assert labels["more_signatures"] == ["serve_bytes", "uncertainty"]
    rng, names = np.random.default_rng(0), []
    for i, (kind, shape) in enumerate(((".png", (40, 30)), (".png", (50, 64, 3)), (".jpg", (33, 47, 3)))):
        names.append(tmp_path / f"{i}{kind}")
        cv2.imwrite(str(names[-1]), cv2.GaussianBlur(rng.integers(0, 256, shape, np.uint8), (5, 5), 0))
    wanted = predict_run(run.path, names, tmp_path / "out.csv").filter(like="probability_").to_numpy()
    served = saved.signatures["serve_bytes"](image_bytes=tf.constant([name.read_bytes() for name in names]))
    np.testing.assert_allclose(served["probabilities"], wanted, atol=1e-5)


def test_a_signature_that_cannot_be_is_told_or_refused():
    model = GlimpseNet((16, 16, 1), num_classes=2)
    out = io.StringIO()
    chosen = choose_signatures(model, ["square", "clahe:tiles=4"], console=Console(file=out))
    assert chosen == {"signatures": ["uncertainty"], "steps": ()}
    assert "no signature serve_bytes: the step clahe:tiles=4 has no form in a graph" in out.getvalue()
    assert len(choose_signatures(model, ["square"])["steps"]) == 1
    for wanted, words in ((["serve_bytes"], "no signature serve_bytes: the step clahe"), (["regress"], "regress")):
        with pytest.raises(ValueError, match=words):
            choose_signatures(model, ["clahe"], wanted=wanted)


def test_both_files_predict_what_the_run_predicts(run, tmp_path):
    bounds = parse_bounds(["litert.probabilities=5e-5", "saved_model.agreement=1"])
    paths = export_run(run.path, tmp_path, name="chest", samples=2, signatures=(), bounds=bounds)
    assert paths["parity"]["litert"]["bounds"] == {"probabilities": 5e-5, "map": 1e-4}
    assert paths["parity"]["saved_model"]["bounds"] == {"probabilities": 1e-5, "agreement": 1}
    x = load_data(TrainConfig.from_run(run)).arrays("val")[0]
    logits = keras.models.load_model(run / "model.keras", compile=False).predict(x, verbose=0)
    served = tf.saved_model.load(paths["saved_model"]).signatures["serving_default"](image=tf.constant(x))
    on_the_edge = LiteRTModel(paths["litert"]).predict(x)
    wanted = {"logits": SCALING.apply(logits), "probabilities": SCALING.probabilities(logits)}
    assert np.abs(wanted["probabilities"] - LogitScaling("binary").probabilities(logits)).max() > 0.01
    for name, values in wanted.items():
        np.testing.assert_allclose(served[name], values, atol=1e-5)
        np.testing.assert_allclose(on_the_edge[name], values, atol=1e-4)


def test_quantised_files_lie_beside_and_say_what_they_cost(run, tmp_path, monkeypatch):
    opened, load_splits = [], export_images.load_splits
    monkeypatch.setattr(export_images, "load_splits", lambda config: opened.append(config) or load_splits(config))
    seen, write = [], export.ExportFiles
    monkeypatch.setattr(export, "ExportFiles", lambda *given: seen.append(given) or write(*given))
    out, forms = io.StringIO(), ["litert-float16", "litert-int8", "litert-full-int8"]
    bounds = parse_bounds([f"{form}.{bound}" for form in forms[1:] for bound in ("agreement=0", "auc_loss=1")])
    console = Console(file=out, width=100)
    found = export_run(run.path, tmp_path, formats=forms, bounds=bounds, samples=1, console=console)
    assert len(opened) == 1  # What a source warns of is said once.
    trained = load_data(TrainConfig.from_run(run)).arrays("train")[0]
    np.testing.assert_array_equal(sorted(seen[0][4].sum(axis=(1, 2, 3))), sorted(trained.sum(axis=(1, 2, 3))))
    assert "QUANTIZE" in operators(found["litert-full-int8"]) and "QUANTIZE" not in operators(found["litert-int8"])
    store = tmp_path / "lungs"
    assert files(store / "litert-full-int8" / "1") == [
        "checksums.sha256",
        "labels.json",
        "lungs-full-int8.tflite",
        "parity.json",
    ]
    assert {path.name for path in store.iterdir()} == set(forms)
    labels = json.loads((store / "litert-int8" / "1" / "labels.json").read_text())
    assert LiteRTModel(found["litert-int8"]).labels == labels
    report = found["parity"]["quantized"]
    assert report["samples"] == len(load_split(TrainConfig.from_run(run), "val"))
    assert f"{report['litert-int8']['auc']:.3f}" in out.getvalue()
    listed = subprocess.run(["sha256sum", "-c", "checksums.sha256"], cwd=store / "litert-int8" / "1", check=False)
    assert listed.returncode == 0


def test_images_are_spread_evenly_over_a_split(run):
    model, splits = GlimpseNet((16, 16, 1), num_classes=2), load_data(TrainConfig.from_run(run))
    images = export_images.ExportImages(run, model, None, {})
    for found, split in ((images.examples(3)[0], "val"), (images.of_training(3), "train")):
        wanted = splits.arrays(split)[0]
        np.testing.assert_array_equal(found, wanted[[0, (len(wanted) - 1) // 2, len(wanted) - 1]])


def test_a_litert_file_says_that_it_explains(tmp_path):
    model = SeenNet(num_classes=2, point="attention")
    written = ExportFiles(model, "seen", {}, {}, None).write({"litert": tmp_path})
    assert LiteRTModel(written["litert"]).labels["more_signatures"] == ["explain"]


def test_a_version_is_never_written_again(tmp_path, monkeypatch):
    on_disk, sync = [], model_store.os.fsync
    monkeypatch.setattr(model_store.os, "fsync", lambda handle: on_disk.append(files(tmp_path)) or sync(handle))
    with pytest.raises(ValueError, match="never written again"), published(tmp_path / "1") as slow:
        (slow / "model").write_text("slow")
        with published(tmp_path / "1") as fast:
            (fast / "model").write_text("fast")
        assert {path.name[0] for path in tmp_path.iterdir()} == {".", "1"}  # No number before it is whole.
    assert len(on_disk) == 2 and "1/model" not in on_disk[0]  # Before the rename, for a computer that stops.
    assert files(tmp_path) == ["1/model"] and (tmp_path / "1" / "model").read_text() == "fast"
    with pytest.raises(KeyboardInterrupt), published(tmp_path / "2") as folder:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt
    assert files(tmp_path) == ["1/model"]


def test_a_version_counts_up_whatever_the_format_before(tmp_path):
    assert next_version(tmp_path) == 1
    for folder, following in (("2", 3), ("litert-int8/5", 6), ("onnx/7", 8), (".9-half", 8)):
        (tmp_path / folder).mkdir(parents=True)
        assert next_version(tmp_path) == following


def test_real_images_pass_the_comparison(run, real_data, tmp_path):
    npz = real_data / "pneumoniamnist" / "pneumoniamnist_rebuilt.npz"
    if not npz.is_file():
        pytest.skip(f"no {npz}")
    report = export_run(run.path, tmp_path, data=str(npz), samples=16, signatures=())["parity"]
    assert report["samples"] == 16
    assert report["saved_model"]["agreement"] == report["litert"]["agreement"] == 1.0


def test_a_missed_bound_publishes_nothing_and_the_old_version_stays(run, tmp_path, monkeypatch):
    def missed(*args, **kwargs):
        raise ValueError("The litert export must agree with Keras to 0.0001. Received: logits that differ by 1")

    old = export_run(run.path, tmp_path, formats=["saved_model"], samples=1, signatures=())["saved_model"]
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(export, "compare", missed)
    with pytest.raises(ValueError, match="must agree"):
        export_run(run.path, tmp_path, formats=["saved_model", "litert"], signatures=())
    for wrong in ({"name": "../lungs"}, {"formats": ["litert-int4"]}, {"data": str(tmp_path / "gone.npz")}):
        with pytest.raises((ValueError, FileNotFoundError)):
            export_run(**({"run": run.path, "to": tmp_path} | wrong))
    assert sorted(tmp_path.rglob("*")) == before
    assert open_saved_model(tmp_path / "lungs").model.task == "binary"  # Its checksums hold.
    assert old == str(tmp_path / "lungs" / "1")


def test_bad_input_is_named_and_nothing_is_written(run, tmp_path):
    (tmp_path / "file").write_text("here already")
    damaged = make_run(tmp_path / "damaged", source_options={"images": 40})
    (damaged / "model.keras").write_bytes(b"torn")
    before = files(tmp_path)
    for options, error, words in (
        ({"run": tmp_path / "none"}, FileNotFoundError, "none"),
        ({"run": damaged.path}, ValueError, "Cannot load .*model.keras"),
        ({"to": tmp_path / "file"}, NotADirectoryError, "to a folder. Received: .*file is a file"),
        ({"to": tmp_path / "file" / "deeper"}, NotADirectoryError, "to a folder. Received: .*file is a file"),
        ({"to": "/proc/nowhere"}, OSError, "/proc/nowhere"),
        ({"name": "a/b"}, ValueError, "name='a/b'"),
        ({"name": ""}, ValueError, "name=''"),
        ({"formats": ["openvino"]}, ValueError, r"formats=\['openvino'\]"),
        ({"formats": []}, ValueError, "formats="),
        ({"formats": ["litert-int4"]}, ValueError, r"formats=\['litert-int4'\]"),
        ({"bounds": {"litert-int8": {}}}, ValueError, "a bound of 'litert-int8'"),
        ({"samples": 0}, ValueError, "samples=0"),
        ({"data": "phantom:binary3d"}, ValueError, "with 3D images"),
        ({"data": str(tmp_path / "gone.npz")}, FileNotFoundError, "gone.npz"),
    ):
        with pytest.raises(error, match=words) as raised:
            export_run(**({"run": run.path, "to": tmp_path / "store"} | options))
        assert "\n" not in str(raised.value)
        assert files(tmp_path) == before


def test_a_folder_without_the_right_to_write_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(model_store.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="can be written. Received: "):
        export_run(run.path, tmp_path)


def test_rounding_is_told_beside_a_widened_bound(tmp_path):
    parts = {"probabilities": {"max": 4e-4}, "logits": {"max": 2e-3}}
    parity = {"samples": 2, "litert": parts | {"bounds": {"probabilities": 1e-3}, "agreement": 1.0}, "rounding": parts}
    console = Console(file=io.StringIO(), width=200)
    show_export(console, {"litert": tmp_path / "model.tflite"}, parity)
    assert "Keras itself changes its probabilities by up to 4.0e-04" in console.file.getvalue()
    console = Console(file=io.StringIO(), width=200)
    show_export(console, {"litert": tmp_path / "model.tflite"}, {k: v for k, v in parity.items() if k != "rounding"})
    assert "itself" not in console.file.getvalue()
