"""The trained models of this repository: whole, small, and served and run on the device as they lie there."""

import json
import re

import numpy as np
import pytest

from medkeras.export import LiteRTModel
from paths import ROOT
from pipelines.exporting.model_store import CHECKSUMS, check_files
from pipelines.inference.exported_model import open_file, open_saved_model
from pipelines.sources import open_source
from pipelines.sources.unlabelled import open_inputs

STORE = ROOT / "saved_models"
MODELS = ("pneumonia_focusnet2d", "pneumonia_dualattendmed")
# The largest difference of a probability; about twice what was measured on these phantoms.
BOUNDS = {"litert": 1e-4, "litert-float16": 2e-3, "litert-int8": 0.02, "litert-full-int8": 0.12}
LARGEST = 8_000_000  # Bytes of a model in all of its formats.


@pytest.mark.parametrize("name", MODELS)
def test_a_trained_model_is_whole_and_answers_in_every_format(name, tmp_path):
    folder = STORE / name
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert not [path for path in files if path.suffix in (".png", ".npz", ".keras")]  # No images of patients.
    lists = [path for path in files if path.name == CHECKSUMS]
    for checksums in lists:
        version = checksums.parent.parent if checksums.parent.name == "assets.extra" else checksums.parent
        check_files(version, checksums)
    edges = sorted(folder.glob("litert*/1/*.tflite"))
    assert len(edges) == 4 and len(lists) == 5
    phantom = open_source("phantom", images=4)
    np.savez(tmp_path / "phantom.npz", images=np.stack([np.asarray(phantom.read(i)) for i in range(4)]))
    saved = open_saved_model(folder)
    records = open_inputs([tmp_path / "phantom.npz"], model=saved.model, preprocess=saved.model.preprocess)
    wanted = saved.answer(records).probabilities
    assert saved.model.class_names == ("normal", "pneumonia")
    for path in edges:
        assert LiteRTModel(path).labels == json.loads((path.parent / "labels.json").read_text())
        found = open_file(path, ".tflite").answer(records).probabilities
        np.testing.assert_allclose(found, wanted, atol=BOUNDS[path.parent.parent.name])
        np.testing.assert_array_equal(found.argmax(axis=1), wanted.argmax(axis=1))


@pytest.mark.parametrize("name", MODELS)
def test_the_card_of_a_trained_model_says_what_was_measured(name):
    folder = STORE / name
    metrics = json.loads((folder / "metrics.json").read_text())
    parity = json.loads((folder / "1" / "assets.extra" / "parity.json").read_text())
    card = (folder / "model_card.md").read_text()
    assert f"{metrics['macro']['auc']:.3f}" in card and "CC BY 4.0" in card
    assert metrics["macro"]["auc"] > 0.95
    for form in ("litert-int8", "litert-full-int8"):
        row = parity["quantized"][form]
        assert row["agreement"] >= 0.98 and row["auc_loss"] <= 0.005
    assert not re.search(r"/(work|tmp|home)/", "".join(path.read_text() for path in folder.rglob("*.[jm][sd]*")))
