"""Images per second of the warp against Keras' layers in 2D and SciPy in 3D, in one run.

    python benchmarks/input/warp.py

Rotation, scale and translation by random amounts: in 2D batches of 32 images of 224 x 224 x 3 in tf.data, in 3D
volumes of 64 x 64 x 64, SciPy's `affine_transform` (order 1) in two processes. The targets are 6 and 1.5 times.
"""

import argparse
import json
import multiprocessing
import multiprocessing.pool
import os
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

IMAGE, VOLUME = (224, 224, 3), (64, 64, 64, 1)
MOTION = {"rotation": 10.0, "scale": 0.1, "translation": 0.06}
PROCESSES = 2


def tf_data_rate(augment: Callable, shape: Sequence[int], batch_size: int, seconds: float) -> Callable[[], float]:
    """Returns a function that measures images per second of an endless tf.data pipeline."""
    import tensorflow as tf

    images = tf.random.stateless_uniform((batch_size, *shape), (0, 1))
    dataset = tf.data.Dataset.range(10**9)
    dataset = dataset.map(lambda step: augment(images, step), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = iter(dataset.prefetch(tf.data.AUTOTUNE))
    for _ in range(6):  # Tracing, compilation, filled buffers.
        next(batches)
    return lambda: batch_size * calls_per_second(lambda: next(batches), seconds)


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - start)


def ours(shape: Sequence[int], batch_size: int, **more: float) -> Callable:
    import tensorflow as tf

    from pipelines.augment import Augmenter, Warp

    augment = Augmenter([Warp(**MOTION, **more)], image_shape=shape)
    indices = tf.range(batch_size, dtype=tf.int64)
    return lambda images, step: augment(images, step, indices)


def keras_chain() -> Callable:
    import keras

    options = {"fill_mode": "nearest"}
    layers = [
        keras.layers.RandomRotation(MOTION["rotation"] / 360, **options),
        keras.layers.RandomZoom(MOTION["scale"], **options),
        keras.layers.RandomTranslation(MOTION["translation"], MOTION["translation"], **options),
    ]

    def augment(images, step):
        for layer in layers:
            images = layer(images, training=True)
        return images

    return augment


def warp_volume(seed: int) -> float:
    """Warps one volume as SciPy does; the volume is made once per process."""
    rng = np.random.default_rng(seed)
    angle = np.radians(rng.uniform(-1, 1) * MOTION["rotation"])
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = turn * (1 + MOTION["scale"]) ** rng.uniform(-1, 1)
    centre = (np.array(VOLUME[:-1]) - 1) / 2
    shift = rng.uniform(-1, 1, 3) * MOTION["translation"] * VOLUME[0]
    if "volume" not in _OF_PROCESS:
        _OF_PROCESS["volume"] = np.random.default_rng(0).random(VOLUME[:-1], np.float32)
    moved = ndimage.affine_transform(
        _OF_PROCESS["volume"], matrix, centre - matrix @ centre + shift, order=1, mode="nearest"
    )
    return float(moved[0, 0, 0])


_OF_PROCESS: dict[str, np.ndarray] = {}


def scipy_rate(pool: multiprocessing.pool.Pool, seconds: float) -> float:
    count = 8 * PROCESSES
    return count * calls_per_second(lambda: pool.map(warp_volume, range(count), chunksize=4), seconds)


def measure(rounds: int, seconds: float) -> dict[str, float]:
    """Returns the median rate of each contender; they take turns, so that a busy machine hits all alike."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(warp_volume, range(2 * PROCESSES))
        contenders = {
            "2D Keras layers": tf_data_rate(keras_chain(), IMAGE, 32, seconds),
            "2D warp": tf_data_rate(ours(IMAGE, 32), IMAGE, 32, seconds),
            "2D warp, elastic": tf_data_rate(ours(IMAGE, 32, elastic=0.02), IMAGE, 32, seconds),
            "3D SciPy": lambda: scipy_rate(pool, seconds),
            "3D warp": tf_data_rate(ours(VOLUME, 8), VOLUME, 8, seconds),
            "3D warp, elastic": tf_data_rate(ours(VOLUME, 8, elastic=0.02), VOLUME, 8, seconds),
        }
        rates = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, rate in contenders.items():
                rates[name].append(rate())
    return {name: float(np.median(values)) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="per contender and round")
    arguments = parser.parse_args()
    rates = measure(arguments.rounds, arguments.seconds)
    baselines = {"2D": rates["2D Keras layers"], "3D": rates["3D SciPy"]}
    ratios = {name: rate / baselines[name[:2]] for name, rate in rates.items()}
    table = Table("", "images per second", "times the baseline")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{ratios[name]:.1f}")
    Console().print(table)
    print(json.dumps({**vars(arguments), "rates": rates, "ratios": ratios}))


if __name__ == "__main__":
    main()
