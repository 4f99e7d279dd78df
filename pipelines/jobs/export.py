"""The export job: a run becomes a SavedModel and a LiteRT file, both compared with Keras on real samples."""

import contextlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medkeras.export import compare, export_litert, export_saved_model
from medkeras.export.inference import write_labels
from medkeras.models import ImageClassifier
from pipelines.input_pipeline import InputPipeline
from pipelines.jobs.config import TrainConfig, load_split, open_like
from pipelines.jobs.signatures import choose_signatures
from pipelines.jobs.trained import load_calibrated, load_trained
from pipelines.run_folder import RunFolder, atomic_path

FORMATS = ("saved_model", "litert")


def export_run(
    run: str | os.PathLike,
    to: str | os.PathLike,
    *,
    name: str | None = None,
    data: str | None = None,
    formats: Sequence[str] = FORMATS,
    signatures: Sequence[str] | None = None,
    samples: int = 32,
    two_stage: str | None = None,
    console: Console | None = None,
    **source_options: Any,
) -> dict[str, Any]:
    """Exports a run to a model store, and proves on validation images that the files equal the Keras model.

    The SavedModel goes to `<to>/<name>/<version>/`, the folder that TF Serving watches; the LiteRT file to
    `<to>/<name>/litert/<version>/<name>.tflite`, which TF Serving passes over. Beside each lie `labels.json`
    and `parity.json` (in the SavedModel's `assets.extra/`). The version counts up; files appear whole, by a
    rename, once they have passed the comparison. The scaling of a calibrated run is in the graph of both; its
    prediction sets and what it refers stand in `labels.json`.

    Args:
        run: A run folder with `config.yaml` and `model.keras`.
        to: The model store; it is made where it is missing.
        name: Name of the model in the store; the run folder's by default, with `_two_stage` where that is asked.
        data: Another source to take samples from; by default the run's own validation images.
        formats: Some of `saved_model` and `litert`.
        signatures: What the SavedModel answers beside `serving_default`, see `medkeras.export.export_saved_model`; by
            default all that the model and the run's preprocessing allow, and the console says what is left out.
        samples: Images to compare on.
        two_stage: A protocol of `medkeras.models.two_stage`: the exported model looks twice, at the whole image and at
            what it attended to, with the operating point of `pipelines.jobs.trained.load_trained`.
        console: Where to print; nothing is printed by default.
        **source_options: Options of the other source.

    Returns:
        `name`, `version`, the path of each format, and `parity`, the report of `medkeras.export.compare`.

    Raises:
        FileNotFoundError: If the run folder or a file of it is missing.
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
    if not formats or not set(formats) <= set(FORMATS):
        raise ValueError(f"`formats` must be among {', '.join(FORMATS)}. Received: formats={list(formats)}")
    if samples < 1:
        raise ValueError(f"`samples` must be >= 1. Received: samples={samples}")
    name = name or run.path.resolve().name + ("_two_stage" if two_stage else "")
    store = _store(to, name)
    version = _next_version(store)
    targets = {"saved_model": store / f"{version}", "litert": store / "litert" / f"{version}"}
    with console.status("Loading the model and the samples"):
        model, notes = _model_and_notes(run, two_stage, console)
        images = _samples(run, model, data, samples, source_options)
    with contextlib.ExitStack() as stack:
        staged = {form: stack.enter_context(atomic_path(targets[form])) for form in FORMATS if form in formats}
        extras = {}
        if "saved_model" in staged:
            extras = choose_signatures(model, notes["preprocess"], wanted=signatures, console=console)
        files = _write(model, name, staged, notes, extras, console)
        with console.status("Comparing with Keras"):
            parity = compare(model, images, **files)
        for form, folder in staged.items():
            extra = folder / "assets.extra" if form == "saved_model" else folder
            (extra / "parity.json").write_text(json.dumps(parity, indent=2) + "\n")
    written = {form: targets[form] / files[form].relative_to(staged[form]) for form in staged}
    _print(console, written, parity)
    return {"name": name, "version": version, "parity": parity, **{k: str(v) for k, v in written.items()}}


def _model_and_notes(run: RunFolder, protocol: str | None, console: Console) -> tuple[ImageClassifier, dict[str, Any]]:
    """Returns the calibrated model, and what is told beside it, as far as the run has it already."""
    notes = {"preprocess": TrainConfig.from_run(run).preprocess}
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
    console: Console,
) -> dict[str, pathlib.Path]:
    """Writes each format into its folder and returns what was written: a folder and a file."""
    files = {}
    if folder := folders.get("saved_model"):
        with console.status("Writing the SavedModel"):
            files["saved_model"] = export_saved_model(model, folder, **notes, **extras)
    if folder := folders.get("litert"):
        with console.status("Converting to LiteRT"):
            folder.mkdir()
            files["litert"] = export_litert(files.get("saved_model", model), folder / f"{name}.tflite")
            write_labels(folder / "labels.json", model, **notes)
    return files


def _store(to: str | os.PathLike, name: str) -> pathlib.Path:
    """Returns the folder of the model in the store, which need not exist but could be written."""
    if name != pathlib.Path(name).name or name.startswith("."):
        raise ValueError(f"`name` must be a plain folder name. Received: name={name!r}")
    store = pathlib.Path(to) / name
    nearest = next(place for place in (store, *store.parents) if place.exists())
    if not nearest.is_dir():
        raise ValueError(f"A model store is a folder, and this is a file. Received: {nearest}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"A model store must be a folder that can be written. Received: {nearest}")
    return store


def _next_version(store: pathlib.Path) -> int:
    folders = (folder for folder in (store, store / "litert") if folder.is_dir())
    versions = (int(path.name) for folder in folders for path in folder.iterdir() if path.name.isdigit())
    return 1 + max(versions, default=0)


def _samples(
    run: RunFolder, model: ImageClassifier, data: str | None, count: int, options: dict[str, Any]
) -> np.ndarray:
    """Returns images spread evenly over the validation records, or over all records of another source."""
    config = TrainConfig.from_run(run)
    records = open_like(config, data, **options) if data else load_split(config, "val")
    if records.rank != len(model.image_shape) - 1:
        raise ValueError(
            f"{model.name} takes images of shape {model.image_shape}. "
            f"Received: {records.name} with {records.rank}D images"
        )
    chosen = records.select(np.unique(np.linspace(0, len(records) - 1, count).astype(int)))
    pipeline = InputPipeline(chosen, image_shape=model.image_shape, batch_size=len(chosen))
    return next(pipeline.batches().as_numpy_iterator())[0]


def _print(console: Console, written: dict[str, pathlib.Path], parity: dict[str, Any]) -> None:
    table = Table(title=f"Largest difference from Keras on {parity['samples']} images")
    for column in ("format", "probabilities", "logits", "bound", "same decision"):
        table.add_column(column, justify="left" if column == "format" else "right")
    for form in written:
        row = parity[form]
        differences = (f"{row[part]['max']:.1e}" for part in ("probabilities", "logits"))
        table.add_row(form, *differences, f"{row['bound']:.0e}", f"{row['agreement']:.1%}")
    console.print(table)
    for form, path in written.items():
        console.print(f"{form}: {path}", soft_wrap=True, highlight=False)
