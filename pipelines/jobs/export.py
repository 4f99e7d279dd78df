"""The export job: a run becomes a SavedModel, LiteRT and ONNX files, all compared with Keras on real samples."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medkeras.export import (
    compare,
    compare_quantized,
    edge_signatures,
    export_edge_source,
    export_litert,
    export_onnx,
    export_saved_model,
)
from medkeras.export.inference import model_labels
from medkeras.export.onnx import check_onnx
from medkeras.export.parity import BOUNDS
from medkeras.export.quantized import QUANTIZED_BOUNDS, quantized_bounds
from medkeras.models import ImageClassifier
from pipelines.input_pipeline import InputPipeline
from pipelines.inputs import reading_options
from pipelines.jobs.config import TrainConfig, load_splits, open_like
from pipelines.jobs.model_store import next_version, open_store, published, write_checksums
from pipelines.jobs.signatures import choose_signatures
from pipelines.jobs.trained import load_calibrated, load_trained
from pipelines.records import Records
from pipelines.run_folder import RunFolder

PLAIN = tuple(BOUNDS)
FORMATS = ("saved_model", "litert")  # By default.
QUANTIZED = tuple(QUANTIZED_BOUNDS)
MOST_SAMPLES = 200  # Images on which ranges are found, and on which quantised files are compared.


def export_run(
    run: str | os.PathLike,
    to: str | os.PathLike,
    *,
    name: str | None = None,
    data: str | None = None,
    formats: Sequence[str] = FORMATS,
    signatures: Sequence[str] | None = None,
    samples: int = 32,
    bounds: Mapping[str, Mapping[str, float]] | None = None,
    two_stage: str | None = None,
    console: Console | None = None,
    **source_options: Any,
) -> dict[str, Any]:
    """Exports a run to a model store, and proves on validation images that the files equal the Keras model.

    The SavedModel goes to `<to>/<name>/<version>/`, the folder that TF Serving watches; another file to
    `<to>/<name>/<format>/<version>/`, which TF Serving passes over. Beside each lie `labels.json`, `parity.json` and
    `checksums.sha256` (in the SavedModel's `assets.extra/`). The version counts up and is never written again; files
    appear whole, by a rename, once they have passed the comparison. The scaling of a calibrated run is in the graph of
    all; its prediction sets and what it refers stand in `labels.json`.

    A quantised file is compared on up to 200 validation images, also by its AUC; the ranges of `litert-full-int8` are
    found on up to 200 images of the training split.

    Args:
        run: A run folder with `config.yaml` and `model.keras`.
        to: The model store; it is made where it is missing.
        name: Name of the model in the store; the run folder's by default, with `_two_stage` where that is asked.
        data: Another source to take samples from; by default the run's own validation images.
        formats: Some of `saved_model`; `litert`, `litert-float16`, `litert-int8` and `litert-full-int8`, see
            `medkeras.export.export_litert`; and `onnx`, see `medkeras.export.export_onnx`.
        signatures: What the SavedModel answers beside `serving_default`, see `medkeras.export.export_saved_model`; by
            default all that the model and the run's preprocessing allow, and the console says what is left out.
        samples: Images to compare on, of the formats that are not quantised.
        bounds: What quantised files must hold to, see `medkeras.export.compare_quantized`.
        two_stage: A protocol of `medkeras.models.two_stage`: the exported model looks twice, at the whole image and at
            what it attended to, with the operating point of `pipelines.jobs.trained.load_trained`.
        console: Where to print; nothing is printed by default.
        **source_options: Options of the other source.

    Returns:
        `name`, `version`, the path of each format, and `parity`, the report of `medkeras.export.compare`, with
        that of `medkeras.export.compare_quantized` under `quantized`.

    Raises:
        FileNotFoundError: If the run folder or a file of it is missing.
        ModuleNotFoundError: If `onnx` is asked and its extra is not installed.
        ValueError: If an argument is out of its range, the store is not a folder that can be written, the
            data do not fit the model, the model does not convert, or a file differs from Keras by more than
            its bound.
        OSError: If the store cannot be written.

    Example:
        >>> export_run("no-such-run", "saved_models")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    run, console = RunFolder(run).open(), console or Console(quiet=True)
    known = (*PLAIN, *QUANTIZED)
    if not formats or not set(formats) <= set(known):
        raise ValueError(f"`formats` must be among {', '.join(known)}. Received: formats={list(formats)}")
    if samples < 1:
        raise ValueError(f"`samples` must be >= 1. Received: samples={samples}")
    if "onnx" in formats:
        check_onnx()
    quantized_bounds([form for form in formats if form in QUANTIZED], bounds or {})
    name = name or run.path.resolve().name + ("_two_stage" if two_stage else "")
    store = open_store(to, name)
    version = next_version(store)
    targets = {form: (store if form == "saved_model" else store / form) / f"{version}" for form in known}
    with console.status("Loading the model and the samples"):
        model, notes = _model_and_notes(run, two_stage, console)
        source = _Source(run, model, data, source_options)
        images, _ = source.examples(samples)
        ranges = source.of_training(MOST_SAMPLES) if "litert-full-int8" in formats else None
    extras = {}
    if "saved_model" in formats:
        extras = choose_signatures(model, notes["preprocess"], wanted=signatures, console=console)
    with contextlib.ExitStack() as stack:
        staged = {form: stack.enter_context(published(targets[form])) for form in known if form in formats}
        files = _write(model, name, staged, notes, extras, ranges, console)
        with console.status("Comparing with Keras"):
            parity = _compare(model, images, files, source, bounds)
        for form, folder in staged.items():
            beside = "assets.extra" if form == "saved_model" else "."
            (folder / beside / "parity.json").write_text(json.dumps(parity, indent=2) + "\n")
            write_checksums(folder, beside=beside)
    written = {form: targets[form] / files[form].relative_to(staged[form]) for form in staged}
    _print(console, written, parity)
    return {"name": name, "version": version, "parity": parity, **{k: str(v) for k, v in written.items()}}


def _model_and_notes(run: RunFolder, protocol: str | None, console: Console) -> tuple[ImageClassifier, dict[str, Any]]:
    """Returns the calibrated model, and what is told beside it, as far as the run has it already."""
    config = TrainConfig.from_run(run)
    notes = {"preprocess": config.preprocess, "reading": reading_options(config.source_options)}
    if protocol is None and not (run / "operating_point.json").is_file():
        return load_calibrated(run), notes
    trained = load_trained(run, protocol=protocol, console=console)
    rules = trained.calibration.to_dict()
    sureness = {name: rules[name] for name in ("sets", "referral") if rules[name] is not None}
    return trained.model, notes | {"operating_point": trained.point.to_dict(), "sureness": sureness}


def _write(
    model: ImageClassifier,
    name: str,
    folders: dict[str, pathlib.Path],
    notes: dict[str, Any],
    extras: dict[str, Any],
    ranges: np.ndarray | None,
    console: Console,
) -> dict[str, pathlib.Path]:
    """Writes each format into its folder and returns what was written: a folder and files."""
    files = {}
    if folder := folders.get("saved_model"):
        with console.status("Writing the SavedModel"):
            files["saved_model"] = export_saved_model(model, folder, **notes, **extras)
    if folder := folders.get("onnx"):
        with console.status("Converting to ONNX"):
            labels = _write_labels(folder, model, notes)
            files["onnx"] = export_onnx(model, folder / f"{name}.onnx", labels=labels)
    with tempfile.TemporaryDirectory() as plain, console.status("Converting to LiteRT"):
        edge = {form: folder for form, folder in folders.items() if form.startswith("litert")}
        saved = export_edge_source(model, plain) if edge else None
        for form, folder in edge.items():
            kind = form.removeprefix("litert")
            labels = _write_labels(folder, model, notes, signatures=edge_signatures(model))
            options = {"precision": kind.removeprefix("-") or "float32", "representative": ranges, "labels": labels}
            files[form] = export_litert(saved, folder / f"{name}{kind}.tflite", **options)
    return files


def _write_labels(
    folder: pathlib.Path, model: ImageClassifier, notes: dict[str, Any], signatures: Sequence[str] = ()
) -> dict[str, Any]:
    labels = model_labels(model, signatures=signatures, **notes)
    (folder / "labels.json").write_text(json.dumps(labels, indent=2) + "\n")
    return labels


def _compare(
    model: ImageClassifier,
    images: np.ndarray,
    files: dict[str, pathlib.Path],
    source: "_Source",
    bounds: Mapping[str, Mapping[str, float]] | None,
) -> dict[str, Any]:
    parity = compare(model, images, **{form: file for form, file in files.items() if form in PLAIN})
    if quantized := {form: file for form, file in files.items() if form in QUANTIZED}:
        examples = source.examples(MOST_SAMPLES)
        parity["quantized"] = compare_quantized(model, *examples, quantized, bounds=bounds)
    return parity


@dataclasses.dataclass(frozen=True)
class _Source:
    """The images on which an exported run is compared, and those on which ranges are found."""

    run: RunFolder
    model: ImageClassifier
    data: str | None
    options: dict[str, Any]

    def examples(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels spread evenly over the validation records, or over those of another source."""
        return self._spread(self._other if self.data else self._splits["val"], count)

    def of_training(self, count: int) -> np.ndarray:
        """Returns images spread evenly over the training records."""
        return self._spread(self._splits["train"], count)[0]

    @functools.cached_property
    def _splits(self) -> dict[str, Records]:
        return load_splits(TrainConfig.from_run(self.run))

    @functools.cached_property
    def _other(self) -> Records:
        return open_like(TrainConfig.from_run(self.run), self.data, **self.options)

    def _spread(self, records: Records, count: int) -> tuple[np.ndarray, np.ndarray]:
        shape = self.model.image_shape
        if records.rank != len(shape) - 1:
            raise ValueError(
                f"{self.model.name} takes images of shape {shape}. Received: {records.name} with {records.rank}D images"
            )
        chosen = records.select(np.unique(np.linspace(0, len(records) - 1, count).astype(int)))
        pipeline = InputPipeline(chosen, image_shape=shape, batch_size=len(chosen))
        return next(pipeline.batches().as_numpy_iterator())


def _print(console: Console, written: dict[str, pathlib.Path], parity: dict[str, Any]) -> None:
    if plain := {form: parity[form] for form in written if form in PLAIN}:
        title = f"Largest difference from Keras on {parity['samples']} images"
        table = _table(title, "format", "probabilities", "logits", "map", "bound", "same decision")
        for form, row in plain.items():
            differences = (_largest(row, part) for part in ("probabilities", "logits", "map"))
            table.add_row(form, *differences, f"{row['bound']:.0e}", f"{row['agreement']:.1%}")
        console.print(table)
    if quantized := parity.get("quantized"):
        title = f"Quantised, on {quantized['samples']} images"
        table = _table(title, "format", "logits", "map", "same decision", "AUC", "AUC lost")
        for form in (form for form in written if form in QUANTIZED):
            row = quantized[form]
            ranks = ("-" if row[part] is None else f"{row[part]:.3f}" for part in ("auc", "auc_loss"))
            differences = (_largest(row, part) for part in ("logits", "map"))
            table.add_row(form, *differences, f"{row['agreement']:.1%}", *ranks)
        console.print(table)
    for form, path in written.items():
        console.print(f"{form}: {path}", soft_wrap=True, highlight=False)


def _largest(row: dict[str, Any], part: str) -> str:
    return f"{row[part]['max']:.1e}" if part in row else "-"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == "format" else "right")
    return table
