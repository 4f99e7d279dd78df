"""The command line with the tiny model, as one of several workers that then also evaluate and predict.

What they found is written by the chief, to the file that is named first.
"""

import sys

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config

from medkeras.models import registry
from pipelines.cli.main import main
from pipelines.distribution.strategy import choose_strategy
from pipelines.jobs import train as job
from pipelines.training import build
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from tiny_model import PRESETS

found, *words = sys.argv[1:]
registry.register(PRESETS)
kept = {}


def kept_training(config, data, **options):
    kept["training"], model = build.build_training(config, data, **options)
    return kept["training"], model


def kept_devices(*arguments, **options):
    kept["devices"] = choose_strategy(*arguments, **options)
    return kept["devices"]


job.build_training, job.choose_strategy = kept_training, kept_devices


def after_an_epoch(jit, data, devices):
    """The weights of a training whose norms are each worker's, and which each worker compiles, or not."""
    changes = {"run": "unused", "jit": jit, "sync_batch_norm": False, "epochs": 1}
    setting = TrainConfig(**(vars(TrainConfig.from_run(job.RunFolder(run))) | changes))
    training, _ = build.build_training(setting, data, distribution=devices)
    training.fit(build.train_batches(data, devices), steps_per_epoch=data.steps_per_epoch, shuffle=False, verbose=0)
    return training.get_weights()


code = main(words)
if code == 0:
    run = words[words.index("--run") + 1]
    data, training = load_data(TrainConfig.from_run(job.RunFolder(run))), kept["training"]
    measured = training.evaluate(**{
        {"validation_data": "x", "validation_steps": "steps"}[name]: value
        for name, value in build.validation(data, kept["devices"]).items()
    }, verbose=0, return_dict=True)  # fmt: skip
    sharded = tf.data.Options()
    sharded.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    logits = training.predict(data.test.with_options(sharded), verbose=0)
    config.disable_op_determinism()  # As the job left it, and some operations then have no compiled form.
    ends = [after_an_epoch(jit, data, kept["devices"]) for jit in ("off", "on")]
    measured["moved_by_xla"] = max(np.abs(own - mine).max() for own, mine in zip(*ends, strict=True))
    if kept["devices"].is_chief:
        np.savez(found, *training.get_weights(), logits=logits, **measured)
sys.exit(code)
