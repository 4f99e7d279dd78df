"""Localisation: how well a run's maps find the lesions that experts drew, at a threshold chosen on validation."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from medkeras.evaluation import Localization, choose_threshold, evaluate_localization, image_scores, random_head_iou
from medkeras.evaluation.localization import MEASURES, mean_interval
from medkeras.explain import Appearance, default_map, localization_figure, map_names, mark_regions, saliency_maps
from medkeras.explain.maps import activations
from medkeras.explain.regions import CLASS_MAPS
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines.callbacks import bar
from pipelines.decode import fit
from pipelines.jobs.boxes import box_columns, box_rows, file_name
from pipelines.jobs.config import TrainConfig, load_split, open_like
from pipelines.jobs.evaluate import check_classes, save_figure
from pipelines.jobs.shown import proportioned
from pipelines.jobs.trained import load_calibrated
from pipelines.records import Records
from pipelines.run_folder import RunFolder

BATCH = 8


@dataclasses.dataclass(frozen=True)
class Lesions:
    """The records with a lesion, and their masks on the model's grid.

    Attributes:
        records: Those with a lesion that the model's grid still shows.
        masks: Boolean, one per record.
        sizes: Pixels per axis of each stored image.
        without: How many records have no lesion.
        lost: How many have one that is too small for the model's grid.
    """

    records: Records
    masks: list[np.ndarray]
    sizes: list[tuple[int, ...]]
    without: int
    lost: int


def localize_run(
    run: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    data: str | None = None,
    maps: Sequence[str] = (),
    threshold: float | None = None,
    mirrored: bool = False,
    samples: int = 12,
    appearance: Appearance | None = None,
    seed: int = 0,
    console: Console | None = None,
    **source_options: Any,
) -> dict[str, Any]:
    """Measures a run's maps against the lesion masks of its test split, or of another source.

    Writes `localization.json` (measures of every map, with 95 % intervals by bootstrap over patients, also at a
    sweep of thresholds), `localization.csv` (one row per image and map), `boxes.csv` (what was marked, in pixels
    of the stored image, pixel 0 from -0.5 to 0.5) and pictures of a sample. Masks are brought to the model's
    size. Images without a lesion are left out, and counted.

    Args:
        run: A run folder.
        out: Folder to write to; by default `localization/` in the run, or in `evaluations/` for another source, and
            `localization_mirrored/` with `mirrored`.
        data: Another source, with the same classes; all of its images are measured.
        maps: Names from `medkeras.explain.map_names`; by default `attention`, `class_map` and `evidence_map`, as
            the model has.
        threshold: Share of a map's range that marks a lesion, in (0, 1]; by default that of the best mean IoU on
            the run's validation images, of each map.
        mirrored: Whether each map is the mean over the mirror images: see `medkeras.explain.saliency_maps`.
        samples: Number of pictures, at least 0.
        appearance: Opacity and contours of the maps in them, and the spacing of the stored images, by default as their
            files say.
        seed: Seed of the bootstrap, the sample and the published score's random weights.
        console: Where to print; nothing is printed by default.
        **source_options: Options of the other source.

    Returns:
        The content of `localization.json`: `data`, `split`, counts, and under `maps`, for each map, what
        `medkeras.evaluation.Localization` holds. `random_head_iou` is the score of the public DualAttendMed code,
        which knows no masks: see `medkeras.evaluation.random_head_iou`.

    Raises:
        FileNotFoundError: If the run or the data do not exist.
        ValueError: If the source has no masks, no image has a lesion, or an argument is out of range.
        OSError: If `out` cannot be written.

    Example:
        >>> localize_run("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console, folder = console or Console(quiet=True), RunFolder(run).open()
    if samples < 0:
        raise ValueError(f"`samples` must be at least 0. Received: samples={samples}")
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must be in (0, 1]. Received: threshold={threshold}")
    with console.status("Loading the model and the data"):
        model, config = load_calibrated(folder), TrainConfig.from_run(folder)
        names = _maps(model, maps)
        records = load_split(config, "test") if data is None else open_like(config, data, **source_options)
        check_classes(records, model)
        lesions = _lesions(records, model)
    thresholds = dict.fromkeys(names, threshold) if threshold else _choose(config, model, names, mirrored, console)
    found = _maps_of(model, lesions.records, names, mirrored, console)
    patients = lesions.records.table["patient"].to_numpy()
    with console.status("Measuring"):
        measured = {
            name: evaluate_localization(
                found[name], lesions.masks, threshold=thresholds[name], groups=patients, seed=seed
            )
            for name in names
        }
    report = {
        "data": data or config.data,
        "split": "test" if data is None else "all",
        "images": len(records),
        "with_lesion": len(lesions.records),
        "without_lesion": lesions.without,
        "lesion_lost_in_resizing": lesions.lost,
        "patients": len(np.unique(patients)),
        "threshold_from": "given" if threshold else "validation",
        "mirrored": mirrored,
        "maps": {name: result.to_dict() for name, result in measured.items()},
        "random_head_iou": _published(model, records, seed, console),
    }
    name = "localization_mirrored" if mirrored else "localization"
    default = folder / name if data is None else folder / "evaluations" / file_name(records.name) / name
    target = RunFolder(default if out is None else out)
    target.write_json("localization.json", report)
    _write_tables(target, lesions, found, thresholds)
    _draw(target.path, model, lesions, found, thresholds, samples, seed, appearance or Appearance())
    _print(console, report, measured, target)
    return report


def _maps(model: ImageClassifier, asked: Sequence[str]) -> list[str]:
    known = map_names(model)
    for name in asked:
        if name not in known:
            raise ValueError(f"A map of `{model.name}` is one of {', '.join(known)}. Received: map={name!r}")
    return list(dict.fromkeys(asked)) or sorted({default_map(model), *CLASS_MAPS} & set(known))


def _lesions(records: Records, model: ImageClassifier) -> Lesions:
    """Returns the records with a lesion, and their masks on the model's grid."""
    if records.read_mask is None:
        raise ValueError(f"Localisation is measured against lesion masks. Received: {records.name}, which has none")
    rows, masks, sizes, with_lesion = [], [], [], 0
    for i in range(len(records)):
        stored = records.read_mask(i)
        if not stored.any():
            continue
        with_lesion += 1
        mask = fit(stored, (*model.image_shape[:-1], 1))[..., 0] > 0.5
        if mask.any():
            rows.append(i)
            masks.append(mask)
            sizes.append(stored.shape)
    if not rows:
        raise ValueError(
            f"Localisation needs images with a lesion. Received: {records.name}, {len(records)} images without"
        )
    return Lesions(records.select(rows), masks, sizes, len(records) - with_lesion, with_lesion - len(rows))


def _choose(
    config: TrainConfig, model: ImageClassifier, names: Sequence[str], mirrored: bool, console: Console
) -> dict[str, float]:
    """Returns for each map the threshold of the best mean IoU on the run's validation images."""
    try:
        with console.status("Reading the validation masks"):
            lesions = _lesions(load_split(config, "val"), model)
    except ValueError as error:
        raise ValueError(f"The threshold is chosen on the run's validation images; give one. {error}") from error
    found = _maps_of(model, lesions.records, names, mirrored, console)
    return {name: choose_threshold(found[name], lesions.masks) for name in names}


def _maps_of(
    model: ImageClassifier, records: Records, names: Sequence[str], mirrored: bool, console: Console
) -> dict[str, np.ndarray]:
    """Returns the named maps of all records on the model's grid."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for images in _batches(model, records, f"Looking at {records.name}", console):
        for name in names:
            parts[name].append(saliency_maps(model, images, point=name, mirrored=mirrored))
    return {name: np.concatenate(maps) for name, maps in parts.items()}


def _batches(model: ImageClassifier, records: Records, title: str, console: Console) -> Iterator[np.ndarray]:
    """Yields the images of records as the model takes them, in order."""
    with bar(console) as moving:
        task = moving.add_task(title, total=len(records))
        for start in range(0, len(records), BATCH):
            indices = range(start, min(start + BATCH, len(records)))
            yield np.stack([_read(records, i, model) for i in indices])
            moving.advance(task, len(indices))


def _read(records: Records, i: int, model: ImageClassifier) -> np.ndarray:
    try:
        return fit(records.read(i), model.image_shape)
    except (ValueError, OSError) as error:
        raise ValueError(f"Image {records.table['id'][i]} cannot be used: {error}") from error


def _published(model: ImageClassifier, records: Records, seed: int, console: Console) -> dict[str, float] | None:
    """Returns the published score, where the model has what it needs and every image has one class."""
    if not {"attention", "backbone"} <= set(model.explain_points) or is_multilabel(model.task):
        return None
    scores = []
    for images in _batches(model, records, "The published score", console):
        seen = activations(model, images, "attention", "backbone")
        labels = records.labels[len(scores) :][: len(images)]
        # The weights of a class are the same in every batch: they are drawn class after class.
        scores += random_head_iou(seen["backbone"], seen["attention"][..., 0], labels, seed=seed).tolist()
    return mean_interval(scores, groups=records.table["patient"].to_numpy(), seed=seed).to_dict()


def _write_tables(
    target: RunFolder, lesions: Lesions, found: dict[str, np.ndarray], thresholds: dict[str, float]
) -> None:
    """Writes the measures and the boxes of every image."""
    table, rank = lesions.records.table, lesions.records.rank
    measures, marked = [], []
    for i, name in enumerate(table["id"]):
        for point, maps in found.items():
            scores = image_scores(maps[i], lesions.masks[i], threshold=thresholds[point])
            regions = mark_regions(maps[i : i + 1], point=point, threshold=thresholds[point])
            measures.append(
                {"file": name, "patient": table["patient"][i], "map": point, "threshold": thresholds[point]}
                | {measure: round(value, 6) for measure, value in scores.items()}
                | {"lesion_share": round(float(lesions.masks[i].mean()), 6), "regions": len(regions.boxes[0])}
            )
            marked += box_rows(name, regions, lesions.sizes[i])
    target.write_text("localization.csv", pd.DataFrame(measures).to_csv(index=False))
    target.write_text("boxes.csv", pd.DataFrame(marked, columns=box_columns(rank)).to_csv(index=False))


def _draw(
    out: pathlib.Path,
    model: ImageClassifier,
    lesions: Lesions,
    found: dict[str, np.ndarray],
    thresholds: dict[str, float],
    samples: int,
    seed: int,
    appearance: Appearance,
) -> None:
    """Writes one picture per image of a sample."""
    order = np.random.default_rng(seed).permutation(len(lesions.records))
    for number, i in enumerate(np.sort(order[:samples]).tolist(), start=1):
        name = str(lesions.records.table["id"][i])
        regions = {
            point.replace("_", " "): mark_regions(maps[i : i + 1], point=point, threshold=thresholds[point])
            for point, maps in found.items()
        }
        image = _read(lesions.records, i, model)[None]
        figure = localization_figure(
            image,
            regions,
            names=[pathlib.Path(name).name],
            masks=[lesions.masks[i]],
            appearance=proportioned(appearance, lesions.records, i, lesions.sizes[i], image.shape[1:-1]),
        )
        save_figure(figure, out / f"{number:03d}-{file_name(name)}.png")


def _print(console: Console, report: dict[str, Any], measured: dict[str, Localization], target: RunFolder) -> None:
    title = f"{report['with_lesion']} images with a lesion of {report['patients']} patients, {report['split']}"
    table = Table("map", "threshold", *("IoU" if name == "iou" else name for name in MEASURES), title=title)
    for name, result in measured.items():
        table.add_row(name, f"{result.threshold:.2f}", *(str(getattr(result, measure)) for measure in MEASURES))
    console.print(table)
    some = next(iter(measured.values()))
    console.print(
        f"a map that knows nothing: IoU and energy {some.area:.3f}, pointing at the centre {some.centre:.3f}",
        highlight=False,
    )
    if report["lesion_lost_in_resizing"]:
        lost = report["lesion_lost_in_resizing"]
        console.print(f"{lost} images left out: their lesion is too small for the model's size", highlight=False)
    console.print(f"measures, boxes and pictures in {target.path}", highlight=False, soft_wrap=True)
