"""The MedMNIST layout: one npz with `{train,val,test}_{images,labels}`, by path or by official name."""

import dataclasses
import hashlib
import logging
import os
import pathlib
import urllib.request
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.tasks import default_task
from pipelines.images.records import SPLITS, Records
from pipelines.io.npz_file import read_npz
from pipelines.io.run_folder import atomic_path
from pipelines.sources.medmnist.sets import SETS
from pipelines.sources.options import SourceOptions

URL = "https://zenodo.org/records/10519652/files"
logger = logging.getLogger("medkeras")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SourceOptions):
    """What an npz of the MedMNIST layout takes; `task` is by default that of the official set it is named after.

    Attributes:
        class_names: One name per class; by default the file's own, those of the set, or `"0", "1", ...`.
        drop_shared: Removes an image from `train` when `val` or `test` holds the same pixels (from `val` when
            `test` does), and logs how many.
    """

    class_names: Sequence[str] | None = None
    drop_shared: bool = True


def open_medmnist(name: str, **options: Any) -> Records:
    """Opens an npz of the MedMNIST layout, 2D or 3D, grey or RGB.

    The file holds `{split}_images`, uint8 `(n, H, W)`, `(n, H, W, 3)` or `(n, D, H, W)`, and
    `{split}_labels`, `(n,)`, `(n, 1)` or `(n, labels)`, for `train` and, where there are any, `val` and
    `test`. `{split}_masks` `(n, H, W)` or `(n, D, H, W)` are lesion masks; `classes` names the classes; other
    arrays are ignored.

    Args:
        name: Path to an `.npz`, or an official set as `pneumoniamnist` or `pneumoniamnist_128`, which is
            downloaded once into the folder `MEDKERAS_CACHE` (`~/.cache/medkeras`).
        **options: Those of `Options`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the set is unknown, cannot be downloaded, or the file does not have the layout.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/tiny.npz"
        >>> images = np.arange(4 * 8 * 8, dtype="uint8").reshape(4, 8, 8)
        >>> np.savez(path, train_images=images, train_labels=[[0], [1], [0], [1]])
        >>> records = open_medmnist(path)
        >>> records.task, records.read(1).shape, records.table["id"][1]
        ('binary', (8, 8), 'train_1')
    """
    given = Options(**options)
    task, class_names = given.task, given.class_names
    path = pathlib.Path(name) if name.endswith(".npz") else _official_file(name)
    arrays = _load(path)
    parts = {split: _part(arrays, split, path) for split in SPLITS if f"{split}_images" in arrays}
    if "train" not in parts or len({images.shape[1:] for images, _, _ in parts.values()}) != 1:
        shapes = {split: images.shape for split, (images, _, _) in parts.items()}
        raise InputError(f"Cannot read {path}: it needs train_images, and one size in all splits. Received: {shapes}")
    known = SETS.get(path.stem.split("_")[0])
    labels = np.concatenate([labels for _, labels, _ in parts.values()])
    if task is None:
        task = known.task if known else "multilabel" if labels.shape[1] > 1 else default_task(_num_classes(labels))
    if class_names is None:
        class_names = arrays.get("classes", known.class_names if known else range(_num_classes(labels)))
    records = _records(path.stem, task, tuple(str(c) for c in class_names), labels, parts)
    return _without_shared(records) if given.drop_shared else records


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
    wanted = {f"{split}_{part}" for split in SPLITS for part in ("images", "labels", "masks")} | {"classes"}
    return read_npz(path, wanted.__contains__)


