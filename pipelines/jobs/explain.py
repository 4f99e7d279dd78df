"""Explanation: what a trained model sees, as pictures and as a table of its fixations."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from medkeras.errors import InputError
from medkeras.explain import (
    Appearance,
    Explanation,
    deletion_curve,
    effective_receptive_field,
    explain,
    explanation_figure,
    insertion_curve,
    mark_regions,
    randomization_check,
    receptive_field_figure,
)
from medkeras.explain.methods.registry import check_method
from medkeras.explain.regions import is_of_class
from medkeras.models import ImageClassifier
from medkeras.models.focusnet.pathways import PATHWAYS
from pipelines.images.decode import fit
from pipelines.images.records import Records
from pipelines.inference.display import expert_mask, proportioned
from pipelines.inference.target import find_target, of_target, target_name, targets_of
from pipelines.inference.trained_model import load_calibrated
from pipelines.io.box_tables import AXES, box_rows, file_name
from pipelines.io.figure_files import save_figure
from pipelines.io.json_shape import NUMBER
from pipelines.io.output import check_folder, clear_earlier
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.evaluate import check_classes
from pipelines.jobs.predict import write_table
from pipelines.runtime.progress import bar
from pipelines.splits.by_patient import label_names
from pipelines.training.config import TrainConfig, load_split, open_like, open_run_inputs

BATCH = 8
FIXATIONS, BOXES, FAITHFULNESS = "fixations.csv", "boxes.csv", "faithfulness.json"
RECEPTIVE_FIELDS = "receptive_fields.png"
OTHER_FILES = (FIXATIONS, BOXES, FAITHFULNESS, RECEPTIVE_FIELDS)  # Beside one picture of each image.
SYNONYMS = {"grad_cam": ["class_map"], "hires_cam": ["evidence_map"]}  # As `medkeras localize` may have named them.


@dataclasses.dataclass(frozen=True)
class Asked:
    """The maps that were asked for.

    Attributes:
        method: What makes them; None for all that the model has to say.
        target: What they are of, from `find_target`.
        targets: The class of each record, see `targets_of`.
    """

    method: str | None
    target: str | int | None
    targets: np.ndarray | None

    def of(self, rows: Sequence[int]) -> dict[str, Any]:
        """Returns what to ask `medkeras.explain.explain` for some records."""
        return {"method": self.method, "target": None if self.targets is None else self.targets[rows]}


def explain_run(
    run: str | os.PathLike,
    inputs: Sequence[str | os.PathLike] = (),
    out: str | os.PathLike | None = None,
    *,
    data: str | None = None,
    samples: int = 12,
    seed: int = 0,
    method: str | None = None,
    target: str | int | None = None,
    faithfulness: bool = False,
    appearance: Appearance | None = None,
    console: Console | None = None,
) -> list[pathlib.Path]:
    """Draws what a run's model sees in some images, and the effective receptive fields of its pathways.

    Writes one PNG per image; `fixations.csv`, one row per fixation, its place and the edges of its window in
    pixels of the stored image (pixel 0 from -0.5 to 0.5); and `receptive_fields.png`. A model without
    fixations or pathways gets the rest, and the console says what it lacks. Once `medkeras localize` has chosen a
    threshold, `boxes.csv` holds what each map marks at it. With a method, its map is drawn instead, and nothing else;
    `faithfulness.json` says how far such maps can be trusted. What an earlier call wrote to the folder is removed, see
    `pipelines.io.output.clear_earlier`.

    Args:
        run: A run folder.
        inputs: Image files, folders and `.npz` files; by default a sample of the run's test split, whose true
            classes and lesion masks are then drawn too.
        out: Folder to write to; `explain/` in the run by default, `explain_<method>/` with a method, and
            `explain_<method>_of_<target>/` with a target.
        data: Another source to sample from, with the same classes.
        samples: Number of images to sample, at least 1.
        seed: Seed of the sample, of the receptive fields' noise, and of the shuffling and the random maps of
            `faithfulness`.
        method: One of `medkeras.explain.methods_of` of the run's model.
        target: The class or label that the method's maps are of, by name or by index; `label` for each image's own; by
            default the most probable of each image.
        faithfulness: Whether to measure the method's maps by `medkeras.explain.deletion_curve`, `insertion_curve` and
            `randomization_check`.
        appearance: Opacity and contours of the maps, and the spacing of the stored images, by default as their files
            say.
        console: Where to print; nothing is printed by default.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: If the run or an input does not exist.
        ValueError: If both inputs and data are given, an image cannot be used, the data do not fit the model, or the
            method does not apply to it or has no such target.
        OSError: If `out` cannot be written.

    Example:
        >>> explain_run("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    _check_arguments(inputs, data, samples, method, target, faithfulness)
    if out is not None:
        check_folder(out)
    console, folder = console or Console(quiet=True), RunFolder(run).open()
    with console.status("Loading the model and the data"):
        model = load_calibrated(folder)
        found = _check_method(model, method, target, labelled=not inputs)
        records = (
            open_run_inputs(TrainConfig.from_run(folder), inputs, model)
            if inputs
            else _sample(folder, model, data, samples, seed)
        )
    asked = Asked(method, found, targets_of(records, found))
    of = of_target(target_name(model, found))
    out = folder / ((f"explain_{method}" if method else "explain") + of) if out is None else pathlib.Path(out)
    appearance = appearance or Appearance()
    written = _explain_records(model, records, out, _thresholds(folder, of), asked, appearance, not inputs, console)
    if faithfulness:
        with console.status("Measuring how far the maps can be trusted"):
            written.append(_write_faithfulness(model, records, out, asked, seed=seed, console=console))
    if method is None:
        written += _draw_receptive_fields(model, out, seed, console)
        _say_what_is_missing(model, console)
    console.print(f"{len(records)} images explained in {out}", highlight=False, soft_wrap=True)
    return written


def _check_arguments(
    inputs: Sequence[str | os.PathLike],
    data: str | None,
    samples: int,
    method: str | None,
    target: str | int | None,
    faithfulness: bool,
) -> None:
    if inputs and data:
        raise InputError(f"Images come from `inputs` or from `data`. Received: both, data={data!r}")
    if samples < 1:
        raise InputError(f"`samples` must be at least 1. Received: samples={samples}")
    if method is None and (target is not None or faithfulness):
        raise InputError(f"A target and faithfulness are of a method. Received: {method=}, {target=}, {faithfulness=}")


def _check_method(
    model: ImageClassifier, method: str | None, target: str | int | None, *, labelled: bool
) -> str | int | None:
    """Returns the target, see `find_target`, of a method that applies and has one."""
    if method is None:
        return None
    check_method(model, method)
    if target is not None and not is_of_class(model, method):
        raise InputError(f"`{method}` is of no class. Received: method={method!r}, target={target!r}")
    return find_target(model, target, labelled=labelled)


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


def _thresholds(run: RunFolder, of: str) -> dict[str, float]:
    """Returns the threshold that `medkeras localize` chose for each map of the same target, none before it ran."""
    name = f"localization{of}/localization.json"
    if not (run / name).is_file():
        return {}
    found = run.read_json(name, {"maps": {str: {"threshold": NUMBER}}})
    return {point: measured["threshold"] for point, measured in found["maps"].items()}


def _explain_records(
    model: ImageClassifier,
    records: Records,
    out: pathlib.Path,
    thresholds: dict[str, float],
    asked: Asked,
    appearance: Appearance,
    has_labels: bool,
    console: Console,
) -> list[pathlib.Path]:
    """Writes the pictures and the tables."""
    # Every image is read once before the first picture is written: a bad one leaves nothing half-done.
    sizes = [_read(records, i, model)[1] for i in range(len(records))]
    pictures = [f"{i + 1:03d}-{file_name(str(name))}.png" for i, name in enumerate(records.table["id"])]
    clear_earlier(out, "explain", [*pictures, *OTHER_FILES])
    labels = label_names(records) if has_labels else None
    written, rows, boxes = [], [], []
    with bar(console) as moving:
        task = moving.add_task("Explaining", total=len(records))
        for i, explanation in _explanations(model, records, asked):
            name = str(records.table["id"][i])
            figure = explanation_figure(
                explanation,
                names=[pathlib.Path(name).name],
                labels=labels and labels[i : i + 1],
                masks=[expert_mask(records, i, model)],
                appearance=proportioned(appearance, records, i, sizes[i], model.image_shape[:-1]),
            )
            written.append(out / pictures[i])
            save_figure(figure, written[-1])
            rows += _fixation_rows(name, explanation, sizes[i])
            boxes += _box_rows(name, explanation, sizes[i], thresholds)
            moving.advance(task)
    for table, found in ((FIXATIONS, pd.DataFrame(rows)), (BOXES, pd.DataFrame(boxes))):
        if len(found):
            written.append(out / table)
            write_table(written[-1], found)
    return written


def _explanations(model: ImageClassifier, records: Records, asked: Asked) -> Iterator[tuple[int, Explanation]]:
    """Yields the index and the explanation of each image."""
    for start in range(0, len(records), BATCH):
        indices = range(start, min(start + BATCH, len(records)))
        explanation = explain(model, np.stack([_read(records, i, model)[0] for i in indices]), **asked.of(indices))
        for k, i in enumerate(indices):
            yield i, explanation[k : k + 1]


def _read(records: Records, i: int, model: ImageClassifier) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns an image as the model takes it, and the size in which it is stored."""
    try:
        image = records.read(i)
        return fit(image, model.image_shape), image.shape[: records.rank]
    except (ValueError, OSError) as error:
        raise InputError(f"Image {records.table['id'][i]} cannot be used: {error}") from error


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
    if explanation.method is not None:
        maps = {name: explanation.maps for name in (explanation.method, *SYNONYMS.get(explanation.method, ()))}
    rows = []
    for point, threshold in thresholds.items():
        if maps.get(point) is not None:
            rows += box_rows(name, mark_regions(maps[point], point=point, threshold=threshold), stored)
    return rows


def _write_faithfulness(
    model: ImageClassifier, records: Records, out: pathlib.Path, asked: Asked, *, seed: int, console: Console
) -> pathlib.Path:
    """Writes the mean areas of the curves, those of random maps beside them, and what shuffled weights do."""
    rows = range(len(records))
    images = np.stack([_read(records, i, model)[0] for i in rows])
    explanation = explain(model, images, **asked.of(rows))
    random = np.random.default_rng(seed).permuted(explanation.maps.reshape(len(images), -1), axis=1)
    found: dict[str, Any] = {"images": len(images), "method": asked.method}
    if asked.target is not None:
        found["target"] = target_name(model, asked.target)
    for name, maps in (("map", explanation.maps), ("random", random.reshape(explanation.maps.shape))):
        for kind, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
            areas = curve(model, images, maps, target=explanation.targets).areas
            found[f"{kind}_{name}"] = round(float(areas.mean()), 4)
    checked = randomization_check(model, images, seed=seed, **asked.of(rows))
    found |= {"shuffled_share": checked.shares, "similarity": [round(s, 4) for s in checked.similarities]}
    found["changes"] = checked.changes
    says = "change" if checked.changes else "DO NOT CHANGE"
    console.print(
        f"Area under deletion {found['deletion_map']:.3f} (random map {found['deletion_random']:.3f}), "
        f"under insertion {found['insertion_map']:.3f} ({found['insertion_random']:.3f}); "
        f"the maps {says} when the weights are shuffled (correlation {checked.similarities[-1]:.2f})",
        highlight=False,
        soft_wrap=True,
    )
    return RunFolder(out).write_json(FAITHFULNESS, found)


def _draw_receptive_fields(
    model: ImageClassifier, out: pathlib.Path, seed: int, console: Console
) -> list[pathlib.Path]:
    """Writes the effective receptive fields of a model's pathways, where it has any."""
    if not set(PATHWAYS) <= set(model.explain_points):
        return []
    with console.status("Measuring the receptive fields"):
        fields = {name: effective_receptive_field(model, name, seed=seed) for name in PATHWAYS}
    save_figure(receptive_field_figure(fields), out / RECEPTIVE_FIELDS)
    return [out / RECEPTIVE_FIELDS]


def _say_what_is_missing(model: ImageClassifier, console: Console) -> None:
    wanted = ("fixations", "priority", "features", *PATHWAYS)
    missing = [name for name in wanted if name not in model.explain_points]
    if missing:
        console.print(f"{model.name} has no {', '.join(missing)}: not drawn", highlight=False)
