"""Training by attention as a job: masks, history, continuing to the bit, pretrained backbones, and what is refused."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from medkeras.evaluation import choose_operating_point
from medkeras.models import DualAttendMed, backbones, two_stage
from medkeras.models.dualattendmed.training import WEIGHTS
from mini_backbone import OPTIONS, mini_backbone  # noqa: F401  registers it for each test
from pipelines.cli.main import main
from pipelines.inference.trained_model import load_model, predict_records
from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.train import train, write_beginning
from pipelines.training.build import build_training, weighted
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data, load_split
from pipelines.training.save_state import SaveState
from tiny_model import tiny_models  # noqa: F401  registers its models for each test

SMALL = {
    "data": "phantom",
    "model": "dualattendmed_tiny",
    "model_options": OPTIONS,
    "image_size": 16,
    "batch_size": 8,
    "source_options": {"images": 40},
    "leakage": "off",
    "augment": "none",
    "epochs": 2,
    "training": "attention",
    "calibration": "none",
}


def small(run, **changes):
    return TrainConfig(run=str(run), **(SMALL | changes))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One training in one go, and one that was killed after the first epoch and went on."""
    folder = tmp_path_factory.mktemp("runs")
    options = {"mask": True, "weights": {"alignment": 0.2}, "crop_threshold": [0.3, 0.5]}
    changes = {"training_options": options, "balance": "class-weights", "augment": "standard"}
    save = SaveState.on_epoch_end

    def keep_a_copy(self, epoch, logs=None):
        save(self, epoch, logs)
        if epoch == 0:
            shutil.copytree(folder / "whole", folder / "killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SaveState, "on_epoch_end", keep_a_copy)
        whole = train(small(folder / "whole", **changes))
    assert len(pd.read_csv(folder / "killed" / "history.csv")) == 1
    return whole, train(small(folder / "killed", **changes))


def test_a_killed_training_by_attention_goes_on_to_the_bit(runs):
    whole, killed = runs
    for name in ("history.csv", "operating_point.json", "config.yaml"):
        assert (killed / name).read_text() == (whole / name).read_text()
    ends = [np.load(run / "checkpoints/00002/variables.npz") for run in (killed, whole)]
    for name in ends[0].files:
        np.testing.assert_array_equal(ends[0][name], ends[1][name])


def test_the_history_has_every_term_of_the_loss(runs):
    whole, _ = runs
    history = pd.read_csv(whole / "history.csv")
    assert {"loss", "auc", "val_loss", "val_auc", *WEIGHTS} <= set(history)
    assert not {f"val_{name}" for name in WEIGHTS} & set(history)
    terms = sum(factor * history[name] for name, factor in (WEIGHTS | {"alignment": 0.2}).items())
    np.testing.assert_allclose(history["loss"], terms, rtol=1e-4)
    model = load_model(whole)
    assert type(model) is DualAttendMed and model.attention_maps == 4


def test_two_looks_are_measured_and_predicted_at_a_threshold_of_their_own(runs, tmp_path, capsys):
    whole, _ = runs
    once, twice = evaluate_run(whole.path), evaluate_run(whole.path, two_stage="ws-dan")
    assert (once["split"], once["two_stage"], twice["split"], twice["two_stage"]) == ("test", None, "test", "ws-dan")
    config, model = TrainConfig.from_run(whole), two_stage(load_model(whole), "ws-dan")
    seen = {split: predict_records(model, load_split(config, split)) for split in ("val", "test")}
    point = choose_operating_point(load_split(config, "val").labels, seen["val"], task="binary")
    assert twice["operating_point"]["thresholds"] == pytest.approx(point.thresholds, abs=1e-5)
    table = pd.read_csv(whole / "evaluations/two_stage_ws-dan-test/predictions.csv")
    np.testing.assert_allclose(table["probability_lesion"], seen["test"][:, 1], atol=1e-5)
    assert not np.allclose(table["probability_lesion"], pd.read_csv(whole / "predictions.csv")["probability_lesion"])

    # The threshold is frozen: prediction needs no validation images, and a training that goes on chooses anew.
    frozen = whole / "operating_point_two_stage_ws-dan.json"
    frozen.write_text(frozen.read_text().replace(str(twice["operating_point"]["thresholds"][0]), "2.0"))
    cv2.imwrite(str(tmp_path / "scan.png"), np.full((20, 20), 90, np.uint8))
    words = ["predict", str(whole.path), str(tmp_path / "scan.png"), "--out", str(tmp_path / "out.csv")]
    assert main([*words, "--two-stage", "ws-dan"]) == 0
    assert pd.read_csv(tmp_path / "out.csv")["prediction"].tolist() == ["healthy"]
    assert main([*words, "--two-stage", "thrice"]) == 2
    assert "Received: protocol='thrice'" in capsys.readouterr().err
    write_beginning(whole, config, load_data(config))
    assert not frozen.exists() and not (whole / "operating_point.json").exists()


def test_the_state_of_the_training_is_in_the_checkpoint():
    data = load_data(small("unused"))
    training, model = build_training(small("unused"), data)
    names = {v.path for v in training.variables}
    assert training.classifier is model
    assert any("centres" in name for name in names)
    assert len([name for name in names if "seed_generator_state" in name]) == 2  # Maps, and counterfactual attention.


def test_masks_and_weights_reach_the_training(monkeypatch):
    config = small("unused", training_options={"mask": True})
    data = load_data(config)
    images, labels = next(iter(data.train_stream()))
    assert set(labels) == {"label", "mask"} and labels["mask"].shape == images.shape[:-1]
    weights = {0: 0.5, 1: 2.0}
    expected = np.array([0.5, 2.0])[labels["label"]]
    shares = tf.one_hot(labels["label"], 2)
    for given in (labels, labels["label"], {"label": shares, "mask": labels["mask"]}, shares):
        _, same, weight = next(iter(weighted(tf.data.Dataset.from_tensors((images, given)), weights)))
        np.testing.assert_array_equal(weight, expected)
        assert type(same) is type(given)


def write_weights(path, seed=0):
    """A file in the names of torchvision, for the backbone of the test model."""
    rng = np.random.default_rng(seed)
    network = backbones.resnet("resnet_mini", image_shape=(16, 16, 3), last_stride=1)
    arrays = {}
    for target in backbones.resnet_targets(network):
        shape = tuple(target.variable.shape)
        shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
        arrays[target.names[0]] = rng.uniform(0.5, 1.5, shape).astype("float32")
    save_file(arrays, path)
    return arrays


def test_a_pretrained_backbone_is_where_the_training_begins(tmp_path):
    arrays = write_weights(tmp_path / "weights.safetensors")
    still = {
        "learning_rate": 1e-12,
        "weight_decay": 0.0,
        "epochs": 1,
        "pretrained": str(tmp_path / "weights.safetensors"),
    }
    run = train(small(tmp_path / "run", training="plain", **still))
    kernel = load_model(run).backbone.trainable_weights[0]
    np.testing.assert_allclose(kernel, arrays["conv1.weight"].transpose(2, 3, 1, 0), atol=1e-6)
    with pytest.raises(FileNotFoundError, match="missing.pth"):
        train(small(tmp_path / "other", **still | {"pretrained": str(tmp_path / "missing.pth")}))


def test_the_command_line_says_all_of_it(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("pipelines.jobs.train.train", lambda config, console: seen.append(config))
    words = f"train --data phantom --model dualattendmed_tiny --run {tmp_path / 'run'} --training attention"
    words += " --training-option mask=true --training-option padding=0.2 --pretrained resnet_18_imagenet"
    assert main([*words.split(), "--training-option", "weights={alignment: 1.0}"]) == 0
    (config,) = seen
    assert (config.training, config.pretrained) == ("attention", "resnet_18_imagenet")
    assert config.training_options == {"mask": True, "padding": 0.2, "weights": {"alignment": 1.0}}
    assert TrainConfig(run="r", data="phantom", model="focusnet2d").training == "plain"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"training": "adversarial"}, "one of plain, attention. Received: training='adversarial'"),
        ({"training": "plain", "training_options": {"mask": True}}, "plain training has no options"),
        ({"training_options": {"mask": "yes"}}, "Received: mask='yes'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        small("unused", **changes)


def test_what_model_or_source_do_not_have_is_refused(tmp_path):
    data = load_data(small("unused"))
    plain = {"model": "tiny_net", "model_options": {}}
    with pytest.raises(ValueError, match="show their attention maps. Received: tiny_net"):
        build_training(small("unused", **plain), data)
    with pytest.raises(ValueError, match="models with a backbone. Received: tiny_net, pretrained='weights'"):
        build_training(small("unused", **plain, training="plain", pretrained="weights"), data)
    for option in ("seed", "classifier", "crop"):
        with pytest.raises(ValueError, match=f"one of crop_threshold, .*mask.* Received: {option}"):
            build_training(small("unused", training_options={option: 1}), data)
    with pytest.raises(ValueError, match="; perhaps `padding`. Received: pading"):
        build_training(small("unused", training_options={"pading": 0.2}), data)
    with pytest.raises(ValueError, match="Received: padding=2"):
        build_training(small("unused", training_options={"padding": 2}), data)
    for options in ({"padding": "wide"}, {"crop_threshold": 0.5}, {"weights": 3}):
        with pytest.raises(ValueError, match=f"of another type. Received: {options}"):
            build_training(small("unused", training_options=options), data)
    images = np.random.default_rng(0).integers(0, 255, (40, 16, 16), np.uint8)
    splits = {"train": images[:20], "val": images[20:30], "test": images[30:]}
    arrays = {f"{name}_images": part for name, part in splits.items()}
    arrays |= {f"{name}_labels": np.arange(len(part))[:, None] % 2 for name, part in splits.items()}
    np.savez(tmp_path / "scans.npz", **arrays)
    config = small("unused", data=str(tmp_path / "scans.npz"), source_options={}, training_options={"mask": True})
    with pytest.raises(ValueError, match="Received: scans without masks"):
        load_data(config)
