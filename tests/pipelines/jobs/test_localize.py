"""The localize job: thresholds from validation, measures on test, tables, pictures; and exports that look twice."""

import io
import json

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console
from sklearn.metrics import jaccard_score

import medkeras
from medkeras.evaluation import choose_operating_point, choose_threshold, image_scores, pointing_game, random_head_iou
from medkeras.evaluation.statistics.means import mean_interval
from medkeras.explain import saliency_maps
from medkeras.explain.methods.feature_maps import activations
from medkeras.models import two_stage
from medkeras.uncertainty import fit_scaling
from pipelines.cli.main import main
from pipelines.images.decode import fit
from pipelines.inference.answers import predict_logits
from pipelines.jobs import localize as job
from pipelines.jobs.explain import explain_run
from pipelines.jobs.export import export_run
from pipelines.jobs.localize import localize_run
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split
from spot_net import SpotNet
from untrained_run import write_run

NAMES = ("healthy", "lesion")
FILES = {"localization.json", "localization.csv", "boxes.csv", "written_by_localize.json"}


def make_run(path, model, **config):
    options = {"image_size": 32, "source_options": {"images": 60}} | config
    return write_run(TrainConfig(**{"data": "phantom", "model": "focusnet2d_tiny", "run": str(path)} | options), model)


def attending(**options):
    keras.utils.set_random_seed(0)
    options = {"num_classes": 2, "class_names": NAMES, "attention_maps": 4} | options
    return medkeras.models.create("dualattendmed_tiny", input_shape=(32, 32, 1), **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "first", attending())


@pytest.fixture(scope="module")
def told():
    return Console(record=True, width=200, file=io.StringIO())


@pytest.fixture(scope="module")
def report(run, told):
    return localize_run(run.path, samples=3, console=told)


def with_lesion(run, split):
    """The records of a split with a lesion, the images and masks of the model's size."""
    records = load_split(TrainConfig.from_run(run), split)
    records = records.select([i for i in range(len(records)) if records.read_mask(i).any()])
    images = np.stack([fit(records.read(i), (32, 32, 1)) for i in range(len(records))])
    masks = [fit(records.read_mask(i), (32, 32, 1))[..., 0] > 0.5 for i in range(len(records))]
    return records, images, masks