def _part(
    arrays: dict[str, np.ndarray], split: str, path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns images, labels `(n, columns)` and masks of one split."""
    images, labels = arrays[f"{split}_images"], arrays.get(f"{split}_labels")
    if labels is None:
        raise InputError(f"Cannot read {path}: it has {split}_images and no {split}_labels")
    if images.dtype != np.uint8 or images.ndim not in (3, 4, 5) or 0 in images.shape:
        raise InputError(
            f"Cannot read {path}: {split}_images must be uint8, (n, height, width[, 3]) or "
            f"(n, depth, height, width). "
            f"Received: {images.dtype} {images.shape}"
        )
    if len(labels) != len(images) or labels.ndim > 2 or labels.dtype.kind not in "biuf":
        raise InputError(
            f"Cannot read {path}: {split}_labels must be {len(images)} rows of numbers. "
            f"Received: {labels.dtype} {labels.shape}"
        )
    masks = arrays.get(f"{split}_masks")
    if masks is not None and masks.shape != images.shape[: 1 + _rank(images.shape[1:])]:
        raise InputError(
            f"Cannot read {path}: {split}_masks must be on the grid of the images, {images.shape}. "
            f"Received: {masks.shape}"
        )
    return images, labels.reshape(len(labels), -1), masks


def _rank(shape: tuple[int, ...]) -> int:
    """Returns 2 or 3 for the shape of one image, with or without channels."""
    return len(shape) - (shape[-1] in (1, 3) and len(shape) > 2)


def _num_classes(labels: np.ndarray) -> int:
    return labels.shape[1] if labels.shape[1] > 1 else int(labels.max()) + 1


def _records(name: str, task: str, class_names: tuple[str, ...], labels: np.ndarray, parts: dict) -> Records:
    split = np.repeat(list(parts), [len(images) for images, _, _ in parts.values()])
    row = np.concatenate([np.arange(len(images)) for images, _, _ in parts.values()])
    ids = [f"{s}_{r}" for s, r in zip(split, row, strict=True)]
    shape = parts["train"][0].shape[1:]
    rank = _rank(shape)
    has_masks = all(masks is not None for _, _, masks in parts.values())
    return Records(
        name=name,
        task=task,
        class_names=class_names,
        table=pd.DataFrame({"id": ids, "patient": ids, "split": split}),
        labels=labels.astype(np.float32) if task == "multilabel" else _class_indices(labels, name),
        read=lambda i: parts[split[i]][0][row[i]],
        read_mask=(lambda i: parts[split[i]][2][row[i]] != 0) if has_masks else None,
        read_shape=lambda i: (*shape[:rank], shape[rank] if len(shape) > rank else 1),
        rank=rank,
        fingerprint=lambda i: f"{zlib.crc32(parts[split[i]][0][row[i]]):08x}",
    )


def _class_indices(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.shape[1] != 1 or not np.array_equal(labels, labels.astype(np.int32)):
        raise InputError(
            f"A single-label task has one whole number per image. Received: {name} with {labels[:2].tolist()}"
        )
    return labels[:, 0].astype(np.int32)


def _without_shared(records: Records) -> Records:
    """Drops the images of a split that a later split holds too, pixel for pixel."""
    digests = [hashlib.blake2b(records.read(i).tobytes(), digest_size=16).digest() for i in range(len(records))]
    keep, later = np.ones(len(records), bool), set()
    for split in reversed(SPLITS):
        members = np.flatnonzero(records.table["split"] == split)
        keep[members] = [digests[i] not in later for i in members]
        later.update(digests[i] for i in members)
    if keep.all():
        return records
    counts = records.table["split"][~keep].value_counts()
    logger.warning(
        "%s: %d images occur in more than one split; dropped %s",
        records.name,
        len({digests[i] for i in np.flatnonzero(~keep)}),
        ", ".join(f"{n} of {split}" for split, n in counts.items()),
    )
    return records.select(np.flatnonzero(keep))


def _official_file(name: str) -> pathlib.Path:
    """Returns the cached file of an official set, after downloading it if needed."""
    flag, _, size = name.partition("_")
    if flag not in SETS:
        raise InputError(f"A MedMNIST set is a path to an .npz or one of {', '.join(SETS)}. Received: name={name!r}")
    md5 = {("" if pixels == 28 else str(pixels)): digest for pixels, digest in SETS[flag].md5.items()}
    if size not in md5:
        sizes = ", ".join(f"{flag}_{s}" if s else flag for s in md5)
        raise InputError(f"The sizes of {flag} are {sizes}. Received: name={name!r}")
    cache = pathlib.Path(os.environ.get("MEDKERAS_CACHE") or pathlib.Path.home() / ".cache" / "medkeras")
    path = cache / f"{name}.npz"
    if not path.is_file():
        _download(f"{URL}/{name}.npz", path, md5[size])
    return path


def _download(url: str, path: pathlib.Path, md5: str) -> None:
    """Writes the file at `url` to `path` whole and with the right MD5, or not at all."""
    from rich.console import Console
    from rich.progress import wrap_file

    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=30) as response, atomic_path(path) as temporary:
            size = int(response.headers.get("Content-Length") or 0)
            title = f"Downloading {path.name}"
            with wrap_file(response, size, description=title, console=Console(stderr=True)) as stream:
                with open(temporary, "wb") as file:
                    while block := stream.read(1 << 20):
                        digest.update(block)
                        file.write(block)
            if digest.hexdigest() != md5:
                raise InputError(f"The MD5 of {url} must be {md5}. Received: {digest.hexdigest()}")
    except OSError as error:
        raise InputError(
            f"Cannot download {path.name} ({error}): get {url} on another machine and put it at {path}"
        ) from error
