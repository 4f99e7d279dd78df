"""Explanation: what a trained model sees, as pictures and as a table of its fixations."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from typing_extensions import TypedDict

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
from pipelines.images.records import Records
from pipelines.inference.display import expert_mask, proportioned
from pipelines.inference.images import fitted_batches, open_images, open_run, picture_names, read_fitted, sample_rows
from pipelines.inference.target import find_target, of_target, target_name, targets_of
from pipelines.inference.trained_model import load_calibrated
from pipelines.io.box_tables import AXES, box_rows
from pipelines.io.figure_files import save_figure
from pipelines.io.output import clear_earlier
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.predict import write_table
from pipelines.splits.by_patient import label_names
from pipelines.training.config import TrainConfig
from pipelines.training.data import open_run_inputs

FIXATIONS, BOXES, FAITHFULNESS = "fixations.csv", "boxes.csv", "faithfulness.json"
RECEPTIVE_FIELDS = "receptive_fields.png"
OTHER_FILES = (FIXATIONS, BOXES, FAITHFULNESS, RECEPTIVE_FIELDS)  # Beside one picture of each image.
SYNONYMS = {"grad_cam": ["class_map"], "hires_cam": ["evidence_map"]}  # As `medkeras localize` may have named them.


class MapThreshold(TypedDict):
    """Of `localization.json`, as used here: where a map was cut."""

    threshold: float


class Localized(TypedDict):
    """Of `localization.json`, as used here."""

    maps: dict[str, MapThreshold]


@dataclasses.dataclass(frozen=True)
class Asked:
    """The maps that were asked for.

    Attributes:
        method: What makes them; None for all that the model has to say.
        target: What they are of, from `find_target`.
        targets: The class of each record, see `targets_of`.
        labelled: Whether the images have labels, which are then drawn.
        seed: Of what is random.
    """

    method: str | None
    target: str | int | None
    targets: np.ndarray | None
    labelled: bool
    seed: int

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
    console, folder = console or Console(quiet=True), open_run(run, out)
    with console.status("Loading the model and the data"):
        model, config = load_calibrated(folder), TrainConfig.from_run(folder)
        found = _check_method(model, method, target, labelled=not inputs)
        records = _records(config, model, inputs, data, samples, seed)
    asked = Asked(method, found, targets_of(records, found), labelled=not inputs, seed=seed)
    out, thresholds = _out_and_thresholds(folder, out, method, of_target(target_name(model, found)))
    written = _explain_records(model, records, out, thresholds, asked, appearance or Appearance(), console)
    written += _write_faithfulness(model, records, out, asked, console) if faithfulness else []
    written += _draw_receptive_fields(model, out, seed, console) if method is None else []
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


def _records(
    config: TrainConfig,
    model: ImageClassifier,
    inputs: Sequence[str | os.PathLike],
    data: str | None,
    samples: int,
    seed: int,
) -> Records:
    """Returns the images of some files, or a sample of the run's test split or of another source, in their order."""
    if inputs:
        return open_run_inputs(config, inputs, model)
    records = open_images(config, model, data=data)
    return records.select(sample_rows(records, samples, seed))


def _out_and_thresholds(
    run: RunFolder, out: str | os.PathLike | None, method: str | None, of: str
) -> tuple[pathlib.Path, dict[str, float]]:
    """Returns the folder to write to, and the threshold that `medkeras localize` chose for each map, if it ran."""
    out = run / ((f"explain_{method}" if method else "explain") + of) if out is None else pathlib.Path(out)
    name = f"localization{of}/localization.json"
    if not (run / name).is_file():
        return out, {}
    found = run.read_json(name, Localized)
    return out, {point: measured["threshold"] for point, measured in found["maps"].items()}


def _explain_records(
    model: ImageClassifier,
    records: Records,
    out: pathlib.Path,
    thresholds: dict[str, float],
    asked: Asked,
    appearance: Appearance,
    console: Console,
) -> list[pathlib.Path]:
    """Writes the pictures and the tables."""
    # Every image is read once before the first picture is written: a bad one leaves nothing half-done.
    sizes = [read_fitted(records, i, model)[1] for i in range(len(records))]
    pictures = picture_names(records.table["id"])
    clear_earlier(out, "explain", [*pictures, *OTHER_FILES])
    labels = label_names(records) if asked.labelled else None
    written, rows, boxes = [], [], []
    for batch, images in fitted_batches(records, model, "Explaining", console):
        explanations = explain(model, images, **asked.of(batch))
        for k, i in enumerate(batch):
            explanation = explanations[k : k + 1]
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
    for table, found in ((FIXATIONS, pd.DataFrame(rows)), (BOXES, pd.DataFrame(boxes))):
        if len(found):
            written.append(out / table)
            write_table(written[-1], found)
    return written


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
    model: ImageClassifier, records: Records, out: pathlib.Path, asked: Asked, console: Console
) -> list[pathlib.Path]:
    """Writes the mean areas of the curves, those of random maps beside them, and what shuffled weights do."""
    with console.status("Measuring how far the maps can be trusted"):
        found, last = _faithfulness(model, records, asked)
    says = "change" if found["changes"] else "DO NOT CHANGE"
    console.print(
        f"Area under deletion {found['deletion_map']:.3f} (random map {found['deletion_random']:.3f}), "
        f"under insertion {found['insertion_map']:.3f} ({found['insertion_random']:.3f}); "
        f"the maps {says} when the weights are shuffled (correlation {last:.2f})",
        highlight=False,
        soft_wrap=True,
    )
    return [RunFolder(out).write_json(FAITHFULNESS, found)]


def _faithfulness(model: ImageClassifier, records: Records, asked: Asked) -> tuple[dict[str, Any], float]:
    """Returns the content of `faithfulness.json`, and the correlation once all weights are shuffled."""
    rows = range(len(records))
    images = np.stack([read_fitted(records, i, model)[0] for i in rows])
    explanation = explain(model, images, **asked.of(rows))
    random = np.random.default_rng(asked.seed).permuted(explanation.maps.reshape(len(images), -1), axis=1)
    found: dict[str, Any] = {"images": len(images), "method": asked.method}
    if asked.target is not None:
        found["target"] = target_name(model, asked.target)
    for name, maps in (("map", explanation.maps), ("random", random.reshape(explanation.maps.shape))):
        for kind, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
            areas = curve(model, images, maps, target=explanation.targets).areas
            found[f"{kind}_{name}"] = round(float(areas.mean()), 4)
    checked = randomization_check(model, images, seed=asked.seed, **asked.of(rows))
    found |= {"shuffled_share": checked.shares, "similarity": [round(s, 4) for s in checked.similarities]}
    return found | {"changes": checked.changes}, checked.similarities[-1]


def _draw_receptive_fields(
    model: ImageClassifier, out: pathlib.Path, seed: int, console: Console
) -> list[pathlib.Path]:
    """Writes the effective receptive fields of a model's pathways, where it has any, and says what else it lacks."""
    wanted = ("fixations", "priority", "features", *PATHWAYS)
    missing = [name for name in wanted if name not in model.explain_points]
    written = []
    if not set(PATHWAYS) & set(missing):
        with console.status("Measuring the receptive fields"):
            fields = {name: effective_receptive_field(model, name, seed=seed) for name in PATHWAYS}
        written.append(out / RECEPTIVE_FIELDS)
        save_figure(receptive_field_figure(fields), written[-1])
    if missing:
        console.print(f"{model.name} has no {', '.join(missing)}: not drawn", highlight=False)
    return written
