"""The study of enhanced images: arms of one split and one budget, compared by patient, and measures of restoration."""

import dataclasses
import json

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import medkeras
from medkeras.super_resolution.interpolated import Interpolation
from pipelines.cli.main import main
from pipelines.enhancement.quality import restoration, self_similarity
from pipelines.images.decode import fit
from pipelines.io.run_folder import RunFolder
from pipelines.jobs import enhance_experiment as job
from pipelines.jobs.enhance import Enhancement, enhance_run
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data, load_split
from untrained_run import write_run

RNG = np.random.default_rng(0)
VIT = {"patch": 8, "units": 8, "depth": 1, "heads": 2, "hidden": 16}


def make_run(path, data="phantom", **config):
    config = {"source_options": {"images": 36}, "image_size": 32, "epochs": 1, "augment": "none"} | config
    return untrained(TrainConfig(data=data, model="vit_tiny", run=str(path), model_options=VIT, **config))


def untrained(config, console=None):
    """What a training leaves, with the weights that the seed gives."""
    info = load_data(config).info
    keras.utils.set_random_seed(config.seed)
    named = {"num_classes": info.num_classes, "class_names": info.class_names, "task": info.task}
    return write_run(config, medkeras.models.create("vit_tiny", input_shape=(32, 32, 1), **named, **VIT))


def test_the_study_on_the_command_line(tmp_path, capsys, monkeypatch):
    run, out = make_run(tmp_path / "run"), tmp_path / "study"
    monkeypatch.setattr(job, "train", untrained)
    words = [
        "enhance",
        run.path,
        "--experiment",
        "--upscaler",
        "lanczos",
        "--smallest",
        16,
        "--seeds",
        1,
        "--samples",
        0,
        "--out",
        out,
    ]
    assert main([str(word) for word in words]) == 0
    report, printed = json.loads((out / "experiment.json").read_text()), capsys.readouterr().out
    assert "lesion" in printed and "interpolated less original" in printed.replace("\n", " ")
    test = load_split(TrainConfig.from_run(run), "test")
    assert (report["images"], report["patients"]) == (len(test), test.table["patient"].nunique())
    configs = {arm: TrainConfig.from_run(RunFolder(out / f"runs/{arm}_0")) for arm in report["arms"]}
    same = {"seed", "epochs", "learning_rate", "batch_size", "monitor", "image_size", "model", "model_options"}
    for arm, config in configs.items():
        assert all(getattr(config, field) == getattr(configs["original"], field) for field in same)
        assert config.data.endswith({"original": "phantom"}.get(arm, f"{arm}/index.csv"))
        splits = pd.read_csv(out / f"runs/{arm}_0/splits.csv", dtype=str)
        first = pd.read_csv(run / "splits.csv", dtype=str)
        assert splits[["patient", "split", "label"]].equals(first[["patient", "split", "label"]])
        # The reported measures are those of the arm's own best model on its own test images.
        records = load_split(config, "test")
        images = np.stack([fit(records.read(i), (32, 32, 1)) for i in range(len(records))])
        logits = keras.models.load_model(out / f"runs/{arm}_0/model.keras")(images)
        scores = np.asarray(keras.ops.softmax(logits))[:, 1]
        assert report["arms"][arm]["auc"]["headline"] == pytest.approx(roc_auc_score(test.labels, scores))
        expected = average_precision_score(test.labels, scores)
        assert report["arms"][arm]["average_precision"]["lesion"] == pytest.approx(expected)
    for arm in ("enhanced", "interpolated"):
        found = report["differences"][arm]["auc"]["headline"]
        values = [report["arms"][name]["auc"]["headline"] for name in (arm, "original")]
        assert found["value"] == pytest.approx(values[0] - values[1], abs=1e-12) and found["low"] <= found["high"]
        assert 0.1 < report["self_similarity"][arm]["unchanged"] < 1 and report["self_similarity"][arm]["ssim"] > 0.9
    assert report["restoration"]["upscaler"] == report["restoration"]["lanczos"]
    assert (out / "figures/differences.png").stat().st_size > 1000


def test_measures_are_means_over_seeds_and_differences_are_paired_by_patient(tmp_path):
    test = load_split(TrainConfig.from_run(make_run(tmp_path / "run", "phantom:multilabel")), "test")
    count, labels = test.labels.shape
    good = np.clip(np.nan_to_num(test.labels) * 0.6 + RNG.uniform(0, 0.4, (2, count, labels)), 0, 1).swapaxes(0, 1)
    poor = RNG.uniform(size=(count, 2, labels))
    found = job.measure_arms(test, {"original": poor, "enhanced": good, "interpolated": poor}, repeats=50)
    name = test.class_names[0]
    known = ~np.isnan(test.labels[:, 0])
    expected = np.mean([roc_auc_score(test.labels[known, 0], poor[known, k, 0]) for k in range(2)])
    assert found["arms"]["original"]["auc"][name] == pytest.approx(expected)
    assert found["arms"]["enhanced"]["auc"][name] == 1
    better = found["differences"]["enhanced"]["auc"]["headline"]
    assert 0 < better["low"] <= better["value"] <= better["high"]
    assert found["differences"]["interpolated"]["auc"]["headline"] == {"value": 0, "low": 0, "high": 0}


