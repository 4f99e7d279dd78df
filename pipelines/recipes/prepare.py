"""The work of `medkeras data prepare`: a downloaded archive laid out in class folders, with an index."""

import io
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Sequence
from typing import IO, Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from medkeras.errors import InputError
from pipelines.images.defects import defect
from pipelines.io.run_folder import atomic_path
from pipelines.recipes.download import READ_ERRORS, Download, Member
from pipelines.recipes.found import Item
from pipelines.recipes.layouts import find
from pipelines.recipes.published_split import published_split
from pipelines.recipes.recipe import INDEX, PUBLISHED, STATE, Recipe, load, read_state

IMAGES, REJECTED = "images", "rejected.csv"
MAX_IMAGE = 1 << 29  # Bytes; more is no photograph.


def prepare(
    name: str,
    source: str | os.PathLike,
    to: str | os.PathLike,
    *,
    split: str | None = None,
    console: Console | None = None,
) -> pd.DataFrame:
    """Lays a downloaded archive out for a recipe.

    Writes `images/<class>/<file>`, where there are several labels `images/<patient>/<study>/<file>`; `index.csv` with
    `path`, `label` or a column of each label, where known `patient` (what must not be parted), `split` and metadata;
    `rejected.csv` with every other file and row and its reason; and `prepared.json`. Images of a folder are hard links
    where the file system allows, else copies: nothing is changed in the download. A preparation that was interrupted
    goes on, a complete one is checked and left as it is.

    Args:
        name: A recipe, see `pipelines.recipes.load`.
        source: The download: a folder, an archive, or a folder of archives.
        to: The folder to make; empty, or one that was prepared by the same recipe.
        split: `grouped`, or `published` where the recipe has it; by default the first that the recipe names.
        console: Where to print; nothing is printed by default.

    Returns:
        The content of `index.csv`.

    Raises:
        FileNotFoundError: If there is no such download.
        ValueError: If the recipe is unknown, the download is damaged or not laid out as the recipe expects, a class
            is without an image, or the folder holds anything else.
        OSError: If the folder cannot be written.

    Example:
        >>> prepare("kvasir", "no-such.zip", "prepared")
        Traceback (most recent call last):
        ...
        FileNotFoundError: No such folder or archive: no-such.zip
    """
    console, recipe, folder = console or Console(quiet=True), load(name), pathlib.Path(to)
    split = split or recipe.splits[0]
    if split not in recipe.splits:
        raise InputError(f"The splits of {recipe.name} are {', '.join(recipe.splits)}. Received: split={split!r}")
    state = {"recipe": recipe.name, "split": split}
    _check_target(folder, pathlib.Path(source), state)
    with console.status(f"Looking through {source}"):
        download = Download(source)
        found = find(download, recipe.layout)
    items, rejected = _distinct(found.items, [*download.rejected, *found.rejected])
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / STATE, json.dumps(state | {"complete": False}, indent=2) + "\n")
    _remove_leftovers(folder / IMAGES)
    with console.status(f"Laying out {len(items)} images"):
        damaged = _deliver(download, items, folder)
    rejected += [(member.path, reason) for member, reason in damaged.items()]
    items = [item for item in items if item.member not in damaged]
    _check_classes(items, recipe, rejected)
    _check_nothing_else(folder, items)
    index = _index(items, recipe, split)
    os.sync()  # Once, not for each image; the index comes after them.
    _write(folder / REJECTED, pd.DataFrame(rejected, columns=["file", "reason"]).to_csv(index=False))
    _write(folder / INDEX, index.to_csv(index=False))
    counts = {"images": len(index), "rejected": len(rejected), "hidden": download.hidden}
    _write(folder / STATE, json.dumps(state | {"complete": True} | counts, indent=2) + "\n")
    _say(console, recipe, folder, index, rejected, found.notes, download.hidden)
    return index


def _check_target(folder: pathlib.Path, source: pathlib.Path, state: dict[str, Any]) -> None:
    if folder.resolve().is_relative_to(source.resolve()):
        raise InputError(f"What is prepared lies outside of the download. Received: {folder} in {source}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`to` is a folder. Received: the file {folder}")
    earlier = read_state(folder)
    if earlier is None and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"The folder to prepare is empty or was prepared before. Received: {folder} with other files")
    for name, value in state.items():
        if earlier is not None and earlier.get(name) != value:
            raise InputError(
                f"A folder is prepared for one recipe and split. Received: {name}={value!r}, but {folder} holds "
                f"{earlier.get(name)!r}"
            )


def _target(item: Item) -> str:
    return f"{IMAGES}/{item.label or item.folder}/{item.member.name}"


def _distinct(items: Sequence[Item], rejected: list[tuple[str, str]]) -> tuple[list[Item], list[tuple[str, str]]]:
    """Returns the images of which each has a place of its own, on file systems without letter case too."""
    taken: dict[str, Item] = {}
    for item in items:
        first = taken.setdefault(_target(item).casefold(), item)
        if first is not item:
            rejected.append((item.member.path, f"has the name of {first.member.path}, of the same class"))
    return list(taken.values()), rejected


