"""A training step with AADA in the graph against the usual way, a loop over images between two graph calls.

    python benchmarks/training/aada_step.py
    python benchmarks/training/aada_step.py --full --batch 4 --steps 1 --rounds 3

Both take the same three passes and the same losses. What is spent outside the network is timed in two ways. "Outside
alone" is that part by itself, on a batch's own attention and feature: choice of the maps, crop, drop, the three other
terms and their gradients. "Passes alone" shows every image three times as it is and has no loss but the classification:
what the whole step takes longer is the other estimate, the difference of two large times, and as noisy as they are. The
targets: at most 3 % of the step, and no slower than the usual way. Each row has a process of its own, for its peak
memory; the rounds of all rows take turns, and the median counts.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from medkeras.losses import attention_alignment, attention_diversity
from medkeras.models import create
from medkeras.models.dualattendmed.training import WEIGHTS, AttentionTraining
from medkeras.tasks import default_loss
from pipelines.runtime.memory import keep_freed_memory

Step = Callable[[], float]
SMALL, FULL = ("dualattendmed_small", 128), ("dualattendmed", 224)


def batch_of(arguments: argparse.Namespace, training: AttentionTraining) -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    images = rng.random((arguments.batch, *training.classifier.image_shape), np.float32)
    return tf.constant(images), tf.constant(rng.integers(0, 5, arguments.batch))


def training_of(arguments: argparse.Namespace, **options: object) -> AttentionTraining:
    keras.utils.set_random_seed(0)
    model = create(arguments.model, input_shape=(arguments.size, arguments.size, 3), num_classes=5)
    training = AttentionTraining(model, seed=0, **options)
    training.compile(keras.optimizers.SGD(1e-3, momentum=0.9), default_loss(model.task), jit_compile=arguments.jit)
    return training


def in_graph(arguments: argparse.Namespace) -> Step:
    return whole_step(arguments, training_of(arguments))


def passes_alone(arguments: argparse.Namespace) -> Step:
    training = training_of(arguments, weights=dict.fromkeys(WEIGHTS, 0.0) | {"classification": 1.0})
    training.augmented = lambda images, attention: keras.ops.concatenate([images, images], axis=0)
    return whole_step(arguments, training)


def outside_alone(arguments: argparse.Namespace) -> Step:
    training = training_of(arguments)
    images, labels = batch_of(arguments, training)
    seen = training.looks(images, training=True)
    attention, feature = seen["attention"], seen["feature"]

    @tf.function(jit_compile=arguments.jit)
    def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch([attention, feature])
            loss = other_terms(training, labels, attention, feature)
        return training.augmented(images, attention), tape.gradient(loss, [attention, feature])

    return lambda: float(step()[0][0, 0, 0, 0])


def other_terms(training: AttentionTraining, labels: tf.Tensor, attention: tf.Tensor, feature: tf.Tensor) -> tf.Tensor:
    values = {
        "alignment": attention_alignment(attention),
        "diversity": attention_diversity(attention),
        "centre": training.centre_loss(feature, labels, training=True),
    }
    return tf.add_n([WEIGHTS[name] * value for name, value in values.items()])


def whole_step(arguments: argparse.Namespace, training: AttentionTraining) -> Step:
    batch = batch_of(arguments, training)
    step = tf.function(training.train_step, jit_compile=arguments.jit)
    return lambda: float(step(batch)["loss"])


def usual_way(arguments: argparse.Namespace) -> Step:
    training = training_of(arguments)
    images, labels = batch_of(arguments, training)
    pixels, variables, rng = images.numpy(), training.trainable_variables, np.random.default_rng(0)
    # The tape stays open across the loop, so that both passes are differentiated.
    look = tf.function(lambda x: training.looks(x, training=True), jit_compile=arguments.jit)
    composite = tf.function(lambda *seen: composite_loss(training, labels, *seen), jit_compile=arguments.jit)
    update = tf.function(lambda gradients: training.optimizer.apply(gradients, variables), jit_compile=arguments.jit)
    training.optimizer.build(variables)

    def step() -> float:
        with tf.GradientTape() as tape:
            seen = look(images)
            again = look(tf.constant(loop_of_views(pixels, seen["attention"].numpy(), training, rng)))
            loss = composite(seen, again)
        update(tape.gradient(loss, [v.value for v in variables]))
        return float(loss)

    return step


def composite_loss(
    training: AttentionTraining, labels: tf.Tensor, seen: dict[str, tf.Tensor], again: dict[str, tf.Tensor]
) -> tf.Tensor:
    loss, auxiliary = training.loss, tf.concat([seen["aux_logits"], again["aux_logits"]], axis=0)
    views = 2 * loss(tf.tile(labels, [2]), again["logits"]) + 3 * loss(tf.tile(labels, [3]), auxiliary)
    classification = (loss(labels, seen["logits"]) + views) / 6
    others = other_terms(training, labels, seen["attention"], seen["feature"])
    return WEIGHTS["classification"] * classification + others


def loop_of_views(
    images: np.ndarray, maps: np.ndarray, training: AttentionTraining, rng: np.random.Generator
) -> np.ndarray:
    """Crops and drops one image after the other, by OpenCV and numpy."""
    height, width = images.shape[1:3]
    crops, drops = np.empty_like(images), np.empty_like(images)
    for i, (image, own) in enumerate(zip(images, maps, strict=True)):
        strength = np.sqrt(own.mean((0, 1)) + 1e-12)
        first, second = rng.choice(len(strength), 2, p=strength / strength.sum())
        inside = is_above(own[..., first], (width, height), rng.uniform(*training.crop_threshold))
        (rows,), (columns,) = inside.any(1).nonzero(), inside.any(0).nonzero()
        pad = int(training.padding * height), int(training.padding * width)
        top, left = max(rows[0] - pad[0], 0), max(columns[0] - pad[1], 0)
        cut = image[top : rows[-1] + pad[0], left : columns[-1] + pad[1]]
        crops[i] = cv2.resize(cut, (width, height))
        hidden = is_above(own[..., second], (width, height), rng.uniform(*training.drop_threshold))
        drops[i] = np.where(hidden[..., None], np.float32(training.fill), image)
    return np.concatenate([crops, drops])


def is_above(attention: np.ndarray, size: tuple[int, int], threshold: float) -> np.ndarray:
    # The maximum after resizing, so that there is a box even where the map is flat.
    resized = cv2.resize(attention, size)
    return resized >= threshold * resized.max()


ROWS = {
    "in the graph": in_graph,
    "the usual way": usual_way,
    "passes alone": passes_alone,
    "outside alone": outside_alone,
}
_OF_PROCESS: dict[str, Step] = {}


def seconds_per_step(name: str, arguments: argparse.Namespace) -> float:
    """Times some steps in a process that keeps its training; the first call takes a step before, to compile."""
    if name not in _OF_PROCESS:
        keep_freed_memory()
        _OF_PROCESS[name] = ROWS[name](arguments)
        _OF_PROCESS[name]()
    start = time.perf_counter()
    for _ in range(arguments.steps):
        _OF_PROCESS[name]()
    return (time.perf_counter() - start) / arguments.steps


def peak_mebibytes() -> float:
    """Returns the most that the process has used: of the GPU's memory where there is one, else of its own."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(arguments: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the median seconds of a step and the peak memory of each row."""
    context = multiprocessing.get_context("spawn")
    pools = {name: concurrent.futures.ProcessPoolExecutor(1, mp_context=context) for name in ROWS}
    seconds = {name: [] for name in ROWS}
    for _ in range(arguments.rounds):
        for name, pool in pools.items():
            seconds[name].append(pool.submit(seconds_per_step, name, arguments).result())
    peaks = {name: pool.submit(peak_mebibytes).result() for name, pool in pools.items()}
    for pool in pools.values():
        pool.shutdown()
    return {name: float(np.median(values)) for name, values in seconds.items()}, peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the published size: ResNet-152 at 224 pixels")
    parser.add_argument("--batch", type=int, default=16, help="images per batch")
    parser.add_argument("--steps", type=int, default=3, help="steps per row and round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all rows, of which the median counts")
    parser.add_argument("--jit", action="store_true", help="compile with XLA, as Keras does by itself on a GPU")
    arguments = parser.parse_args()
    arguments.model, arguments.size = FULL if arguments.full else SMALL
    seconds, peaks = measure(arguments)
    ratio = seconds["the usual way"] / seconds["in the graph"]
    outside = seconds["outside alone"] / seconds["in the graph"]
    difference = 1 - seconds["passes alone"] / seconds["in the graph"]
    table = Table("", "seconds per step", "peak memory, MiB")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f}", f"{peaks[name]:,.0f}")
    Console().print(table)
    Console().print(
        f"usual way / in the graph: {ratio:.2f}; outside the passes: {100 * outside:.1f} %, "
        f"by difference {100 * difference:.1f} %"
    )
    found = {"seconds": seconds, "peaks": peaks, "ratio": ratio, "outside": outside, "difference": difference}
    print(json.dumps(vars(arguments) | found))


if __name__ == "__main__":
    main()
