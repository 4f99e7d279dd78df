"""Enhancement: the regions that a run's model looks at, enlarged by an upscaler and put back into the images."""

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from medkeras.super_resolution import LDMUpscaler
from medkeras.super_resolution.diffusion.noise import image_key
from medkeras.super_resolution.enhancement.attention_guided import Upscaler, check_map, enhance, importance_maps
from medkeras.super_resolution.enhancement.regions import RegionRule
from medkeras.super_resolution.enhancement.reintegration import METHODS, PASTES
from medkeras.super_resolution.interpolated import Interpolation
from medkeras.tasks import is_multilabel
from pipelines.enhancement.figure import Looked, draw
from pipelines.enhancement.files import (
    Manifest,
    as_float,
    as_stored,
    content_key,
    output_names,
    weights_key,
    write_png,
)
from pipelines.enhancement.place import window_of
from pipelines.images.decode import fit
from pipelines.images.records import SPLITS, Records
from pipelines.inference.images import BATCH, naming, of_split, open_run
from pipelines.inference.trained_model import load_model
from pipelines.io.run_folder import RunFolder
from pipelines.runtime.progress import bar
from pipelines.sources.unlabelled import open_inputs
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split, open_like


@dataclasses.dataclass(frozen=True, kw_only=True)
class Enhancement:
    """How images are enhanced.

    Attributes:
        rule: Which regions a map chooses.
        map: Name of the map, see `medkeras.super_resolution.importance_maps`; the model's own by default.
        steps: Steps of the diffusion.
        eta: Its share of fresh noise, in [0, 1].
        seed: Of the noise, and of which images are enhanced, at least 0.
        paste: `hard` or `feathered`, see `medkeras.super_resolution.reintegrate`.
        keep_scale: Whether the image becomes as large as its enlarged regions.
        consistent: Whether an enlarged region keeps what the image shows, see
            `medkeras.super_resolution.make_consistent`.
        fraction: Share of the images that is enhanced, in (0, 1]; the others are written as they are.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> Enhancement(steps=50).to_dict()["steps"]
        50
    """

    rule: RegionRule = RegionRule()
    map: str | None = None
    steps: int = 25
    eta: float = 1.0
    seed: int = 0
    paste: str = "hard"
    keep_scale: bool = False
    consistent: bool = False
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.paste not in PASTES:
            raise InputError(f"`paste` must be one of {', '.join(PASTES)}. Received: paste={self.paste!r}")
        rules = {
            "steps": ("from 1 to 1000", 1 <= self.steps <= 1000),
            "eta": ("in [0, 1]", 0 <= self.eta <= 1),
            "seed": ("at least 0", self.seed >= 0),
            "fraction": ("in (0, 1]", 0 < self.fraction <= 1),
        }
        for name, (rule, holds) in rules.items():
            if not holds:
                raise InputError(f"`{name}` must be {rule}. Received: {name}={getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the values by name, those of the rule among them."""
        values = dataclasses.asdict(self)
        return values.pop("rule") | values

    def chooses(self, image: np.ndarray) -> bool:
        """Says whether an image is among the share that is enhanced; its content and the seed decide."""
        return np.random.default_rng([self.seed, image_key(image)]).random() < self.fraction


def enhance_run(
    run: str | os.PathLike,
    inputs: Sequence[str | os.PathLike] = (),
    out: str | os.PathLike = "enhanced",
    *,
    upscaler: str | os.PathLike | Upscaler,
    how: Enhancement | None = None,
    data: str | None = None,
    split: str | None = None,
    batch_size: int = 1,
    samples: int = 12,
    console: Console | None = None,
    **source_options: Any,
) -> pd.DataFrame:
    """Enhances what a run's model looks at in some images, and writes the images.

    Images are taken as they are stored; the model looks at them after the run's preprocessing, and its map is taken
    back to the stored pixels. Each image is written as PNG with the depth that it has, 8 or 16 bits, and pixels outside
    of the regions as they are. An image's result follows from its content and the settings, not from the others.

    Writes `images/`, `enhanced.csv` (`file`, `output`, `regions`, `seconds`), `regions.csv` (edges in pixels, counted
    like slices), `index.csv` of labelled images (a source to train with), `enhanced.json`, and of the first images
    `figures/` and `maps/`. Called again, it goes on: images that are done are passed over.

    Args:
        run: A run folder.
        inputs: Image files, folders and `.npz` files.
        out: Folder to write to.
        upscaler: A folder in the diffusers layout or a repository on Hugging Face, see `LDMUpscaler.from_pretrained`;
            `bicubic` or `lanczos`, for comparison; or an upscaler.
        how: How; the defaults of `Enhancement` if None.
        data: Another source instead of inputs.
        split: `train`, `val`, `test` or `all` of the run's data, or of `data`, instead of inputs.
        batch_size: Regions that are enlarged at a time; more than one is of use on a graphics card.
        samples: Number of images to draw, at least 0.
        console: Where to print; nothing is printed by default.
        **source_options: Options of `data`.

    Returns:
        The content of `enhanced.csv`.

    Raises:
        FileNotFoundError: If the run, an input or the upscaler does not exist.
        ValueError: If there is nothing to enhance, the model has no such map, the folder holds images that were
            enhanced otherwise, or an image cannot be used.
        OSError: If `out` cannot be written.

    Example:
        >>> enhance_run("no-such-run", ["scan.png"], upscaler="bicubic")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console, how, folder = console or Console(quiet=True), how or Enhancement(), open_run(run, out)
    if samples < 0 or batch_size < 1:
        raise InputError(f"`samples` must be at least 0, `batch_size` 1. Received: {samples=}, {batch_size=}")
    with console.status("Loading the model and the upscaler"):
        model, config = load_model(folder), TrainConfig.from_run(folder)
        how = dataclasses.replace(how, map=check_map(model, how.map))
        sets = _open(config, model, inputs, data, split, source_options)
        upscaler, kind = open_upscaler(upscaler)
    worker = _worker(model, config, upscaler, kind, how, batch_size, RunFolder(out))
    tables, index, left = [], [], samples
    for name, records in sets:
        names = output_names(records.table["id"].tolist(), [] if data or split else inputs)
        worker.go(records, names, left, console)
        left = max(left - len(records), 0)
        tables.append(_table(records, names, worker.manifest))
        index += [_labelled(records, names, name)] if data or split else []
    return _write(worker, pd.concat(tables, ignore_index=True), index, console)


def _worker(
    model: ImageClassifier,
    config: TrainConfig,
    upscaler: Upscaler,
    kind: str,
    how: Enhancement,
    batch_size: int,
    target: RunFolder,
) -> "_Worker":
    """Returns what enhances images into a folder that is new or was made with the same settings."""
    if how.rule.smallest < upscaler.smallest:
        raise InputError(
            f"The upscaler takes regions of {upscaler.smallest} pixels and more. Received: smallest={how.rule.smallest}"
        )
    made_by = {"model": weights_key(model), "upscaler": kind, "preprocess": list(config.preprocess)}
    manifest = Manifest(target, how.to_dict() | made_by)
    return _Worker(model, config.preprocess, upscaler, how, batch_size, target, manifest)


def _write(worker: "_Worker", table: pd.DataFrame, index: Sequence[pd.DataFrame], console: Console) -> pd.DataFrame:
    """Writes the tables, and returns the first."""
    target = worker.target
    target.write_text("enhanced.csv", table.to_csv(index=False))
    target.write_text("regions.csv", _boxes(table, worker.manifest).to_csv(index=False))
    if index:
        target.write_text("index.csv", pd.concat(index).to_csv(index=False))
    console.print(
        f"{len(table)} images with {table['regions'].sum()} regions in {target.path}", highlight=False, soft_wrap=True
    )
    return table


def open_upscaler(upscaler: str | os.PathLike | Upscaler) -> tuple[Upscaler, str]:
    """Returns an upscaler, and what stands for it in a manifest.

    Raises:
        FileNotFoundError: As `LDMUpscaler.from_pretrained`.
        ValueError: As `LDMUpscaler.from_pretrained`.

    Example:
        >>> open_upscaler("bicubic")[1]
        'bicubic'
    """
    if isinstance(upscaler, (str, os.PathLike)):
        name = os.fspath(upscaler)
        upscaler = Interpolation(name) if name in METHODS else LDMUpscaler.from_pretrained(name)
    if isinstance(upscaler, Interpolation):
        return upscaler, upscaler.method
    return upscaler, weights_key(upscaler.unet, upscaler.vqvae)


@dataclasses.dataclass(frozen=True)
class _Worker:
    """Enhances records into a folder."""

    model: ImageClassifier
    preprocess: tuple[str, ...]
    upscaler: Upscaler
    how: Enhancement
    batch_size: int
    target: RunFolder
    manifest: Manifest

    def go(self, records: Records, names: Sequence[str], samples: int, console: Console) -> None:
        """Enhances what is not done yet, a few images at a time, and draws the first."""
        with bar(console) as moving:
            row = moving.add_task(f"Enhancing {records.name}", total=len(records))
            for start in range(0, len(records), BATCH):
                indices = range(start, min(start + BATCH, len(records)))
                found = self._look(records, names, indices, samples)
                moving.advance(row, len(indices) - len(found))
                for k in range(0, len(found), self.batch_size):
                    part = found[k : k + self.batch_size]
                    self._finish(part)
                    moving.advance(row, len(part))

    def _look(
        self, records: Records, names: Sequence[str], indices: Sequence[int], samples: int
    ) -> list[tuple[str, Looked]]:
        """Returns the images that are not done, with their maps and regions."""
        found, seen = [], []
        for i in indices:
            with naming(records, i):
                image = records.read(i)
                looked = Looked(image, content_key(image), is_drawn=i < samples)
                if self.manifest.has(names[i], looked.key):
                    continue
                if self.how.chooses(image):
                    changed, window = window_of(image, self.preprocess)
                    looked = dataclasses.replace(looked, window=window)
                    seen.append(fit(changed, self.model.image_shape))
                found.append((i, looked))
        if seen:
            # Always as many: sums in another order would make a map depend on the images beside.
            filled = np.stack(seen + seen[-1:] * (BATCH - len(seen)))
            maps = iter(importance_maps(self.model, filled, name=self.how.map))
        for k, (i, looked) in enumerate(found):
            if looked.window:
                with naming(records, i):
                    values = next(maps)
                    boxes = self.how.rule.regions(values, looked.image.shape[:2], window=looked.window)
                    found[k] = i, dataclasses.replace(looked, values=values, boxes=boxes)
        return [(names[i], looked) for i, looked in found]

    def _finish(self, waiting: Sequence[tuple[str, Looked]]) -> None:
        """Enlarges the regions of some images, and writes the images and the manifest."""
        start, how = time.perf_counter(), self.how
        enhanced = enhance(
            [as_float(looked.image) for _, looked in waiting],
            [looked.boxes for _, looked in waiting],
            self.upscaler,
            multiple=how.rule.smallest,
            paste=how.paste,
            keep_scale=how.keep_scale,
            batch_size=self.batch_size,
            steps=how.steps,
            eta=how.eta,
            seed=how.seed,
            consistent=how.consistent,
        )
        seconds = (time.perf_counter() - start) / len(waiting)
        for (name, looked), values in zip(waiting, enhanced, strict=True):
            result = as_stored(values, looked.image)
            write_png(self.target / name, result)
            if looked.is_drawn and looked.values is not None:
                draw(self.target, name, looked, result)
            self.manifest.images[name] = {
                "key": looked.key,
                "chosen": looked.values is not None,
                "regions": looked.boxes.tolist(),
                "seconds": round(seconds, 3),
            }
        self.manifest.save()


def _open(
    config: TrainConfig,
    model: ImageClassifier,
    inputs: Sequence[str | os.PathLike],
    data: str | None,
    split: str | None,
    options: dict[str, Any],
) -> list[tuple[str, Records]]:
    """Returns what is to be enhanced, as stored, with the split that it belongs to."""
    config = dataclasses.replace(config, preprocess=())
    if split not in (None, "all", *SPLITS):
        raise InputError(f"`split` must be all, train, val or test. Received: split={split!r}")
    if bool(inputs) == bool(data or split):
        raise InputError(
            f"Images come from paths, or from `data` and `split`. Received: {len(inputs)} paths, {data=}, {split=}"
        )
    if inputs:
        return [("", open_inputs(inputs, model=model, options=config.source_options))]
    if data is None:
        return [(name, load_split(config, name)) for name in (SPLITS if split == "all" else [split])]
    return [("", of_split(open_like(config, data, **options), data, split))]


def _table(records: Records, names: Sequence[str], manifest: Manifest) -> pd.DataFrame:
    done = [manifest.images[name] for name in names]
    return pd.DataFrame(
        {
            "file": records.table["id"],
            "output": names,
            "regions": [len(image["regions"]) for image in done],
            "seconds": [image["seconds"] for image in done],
        }
    )


def _boxes(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    rows = [
        (file, k, *box)
        for file, name in zip(table["file"], table["output"], strict=True)
        for k, box in enumerate(manifest.images[name]["regions"], start=1)
    ]
    return pd.DataFrame(rows, columns=["file", "region", "top", "left", "bottom", "right"])


def _labelled(records: Records, names: Sequence[str], split: str) -> pd.DataFrame:
    """Returns the rows of a table source: path, patient, split and labels."""
    table = pd.DataFrame({"path": names, "patient": records.table["patient"]})
    table["split"] = split or records.table["split"]
    if is_multilabel(records.task):
        labels = records.labels.copy()
        if records.train_labels is not None:  # Unknown, but with a policy: written as uncertain.
            labels[np.isnan(labels) & ~np.isnan(records.train_labels)] = -1
        return table.join(pd.DataFrame(labels, columns=list(records.class_names)).astype("Int8"))
    table["label"] = np.array(records.class_names)[records.labels]
    return table
