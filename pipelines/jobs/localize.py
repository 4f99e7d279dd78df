"""Localisation: how well a run's maps find the lesions that experts drew, at a threshold chosen on validation."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from medkeras.errors import InputError
from medkeras.evaluation import Localization, choose_threshold, evaluate_localization, image_scores, random_head_iou
from medkeras.evaluation.localization import MEASURES
from medkeras.evaluation.statistics.means import mean_interval
from medkeras.explain import Appearance, default_map, localization_figure, map_names, mark_regions, saliency_maps
from medkeras.explain.methods.feature_maps import activations
from medkeras.explain.regions import CLASS_MAPS, Regions, is_of_class
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines.images.decode import fit
from pipelines.images.records import Records
from pipelines.inference.display import proportioned
from pipelines.inference.images import fitted_batches, open_images, open_run, picture_names, read_fitted, sample_rows
from pipelines.inference.target import OWN, find_target, of_target, target_name, targets_of
from pipelines.inference.trained_model import load_calibrated
from pipelines.io.box_tables import box_columns, box_rows, file_name
from pipelines.io.figure_files import save_figure
from pipelines.io.output import clear_earlier
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split


@dataclasses.dataclass(frozen=True)
class Asked:
    """Which maps of a model are measured.

    Attributes:
        model: What is explained.
        names: Of the maps.
        target: From `find_target`; maps of no class have none.
        mirrored: Whether each is the mean over the mirror images.
    """

    model: ImageClassifier
    names: list[str]
    target: str | int | None
    mirrored: bool

    def maps_of(self, records: Records, console: Console) -> dict[str, np.ndarray]:
        """Returns the maps of all records on the model's grid."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.names}
        targets = targets_of(records, self.target)
        for rows, images in fitted_batches(records, self.model, f"Looking at {records.name}", console):
            wanted = None if targets is None else targets[rows]
            for name in self.names:
                of = wanted if is_of_class(self.model, name) else None
                parts[name].append(saliency_maps(self.model, images, point=name, target=of, mirrored=self.mirrored))
        return {name: np.concatenate(maps) for name, maps in parts.items()}

    def title(self, name: str, label: int) -> str:
        """Returns what to call the map of an image with this label."""
        words = name.replace("_", " ")
        if self.target is None or not is_of_class(self.model, name):
            return words
        return f"{words} of {target_name(self.model, label if self.target == OWN else self.target)}"


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


@dataclasses.dataclass(frozen=True)
class Found:
    """The maps of images with a lesion.

    Attributes:
        lesions: One per map.
        maps: `{name: (images, *model's grid)}`.
        thresholds: `{name: share of a map's range}`.
    """

    lesions: Lesions
    maps: dict[str, np.ndarray]
    thresholds: dict[str, float]

    def marked(self, name: str, i: int) -> Regions:
        """Returns what the map of one image marks."""
        return mark_regions(self.maps[name][i : i + 1], point=name, threshold=self.thresholds[name])