def test_the_headline_is_drawn_first_whatever_is_beside():
    rows = {label: {"value": 0.1, "low": 0.0, "high": 0.2} for label in ("headline", "edema")}
    for measures in (["auc"], ["auc", "average_precision"]):
        figure = job.differences_figure({"differences": {"enhanced": dict.fromkeys(measures, rows)}})
        assert len(figure.axes) == len(measures) and all(ax.yaxis_inverted() for ax in figure.axes)
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["headline", "edema"]


def test_enhanced_labels_keep_what_is_unknown_and_its_policy(tmp_path):
    names, rows = ("cyst", "mass"), []
    (tmp_path / "data").mkdir()
    for i in range(20):
        cv2.imwrite(str(tmp_path / f"data/{i}.png"), RNG.integers(0, 256, (32, 32)).astype(np.uint8))
        rows.append((f"{i}.png", ("1", "0", "-1", "")[i % 4], str(i % 2)))
    pd.DataFrame(rows, columns=["path", *names]).to_csv(tmp_path / "data/table.csv", index=False)
    options = {"label_columns": list(names), "uncertain": "ones", "blank": "ignore"}
    run = make_run(tmp_path / "run", str(tmp_path / "data/table.csv"), source_options=options, leakage="off")
    config, out = TrainConfig.from_run(run), RunFolder(tmp_path / "study")
    enhance_run(run.path, (), out / "enhanced", upscaler="bicubic", how=Enhancement(fraction=0.01), split="all")
    test = load_split(config, "test")
    arms = {
        arm: dataclasses.replace(config, **job.arm_changes(arm, config, out, test)) for arm in ("original", "enhanced")
    }
    first, second = (load_data(dataclasses.replace(c, run=str(tmp_path / "new"))).records for c in arms.values())
    for split in first:
        np.testing.assert_array_equal(first[split].labels, second[split].labels)
        np.testing.assert_array_equal(first[split].train_labels, second[split].train_labels)
    twice = dataclasses.replace(config, source_options=options | {"blank": "zeros"})
    with pytest.raises(ValueError, match="one policy .* Received: ones, zeros"):
        job.arm_changes("enhanced", twice, out, test)


def smooth(size=96):
    y, x = np.mgrid[:size, :size] / size
    return (200 * np.sin(9 * x + 3 * y) ** 2).astype(np.uint8)


def test_restoration_measures_the_distance_to_the_original():
    class Perfect(Interpolation):
        """Knows what it must give."""

        def upscale(self, images, **options):
            middle = smooth()[None, ..., None].astype("float32")
            return middle / middle.max() - 1e-5

    images = [smooth(), np.full((96, 96), 7, np.uint8), smooth(16)]
    found = restoration(images, Perfect(), groups=["a", "b", "c"])
    assert found["images"] == 1 and found["upscaler"]["psnr"]["value"] is not None
    assert found["upscaler"]["ssim"]["value"] == pytest.approx(1, abs=1e-6)
    assert found["upscaler"]["psnr"]["value"] > 90 > found["lanczos"]["psnr"]["value"] > 25
    assert restoration(images[1:], Perfect()) is None


def test_self_similarity_says_how_little_changed():
    before = smooth()
    after = before.copy()
    after[:48, :48] += 3
    found = self_similarity([(before, before), (before, after)])
    assert found["unchanged"] == pytest.approx((1 + 0.75) / 2)
    error = 10 * np.log10(np.ptp(before).astype(float) ** 2 / (9 / 4))
    assert found["psnr"] == pytest.approx(error) and 0.9 < found["ssim"] < 1


def test_wrong_arguments_state_the_rule(tmp_path, capfd):
    run = make_run(tmp_path / "run", image_size=None, source_options={"images": 20, "size": 32})
    for words, text in (
        (["--seeds", 0], "seeds=0"),
        (["--keep-scale"], "without image_size"),
        (["--split", "test"], "all of the run's own data"),
    ):
        words = ["enhance", run.path, "--experiment", "--upscaler", "lanczos", "--out", tmp_path / "out", *words]
        assert main([str(word) for word in words]) == 2
        assert text in capfd.readouterr().err
