"""Explanation: what a trained model sees, as pictures and as a table of its fixations."""

import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from rich.console import Console

from medkeras.explain import (
    Explanation,
    effective_receptive_field,
    explain,
    explanation_figure,
    mark_regions,
    receptive_field_figure,
)
from medkeras.models import ImageClassifier
from medkeras.models.focusnet.pathways import PATHWAYS
from pipelines.callbacks import bar
from pipelines.decode import fit
from pipelines.jobs.boxes import AXES, box_rows, file_name
from pipelines.jobs.config import TrainConfig, load_split, open_like, open_run_inputs
from pipelines.jobs.evaluate import check_classes, save_figure
from pipelines.jobs.predict import write_table
from pipelines.jobs.trained import load_calibrated
from pipelines.records import Records
from pipelines.run_folder import RunFolder
from pipelines.splits import label_names

BATCH = 8


def explain_run(
    run: str | os.PathLike,
    inputs: Sequence[str | os.PathLike] = (),
    out: str | os.PathLike | None = None,
    *,
    data: str | None = None,
    samples: int = 12,
    seed: int = 0,
    console: Console | None = None,
) -> list[pathlib.Path]:
    """Draws what a run's model sees in some images, and the effective receptive fields of its pathways.

    Writes one PNG per image; `fixations.csv`, one row per fixation, its place and the edges of its window in
    pixels of the stored image (pixel 0 from -0.5 to 0.5); and `receptive_fields.png`. A model without
    fixations or pathways gets the rest, and the console says what it lacks. Once `medkeras localize` has chosen a
    threshold, `boxes.csv` holds what each map marks at it.

    Args:
        run: A run folder.
        inputs: Image files, folders and `.npz` files; by default a sample of the run's test split, whose true
            classes and lesion masks are then drawn too.
        out: Folder to write to; `explain/` in the run by default.
        data: Another source to sample from, with the same classes.
        samples: Number of images to sample, at least 1.
        seed: Seed of the sample and of the receptive fields' noise.
        console: Where to print; nothing is printed by default.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: If the run or an input does not exist.
        ValueError: If both inputs and data are given, an image cannot be used, or the data do not fit the
            model.
        OSError: If `out` cannot be written.

    Example:
        >>> explain_run("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console, folder = console or Console(quiet=True), RunFolder(run).open()
    if inputs and data:
        raise ValueError(f"Images come from `inputs` or from `data`. Received: both, data={data!r}")
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1. Received: samples={samples}")
    with console.status("Loading the model and the data"):
        model = load_calibrated(folder)
        records = (
            open_run_inputs(TrainConfig.from_run(folder), inputs, model)
            if inputs
            else _sample(folder, model, data, samples, seed)
        )
    out = folder / "explain" if out is None else pathlib.Path(out)
    thresholds = _thresholds(folder)
    written = _explain_records(model, records, out, thresholds, has_labels=not inputs, console=console)
    if set(PATHWAYS) <= set(model.explain_points):
        with console.status("Measuring the receptive fields"):
            fields = {name: effective_receptive_field(model, name, seed=seed) for name in PATHWAYS}
        written.append(out / "receptive_fields.png")
        save_figure(receptive_field_figure(fields), written[-1])
    _say_what_is_missing(model, console)
    console.print(f"{len(records)} images explained in {out}", highlight=False, soft_wrap=True)
    return written


def _sample(run: RunFolder, model: ImageClassifier, data: str | None, samples: int, seed: int) -> Records:
    """Returns some images of the run's test split, or of another source, in their order."""
    config = TrainConfig.from_run(run)
    if data is None:
        records = load_split(config, "test")
    else:
        records = open_like(config, data)
        check_classes(records, model)
    order = np.random.default_rng(seed).permutation(len(records))
    return records.select(np.sort(order[:samples]))


def _thresholds(run: RunFolder) -> dict[str, float]:
    """Returns the threshold that `medkeras localize` chose for each map, none before it ran."""
    name = "localization/localization.json"
    if not (run / name).is_file():
        return {}
    return {point: found["threshold"] for point, found in run.read_json(name)["maps"].items()}


