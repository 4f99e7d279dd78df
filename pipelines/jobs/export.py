"""The export job: a run becomes a SavedModel, LiteRT and ONNX files, all compared with Keras on real samples."""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from medkeras.errors import InputError
from medkeras.export import compare, compare_quantized
from medkeras.export.bounds import BOUNDS, PLAIN_BOUNDS, QUANTIZED_BOUNDS, Bounds, merge_bounds
from medkeras.export.onnx.writer import check_onnx
from medkeras.models import ImageClassifier
from pipelines.exporting.files import ExportFiles
from pipelines.exporting.images import ExportImages
from pipelines.exporting.model_store import next_version, open_store, published, write_checksums
from pipelines.exporting.signatures import choose_signatures
from pipelines.exporting.summary import show_export
from pipelines.inference.trained_model import load_calibrated, load_trained
from pipelines.io.run_folder import RunFolder
from pipelines.sources.unlabelled import reading_options
from pipelines.training.config import TrainConfig

KNOWN = tuple(BOUNDS)
FORMATS = ("saved_model", "litert")  # By default.
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
    bounds: Bounds | None = None,
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
        bounds: What files must hold to in place of the usual, see `medkeras.export.bounds.merge_bounds`.
        two_stage: A protocol of `medkeras.models.two_stage`: the exported model looks twice, at the whole image and at
            what it attended to, with the operating point of `pipelines.inference.trained_model.load_trained`.
        console: Where to print; nothing is printed by default.
        **source_options: Options of the other source.

    Returns:
        `name`, `version`, the path of each format, and `parity`, the report of `medkeras.export.compare`, with
        that of `medkeras.export.compare_quantized` under `quantized`.

    Raises:
        FileNotFoundError: If the run folder or a file of it is missing.
        ModuleNotFoundError: If `onnx` is asked and its extra is not installed.
        ValueError: If an argument is out of its range, the data do not fit the model, the model does not convert, or
            a file differs from Keras by more than its bound.
        OSError: If the store is not a folder that can be written.

    Example:
        >>> export_run("no-such-run", "saved_models")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    run, console = RunFolder(run).open(), console or Console(quiet=True)
    _check(formats, samples, bounds)
    name = run.path.resolve().name + ("_two_stage" if two_stage else "") if name is None else name
    version, targets = _targets(open_store(to, name), formats)
    with console.status("Loading the model and the images"):
        model, notes = _model_and_notes(run, two_stage, console)
        images = ExportImages(run, model, data, source_options)
        compared, _ = images.examples(samples)
    files = _files(model, name, notes, formats, signatures, images, console)
    written, parity = _publish(files, targets, lambda found: _compare(model, compared, found, images, bounds))
    show_export(console, written, parity)
    return {"name": name, "version": version, "parity": parity, **{form: str(path) for form, path in written.items()}}


def _files(
    model: ImageClassifier,
    name: str,
    notes: dict[str, Any],
    formats: Sequence[str],
    signatures: Sequence[str] | None,
    images: ExportImages,
    console: Console,
) -> ExportFiles:
    """Returns what writes the files, with all that they need."""
    ranges = images.of_training(MOST_SAMPLES) if "litert-full-int8" in formats else None
    endpoints = {}
    if "saved_model" in formats:
        endpoints = choose_signatures(model, notes["preprocess"], wanted=signatures, console=console)
    return ExportFiles(model, name, notes, endpoints, ranges, console)


def _publish(
    files: ExportFiles,
    targets: dict[str, pathlib.Path],
    check: Callable[[dict[str, pathlib.Path]], dict[str, Any]],
) -> tuple[dict[str, pathlib.Path], dict[str, Any]]:
    """Writes the files, and lets them appear once they have passed the comparison; returns their paths and parity."""
    with contextlib.ExitStack() as stack:
        staged = {form: stack.enter_context(published(target)) for form, target in targets.items()}
        found = files.write(staged)
        with files.console.status("Comparing with Keras"):
            parity = check(found)
        _write_parity(staged, parity)
    return {form: target / found[form].relative_to(staged[form]) for form, target in targets.items()}, parity


def _check(formats: Sequence[str], samples: int, bounds: Bounds | None) -> None:
    if not formats or not set(formats) <= set(KNOWN):
        raise InputError(f"`formats` must be among {', '.join(KNOWN)}. Received: formats={list(formats)}")
    if samples < 1:
        raise InputError(f"`samples` must be >= 1. Received: samples={samples}")
    if "onnx" in formats:
        check_onnx()
    merge_bounds(formats, bounds)


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


def _compare(
    model: ImageClassifier,
    compared: np.ndarray,
    files: dict[str, pathlib.Path],
    images: ExportImages,
    bounds: Bounds | None,
) -> dict[str, Any]:
    plain, quantized = (
        {form: file for form, file in files.items() if form in kind} for kind in (PLAIN_BOUNDS, QUANTIZED_BOUNDS)
    )
    own = {form: limits for form, limits in (bounds or {}).items() if form in plain}
    parity = compare(model, compared, **plain, bounds=own)
    if quantized:
        examples = images.examples(MOST_SAMPLES)
        own = {form: limits for form, limits in (bounds or {}).items() if form in quantized}
        parity["quantized"] = compare_quantized(model, *examples, quantized, bounds=own)
    return parity


def _targets(store: pathlib.Path, formats: Sequence[str]) -> tuple[int, dict[str, pathlib.Path]]:
    """Returns the next version, and the folder of each format, the SavedModel's where TF Serving looks."""
    version, ordered = next_version(store), [form for form in KNOWN if form in formats]
    return version, {form: (store if form == "saved_model" else store / form) / f"{version}" for form in ordered}


def _write_parity(folders: Mapping[str, pathlib.Path], parity: Mapping[str, Any]) -> None:
    for form, folder in folders.items():
        beside = "assets.extra" if form == "saved_model" else "."
        (folder / beside / "parity.json").write_text(json.dumps(parity, indent=2) + "\n")
        write_checksums(folder, beside=beside)
