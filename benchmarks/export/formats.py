"""Size and latency of a model in every exported format: Keras, SavedModel, LiteRT and ONNX, in turn in one process.

    python benchmarks/export/formats.py --out runs/export_formats.csv
    python benchmarks/export/formats.py --models focusnet2d dualattendmed_tiny:64x64x1 --batches 1 --rounds 15

A model is `name` or `name:HxWxC`, with seeded random weights: its speed does not depend on them. Every format is called
once before it is timed; then rounds take turns over all formats, so that what else the machine does meets all of them.
Beside the wall clock stands the processor time of all threads, which other processes disturb less. The speed of full
int8 is the ratio of LiteRT float32 to it within each round; its median and range are printed. Asked of convolutional
models: at least 1.8 times as fast, at most 30 % of the size. Rows are added to the CSV model by model.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from parity import waves
from rich.console import Console
from rich.table import Table

from medkeras.export import LiteRTModel, OnnxModel, export_edge_source, export_litert, export_onnx, export_saved_model
from medkeras.export.litert.writer import PRECISIONS
from medkeras.models import ImageClassifier, create, preset
from pipelines.runtime.memory import keep_freed_memory

MODELS = ("focusnet2d", "dualattendmed_tiny:64x64x1", "focusnet2d_large", "dualattendmed_small")
MODELS += ("dcat_small", "vit_tiny", "hemf_tiny", "came_tiny")
BASE, SMALL = "litert-float32", "litert-full-int8"
Call = Callable[[np.ndarray], Any]


def formats(model: ImageClassifier, folder: pathlib.Path, threads: int, onnx: bool) -> dict[str, tuple[Call, int]]:
    """Returns for each format how to call it, and its bytes."""
    graph = tf.function(
        lambda x: model(x, training=False), [tf.TensorSpec((None, *model.image_shape))], autograph=False
    )
    calls: dict[str, tuple[Call, int]] = {"keras": (lambda x: graph(x).numpy(), 4 * model.count_params())}
    saved = export_saved_model(model, folder / "saved")
    loaded = tf.saved_model.load(str(saved))
    serve = loaded.signatures["serving_default"]
    size = sum(path.stat().st_size for path in saved.rglob("*") if path.is_file())
    calls["saved_model"] = (lambda x: (loaded, serve(image=tf.constant(x))["logits"].numpy()), size)
    edge, seen = export_edge_source(model, folder / "edge"), waves(model.image_shape, 8)
    for precision in PRECISIONS:
        file = export_litert(edge, folder / f"{precision}.tflite", precision=precision, representative=seen)
        calls[f"litert-{precision}"] = (_of_file(LiteRTModel(file, threads=threads)), file.stat().st_size)
    if onnx:
        file = export_onnx(model, folder / "model.onnx")
        calls["onnx"] = (_of_file(OnnxModel(file, threads=threads)), file.stat().st_size)
    return calls


def _of_file(opened: LiteRTModel | OnnxModel) -> Call:
    return lambda x: opened.predict(x, batch_size=len(x))


def timed(call: Call, images: np.ndarray, number: int) -> tuple[float, float]:
    """Returns seconds by the clock and of the processor, per call."""
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(number):
        call(images)
    return (time.perf_counter() - clock) / number, (time.process_time() - processor) / number


def measure(description: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row per batch, format and round."""
    name, _, size = description.partition(":")
    shape = tuple(map(int, size.split("x"))) if size else preset(name).input_shape
    keras.utils.set_random_seed(0)
    model, rows = create(name, input_shape=shape, num_classes=2), []
    with tempfile.TemporaryDirectory() as folder:
        calls = formats(model, pathlib.Path(folder), arguments.threads, arguments.onnx)
        for batch in arguments.batches:
            images = waves(shape, batch)
            numbers = {}
            for form, (call, _) in calls.items():
                call(images)
                numbers[form] = max(1, round(arguments.least / timed(call, images, 1)[0]))
            for i in range(arguments.rounds):
                for form, (call, bytes_) in calls.items():
                    wall, processor = timed(call, images, numbers[form])
                    row = {"model": description, "batch": batch, "format": form, "bytes": bytes_, "round": i}
                    rows.append(row | {"seconds": wall, "processor": processor})
    return rows


def show(rows: pd.DataFrame) -> None:
    table = Table("model", "batch", "format", "MB", "ms", "fastest", "processor ms", "times float32: clock, processor")
    for (model, batch), part in rows.groupby(["model", "batch"], sort=False):
        rounds = part.pivot(index="round", columns="format", values=["seconds", "processor"])
        for form, own in part.groupby("format", sort=False):
            times = (
                1000 * value for value in (own["seconds"].median(), own["seconds"].min(), own["processor"].median())
            )
            ratios = [rounds[kind][BASE] / rounds[kind][form] for kind in ("seconds", "processor")]
            faster = ", ".join(f"{r.median():.2f} ({r.min():.2f} to {r.max():.2f})" for r in ratios)
            table.add_row(
                model, str(batch), form, f"{own['bytes'].iloc[0] / 1e6:.2f}", *(f"{t:.2f}" for t in times), faster
            )
    Console(width=160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="name, or name:HxWxC")
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 32))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--least", type=float, default=0.05, help="seconds of a measurement, at least")
    parser.add_argument("--onnx", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=pathlib.Path, help="the CSV of all rounds, to which models are added")
    arguments = parser.parse_args()
    keep_freed_memory()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    rows = pd.read_csv(arguments.out) if arguments.out and arguments.out.is_file() else pd.DataFrame()
    for description in arguments.models:
        rows = pd.concat([rows, pd.DataFrame(measure(description, arguments))], ignore_index=True)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            rows.to_csv(arguments.out, index=False)
    show(rows)


if __name__ == "__main__":
    main()
