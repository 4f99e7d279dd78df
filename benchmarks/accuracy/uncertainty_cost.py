"""What Monte Carlo dropout costs: 50 samples against one plain prediction of the same batch.

    python benchmarks/accuracy/uncertainty_cost.py
    python benchmarks/accuracy/uncertainty_cost.py --models dcat dcat_small hemf_tiny:dropout=0.5 --batch 8 --rounds 9

Both are graphs in one process, compiled before they are timed and without what `predict` adds to either; their rounds
take turns, each round gives a ratio, and the median counts. The target: at most 1.25 for `dcat` at 224 pixels. Where
dropout is in the head alone, only the head runs for each sample.
"""

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import keras
import numpy as np
import tensorflow as tf
from experiment import options_of
from rich.console import Console
from rich.table import Table

from medkeras.models import create, preset
from medkeras.uncertainty import MonteCarloDropout
from pipelines.runtime.memory import keep_freed_memory

MODELS = ("dcat", "dcat_small", "dcat_tiny", "hemf_tiny:dropout=0.5", "dualattendmed_tiny:dropout=0.5")


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compiled(network: keras.Model, images: tf.Tensor, arguments: argparse.Namespace) -> Callable[[], object]:
    graph = tf.function(lambda x: network(x, training=False), jit_compile=arguments.xla)
    graph(images)
    return lambda: graph(images).numpy()


def measure(description: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Returns the image's shape, and of each round the seconds of both."""
    name, _, options = description.partition(":")
    keras.utils.set_random_seed(0)
    shape = preset(name).input_shape
    if arguments.size is not None:
        shape = (arguments.size, arguments.size, shape[-1])
    model = create(name, input_shape=shape, num_classes=arguments.classes, **options_of(options))
    sampler = MonteCarloDropout(model, samples=arguments.samples)
    images = tf.constant(np.random.default_rng(0).random((arguments.batch, *shape), np.float32))
    once, often = (compiled(network, images, arguments) for network in (model, sampler.model))
    # In turn also within a round, so that neither always comes first.
    pairs = []
    for i in range(arguments.rounds):
        first, second = (once, often) if i % 2 else (often, once)
        pair = {first: seconds(first), second: seconds(second)}
        pairs.append((pair[once], pair[often]))
    return {"model": description, "shape": shape, "seconds": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="name, or name:key=value,key=value")
    parser.add_argument("--size", type=int, help="pixels per side; the model's own by default")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="images per batch")
    parser.add_argument("--samples", type=int, default=50, help="samples of each image")
    parser.add_argument("--threads", type=int, default=2, help="threads of an operation, and operations at a time")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--xla", action="store_true", help="compile both by XLA")
    arguments = parser.parse_args()
    keep_freed_memory()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    rows = [measure(description, arguments) for description in arguments.models]
    table = Table("model", "image", "once, s", f"{arguments.samples} samples, s", "ratio", "all rounds")
    table.columns[0].overflow = "fold"
    for row in rows:
        once, often = np.array(row["seconds"]).T
        ratio = often / once
        row["ratio"] = float(np.median(ratio))
        cells = (f"{np.median(once):.3f}", f"{np.median(often):.3f}", f"{row['ratio']:.2f}")
        table.add_row(row["model"], "x".join(map(str, row["shape"])), *cells, f"{ratio.min():.2f} to {ratio.max():.2f}")
    Console().print(table)
    print(json.dumps({**vars(arguments), "rows": rows}))


if __name__ == "__main__":
    main()
