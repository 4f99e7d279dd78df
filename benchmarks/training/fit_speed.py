"""Images per second of the input pipeline alone, of the model alone and of `fit`, in one run.

    python benchmarks/training/fit_speed.py --data phantom --model focusnet2d --size 64

The target is that `fit` reaches 85 % of the slower of the other two.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import pipelines
from medkeras import models, tasks
from pipelines.load import Splits

WARM_UP = 10  # Steps: tracing, XLA compilation, filled buffers.


def seconds_per_step(step: Callable[[], object], steps: int) -> float:
    for _ in range(WARM_UP):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def time_pipeline(data: Splits, steps: int) -> float:
    iterator = iter(data.train_stream())
    return seconds_per_step(lambda: next(iterator), steps)


def time_model(model: keras.Model, batches: Iterator, steps: int) -> float:
    """Times training steps; the loss is read each time, so that none is still running at the end."""
    model.make_train_function()
    return seconds_per_step(lambda: float(model.train_function(batches)["loss"]), steps)


def time_fit(model: keras.Model, data: Splits, steps: int) -> float:
    """Times the epoch after the first."""
    ends = []
    timer = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    model.fit(data.train_stream(), steps_per_epoch=steps, epochs=2, shuffle=False, verbose=0, callbacks=[timer])
    return (ends[1] - ends[0]) / steps


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    data = pipelines.load(
        arguments.data, image_size=arguments.size, batch_size=arguments.batch, augment=arguments.augment
    )
    info = data.info
    model = models.create(arguments.model, input_shape=info.image_shape, num_classes=info.num_classes, task=info.task)
    model.compile("adam", tasks.default_loss(info.task), jit_compile=False)
    fixed = tf.data.Dataset.from_tensors(next(iter(data.train))).cache().repeat()
    batch = data.pipelines["train"].batch_size
    seconds = np.median(
        [
            (
                time_pipeline(data, arguments.steps),
                time_model(model, iter(fixed), arguments.steps),
                time_fit(model, data, arguments.steps),
            )
            for _ in range(arguments.rounds)
        ],
        axis=0,
    )
    return dict(zip(("pipeline", "model", "fit"), (batch / seconds).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="phantom", help="source, as for `medkeras train`")
    parser.add_argument("--model", default="focusnet2d", help="name of a registered model")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--size", type=int, default=None, help="pixels per side; the images' own by default")
    parser.add_argument("--augment", default="standard", help="preset of augmentations")
    parser.add_argument("--steps", type=int, default=30, help="training steps that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all three, of which the median counts")
    arguments = parser.parse_args()
    rates = measure(arguments)
    ratio = rates["fit"] / min(rates["pipeline"], rates["model"])
    table = Table("", "images per second")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}")
    table.add_row("fit / slower of the two", f"{ratio:.2f}")
    Console().print(table)
    print(json.dumps({**vars(arguments), "images_per_second": rates, "ratio": ratio}))


if __name__ == "__main__":
    main()