def _remove_leftovers(images: pathlib.Path) -> None:
    """Removes what a kill left half-written."""
    for path in images.rglob(".*.half"):
        path.unlink()


def _deliver(download: Download, items: Sequence[Item], folder: pathlib.Path) -> dict[Member, str]:
    """Brings every image to its place, unless it is there, and returns why others are none."""
    damaged, of_member = {}, {item.member: item for item in items}
    for member, open_member, own in download.each(of_member):
        target = folder / _target(of_member[member])
        if target.is_file() and target.stat().st_size == member.size:
            continue
        data, reason = _read(open_member, member, download)
        if reason:
            damaged[member] = reason
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f".{uuid.uuid4().hex}.half")
        _link_or_write(own, data, half)
        os.replace(half, target)
    return damaged


def _read(open_member: Callable[[], IO[bytes]], member: Member, download: Download) -> tuple[bytes, str | None]:
    """Returns the bytes of an image, and why they are none."""
    if member.size > MAX_IMAGE:
        return b"", f"{member.size} bytes are too many for an image"
    archive = download.path_of(member)
    try:
        with open_member() as file:
            data = file.read(member.size + 1)
    except READ_ERRORS as error:
        if archive.suffix.lower() == ".zip":  # Of a zip, the other files may be sound.
            return b"", f"damaged in {archive.name} ({error})"
        raise InputError(f"Cannot read {archive}: damaged ({error})") from error
    return data, defect(data) if len(data) == member.size else f"{len(data)} of {member.size} bytes"


def _link_or_write(own: str | None, data: bytes, path: pathlib.Path) -> None:
    if own is not None:
        try:
            os.link(own, path)
            return
        except OSError:  # Another file system, or one without hard links.
            pass
    with open(path, "wb") as file:
        shutil.copyfileobj(io.BytesIO(data), file)


def _check_classes(items: Sequence[Item], recipe: Recipe, rejected: list[tuple[str, str]]) -> None:
    classes = recipe.layout["classes"]
    names = classes.values() if isinstance(classes, dict) else classes
    present = {item.label for item in items} | {name for item in items for name, v in item.labels.items() if v == "1"}
    absent = [name for name in names if name not in present]
    if absent:
        example = next((f"; {file}: {reason}" for file, reason in rejected), "")
        raise InputError(f"Every class has images. Received: none of {', '.join(absent)}{example}")


def _check_nothing_else(folder: pathlib.Path, items: Sequence[Item]) -> None:
    wanted = {_target(item) for item in items}
    for path in sorted((folder / IMAGES).rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
            raise InputError(f"The folder holds the images of this download alone. Received: {path}")


def _index(items: Sequence[Item], recipe: Recipe, split: str) -> pd.DataFrame:
    columns: dict[str, list[str]] = {"path": [_target(item) for item in items]}
    if any(item.label for item in items):
        columns["label"] = [item.label for item in items]
    columns |= {name: [item.labels[name] for item in items] for name in items[0].labels}
    if any(item.group for item in items):
        # What is in no group stands alone.
        columns["patient"] = [item.group or _target(item) for item in items]
    if split == PUBLISHED and recipe.published_shares:
        columns["split"] = published_split(columns["label"], **recipe.published_shares)
    elif any(item.split for item in items):
        columns["split"] = [item.split for item in items]
    for name in dict.fromkeys(name for item in items for name in item.metadata):
        columns[name] = [item.metadata.get(name, "") for item in items]
    return pd.DataFrame(columns)


def _by_label(index: pd.DataFrame, recipe: Recipe) -> list[tuple[str, pd.DataFrame]]:
    """Returns the rows of each class, or those that have each of several labels."""
    if "label" in index:
        return list(index.groupby("label", sort=True))
    return [(name, index[index[name] == "1"]) for name in recipe.layout["classes"]]


def _write(path: pathlib.Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _say(
    console: Console,
    recipe: Recipe,
    folder: pathlib.Path,
    index: pd.DataFrame,
    rejected: list[tuple[str, str]],
    notes: Sequence[str],
    hidden: int,
) -> None:
    splits = [name for name in ("train", "val", "test") if "split" in index and (index["split"] == name).any()]
    table = Table("class", *splits, "all", title=f"{recipe.name}, {len(index)} images", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, rows in _by_label(index, recipe):
        table.add_row(label, *(str((rows["split"] == name).sum()) for name in splits), str(len(rows)))
    console.print(table)
    plain = {"markup": False, "highlight": False, "soft_wrap": True}
    if "patient" in index:
        console.print(f"{index['patient'].nunique()} groups that no split parts", **plain)
    for note in notes:
        console.print(note, style="yellow", **plain)
    if rejected:
        console.print(f"{len(rejected)} files and rows left out: {folder / REJECTED}", style="yellow", **plain)
    if hidden:
        console.print(f"{hidden} hidden files passed over", **plain)
    console.print(f"medkeras train --recipe {recipe.name} --data {folder} --run RUN", **plain)