def _explain_records(
    model: ImageClassifier,
    records: Records,
    out: pathlib.Path,
    thresholds: dict[str, float],
    *,
    has_labels: bool,
    console: Console,
) -> list[pathlib.Path]:
    """Writes the pictures and the tables."""
    # Every image is read once before the first picture is written: a bad one leaves nothing half-done.
    sizes = [_read(records, i, model)[1] for i in range(len(records))]
    labels = label_names(records) if has_labels else None
    written, rows, boxes = [], [], []
    with bar(console) as moving:
        task = moving.add_task("Explaining", total=len(records))
        for i, explanation in _explanations(model, records):
            name = str(records.table["id"][i])
            figure = explanation_figure(
                explanation,
                names=[pathlib.Path(name).name],
                labels=labels and labels[i : i + 1],
                masks=[_mask(records, i, model.image_shape)],
            )
            written.append(out / f"{i + 1:03d}-{file_name(name)}.png")
            save_figure(figure, written[-1])
            rows += _fixation_rows(name, explanation, sizes[i])
            boxes += _box_rows(name, explanation, sizes[i], thresholds)
            moving.advance(task)
    for table, found in (("fixations.csv", pd.DataFrame(rows)), ("boxes.csv", pd.DataFrame(boxes))):
        if len(found):
            written.append(out / table)
            write_table(written[-1], found)
    return written


def _explanations(model: ImageClassifier, records: Records) -> Iterator[tuple[int, Explanation]]:
    """Yields the index and the explanation of each image."""
    for start in range(0, len(records), BATCH):
        indices = range(start, min(start + BATCH, len(records)))
        explanation = explain(model, np.stack([_read(records, i, model)[0] for i in indices]))
        for k, i in enumerate(indices):
            yield i, explanation[k : k + 1]


def _read(records: Records, i: int, model: ImageClassifier) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns an image as the model takes it, and the size in which it is stored."""
    try:
        image = records.read(i)
        return fit(image, model.image_shape), image.shape[: records.rank]
    except (ValueError, OSError) as error:
        raise ValueError(f"Image {records.table['id'][i]} cannot be used: {error}") from error


def _mask(records: Records, i: int, image_shape: Sequence[int]) -> np.ndarray | None:
    if records.read_mask is None:
        return None
    return fit(records.read_mask(i), (*image_shape[:-1], 1))[..., 0] > 0.5


def _fixation_rows(name: str, explanation: Explanation, stored: tuple[int, ...]) -> list[dict[str, str | int | float]]:
    """Returns the fixations of one image, from the model's pixels to those of the stored image."""
    looked = explanation.fixations
    if looked is None:
        return []
    scale = np.array(stored) / explanation.images.shape[1:-1]
    places = (looked.places[0] + 0.5) * scale - 0.5
    boxes = (looked.boxes[0] + 0.5) * scale[:, None] - 0.5
    rows = []
    for k, (place, box) in enumerate(zip(places, boxes, strict=True)):
        row: dict[str, str | int | float] = {"file": name, "fixation": k + 1}
        for axis, (value, (low, high)) in zip(AXES[len(stored)], zip(place, box, strict=True), strict=True):
            row |= {axis: round(value, 2), f"{axis}_from": round(low, 2), f"{axis}_to": round(high, 2)}
        rows.append(row)
    return rows


def _box_rows(
    name: str, explanation: Explanation, stored: tuple[int, ...], thresholds: dict[str, float]
) -> list[dict[str, str | int | float]]:
    """Returns what the maps of one image mark, those of which the threshold is known."""
    maps = {"attention": explanation.attention, "class_map": explanation.class_map}
    rows = []
    for point, threshold in thresholds.items():
        if maps.get(point) is not None:
            rows += box_rows(name, mark_regions(maps[point], point=point, threshold=threshold), stored)
    return rows


def _say_what_is_missing(model: ImageClassifier, console: Console) -> None:
    wanted = ("fixations", "priority", "features", *PATHWAYS)
    missing = [name for name in wanted if name not in model.explain_points]
    if missing:
        console.print(f"{model.name} has no {', '.join(missing)}: not drawn", highlight=False)