def test_the_report_is_that_of_the_parts(run, report):
    model = keras.models.load_model(run / "model.keras")
    _, val_images, val_masks = with_lesion(run, "val")
    records, images, masks = with_lesion(run, "test")
    assert report["images"] == len(load_split(TrainConfig.from_run(run), "test"))
    assert report["with_lesion"] == len(records) == report["images"] - report["without_lesion"]
    assert (report["split"], report["threshold_from"], sorted(report["maps"])) == (
        "test",
        "validation",
        ["attention", "class_map", "evidence_map"],
    )
    table = pd.read_csv(run / "localization/localization.csv")
    for name, found in report["maps"].items():
        threshold = choose_threshold(saliency_maps(model, val_images, point=name), val_masks)
        assert found["threshold"] == threshold
        maps = saliency_maps(model, images, point=name).astype("float64")
        low, high = (f(maps, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        marked = maps - low >= threshold * (high - low)
        marked[(low == high)[:, 0, 0]] = False
        scores = [jaccard_score(m.ravel(), f.ravel()) for m, f in zip(masks, marked, strict=True)]
        rows = table[table["map"] == name]
        assert rows["file"].tolist() == records.table["id"].tolist()
        np.testing.assert_allclose(rows["iou"], scores, atol=1e-6)
        assert found["iou"]["value"] == pytest.approx(np.mean(scores))
        assert found["iou_by_threshold"][threshold] == found["iou"]
        pointing = [pointing_game(*pair) for pair in zip(maps, masks, strict=True)]
        assert found["pointing"]["value"] == pytest.approx(np.mean(pointing))
        for measure in ("iou", "dice", "pointing", "energy"):
            interval = found[measure]
            assert interval["value"] == pytest.approx(rows[measure].mean(), abs=1e-5)
            assert interval["low"] <= interval["value"] <= interval["high"]
        grouped = mean_interval(scores, groups=rows["patient"], seed=0).to_dict()
        assert found["iou"] == pytest.approx(grouped, abs=1e-6)
    assert report["patients"] == records.table["patient"].nunique() < len(records)


def test_the_published_score_is_over_all_images(run, report):
    model = keras.models.load_model(run / "model.keras")
    records = load_split(TrainConfig.from_run(run), "test")
    images = np.stack([fit(records.read(i), (32, 32, 1)) for i in range(len(records))])
    seen = activations(model, images, "attention", "backbone")
    scores = random_head_iou(seen["backbone"], seen["attention"][..., 0], records.labels)
    assert report["random_head_iou"]["value"] == pytest.approx(scores.mean(), abs=1e-6)


def test_what_is_written_and_told(run, report, told):
    folder = run / "localization"
    names = {p.name for p in folder.iterdir()}
    pictures = sorted(name for name in names if name.endswith(".png"))
    assert len(pictures) == 3 and names == {*FILES, *pictures}
    assert all(cv2.imread(str(folder / name)).std() > 10 for name in pictures)
    written = json.loads((folder / "localization.json").read_text())
    assert written["maps"]["attention"]["iou"] == report["maps"]["attention"]["iou"]
    text = told.export_text(clear=False)
    assert f"{report['maps']['attention']['iou']['value']:.3f}" in text and str(folder) in text
    table, boxes = pd.read_csv(folder / "localization.csv"), pd.read_csv(folder / "boxes.csv")
    assert len(boxes) == table["regions"].sum() > 0
    # The stored phantom has 64 pixels, the model's image 32: edges lie on odd numbers less a half.
    edges = boxes[["row_from", "row_to", "column_from", "column_to"]].to_numpy()
    assert ((edges + 0.5) % 2 == 0).all() and edges.min() >= -0.5 and edges.max() <= 63.5
    assert (boxes["score"] >= boxes["map"].map(lambda m: report["maps"][m]["threshold"]) - 1e-4).all()


def test_the_boxes_are_in_later_explanations(run, report, tmp_path):
    written = explain_run(run.path, samples=2, out=tmp_path)
    assert tmp_path / "boxes.csv" in written
    boxes = pd.read_csv(tmp_path / "boxes.csv")
    assert boxes["file"].nunique() <= 2 and set(boxes["map"]) <= {"attention", "class_map"}
    all_boxes = pd.read_csv(run / "localization/boxes.csv")
    both = boxes.merge(all_boxes, on=["file", "map", "box"], suffixes=("", "_before"))
    np.testing.assert_allclose(both["row_from"], both["row_from_before"])


def test_other_data_one_map_and_a_given_threshold(run, tmp_path):
    report = localize_run(run.path, tmp_path, data="phantom", images=20, maps=["features"], threshold=0.3, samples=0)
    assert (report["split"], report["threshold_from"]) == ("all", "given")
    assert report["images"] == 20 and report["maps"]["features"]["threshold"] == 0.3
    assert {p.name for p in tmp_path.iterdir()} == FILES


@pytest.mark.parametrize(("target", "name"), [("lesion", "lesion"), ("0", "healthy"), ("label", "label")])
def test_maps_are_of_the_class_that_is_asked_for(run, report, target, name):
    found = localize_run(run.path, maps=["evidence_map", "attention"], target=target, samples=0)
    folder = run / f"localization_of_{name}"
    assert found["target"] == json.loads((folder / "localization.json").read_text())["target"] == name
    assert report["target"] is None
    model, table = keras.models.load_model(run / "model.keras"), pd.read_csv(folder / "localization.csv")
    wanted = {}
    for split in ("val", "test"):
        records, images, masks = with_lesion(run, split)
        of = {"lesion": 1, "healthy": 0, "label": records.labels}[name]
        wanted[split] = saliency_maps(model, images, point="evidence_map", target=of), masks
    threshold = choose_threshold(*wanted["val"])
    assert found["maps"]["evidence_map"]["threshold"] == threshold
    scores = [image_scores(*pair, threshold=threshold)["iou"] for pair in zip(*wanted["test"], strict=True)]
    np.testing.assert_allclose(table.loc[table["map"] == "evidence_map", "iou"], scores, atol=1e-6)
    # A map of no class is as it was without a target.
    assert found["maps"]["attention"]["iou"] == report["maps"]["attention"]["iou"]


def test_explanations_of_a_target_take_its_thresholds(tmp_path):
    run = make_run(tmp_path / "run", attending())
    run.write_json("localization_of_healthy/localization.json", {"maps": {"evidence_map": {"threshold": 1.0}}})
    for target in ("healthy", "lesion"):
        written = explain_run(run.path, samples=2, method="hires_cam", target=target)
        assert {path.parent for path in written} == {run / f"explain_hires_cam_of_{target}"}
    assert (pd.read_csv(run / "explain_hires_cam_of_healthy/boxes.csv")["score"] == 1).all()
    assert not (run / "explain_hires_cam_of_lesion/boxes.csv").exists()


def test_pictures_name_the_class_and_targets_must_be_classes(run, tmp_path, capsys, monkeypatch):
    titles = []
    monkeypatch.setattr(job, "localization_figure", lambda _, found, **__: titles.append(list(found)) or Figure())
    words = ["localize", str(run.path), "--data", "phantom", "--source-option", "images=20", "--threshold", "0.5"]
    words += ["--out", str(tmp_path), "--samples", "1", "--map", "attention"]
    assert main([*words, "--map", "grad_cam", "--target", "healthy"]) == 0
    assert titles == [["attention", "grad cam of healthy"]]
    capsys.readouterr()
    assert main([*words, "--map", "grad_cam", "--target", "cyst"]) == 2
    assert "one of healthy, lesion, its index, or `label`. Received: target='cyst'" in capsys.readouterr().err
    assert main([*words, "--target", "lesion"]) == 2
    assert "Received: target='lesion', map=attention" in capsys.readouterr().err


def test_pictures_of_an_earlier_call_do_not_stay_and_those_of_others_do(run, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "localization_figure", lambda *given, **options: Figure())
    (tmp_path / "001-mine.png").write_text("mine")
    for samples in (3, 1):
        localize_run(run.path, tmp_path, threshold=0.5, maps=["attention"], samples=samples, seed=samples)
        pictures = {path.name for path in tmp_path.glob("*.png")}
        assert len(pictures) == samples + 1 and (tmp_path / "001-mine.png").read_text() == "mine"


def test_mirrored_maps_have_a_folder_of_their_own(run, report):
    mirrored = localize_run(run.path, maps=["attention"], mirrored=True, samples=0)
    found = json.loads((run / "localization_mirrored/localization.json").read_text())
    plain = json.loads((run / "localization/localization.json").read_text())
    assert found == json.loads(json.dumps(mirrored)) and plain == json.loads(json.dumps(report))
    assert found["mirrored"] and not plain["mirrored"]
    assert found["maps"]["attention"]["iou"] != plain["maps"]["attention"]["iou"]


def test_volumes_are_measured_too(tmp_path):
    keras.utils.set_random_seed(0)
    model = medkeras.models.create("focusnet3d_tiny", input_shape=(16, 16, 16, 1), num_classes=2, class_names=NAMES)
    run = make_run(tmp_path / "run", model, data="phantom:binary3d", image_size=16, source_options={"images": 24})
    report = localize_run(run.path, threshold=0.5, samples=1)
    assert list(report["maps"]) == ["class_map", "evidence_map"] and report["random_head_iou"] is None
    assert {"depth_from", "depth_to"} <= set(pd.read_csv(run / "localization/boxes.csv"))


def write_pairs(folder, *, mask_size=(40, 40), value=255):
    """Six images with a lesion and six without, their masks beside them, and the table that names them."""
    rows = []
    for i in range(12):
        mask = np.zeros(mask_size, np.uint8)
        mask[10:20, 12:24] = value * (i < 6)
        image = np.random.default_rng(i).integers(0, 120, (40, 40)).astype(np.uint8)
        for kind, array in (("image", image), ("mask", mask)):
            cv2.imwrite(str(folder / f"{i}_{kind}.png"), array)
        rows.append({"image": f"{i}_image.png", "mask": f"{i}_mask.png", "label": NAMES[i < 6]})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return str(folder / "table.csv")


COLUMNS = {"label_columns": "label", "path_column": "image", "mask_column": "mask"}


@pytest.mark.parametrize(
    ("given", "columns", "text"),
    [
        ({"mask_size": (48, 40)}, COLUMNS, r"0_mask.png: a mask has the size of its image, \(40, 40\).*\(48, 40\)"),
        ({"value": 0}, COLUMNS, "images with a lesion. Received: .*12 images without"),
        ({}, COLUMNS | {"mask_column": None}, "against lesion masks. Received: .*has none"),
    ],
)
def test_masks_that_are_missing_or_wrong(run, tmp_path, given, columns, text):
    with pytest.raises(ValueError, match=text):
        localize_run(run.path, data=write_pairs(tmp_path, **given), threshold=0.5, **columns)
    assert not (run / "evaluations").exists()


def test_a_run_without_masks_needs_a_threshold(tmp_path):
    source = write_pairs(tmp_path)
    columns = COLUMNS | {"mask_column": None}
    run = make_run(tmp_path / "run", attending(), data=source, source_options=columns)
    with pytest.raises(ValueError, match="validation images; give one. .*has none"):
        localize_run(run.path, data=source, **COLUMNS)
    report = localize_run(run.path, data=source, threshold=0.5, samples=0, **COLUMNS)
    assert report["with_lesion"] == 6
    assert len(list((run / "evaluations").glob("*/localization/localization.json"))) == 1


def test_small_lesions_that_the_model_cannot_show_are_counted(run, tmp_path):
    source = write_pairs(tmp_path)
    dot = np.zeros((40, 40), np.uint8)
    dot[6, 6] = 255  # Not half of any pixel of 32 by 32.
    cv2.imwrite(str(tmp_path / "0_mask.png"), dot)
    report = localize_run(run.path, tmp_path / "out", data=source, threshold=0.5, samples=0, **COLUMNS)
    assert (report["with_lesion"], report["without_lesion"], report["lesion_lost_in_resizing"]) == (5, 6, 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"samples": -1}, "samples=-1"),
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"maps": ["fixations"]}, "map='fixations'"),
        ({"data": "phantom:multilabel"}, "bright"),
    ],
)
def test_wrong_arguments_state_the_rule(run, options, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        localize_run(run.path, **options)


def test_the_command_line_reaches_the_job(run, tmp_path, capsys):
    words = ["localize", str(run.path), "--out", str(tmp_path / "out"), "--map", "attention", "--samples", "1"]
    assert main([*words, "--threshold", "0.4", "--mirrored"]) == 0
    written = json.loads((tmp_path / "out/localization.json").read_text())
    assert written["mirrored"] and written["maps"]["attention"]["threshold"] == 0.4
    assert main(["localize", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


def test_an_export_that_looks_twice_has_its_own_threshold(tmp_path):
    keras.utils.set_random_seed(0)
    model = SpotNet((32, 32, 1), num_classes=2, class_names=NAMES)
    run = make_run(tmp_path / "lungs", model)
    run.write_json("operating_point.json", {"task": "binary", "thresholds": [0.123], "rule": "youden"})
    done = export_run(run.path, tmp_path / "store", formats=["saved_model"], samples=4, two_stage="ws-dan")
    assert done["name"] == "lungs_two_stage"
    labels = json.loads((tmp_path / "store/lungs_two_stage/1/assets.extra/labels.json").read_text())
    assert labels["two_stage"]["crops"] == [[0.1, 0.05]]
    val = load_split(TrainConfig.from_run(run), "val")
    logits = predict_logits(two_stage(model, "ws-dan"), val)
    scaling = fit_scaling(val.labels, logits, task="binary")
    assert labels["calibration"]["scale"] == pytest.approx(scaling.scale, rel=1e-3)
    expected = choose_operating_point(val.labels, scaling.probabilities(logits), task="binary").thresholds
    np.testing.assert_allclose(labels["operating_point"]["thresholds"], expected, atol=1e-5)
    with pytest.raises(ValueError, match="protocol='thrice'"):
        export_run(run.path, tmp_path / "store", two_stage="thrice")
