"""What it would cost FocusNet's LiteRT files to hold each kernel once, with its two normalisations kept apart from it.

    python benchmarks/export/litert_folding.py

Whole views and glimpses pass the same convolutions, each kind with a normalisation of its own, and the converter folds
a normalisation into the kernel before it. Kept apart, by a scale that is no constant, it is a product and a sum for
each pixel. Seeded weights with other statistics in each normalisation; one thread; both files take turns in each round;
the processor's time, which other processes disturb less than the clock.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import keras
import numpy as np
from formats import timed
from keras import ops
from keras.layers import BatchNormalization
from parity import waves
from rich.console import Console
from rich.table import Table

from medkeras.export import LiteRTModel, export_litert
from medkeras.models import ImageClassifier, create, preset
from medkeras.models.focusnet.pathways import Pathway

WAYS = {"folded": contextlib.nullcontext, "apart": lambda: kept_apart()}


@contextlib.contextmanager
def kept_apart() -> Iterator[None]:
    """Traces the normalisations of pathways in a form that the converter does not fold."""
    pathway, norm = Pathway.call, BatchNormalization.call
    zero: list[Any] = []

    def of_pathway(self: Any, inputs: Any, view: int = 0, training: bool = False) -> Any:
        zero[:] = [ops.relu(-1e6 - ops.mean(inputs))]  # Not known to be 0 before the image is.
        return pathway(self, inputs, view, training)

    def of_norm(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if not self.scale:  # Not one of a pathway.
            return norm(self, inputs, training, mask)
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        return inputs * (scale + zero[0]) + (self.beta - self.moving_mean * scale)

    Pathway.call, BatchNormalization.call = of_pathway, of_norm
    try:
        yield
    finally:
        Pathway.call, BatchNormalization.call = pathway, norm


def seeded(name: str) -> ImageClassifier:
    keras.utils.set_random_seed(0)
    model, rng = create(name, num_classes=2), np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith("moving_variance"):
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    return model


def measure(name: str, precision: str, batch: int, rounds: int) -> list[str]:
    """Returns the row of a table."""
    model, images = seeded(name), waves(preset(name).input_shape, batch)
    sizes, calls = [], []
    with tempfile.TemporaryDirectory() as folder:
        for way, traced in WAYS.items():
            with traced():
                file = export_litert(model, pathlib.Path(folder, f"{way}.tflite"), precision=precision)
            sizes.append(file.stat().st_size / 1e6)
            calls.append(LiteRTModel(file, threads=1))
    folded, apart = (call.predict(images)["logits"] for call in calls)
    if precision == "float32" and not np.allclose(folded, apart, atol=1e-3):
        raise RuntimeError(f"Both files must be of one model. Received: {folded}, {apart}")
    number = max(1, round(0.1 / timed(calls[0].predict, images, 1)[0]))
    spent = np.array([[timed(call.predict, images, number)[1] for call in calls] for _ in range(rounds)])
    ratio = spent[:, 1] / spent[:, 0]
    times = [f"{1000 * value:.2f}" for value in np.median(spent, axis=0)]
    shown = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
    return [name, precision, str(batch), *(f"{size:.2f}" for size in sizes), *times, shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["focusnet2d", "focusnet2d_large"])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    table = Table("model", "precision", "batch", "MB folded", "MB apart", "ms folded", "ms apart", "apart / folded")
    for name in arguments.models:
        for precision in ("float32", "int8"):
            for batch in (1, 8):
                table.add_row(*measure(name, precision, batch, arguments.rounds))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
