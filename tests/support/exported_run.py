"""A run folder of an untrained model with all that is chosen on validation, for the tests of its export."""

import keras

from export_models import GlimpseNet
from medkeras.uncertainty import ConformalSets, LogitScaling
from pipelines.inference.calibration import Calibration, Referral
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from untrained_run import write_run

SCALING = LogitScaling("binary", scale=(0.5, 0.25), shift=(0.1, -0.2))
CALIBRATION = Calibration(SCALING, ConformalSets("binary", "aps", 0.9, (0.7,)), Referral(0.8, 0.05))
POINT = {"task": "binary", "thresholds": [0.3], "rule": "youden"}


def make_run(path, *, data="phantom", image_size=16, **options):
    """A run folder as training leaves it, with an untrained model."""
    config = TrainConfig(data=str(data), model="focusnet2d_tiny", run=str(path), image_size=image_size, **options)
    info = load_data(config).info
    keras.utils.set_random_seed(0)
    model = GlimpseNet(info.image_shape, num_classes=info.num_classes, class_names=info.class_names)
    return write_run(config, model)


def make_calibrated_run(path, **options):
    """The same with its operating point and its calibration, of 40 phantom images unless other data are given."""
    folder = make_run(path, **({"source_options": {"images": 40}} | options))
    folder.write_json("operating_point.json", POINT)
    folder.write_json("calibration.json", CALIBRATION.to_dict())
    return folder
