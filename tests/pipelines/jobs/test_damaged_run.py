"""A run folder with damaged files: each command names the file in one line; what is of an older model goes."""

import json
import re
import shutil

import cv2
import keras
import numpy as np
import pytest

from pipelines.cli.main import main
from pipelines.enhancement.files import Manifest
from pipelines.inference import trained_model as trained
from pipelines.inference.predictions import read_predictions
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.train import write_beginning
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data, load_split
from spot_net import SpotNet
from untrained_run import write_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was calibrated, of a model that was never trained."""
    path = tmp_path_factory.mktemp("damaged") / "run"
    options = {"image_size": 16, "source_options": {"images": 60}}
    config = TrainConfig(data="phantom", model="spot_net", run=str(path), **options)
    keras.utils.set_random_seed(0)
    model = SpotNet((16, 16, 1), num_classes=2, class_names=("healthy", "lesion"))
    run = write_run(config, model)
    trained.calibrate(run, model, load_split(config, "val"))
    return run


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def loaded(whole):
    """The run's model, which every test would load anew."""
    return trained.load_model(whole)


def changed(run, file, **values):
    return json.dumps(run.read_json(file) | values)


POINT, CALIBRATION = "operating_point.json", "calibration.json"
OTHER_TASK = {"task": "multiclass", "scale": [1.0], "shift": [0.0]}
OTHER_CLASSES = {"task": "binary", "scale": [1.0, 2.0, 3.0], "shift": [0.0]}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (CALIBRATION, "{}", "it must have `scaling`. Received: {}"),
        (CALIBRATION, "[]", "it must be a table. Received: []"),
        (CALIBRATION, {"sets": 3}, "`sets` must be a table or null. Received: 3"),
        (CALIBRATION, {"referral": {"threshold": "x", "risk": 0}}, "`referral.threshold` must be a number or null"),
        (CALIBRATION, {"scaling": OTHER_TASK | {"scale": [-1.0]}}, "`scale` must be positive"),
        (CALIBRATION, {"scaling": OTHER_TASK}, "the model's task and classes, binary of 2. Received: multiclass of 1"),
        (CALIBRATION, {"scaling": OTHER_CLASSES}, "Received: binary of 3"),
        (POINT, "3", "it must be a table. Received: 3"),
        (POINT, '{"task": "binary"}', "it must have `thresholds`."),
        (POINT, {"thresholds": ["x"]}, "`thresholds[0]` must be a number. Received: 'x'"),
        (POINT, {"thresholds": None}, "A binary task has one finite threshold"),
        (POINT, {"task": "multiclass", "thresholds": None}, "Received: multiclass of 1"),
        (POINT, {"reached": [{"sensitivity": 1}]}, "`reached[0]` must have `specificity`"),
    ],
)
def test_what_was_chosen_on_validation_is_named(run, loaded, monkeypatch, file, content, said):
    run.write_text(file, content if isinstance(content, str) else changed(run, file, **content))
    monkeypatch.setattr(trained, "load_model", lambda run: loaded)
    with pytest.raises(ValueError, match=f"Cannot read {run / file}: .*{re.escape(said)}") as error:
        trained.load_trained(run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "file", "content"),
    [
        ("predict", CALIBRATION, "{}"),
        ("evaluate", POINT, "{}"),
        ("evaluate", "history.csv", "epoch,loss\n1,x\n"),
        ("evaluate", "config.yaml", None),
        ("localize", CALIBRATION, '{"scaling": 3}'),
        ("explain", "localization/localization.json", '{"maps": 3}'),
        ("explain", "rejected.csv", "name\n"),
    ],
)
def test_commands_name_the_file_in_one_line(run, tmp_path, capsys, command, file, content):
    if content is None:
        content = (run / file).read_text().replace("epochs: 20", "epochs: many")
    run.write_text(file, content)
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.zeros((16, 16), np.uint8))
    words = [command, str(run.path), *([str(image), "--out", str(tmp_path / "a.csv")] if command == "predict" else [])]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: Cannot read {run / file}: ") and error.count("\n") == 1


METRICS = {"task": "binary", "class_names": ["well", "ill"]}
HEAD = "id,patient,label,prediction,probability_well,probability_ill\n"


@pytest.mark.parametrize(
    ("metrics", "table", "said"),
    [
        ([], HEAD, "metrics.json: it must be a table"),
        ({"task": "binary"}, HEAD, "metrics.json: it must have `class_names`"),
        (METRICS, HEAD, "predictions.csv without a row"),
        (METRICS, HEAD + "a,p,well,ill,0.5,much\n", "predictions.csv: the column probability_ill must hold numbers"),
        (METRICS, HEAD + "a,p,well,ill,0.5,1.5\n", r"in \[0, 1\]. Received: .*predictions.csv"),
        (METRICS, HEAD + "a,p,well,ill,0.5,\n", r"in \[0, 1\]. Received: .*predictions.csv"),
        (METRICS, HEAD + "a,p,well,odd,0.5,0.5\n", "A prediction is one of well, ill. Received: 'odd' in .*csv"),
        (METRICS, "", "Cannot read .*predictions.csv: "),
        (METRICS | {"task": "multilabel"}, HEAD + "a,p,well,ill,0.5,0.5\n", "which labels are unknown"),
    ],
)
def test_predictions_that_are_none_are_named(tmp_path, metrics, table, said):
    run = RunFolder(tmp_path)
    run.write_json("metrics.json", metrics)
    run.write_text("predictions.csv", table)
    with pytest.raises(ValueError, match=said):
        read_predictions(run.path)


def test_a_damaged_note_of_an_enhancement_is_named(tmp_path):
    RunFolder(tmp_path).write_json("enhanced.json", {"settings": {}, "images": {"a.png": {"key": 3}}})
    with pytest.raises(ValueError, match=r"enhanced.json: `images.a.png` must have `chosen`"):
        Manifest(RunFolder(tmp_path), {})


def test_a_training_that_goes_on_removes_what_was_measured_of_the_model_before(run):
    stale = ["metrics.json", "subgroups.csv", "errors.csv", "decision_curve.csv", "localization_of_a/localization.json"]
    for name in stale:
        run.write_text(name, "")
    run.write_text("report.yaml", "title: kept")
    config = TrainConfig.from_run(run)
    write_beginning(run, config, load_data(config, leakage="off"))
    assert not [name for name in [*stale, CALIBRATION, POINT] if (run / name).exists()]
    assert (run / "report.yaml").exists() and (run / "model.keras").exists()
