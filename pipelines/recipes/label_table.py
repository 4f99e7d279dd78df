"""The layout of a table with several labels per image, and paths that name the patient."""

import os
import re
from collections.abc import Mapping, Sequence

from medkeras.errors import InputError
from pipelines.images.names import is_image
from pipelines.recipes.download import Download
from pipelines.recipes.found import Found, Item, Rejected, only_table, other_files

VALUES = {"": "", "0": "0", "0.0": "0", "1": "1", "1.0": "1", "-1": "-1", "-1.0": "-1"}


def label_table(
    download: Download,
    *,
    table: str,
    path_column: str,
    classes: Sequence[str],
    patient_pattern: str,
    keep: Mapping[str, Sequence[str]] | None = None,
    blank: str = "",
    metadata: Sequence[str] = (),
) -> Found:
    """A CSV with the path of every image and a column for each label: 0, 1, -1 for uncertain, or blank.

    An image and its row are joined by the path from the folder of the patient on, whatever lies above it.

    Args:
        download: What was downloaded.
        table: Pattern of the CSV's name.
        path_column: Paths of the images.
        classes: Columns of the labels.
        patient_pattern: Regular expression of the name of a patient's folder.
        keep: Columns and the values that an image must have there.
        blank: What a blank label counts as: blank, or `0`.
        metadata: Columns that are kept.
    """
    member, rows = only_table(download, table, (path_column, *classes, *metadata, *(keep or {})))
    images = {}
    for image in download.members:
        if is_image(image.name) and (key := _from_patient(image.path, patient_pattern)):
            images.setdefault(key, []).append(image)
    items, rejected, named = [], [], set()
    for row in rows.to_dict("records"):
        path = row[path_column]
        key = _from_patient(path, patient_pattern)
        found = images.get(key, [])
        wrong = _why_not(row, classes, keep or {}, key, found, is_known=key in named, table=member.path)
        named.add(key)
        if wrong:
            rejected.append((found[0].path if found and "twice" not in wrong else path, wrong))
            continue
        labels = {name: VALUES[row[name]] or blank for name in classes}
        folders = key.split("/")[:-1]
        kept = {name: row[name] for name in metadata}
        items.append(Item(found[0], "", folders[0], "", kept, labels, "/".join(folders)))
    if not items:
        raise InputError(f"No image of {member.path} is in the download. Received: {download.path}")
    rejected += _without_row(images, named, member.path)
    known = {member} | {image for found in images.values() for image in found}
    return Found(items, rejected + other_files(download, known), [])


def _why_not(
    row: Mapping[str, str],
    classes: Sequence[str],
    keep: Mapping[str, Sequence[str]],
    key: str,
    found: Sequence[object],
    *,
    is_known: bool,
    table: str,
) -> str:
    """Returns why a row gives no image, or `""`."""
    if not key:
        return "its path names no patient"
    if is_known:
        return f"named twice in {table}; its first row is taken"
    if not found:
        return f"named in {table}, but there is no such image"
    if len(found) > 1:
        return "more than one image has this path"
    unfit = next((name for name, good in keep.items() if row[name] not in good), None)
    if unfit:
        return f"{unfit} is {row[unfit] or 'blank'}"
    odd = next((name for name in classes if row[name] not in VALUES), None)
    return f"{odd} is {row[odd]}, not 0, 1, -1 or blank" if odd else ""


def _without_row(images: Mapping[str, Sequence], named: set[str], table: str) -> Rejected:
    return [(image.path, f"no row in {table}") for key, found in images.items() if key not in named for image in found]


def _from_patient(path: str, pattern: str) -> str:
    """Returns a path from the folder of the patient on, without the suffix; `""` if there is none."""
    parts = path.replace("\\", "/").split("/")
    first = next((i for i, part in enumerate(parts[:-1]) if re.fullmatch(pattern, part)), None)
    return "" if first is None else os.path.splitext("/".join(parts[first:]))[0].casefold()
