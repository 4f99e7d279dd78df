"""One device, two devices of one process, two processes: the same losses and weights, for every architecture.

    python benchmarks/training/strategies.py
    python benchmarks/training/strategies.py hemf_tiny vit_tiny
    python benchmarks/training/strategies.py --float64 --epochs 2

Each architecture takes two steps an epoch on the same phantom images from the same seed, with dropout off and BatchNorm
synchronised, by `pipelines.training.build` as `medkeras train` does. The two devices are logical devices of the CPU,
the two processes talk over loopback. The table shows the largest difference to one device of the loss, in
training and validation, and of any weight, as a share of the largest one of its tensor.

With `--float64` everything is computed in double precision: a difference that is left there is one of the arithmetic,
a difference that is gone was one of rounding. FocusNet, whose glimpses keep places in float32, is then left out.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "support"))
from double_precision import compute_in_float64  # noqa: E402
from pipelines.distribution.cluster import Cluster, find_cluster
from pipelines.distribution.strategy import Distribution, choose_strategy
from pipelines.runtime.ports import free_ports
from pipelines.training.build import build_training, class_weight, train_batches, validation
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data

# As small as each architecture can be.
MODELS = {
    "focusnet2d_tiny": {"saccades": 1, "depth": 1, "channels": 4},
    "focusnet3d_tiny": {"saccades": 1, "depth": 1, "channels": 4},
    "dualattendmed_tiny": {"attention_maps": 4},
    "dualattendmed_tiny, AADA": {"attention_maps": 4},
    "dcat_tiny": {"units": 8},
    "hemf_tiny": {"widths": (8, 16, 32, 64), "local_depths": (1, 1, 1, 1), "global_depths": (1, 1, 1, 1), "heads": 2},
    "came_tiny": {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "memory": 4},
    "vit_tiny": {"depth": 2},
}
STRATEGIES = ("none", "mirrored", "multi-worker")
LOSSES = ("loss", "val_loss")
EVEN = 0.5


def config(name: str, epochs: int) -> TrainConfig:
    """Returns a training of 2 steps an epoch with 8 images each, and an odd number of images of validation."""
    model, is_attention = name.split(",")[0], "AADA" in name
    is_volume = "3d" in model
    return TrainConfig(
        data="phantom:binary3d" if is_volume else "phantom",
        model=model,
        run="unused",
        training="attention" if is_attention else "plain",
        image_size=16 if is_volume else 32,
        batch_size=8,
        source_options={"images": 25, "size": 16 if is_volume else 32},
        fractions=(0.7, 0.2, 0.1),
        model_options=MODELS[name],
        epochs=epochs,
        optimizer="sgd",
        learning_rate=0.01,
        schedule="constant",
        warm_up=0.0,
        weight_decay=1e-3,
        clip_norm=1.0,
        balance="class-weights",
        augment="none",
        leakage="off",
        sync_batch_norm=True,
    )


def train(name: str, epochs: int, strategy: str, distribution: Distribution, folder: pathlib.Path) -> None:
    """Trains one architecture and writes its history and weights."""
    started, setting = time.monotonic(), config(name, epochs)
    keras.backend.clear_session()
    data = load_data(setting)
    training, model = build_training(setting, data, distribution=distribution)
    for layer in model._flatten_layers():
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    history = training.fit(
        train_batches(data, distribution, weights=class_weight(setting, data)),
        steps_per_epoch=data.steps_per_epoch,
        epochs=setting.epochs,
        shuffle=False,
        verbose=0,
        **validation(data, distribution),
    ).history
    if distribution.is_chief:
        weights = {str(i): value for i, value in enumerate(model.get_weights())}
        np.savez(folder / f"{strategy} {name}.npz", **weights)
        measured = {"history": history, "seconds": time.monotonic() - started}
        (folder / f"{strategy} {name}.json").write_text(json.dumps(measured))


def work(arguments: argparse.Namespace) -> None:
    """Trains in this process, on two logical devices where it is not one of several."""
    if arguments.float64:
        compute_in_float64()
    # What the views and the counterfactual attention draw belongs to a device: the same number everywhere.
    keras.random.uniform = lambda shape, minval=0.0, maxval=1.0, **_: keras.ops.full(
        shape, minval + EVEN * (maxval - minval)
    )
    # Graphs that run twice are not worth optimising.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if find_cluster() is None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    distributions = {strategy: choose_strategy(strategy) for strategy in arguments.strategies}
    for name in arguments.models:
        for strategy, distribution in distributions.items():
            train(name, arguments.epochs, strategy, distribution, arguments.folder)
            print(strategy, name, file=sys.stderr, flush=True)


def start(words: list[str], strategies: list[str], folder: pathlib.Path, **variables: str) -> subprocess.Popen:
    """Starts a process that trains."""
    command = [sys.executable, __file__, *words, "--folder", str(folder), "--strategies", *strategies]
    return subprocess.Popen(command, env=os.environ | variables)


def difference(name: str, strategy: str, folder: pathlib.Path) -> list[str]:
    """Returns the cells of a strategy: largest difference of a loss, of a weight, and the seconds."""
    one, other = (json.loads((folder / f"{s} {name}.json").read_text()) for s in ("none", strategy))
    losses = max(np.abs(np.subtract(*(run["history"][key] for run in (one, other)))).max() for key in LOSSES)
    a, b = (np.load(folder / f"{s} {name}.npz") for s in ("none", strategy))
    weights = max(np.abs(a[key] - b[key]).max() / max(np.abs(a[key]).max(), 1e-2) for key in a.files)
    return [f"{losses:.1e}", f"{weights:.1e}", f"{other['seconds']:.0f}"]


def main() -> None:
    """Runs all, one process or pair of processes after the other, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="Architectures; all by default.")
    parser.add_argument("--float64", action="store_true", help="Compute in double precision.")
    parser.add_argument("--epochs", type=int, default=1, help="Of two steps each.")
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--strategies", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        return work(arguments)
    able = [name for name in MODELS if not (arguments.float64 and name.startswith("focusnet"))]
    names = [name for name in able if not arguments.names or name.split(",")[0] in arguments.names]
    words = ["--models", *names, "--epochs", str(arguments.epochs), *["--float64"] * arguments.float64]
    table = Table("architecture", "2 devices: loss", "weights", "s", "2 workers: loss", "weights", "s")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        started = [start(words, ["none", "mirrored"], folder)]
        if started[0].wait():
            raise SystemExit("A process failed; its message stands above.")
        addresses = tuple(f"localhost:{port}" for port in free_ports(2))
        for i in range(2):
            address = Cluster(addresses, i).to_tf_config()
            started.append(start(words, ["multi-worker"], folder, TF_CONFIG=address))
        if any(process.wait() for process in started):
            raise SystemExit("A process failed; its message stands above.")
        for name in names:
            table.add_row(name, *difference(name, "mirrored", folder), *difference(name, "multi-worker", folder))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