def localize_run(
    run: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    data: str | None = None,
    maps: Sequence[str] = (),
    target: str | int | None = None,
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
    size. Images without a lesion are left out, and counted. Pictures of an earlier call are removed from the folder.

    Args:
        run: A run folder.
        out: Folder to write to; by default `localization/` in the run, or in `evaluations/` for another source, and
            `localization_mirrored/` with `mirrored`, `localization_of_<target>/` with `target`.
        data: Another source, with the same classes; all of its images are measured.
        maps: Names from `medkeras.explain.map_names`; by default `attention`, `class_map` and `evidence_map`, as
            the model has.
        target: The class or label that maps of a class are of, by name or by index; `label` for each image's own; by
            default the most probable of each image.
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
        The content of `localization.json`: `data`, `split`, `target`, counts, and under `maps`, for each map, what
        `medkeras.evaluation.Localization` holds. `random_head_iou` is the score of the public DualAttendMed code,
        which knows no masks: see `medkeras.evaluation.random_head_iou`.

    Raises:
        FileNotFoundError: If the run or the data do not exist.
        ValueError: If the source has no masks, no image has a lesion, the target is no class or no map is of one, or
            an argument is out of range.
        OSError: If `out` cannot be written.

    Example:
        >>> localize_run("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console, folder = console or Console(quiet=True), _open(run, out, samples, threshold)
    with console.status("Loading the model and the data"):
        model, config = load_calibrated(folder), TrainConfig.from_run(folder)
        asked = _asked(model, maps, target, mirrored)
        records = open_images(config, model, data=data, **source_options)
    found = _look(config, asked, records, threshold, console)
    measured, published = _measure(found, seed, console), _published(model, records, seed, console)
    report = _report(asked, found, measured, records, data or config.data, data is None, threshold, published)
    place = RunFolder(_default_folder(folder, records, report) if out is None else out)
    _write(place, asked, found, report, samples, seed, appearance or Appearance(), console)
    _print(console, report, measured, place)
    return report


def _open(run: str | os.PathLike, out: str | os.PathLike | None, samples: int, threshold: float | None) -> RunFolder:
    if samples < 0:
        raise InputError(f"`samples` must be at least 0. Received: samples={samples}")
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError(f"`threshold` must be in (0, 1]. Received: threshold={threshold}")
    return open_run(run, out)


def _asked(model: ImageClassifier, maps: Sequence[str], target: str | int | None, mirrored: bool) -> Asked:
    known = map_names(model)
    for name in maps:
        if name not in known:
            raise InputError(f"A map of `{model.name}` is one of {', '.join(known)}. Received: map={name!r}")
    names = list(dict.fromkeys(maps)) or sorted({default_map(model), *CLASS_MAPS} & set(known))
    found = find_target(model, target)
    if found is not None and not any(is_of_class(model, name) for name in names):
        raise InputError(f"Only a map of a class has a target. Received: target={target!r}, map={', '.join(names)}")
    return Asked(model, names, found, mirrored)


def _default_folder(run: RunFolder, records: Records, report: dict[str, Any]) -> pathlib.Path:
    """Returns where results go by default: mirrored maps and those of a target have a folder of their own."""
    name = ("localization_mirrored" if report["mirrored"] else "localization") + of_target(report["target"])
    return run / name if report["split"] == "test" else run / "evaluations" / file_name(records.name) / name


def _counts(records: Records, lesions: Lesions) -> dict[str, int]:
    return {
        "images": len(records),
        "with_lesion": len(lesions.records),
        "without_lesion": lesions.without,
        "lesion_lost_in_resizing": lesions.lost,
        "patients": lesions.records.table["patient"].nunique(),
    }


def _lesions(records: Records, model: ImageClassifier) -> Lesions:
    """Returns the records with a lesion, and their masks on the model's grid."""
    if records.read_mask is None:
        raise InputError(f"Localisation is measured against lesion masks. Received: {records.name}, which has none")
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
        raise InputError(
            f"Localisation needs images with a lesion. Received: {records.name}, {len(records)} images without"
        )
    return Lesions(records.select(rows), masks, sizes, len(records) - with_lesion, with_lesion - len(rows))


def _look(config: TrainConfig, asked: Asked, records: Records, threshold: float | None, console: Console) -> Found:
    """Returns the maps of the records with a lesion, and the threshold of each map."""
    with console.status(f"Reading {len(records)} masks"):
        lesions = _lesions(records, asked.model)
    chosen = dict.fromkeys(asked.names, threshold) if threshold else _choose(config, asked, console)
    return Found(lesions, asked.maps_of(lesions.records, console), chosen)


def _choose(config: TrainConfig, asked: Asked, console: Console) -> dict[str, float]:
    """Returns for each map the threshold of the best mean IoU on the run's validation images."""
    try:
        with console.status("Reading the validation masks"):
            lesions = _lesions(load_split(config, "val"), asked.model)
    except ValueError as error:
        raise InputError(f"The threshold is chosen on the run's validation images; give one. {error}") from error
    return {n: choose_threshold(maps, lesions.masks) for n, maps in asked.maps_of(lesions.records, console).items()}


def _measure(found: Found, seed: int, console: Console) -> dict[str, Localization]:
    """Returns the measures of each map, their intervals by bootstrap over patients."""
    patients = found.lesions.records.table["patient"].to_numpy()
    with console.status("Measuring"):
        return {
            name: evaluate_localization(
                maps, found.lesions.masks, threshold=found.thresholds[name], groups=patients, seed=seed
            )
            for name, maps in found.maps.items()
        }


def _report(
    asked: Asked,
    found: Found,
    measured: dict[str, Localization],
    records: Records,
    data: str,
    is_own: bool,
    threshold: float | None,
    published: dict[str, float] | None,
) -> dict[str, Any]:
    return {
        "data": data,
        "split": "test" if is_own else "all",
        **_counts(records, found.lesions),
        "threshold_from": "given" if threshold else "validation",
        "mirrored": asked.mirrored,
        "target": target_name(asked.model, asked.target),
        "maps": {name: result.to_dict() for name, result in measured.items()},
        "random_head_iou": published,
    }


def _published(model: ImageClassifier, records: Records, seed: int, console: Console) -> dict[str, float] | None:
    """Returns the published score, where the model has what it needs and every image has one class."""
    if not {"attention", "backbone"} <= set(model.explain_points) or is_multilabel(model.task):
        return None
    scores = []
    for rows, images in fitted_batches(records, model, "The published score", console):
        seen = activations(model, images, "attention", "backbone")
        # The weights of a class are the same in every batch: they are drawn class after class.
        scores += random_head_iou(seen["backbone"], seen["attention"][..., 0], records.labels[rows], seed=seed).tolist()
    return mean_interval(scores, groups=records.table["patient"].to_numpy(), seed=seed).to_dict()


def _write(
    place: RunFolder,
    asked: Asked,
    found: Found,
    report: dict[str, Any],
    samples: int,
    seed: int,
    appearance: Appearance,
    console: Console,
) -> None:
    """Writes the report, the tables and the pictures."""
    with console.status("Writing the tables and the pictures"):
        place.write_json("localization.json", report)
        _write_tables(place, found)
        _draw(place.path, asked, found, samples, seed, appearance)


def _write_tables(target: RunFolder, found: Found) -> None:
    """Writes the measures and the boxes of every image."""
    lesions = found.lesions
    table, rank = lesions.records.table, lesions.records.rank
    measures, marked = [], []
    for i, name in enumerate(table["id"]):
        for point, maps in found.maps.items():
            scores = image_scores(maps[i], lesions.masks[i], threshold=found.thresholds[point])
            regions = found.marked(point, i)
            measures.append(
                {"file": name, "patient": table["patient"][i], "map": point, "threshold": found.thresholds[point]}
                | {measure: round(value, 6) for measure, value in scores.items()}
                | {"lesion_share": round(float(lesions.masks[i].mean()), 6), "regions": len(regions.boxes[0])}
            )
            marked += box_rows(name, regions, lesions.sizes[i])
    target.write_text("localization.csv", pd.DataFrame(measures).to_csv(index=False))
    target.write_text("boxes.csv", pd.DataFrame(marked, columns=box_columns(rank)).to_csv(index=False))


def _draw(out: pathlib.Path, asked: Asked, found: Found, samples: int, seed: int, appearance: Appearance) -> None:
    """Writes one picture per image of a sample."""
    records = found.lesions.records
    rows = sample_rows(records, samples, seed).tolist()
    names = [str(records.table["id"][i]) for i in rows]
    pictures = picture_names(names)
    clear_earlier(out, "localize", pictures)
    for i, name, picture in zip(rows, names, pictures, strict=True):
        image = read_fitted(records, i, asked.model)[0][None]
        figure = localization_figure(
            image,
            {asked.title(point, records.labels[i]): found.marked(point, i) for point in found.maps},
            names=[pathlib.Path(name).name],
            masks=[found.lesions.masks[i]],
            appearance=proportioned(appearance, records, i, found.lesions.sizes[i], image.shape[1:-1]),
        )
        save_figure(figure, out / picture)


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
