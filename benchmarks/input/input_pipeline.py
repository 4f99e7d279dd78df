"""From image files to augmented batches: against a PyDataset with albumentations, plain decoding and the cache.

    pip install 'medkeras[bench]'
    python benchmarks/input/input_pipeline.py --data ../shared/data/busi/images

Every row trains the same trivial model with `fit`, so that all pipelines are consumed alike; the epoch after the
first is timed, the median of the rounds counts, and the rounds of all rows alternate. The targets: augmented at
least 1.2 times albumentations and 0.6 of plain decoding and batching; the cache at least 5 times decoding; peak
memory the same for ten times the records.
"""

import argparse
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import pipelines
from pipelines.input.cache import images_from_source
from pipelines.input.dataset import InputPipeline
from pipelines.input.shards import images_from_shards
from pipelines.sources import open_source

MEMORY_RECORDS = 400
REPEATS = 1000  # Of the images in the endless rows.


class AlbumentationsDataset(keras.utils.PyDataset):
    """What users write today: OpenCV decoding and albumentations in a PyDataset with two workers."""

    def __init__(self, paths: list[str], size: int, batch: int, *, use_multiprocessing: bool) -> None:
        import albumentations as A

        cv2.setNumThreads(1)
        super().__init__(workers=2, use_multiprocessing=use_multiprocessing, max_queue_size=10)
        self.paths, self.batch = paths, batch
        self.transform = A.Compose(
            [
                A.Resize(size, size, interpolation=cv2.INTER_AREA),
                A.HorizontalFlip(p=0.5),
                A.Affine(scale=(0.9, 1.1), rotate=(-10, 10), translate_percent=(-0.06, 0.06), border_mode=1, p=1),
                A.RandomBrightnessContrast(0.1, 0.2, p=1),
                A.RandomGamma((80, 120), p=1),
                A.GaussNoise(std_range=(0.0, 0.02), p=1),
            ]
        )

    def __len__(self) -> int:
        return REPEATS * (len(self.paths) // self.batch)  # Else `fit` would stop within the timed epoch.

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        index %= len(self.paths) // self.batch
        paths = self.paths[index * self.batch : (index + 1) * self.batch]
        images = [self.transform(image=cv2.imread(path, cv2.IMREAD_GRAYSCALE))["image"] for path in paths]
        images = np.stack(images).astype(np.float32)[..., None] / 255
        return images, np.zeros(len(paths), np.float32)


def trivial_model(shape: tuple[int, ...]) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model


def images_per_second(data: object, shape: tuple[int, ...], steps: int, batch: int) -> float:
    ends = []
    timer = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    trivial_model(shape).fit(data, steps_per_epoch=steps, epochs=2, shuffle=False, verbose=0, callbacks=[timer])
    return steps * batch / (ends[1] - ends[0])


def rows(folder: str, cache: str, size: int, batch: int) -> dict[str, Callable[[], object]]:
    records, shape = open_source(folder), (size, size, 1)
    paths = [os.path.join(folder, name) for name in records.table["id"]]
    decoded = images_from_source(records, shape)
    cached = images_from_shards(records, shape, cache)
    standard = pipelines.augment.choose("standard")

    def stream(images: Callable, augmentations: tuple) -> tf.data.Dataset:
        pipeline = InputPipeline(
            records, image_shape=shape, batch_size=batch, images=images, augmentations=augmentations
        )
        return pipeline.stream()

    return {
        "files, augmented": functools.partial(stream, decoded, standard),
        "files, decoded and batched": functools.partial(stream, decoded, ()),
        "cache, augmented": functools.partial(stream, cached, standard),
        "cache, batched": functools.partial(stream, cached, ()),
        "albumentations, 2 threads": functools.partial(
            AlbumentationsDataset, paths, size, batch, use_multiprocessing=False
        ),
        "albumentations, 2 processes": functools.partial(
            AlbumentationsDataset, paths, size, batch, use_multiprocessing=True
        ),
    }


def measure(arguments: argparse.Namespace, cache: str) -> dict[str, float]:
    shape, makers = (arguments.size, arguments.size, 1), rows(arguments.data, cache, arguments.size, arguments.batch)
    rates = {name: [] for name in makers}
    for _ in range(arguments.rounds):
        for name, make in makers.items():
            rates[name].append(images_per_second(make(), shape, arguments.steps, arguments.batch))
    return {name: float(np.median(values)) for name, values in rates.items()}


def ratios(rates: dict[str, float]) -> dict[str, float]:
    albumentations = max(rate for name, rate in rates.items() if name.startswith("albumentations"))
    return {
        "augmented / albumentations": rates["files, augmented"] / albumentations,
        "augmented / decoded and batched": rates["files, augmented"] / rates["files, decoded and batched"],
        "cache / decoded and batched": rates["cache, batched"] / rates["files, decoded and batched"],
    }


def peak_memory(count: int, size: int, cache: str | None) -> float:
    """Streams one epoch of so many records and returns the process's peak, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        cv2.imwrite(f"{folder}/0.png", cv2.blur(rng.integers(0, 256, (300, 300), np.uint8), (9, 9)))
        for i in range(1, count):
            os.link(f"{folder}/0.png", f"{folder}/{i}.png")
        table = pd.DataFrame({"path": [f"{i}.png" for i in range(count)], "label": np.arange(count) % 2})
        table.to_csv(f"{folder}/images.csv", index=False)
        data = pipelines.load(
            f"{folder}/images.csv", image_size=size, memory_limit=0, leakage="off", cache=cache and f"{folder}/cache"
        )
        for _ in data.train:
            pass
    status = pathlib.Path("/proc/self/status").read_text()  # `getrusage` has the peak of the parent, too.
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 2**10


def peak_memories(arguments: argparse.Namespace) -> dict[str, float]:
    """Runs each measurement in a process of its own."""
    peaks = {}
    for kind in ("files", "cache"):
        for count in (MEMORY_RECORDS, 10 * MEMORY_RECORDS):
            command = [sys.executable, __file__, "--memory", f"{kind}:{count}", "--size", str(arguments.size)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[f"{kind}, {count} records"] = float(output)
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data/busi/images", help="folder of class folders of images")
    parser.add_argument("--size", type=int, default=224, help="pixels per side")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--steps", type=int, default=20, help="batches per epoch")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all rows, of which the median counts")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        kind, count = arguments.memory.split(":")
        print(peak_memory(int(count), arguments.size, kind if kind == "cache" else None))
        return
    with tempfile.TemporaryDirectory() as cache:
        rates = measure(arguments, cache)
    peaks = peak_memories(arguments)
    table = Table("", "images per second")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}")
    table.add_section()
    for name, ratio in ratios(rates).items():
        table.add_row(name, f"{ratio:.2f}")
    table.add_section()
    for name, peak in peaks.items():
        table.add_row(f"peak memory, {name}", f"{peak:,.0f} MiB")
    Console().print(table)
    source = pathlib.Path(arguments.data).name
    print(json.dumps({**vars(arguments), "data": source, "rates": rates, "ratios": ratios(rates), "memory_mib": peaks}))


if __name__ == "__main__":
    main()
