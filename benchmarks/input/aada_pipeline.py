"""Attention crop and drop in Dataset.map: against tf.image image by image, and OpenCV on the same cores.

    python benchmarks/input/aada_pipeline.py --keep-memory

Every row zooms each image to its attention box and hides what the map, zoomed alike, then points at. The rounds of
all rows alternate; the median counts. The targets: at least 5 times tf.image, and no slower than the OpenCV loop
with numpy masks, in threads or processes, whichever is fastest. The rows "OpenCV alone" leave numpy out: boxes and
masks by OpenCV's own functions, which few write. With --keep-memory freed memory is reused in all rows, as
`medkeras train` does; without, a third of the compiled time goes to pages that the system clears for every batch.
"""

import argparse
import functools
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from pipelines.augment import AttentionCrop, AttentionDrop, Augmenter
from pipelines.runtime.memory import keep_freed_memory

CROP, DROP, PADDING, FILL = 0.5, 0.35, 0.1, 0.0
CROPPED, DROPPED = (
    AttentionCrop((CROP, CROP), padding=PADDING, probability=1.0),
    AttentionDrop((DROP, DROP), 1.0, fill=FILL),
)


def samples(batch: int, size: int, channels: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random images, and one blob of attention each."""
    rng = np.random.default_rng(0)
    images = rng.random((batch, size, size, channels), np.float32)
    places, (rows, columns) = np.arange(cells), rng.uniform(0.2, 0.8, (2, batch, 1, 1)) * cells
    width = rng.uniform(0.1, 0.25, (batch, 1, 1)) * cells
    maps = np.exp(-((places[:, None] - rows) ** 2 + (places - columns) ** 2) / (2 * width**2))
    return images, maps.astype(np.float32)


def compiled(images: np.ndarray, maps: np.ndarray, steps: int, workers: int) -> Iterator:
    batch, count = {"image": tf.constant(images), "attention": tf.constant(maps)}, len(images)
    crop, drop = (tf.function(a.apply_batch, jit_compile=True) for a in (CROPPED, DROPPED))
    wanted = [{"threshold": tf.fill([count], t), "chosen": tf.fill([count], True)} for t in (CROP, DROP)]
    dataset = tf.data.Dataset.range(steps)
    return iter(dataset.map(lambda _: drop(crop(batch, wanted[0]), wanted[1]), num_parallel_calls=workers))


def augmenter(images: np.ndarray, maps: np.ndarray, steps: int, workers: int) -> Iterator:
    """The same with what the input pipeline adds: random numbers, and the limits 0 and 1."""
    augment = Augmenter([CROPPED, DROPPED], image_shape=images.shape[1:])
    batch, indices = {"image": tf.constant(images), "attention": tf.constant(maps)}, tf.range(len(images))
    dataset = tf.data.Dataset.range(steps)
    return iter(dataset.map(lambda step: augment.augment_batch(batch, step, indices), num_parallel_calls=workers))


def tf_image(images: np.ndarray, maps: np.ndarray, steps: int, workers: int) -> Iterator:
    """What users write: boxes and `tf.image.resize`, image by image."""
    size, batch = images.shape[1:3], (tf.constant(images), tf.constant(maps))
    margin = [PADDING * n for n in size]

    def one(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, attention = pair
        values = tf.image.resize(attention[..., None], size)
        inside = tf.where(values[..., 0] >= CROP * tf.reduce_max(attention))
        first, last = tf.reduce_min(inside, axis=0), tf.reduce_max(inside, axis=0)
        lower = tf.cast(tf.maximum(tf.cast(first, tf.float32) - margin, 0.0), tf.int32)
        upper = tf.cast(tf.minimum(tf.cast(last, tf.float32) + margin, tf.cast(size, tf.float32)), tf.int32)
        image, values = (tf.image.resize(x[lower[0] : upper[0], lower[1] : upper[1]], size) for x in (image, values))
        return tf.where(values >= DROP * tf.reduce_max(values), FILL, image)

    spec = tf.TensorSpec(images.shape[1:])
    dataset = tf.data.Dataset.range(steps)
    return iter(dataset.map(lambda _: tf.map_fn(one, batch, fn_output_signature=spec), num_parallel_calls=workers))


def numpy_box(values: np.ndarray, level: float) -> tuple[int, int, int, int]:
    mask = values >= level
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], columns[0], rows[-1], columns[-1]


def numpy_hide(image: np.ndarray, values: np.ndarray, level: float, result: np.ndarray) -> None:
    """Of five ways to write it (indexing, where, copyto, ...) the fastest; it fills with 0."""
    np.multiply(image, (values < level)[..., None], out=result)


def opencv_box(values: np.ndarray, level: float) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(cv2.compare(values, level, cv2.CMP_GE))
    return y, x, y + height - 1, x + width - 1


def opencv_hide(image: np.ndarray, values: np.ndarray, level: float, result: np.ndarray) -> None:
    result[:] = FILL
    cv2.copyTo(image, cv2.compare(values, level, cv2.CMP_LT), result)


MASKS = {"OpenCV and numpy": (numpy_box, numpy_hide), "OpenCV alone": (opencv_box, opencv_hide)}


def opencv(images: np.ndarray, maps: np.ndarray, output: np.ndarray, masks: str) -> np.ndarray:
    """One image after the other, the map resized once for the box and zoomed for the mask."""
    height, width = images.shape[1:3]
    find_box, hide = MASKS[masks]
    for image, attention, result in zip(images, maps, output, strict=True):
        values = cv2.resize(attention, (width, height))
        box = find_box(values, CROP * float(attention.max()))
        top, left = max(int(box[0] - PADDING * height), 0), max(int(box[1] - PADDING * width), 0)
        bottom, right = min(int(box[2] + PADDING * height), height), min(int(box[3] + PADDING * width), width)
        values = cv2.resize(values[top:bottom, left:right], (width, height))
        cropped = cv2.resize(image[top:bottom, left:right], (width, height)).reshape(image.shape)
        hide(cropped, values, DROP * float(values.max()), result)
    return output


def in_threads(masks: str, images: np.ndarray, maps: np.ndarray, steps: int, workers: int) -> Iterator:
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda _: opencv(images, maps, np.empty_like(images), masks), range(steps))


def in_opencv(masks: str, images: np.ndarray, maps: np.ndarray, steps: int, workers: int) -> Iterator:
    """OpenCV's own threads, one batch at a time."""
    cv2.setNumThreads(workers)
    for _ in range(steps):
        yield opencv(images, maps, np.empty_like(images), masks)
    cv2.setNumThreads(1)


class Processes:
    """Worker processes that write into shared memory, so that no batch is copied."""

    def __init__(self, images: np.ndarray, maps: np.ndarray, workers: int) -> None:
        context = multiprocessing.get_context("fork")
        buffers = [np.frombuffer(context.RawArray("f", images.size), np.float32) for _ in range(2 * workers)]
        Processes.shared = (images, maps, [buffer.reshape(images.shape) for buffer in buffers])
        self.pool, self.count = context.Pool(workers), len(buffers)

    def batches(self, masks: str, images: np.ndarray, maps: np.ndarray, steps: int, workers: int) -> Iterator:
        """Yields which buffer holds the next batch."""
        return self.pool.imap(work, ((step % self.count, masks) for step in range(steps)))


def work(job: tuple[int, str]) -> int:
    buffer, masks = job
    images, maps, buffers = Processes.shared
    opencv(images, maps, buffers[buffer], masks)
    return buffer


def images_per_second(batches: Iterator, steps: int, batch: int) -> float:
    """Times all but the first batches, which compile and start workers."""
    for _ in range(2):
        next(batches)
    begin = time.perf_counter()
    for _ in batches:
        pass
    return (steps - 2) * batch / (time.perf_counter() - begin)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    images, maps = samples(arguments.batch, arguments.size, arguments.channels, arguments.cells)
    cv2.setNumThreads(1)
    # Forked before TensorFlow has threads.
    ways = {"processes": Processes(images, maps, arguments.workers).batches, "threads": in_threads}
    ways["its own threads"] = in_opencv
    rows: dict[str, Callable[..., Iterator]] = {
        f"{masks}, {way}": functools.partial(make, masks) for masks in MASKS for way, make in ways.items()
    }
    rows |= {"tf.image per image, in Dataset.map": tf_image}
    rows |= {"compiled, in Dataset.map": compiled, "compiled, by the Augmenter": augmenter}
    rates = {name: [] for name in rows}
    for _ in range(arguments.rounds):
        for name, make in rows.items():
            batches = make(images, maps, arguments.steps, arguments.workers)
            rates[name].append(images_per_second(iter(batches), arguments.steps, arguments.batch))
    return {name: float(np.median(values)) for name, values in rates.items()}


def ratios(rates: dict[str, float]) -> dict[str, float]:
    ours = rates["compiled, in Dataset.map"]
    best = {masks: max(rate for name, rate in rates.items() if name.startswith(masks)) for masks in MASKS}
    return {
        "compiled / tf.image": ours / rates["tf.image per image, in Dataset.map"],
        **{f"compiled / {masks}": ours / rate for masks, rate in best.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224, help="pixels per side")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--cells", type=int, default=14, help="cells per side of the attention maps")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--steps", type=int, default=30, help="batches per round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all rows, of which the median counts")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes of every row")
    parser.add_argument("--keep-memory", action="store_true", help="have glibc keep freed memory, for every row")
    arguments = parser.parse_args()
    if arguments.keep_memory:
        keep_freed_memory()
    rates = measure(arguments)
    table = Table("", "images per second")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}")
    table.add_section()
    for name, ratio in ratios(rates).items():
        table.add_row(name, f"{ratio:.2f}")
    Console().print(table)
    print(json.dumps({**vars(arguments), "rates": rates, "ratios": ratios(rates)}))


if __name__ == "__main__":
    main()
