"""LiteRT files in float16 and int8: their size, their operators, what they cost, and the bounds that stop them."""

import keras
import numpy as np
import pytest

from export_models import GlimpseNet, images, randomize
from medkeras.evaluation.measures import named_measure
from medkeras.export import LiteRTModel, check_builtin, compare_quantized, export_litert
from medkeras.export.bounds import merge_bounds
from medkeras.export.litert.writer import PRECISIONS
from medkeras.export.saved_model.writer import export_saved_model

pytest.importorskip("tensorflow")
LOOSE = {"litert-int8": {"agreement": 0.0, "auc_loss": 1.0}, "litert-full-int8": {"agreement": 0.0, "auc_loss": 1.0}}


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    return randomize(GlimpseNet((16, 16, 1), num_classes=2, channels=32))


@pytest.fixture(scope="module")
def data(net):
    """Waves, and as their label what the model itself makes of them, one in eight turned."""
    x = images(net, 24)
    logits = np.asarray(net(x, training=False))
    labels = (logits[:, 1] - logits[:, 0] > np.median(logits[:, 1] - logits[:, 0])).astype(int)
    labels[::8] = 1 - labels[::8]
    return x, labels


@pytest.fixture(scope="module")
def files(net, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    saved = export_saved_model(net, folder / "1")
    return {
        f"litert-{precision}": export_litert(
            saved, folder / f"{precision}.tflite", precision=precision, representative=data[0]
        )
        for precision in PRECISIONS
    }


def test_smaller_files_hold_builtin_operators_and_keep_the_signature(net, data, files):
    size = {name: path.stat().st_size for name, path in files.items()}
    assert size["litert-float16"] < 0.75 * size["litert-float32"]
    assert size["litert-int8"] < size["litert-float16"]
    full = check_builtin(files["litert-full-int8"])
    assert {"QUANTIZE", "DEQUANTIZE"} <= set(full)
    for file in files.values():
        check_builtin(file)
        found = LiteRTModel(file).predict(data[0][:3])
        assert {k: (v.shape, v.dtype) for k, v in found.items()} == {
            name: ((3, 2), np.float32) for name in ("probabilities", "logits")
        }


def test_the_report_says_what_a_smaller_file_costs(net, data, files):
    x, labels = data
    quantized = {name: file for name, file in files.items() if name != "litert-float32"}
    report = compare_quantized(net, x, labels, quantized, bounds=LOOSE)
    auc = named_measure("auc", task="binary")
    logits = np.asarray(net(x, training=False))
    assert report["samples"] == 24
    assert report["auc"] == pytest.approx(auc(labels, np.asarray(keras.ops.softmax(logits))))
    for name, file in quantized.items():
        found, row = LiteRTModel(file).predict(x), report[name]
        assert row["auc"] == pytest.approx(auc(labels, found["probabilities"]))
        assert row["auc_loss"] == pytest.approx(report["auc"] - row["auc"])
        assert row["agreement"] == np.mean(found["logits"].argmax(axis=1) == logits.argmax(axis=1))
    assert 0 < report["litert-float16"]["logits"]["max"] <= 2e-2
    assert report["litert-float16"]["logits"]["mean"] < report["litert-full-int8"]["logits"]["mean"]


def test_ranges_come_from_the_representative_images(net, data, files, tmp_path):
    dark = export_litert(net, tmp_path / "dark.tflite", precision="full-int8", representative=0.05 * data[0][:4])
    wanted = np.asarray(net(data[0], training=False))
    errors = [
        np.abs(LiteRTModel(f).predict(data[0])["logits"] - wanted).mean() for f in (files["litert-full-int8"], dark)
    ]
    assert errors[0] < errors[1]


def test_a_missed_bound_is_named(net, data, files):
    x, labels = data
    other = randomize(type(net).from_config(net.get_config()), seed=1)
    logits = np.asarray(other(x, training=False))
    own = (logits[:, 1] - logits[:, 0] > np.median(logits[:, 1] - logits[:, 0])).astype(int)  # It ranks these rightly.
    for model, truth, name, bounds, words in (
        (net, labels, "litert-float16", {"logits": 1e-9}, "logits within 1e-09 of Keras. Received: logits="),
        (
            other,
            own,
            "litert-int8",
            {"agreement": 1.0, "auc_loss": 1.0},
            "agreement of at least 1. Received: agreement=",
        ),
        (other, own, "litert-full-int8", {"agreement": 0.0, "auc_loss": 0.0}, "auc_loss of at most 0. Received: auc_l"),
    ):
        with pytest.raises(ValueError, match=f"The {name} export must have {words}"):
            compare_quantized(model, x, truth, {name: files[name]}, bounds={name: bounds})
    alone = compare_quantized(
        net,
        x[:4],
        np.zeros(4, int),
        {"litert-int8": files["litert-int8"]},
        bounds={"litert-int8": LOOSE["litert-int8"]},
    )
    assert alone["auc"] is alone["litert-int8"]["auc_loss"] is None


def test_bad_input_is_named(net, data, files, tmp_path):
    for call, words in (
        (lambda: export_litert(net, tmp_path / "a.tflite", precision="int4"), "precision='int4'"),
        (
            lambda: export_litert(net, tmp_path / "a.tflite", precision="full-int8"),
            "representative images. Received: none",
        ),
        *(
            (lambda x=x: export_litert(net, tmp_path / "a.tflite", precision="full-int8", representative=x), words)
            for x, words in (
                (data[0][:0], r"images.shape=\(0, 16, 16, 1\)"),
                (
                    data[0][:2, :8],
                    r"images.shape=\(2, 8, 16, 1\)",
                ),
                (iter(data[0]), "images of type"),
                (np.full_like(data[0][:2], np.nan), r"in \[0, 1\]. Received: images from nan"),
            )
        ),
        (lambda: compare_quantized(net, data[0][:, :8], data[1], {}), r"images.shape=\(24, 8, 16, 1\)"),
        (lambda: compare_quantized(net, *data, {"litert": "a"}), "Received: 'litert'"),
        (lambda: compare_quantized(net, *data, {}, bounds=LOOSE), "Received: a bound of 'litert-int8'"),
        (lambda: merge_bounds(["litert-int8"], {"litert-int8": {"auc": 1}}), "Received: 'auc'"),
        (lambda: merge_bounds(["litert-int4"]), "Received: 'litert-int4'"),
        (lambda: merge_bounds(["litert"], {"litert": {"auc_loss": 0.1}}), "Received: 'auc_loss'"),
        (lambda: merge_bounds(["litert"], {"litert": {"probabilities": -1e-4}}), "Received: probabilities=-0.0001"),
        (lambda: merge_bounds(["onnx"], {"onnx": {"logits": np.nan}}), r"must be >= 0. Received: logits=nan"),
        (lambda: merge_bounds(["onnx"], {"onnx": {"agreement": 1.1}}), r"in \[0, 1\]. Received: agreement=1.1"),
    ):
        with pytest.raises(ValueError, match=words) as raised:
            call()
        assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
