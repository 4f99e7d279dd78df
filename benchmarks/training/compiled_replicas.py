"""Time of a training step on two devices of the CPU, each of which compiles its part by XLA or does not.

    python benchmarks/training/compiled_replicas.py
    python benchmarks/training/compiled_replicas.py vit_tiny --batch 16 --size 64 --steps 8 --rounds 9

Both trainings are built by `pipelines.training.build` as `medkeras train` does, with the same batch of phantom images
at every step. They take turns; the table shows the median of the rounds, their range, and the ratio within a round.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from pipelines.distribution.strategy import choose_strategy
from pipelines.training.build import build_training
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data

MODELS = ("focusnet2d", "dualattendmed_tiny", "dcat_tiny", "hemf_tiny", "came_tiny", "vit_tiny")


def timed(training: keras.Model, batches: Iterator, steps: int) -> float:
    """Returns the seconds of a training step; the loss is read each time, so that none is still running."""
    start = time.perf_counter()
    for _ in range(steps):
        float(training.train_function(batches)["loss"])
    return (time.perf_counter() - start) / steps


def started(training: keras.Model, batch: tf.data.Dataset) -> tuple[float, Iterator]:
    """Takes the first steps; returns the seconds of the first one, and batches that need no other program."""
    start = time.perf_counter()
    training.fit(batch, shuffle=False, verbose=0)
    seconds = time.perf_counter() - start
    batches = iter(training.distribute_strategy.experimental_distribute_dataset(batch.repeat()))
    timed(training, batches, 1)
    return seconds, batches


def measure(name: str, arguments: argparse.Namespace) -> list[str]:
    """Returns the cells of a model: parameters, first steps, steps without and with XLA, ratio."""
    settings = [
        TrainConfig(
            data="phantom", model=name, run="unused", image_size=arguments.size, batch_size=arguments.batch, jit=jit,
            source_options={"images": 3 * arguments.batch, "size": arguments.size}, augment="none", leakage="off",
        )
        for jit in ("off", "on")
    ]  # fmt: skip
    data = load_data(settings[0])
    batch = tf.data.Dataset.from_tensors(next(iter(data.train_stream())))
    trainings = [build_training(setting, data, distribution=choose_strategy("mirrored"))[0] for setting in settings]
    begun = [started(training, batch) for training in trainings]
    seconds = np.array([
        [timed(training, batches, arguments.steps) for training, (_, batches) in zip(trainings, begun, strict=True)]
        for _ in range(arguments.rounds)
    ])  # fmt: skip
    ratios = seconds[:, 1] / seconds[:, 0]
    cells = [f"{1e3 * np.median(s):.0f} ({1e3 * s.min():.0f} to {1e3 * s.max():.0f})" for s in seconds.T]
    ratio = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
    return [f"{trainings[0].count_params():,}", f"{begun[0][0]:.1f}, {begun[1][0]:.1f}", *cells, ratio]


def main() -> None:
    """Measures one model after the other and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, help="registered models")
    parser.add_argument("--batch", type=int, default=16, help="images of both devices together")
    parser.add_argument("--size", type=int, default=64, help="pixels per side")
    parser.add_argument("--steps", type=int, default=5, help="training steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    table = Table(
        "model", "parameters", "first step, s: without, with", "ms, without XLA", "ms, with", "with / without"
    )
    for name in arguments.models:
        cells = measure(name, arguments)
        print(name, *cells, sep=" | ", file=sys.stderr, flush=True)
        table.add_row(name, *cells)
        keras.backend.clear_session()
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
