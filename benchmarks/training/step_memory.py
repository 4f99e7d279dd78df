"""Memory and time of a training step, measured in a process of its own, beside what was estimated before it.

    python benchmarks/training/step_memory.py --models vit_b16 dualattendmed --batch 4 --accumulate 1 4
    python benchmarks/training/step_memory.py --models vit_b16 --batch 16 --accumulate 1 --checkpointing off on

The peak is the resident memory of the whole process; a step is one small batch, also where gradients are accumulated.
Times are means over the steps after the first one; processor time, of all cores, hardly depends on what else runs.
"""

import argparse
import itertools
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from medkeras import models, tasks
from medkeras.backend.rematerialization import rematerialize
from pipelines.training.config import TrainConfig
from pipelines.training.memory_estimate import estimate_memory
from pipelines.training.optimizer import build_optimizer


def measure(name: str, batch: int, accumulate: int, checkpointing: bool, steps: int) -> dict[str, float]:
    """Trains a few steps on noise in this process and returns gigabytes and seconds."""
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    model = models.create(name, input_shape=models.preset(name).input_shape, num_classes=2)
    if checkpointing:
        rematerialize(model)
    config = TrainConfig(data="phantom", model=name, run="unused", accumulate=accumulate)
    optimizer = build_optimizer(config, model, steps_per_epoch=accumulate)
    model.compile(optimizer, tasks.default_loss(model.task), jit_compile=False)
    estimated = estimate_memory(model, batch_size=batch, optimizer=optimizer).total
    images = np.random.default_rng(0).random((batch, *model.input_shape[1:]), np.float32)
    model.train_on_batch(images, np.arange(batch) % 2)
    start, worked = time.perf_counter(), time.process_time()
    for _ in range(steps):
        model.train_on_batch(images, np.arange(batch) % 2)
    seconds, worked = (time.perf_counter() - start) / steps, (time.process_time() - worked) / steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"estimated": estimated / 2**30, "peak": peak / 2**30, "seconds": seconds, "worked": worked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vit_b16", "dualattendmed"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--accumulate", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--checkpointing", nargs="+", default=["off"], choices=["off", "on"])
    parser.add_argument("--steps", type=int, default=4, help="A multiple of all that is accumulated.")
    parser.add_argument("--one", action="store_true", help="Measure the first case here and print it as JSON.")
    arguments = parser.parse_args()
    if arguments.one:
        accumulate, checkpointing = arguments.accumulate[0], arguments.checkpointing[0] == "on"
        print(json.dumps(measure(arguments.models[0], arguments.batch, accumulate, checkpointing, arguments.steps)))
        return
    measures = "estimated, GB", "peak, GB", "peak / estimated", "s per step", "processor s per step"
    table = Table("model", "batch", "accumulate", "checkpointing", *measures)
    for name in arguments.models:
        for accumulate, checkpointing in itertools.product(arguments.accumulate, arguments.checkpointing):
            words = ["--one", "--models", name, "--accumulate", accumulate, "--batch", arguments.batch]
            words += ["--steps", arguments.steps, "--checkpointing", checkpointing]
            done = subprocess.run(
                [sys.executable, pathlib.Path(__file__), *map(str, words)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            ratio = found["peak"] / found["estimated"]
            numbers = found["estimated"], found["peak"], ratio, found["seconds"], found["worked"]
            cells = [name, str(arguments.batch), str(accumulate), checkpointing]
            table.add_row(*cells, *(f"{number:.2f}" for number in numbers))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
