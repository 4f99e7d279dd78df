"""What a run remembers of its data: leaks, folds, preprocessing, sampling, DICOM codes."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import yaml

from medkeras.models import registry
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.data import inspect
from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.export import export_run
from pipelines.jobs.predict import predict_run
from pipelines.jobs.train import train
from pipelines.training.config import ALWAYS, TrainConfig
from pipelines.training.data import load_split
from tiny_model import PRESETS

SMALL = {
    "data": "phantom",
    "model": "tiny_net",
    "image_size": 24,
    "batch_size": 8,
    "epochs": 1,
    "augment": "none",
    "source_options": {"images": 60},
}


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch):
    monkeypatch.setattr(registry, "_PRESETS", PRESETS)


def write_images(folder, count=24, copies=()):
    """Class folders of textures; `copies` are pairs (from, to) of images."""
    import cv2

    noise = np.random.default_rng(0).random((count, 40, 40), np.float32)
    images = [(cv2.GaussianBlur(image, (0, 0), 2) * 1500 % 256).astype(np.uint8) for image in noise]
    for source, target in copies:
        images[target] = images[source]
    for i, image in enumerate(images):
        path = folder / ("ill" if i % 2 else "well") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)


def test_a_leak_stops_the_job_and_is_listed(tmp_path):
    write_images(tmp_path / "scans", copies=[(0, 2), (4, 6), (1, 3), (8, 10), (12, 14), (5, 7), (9, 11)])
    config = SMALL | {"data": str(tmp_path / "scans"), "run": str(tmp_path / "run"), "source_options": {}}
    with pytest.raises(ValueError, match=r"identical between.*listed in .*leakage.csv"):
        train(TrainConfig(**config))
    leaks = pd.read_csv(tmp_path / "run" / "leakage.csv")
    assert set(leaks["kind"]) == {"identical"} and not (tmp_path / "run" / "splits.csv").is_file()
    with pytest.raises(ValueError, match="listed in"):
        train(TrainConfig(**config))  # The list that is there already lets no second try pass.
    run = train(TrainConfig(**config | {"group_duplicates": True}))
    assert len(pd.read_csv(run / "leakage.csv")) == 0
    assert evaluate_run(run.path)["count"] == len(pd.read_csv(run / "splits.csv").query("split == 'test'"))


def test_a_run_keeps_its_fold_sampling_and_preprocessing(tmp_path):
    config = SMALL | {
        "run": str(tmp_path / "run"),
        "folds": 3,
        "fold": 1,
        "balance": "oversample",
        "preprocess": ("square", "percentile:low=1"),
        "cache": str(tmp_path / "cache"),
        "augment": "ultrasound",
    }
    run = train(TrainConfig(**config))
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert (kept["folds"], kept["fold"], kept["balance"]) == (3, 1, "oversample")
    assert [step.split(":")[0] for step in kept["preprocess"]] == ["square", "percentile"]
    assert list((tmp_path / "cache").rglob("images.bin"))
    again = TrainConfig.from_run(run)
    splits = pd.read_csv(run / "splits.csv").groupby("split")["id"].apply(set)
    assert {split: set(load_split(again, split).table["id"]) for split in splits.index} == splits.to_dict()
    # The steps are applied where the run's images are read again: stretched to the whole range.
    image = load_split(again, "test").read(0)
    assert image.min() == 0 and image.max() == 255
    export_run(run.path, tmp_path / "store", name="m", formats=["saved_model"], samples=2)
    labels = json.loads(next((tmp_path / "store").rglob("labels.json")).read_text())
    assert labels["preprocess"] == kept["preprocess"]


def test_prediction_preprocesses_like_training(tmp_path):
    write_images(tmp_path / "scans")
    shared = SMALL | {"data": str(tmp_path / "scans"), "source_options": {}, "leakage": "off"}
    plain = train(TrainConfig(**shared, run=str(tmp_path / "plain")))
    stretched = RunFolder(tmp_path / "stretched")
    stretched.path.mkdir()
    for path in plain.path.iterdir():
        if path.is_file():
            (stretched / path.name).write_bytes(path.read_bytes())
    config = yaml.safe_load((plain / "config.yaml").read_text())
    stretched.write_config(config | {"preprocess": ["clahe:clip=4.0,tiles=2"]})
    scans = sorted((tmp_path / "scans" / "ill").iterdir())
    first, second = (
        predict_run(run.path, scans, tmp_path / f"{run.path.name}.csv").filter(like="probability").to_numpy()
        for run in (plain, stretched)
    )
    assert np.abs(first - second).max() > 1e-5


def dicom_folder(folder, real_data):
    """Twelve patients, made of one real X-ray by turning it, with identifying tags."""
    import pydicom

    path = next((real_data / "dicom" / "nih_wrapped").glob("*monochrome1*"))
    for i in range(12):
        file = pydicom.dcmread(path)
        pixels = file.pixel_array
        rng = np.random.default_rng(i)
        file.PixelData = np.ascontiguousarray(np.roll(pixels, rng.integers(100, 400, 2), (0, 1))).tobytes()
        file.PatientID, file.PatientName = f"SECRET{i:02d}", "Doe^Jane"
        target = folder / ("ill" if i % 2 else "well") / f"{i:02d}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        file.save_as(target)


def test_a_dicom_run_writes_no_identifier(tmp_path, real_data):
    dicom_folder(tmp_path / "scans", real_data)
    config = SMALL | {
        "data": f"dicom:{tmp_path / 'scans'}",
        "run": str(tmp_path / "run"),
        "source_options": {},
        "batch_size": 4,
        "leakage": "off",
    }
    run = train(TrainConfig(**config))
    metrics = evaluate_run(run.path)
    assert metrics["count"] == metrics["patients"]
    table = predict_run(run.path, [tmp_path / "scans"], tmp_path / "predictions.csv")
    assert len(table) == 12
    own = pd.read_csv(run / "predictions.csv").set_index("id").filter(like="probability")
    same = table.assign(id=[str(pathlib.Path(f).relative_to(tmp_path / "scans")) for f in table["file"]])
    np.testing.assert_allclose(own, same.set_index("id").loc[own.index, own.columns], atol=1e-5)
    texts = [path.read_bytes() for path in run.path.rglob("*") if path.is_file()]
    assert not any(word in text for text in texts for word in (b"SECRET", b"Doe", b"Jane"))
    assert (run / "salt").stat().st_mode & 0o077 == 0


def test_data_lists_duplicates_and_names_contradictions(tmp_path, capsys):
    write_images(tmp_path / "scans", copies=[(0, 2), (4, 7)])
    inspect(str(tmp_path / "scans"), duplicates=tmp_path / "pairs.csv")
    said = " ".join(capsys.readouterr().out.split())
    assert "2 pairs of images that look the same" in said
    assert "contradictory labels: 1 pairs, 2 images" in said and "ill/07.png" in said
    assert set(pd.read_csv(tmp_path / "pairs.csv")["kind"]) == {"identical"}


def test_a_config_of_an_earlier_version_still_opens(tmp_path):
    run, config = RunFolder(tmp_path), TrainConfig(**SMALL | {"run": "r", "leakage": "warn"}).to_dict()
    run.write_config({name: value for name, value in config.items() if name in ALWAYS})
    assert TrainConfig.from_run(run).leakage == "stop"
    run.write_config(config | {"colour": 3})
    with pytest.raises(ValueError, match="config.yaml: There is no `colour`"):
        TrainConfig.from_run(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": "oversample", "data": "phantom:multilabel"}, "where an image has one"),
        ({"balance": "effective-number", "data": "phantom:multilabel"}, "balanced by class-weights"),
        ({"leakage": "ignore"}, "leakage='ignore'"),
        ({"preprocess": ("sharpen",)}, "sharpen"),
        ({"folds": 3, "split_file": "s.csv"}, "from a file or are made as folds"),
        ({"data_service": "grpc://localhost:1"}, "through `cache`"),
    ],
)
def test_bad_configurations(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(TrainConfig(**SMALL | {"run": str(tmp_path / "run")} | changes))
