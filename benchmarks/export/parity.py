"""How far the exported files of every registered model are from Keras, and how large they are.

    python benchmarks/export/parity.py --out runs/export_parity.csv
    python benchmarks/export/parity.py --models dualattendmed vit_b16 --formats saved_model litert --out runs/parity.csv

Each model has the size that it is registered with, seeded weights and, where it has BatchNorm, statistics of one
training step; a process of its own, so that memory goes back. The images are seeded waves in [0, 1], other ones in each
row. Untrained logits can lie close together: the column `spread` has their standard deviation over the images, and a
difference of logits, divided by the logit where that exceeds 1, says nothing where it comes near to it. A model that is
in the CSV already is left out, so that the same command goes on.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.

import keras
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from medkeras.export import compare, export_edge_source, export_litert, export_onnx, export_saved_model
from medkeras.models import ImageClassifier, create, names, preset

BOUNDS = {"saved_model": 1e-5, "litert": 1e-4, "litert-float16": 2e-2, "onnx": 1e-4}
FORMATS = (*BOUNDS, "litert-int8", "litert-full-int8")


def waves(shape: tuple[int, ...], count: int) -> np.ndarray:
    """Returns seeded sums of plane waves in [0, 1], `(count, *shape)`."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape[:-1]), indexing="ij"))
    images = np.zeros((count, *shape))
    for frequency in (2, 6, 18):
        turns = rng.normal(0, frequency, (count, shape[-1], len(places)))
        phase = rng.uniform(0, 1, (count, *[1] * len(places), shape[-1]))
        images += np.sin(2 * np.pi * (np.einsum("bcr,r...->b...c", turns, places) + phase)) / 6
    return (0.5 + images).astype("float32")


def measure(name: str, formats: list[str], count: int) -> dict[str, Any]:
    """Exports one model in this process and returns its row."""
    keras.utils.set_random_seed(0)
    shape = preset(name).input_shape
    model, images = create(name, input_shape=shape, num_classes=3), waves(shape, count)
    model(images, training=True)
    logits = np.asarray(model(images, training=False))
    row = {"model": name, "shape": "x".join(map(str, shape)), "parameters": model.count_params()}
    row["spread"] = float(logits.std(axis=0).mean())
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        edge = export_edge_source(model, place / "edge") if any(f.startswith("litert") for f in formats) else None
        for form in formats:
            start = time.perf_counter()
            file = write(form, model, edge, place / form, images)
            row[f"{form} seconds"] = time.perf_counter() - start
            row[f"{form} bytes"] = sum(path.stat().st_size for path in (place / form).rglob("*") if path.is_file())
            kind = "litert" if form.startswith("litert") else form
            found = compare(model, images, **{kind: file}, bounds={kind: {"probabilities": 1, "map": math.inf}})[kind]
            row[f"{form} logits"], row[f"{form} agreement"] = found["logits"]["max"], found["agreement"]
    return row


def write(form: str, model: ImageClassifier, edge: pathlib.Path | None, folder: pathlib.Path, images: Any) -> Any:
    if form == "saved_model":
        return export_saved_model(model, folder)
    if form == "onnx":
        return export_onnx(model, folder / "model.onnx")
    precision = form.removeprefix("litert").removeprefix("-") or "float32"
    return export_litert(edge, folder / "model.tflite", precision=precision, representative=images[:2])


def in_process(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    words = ["--one", "--models", name, "--formats", *arguments.formats, "--images", str(arguments.images)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        return {"model": name, "error": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def show(rows: pd.DataFrame, formats: list[str]) -> None:
    table = Table("model", "M weights", "spread", *[f"{form}: logits, MB" for form in formats])
    for _, row in rows.iterrows():
        cells = [f"{row[f'{form} logits']:.1e}, {row[f'{form} bytes'] / 1e6:.1f}" for form in formats]
        table.add_row(row["model"], f"{row['parameters'] / 1e6:.2f}", f"{row['spread']:.1e}", *cells)
    Console().print(table)
    for form in (form for form in formats if form in BOUNDS):
        wrong = rows.loc[~(rows[f"{form} logits"] <= BOUNDS[form]), "model"]
        print(f"{form}: at most {BOUNDS[form]:g} in {len(rows) - len(wrong)} of {len(rows)}; not in: {list(wrong)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=names())
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--out", type=pathlib.Path, help="the CSV")
    parser.add_argument("--one", action="store_true", help="measure the first model here and print its row as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.models[0], arguments.formats, arguments.images)))
        return
    rows = pd.read_csv(arguments.out) if arguments.out and arguments.out.is_file() else pd.DataFrame({"model": []})
    for name in arguments.models:
        if name not in set(rows["model"]):
            row = in_process(name, arguments)
            print(name, row.get("error", "done"), flush=True)
            if "error" not in row:
                rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
                if arguments.out:
                    arguments.out.parent.mkdir(parents=True, exist_ok=True)
                    rows.to_csv(arguments.out, index=False)
    show(rows, arguments.formats)


if __name__ == "__main__":
    main()
