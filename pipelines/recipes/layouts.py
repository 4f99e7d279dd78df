"""From the files of a download to labelled images, by the official layouts."""

import collections
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from medkeras.errors import InputError
from pipelines.images.names import is_image
from pipelines.recipes.download import Download, Member
from pipelines.recipes.folder_layouts import class_folders, in_folder, split_folders
from pipelines.recipes.found import Found, Item, Rejected, matching, only_table, other_files, read_table
from pipelines.recipes.label_table import label_table


@dataclasses.dataclass(frozen=True)
class Row:
    """What a table says of an image: its name, why it is not taken or `""`, and what an `Item` holds."""

    name: str
    wrong: str
    label: str
    group: str = ""
    split: str = ""
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find(download: Download, layout: Mapping[str, Any]) -> Found:
    """Finds the labelled images of a download; every other file is rejected with a reason.

    Args:
        download: What was downloaded.
        layout: That of a recipe: `kind`, one of `LAYOUTS`, and the options of the function of this name.

    Raises:
        ValueError: If the download is not laid out like this.
    """
    options = {name: value for name, value in layout.items() if name != "kind"}
    return LAYOUTS[layout["kind"]](download, **options)


def table(
    download: Download,
    *,
    table: str,
    image_column: str,
    label_column: str,
    classes: Sequence[str],
    folder: str | None = None,
    keep: Mapping[str, Sequence[str]] | None = None,
    metadata: Sequence[str] = (),
    pairs: str | None = None,
) -> Found:
    """A CSV with one row per image, and the images in one folder.

    Args:
        download: What was downloaded.
        table: Pattern of the CSV's name.
        image_column: Names of the images, with or without a suffix.
        label_column: Classes.
        classes: All classes; an image of another is rejected.
        folder: The folder of the images, in any letter case; None takes them wherever they are.
        keep: Columns and the values that an image must have there.
        metadata: Columns that are kept.
        pairs: Pattern of a CSV in which a row names the images of one examination, where the download has it.
    """
    member, rows = only_table(download, table, (image_column, label_column, *metadata, *(keep or {})))
    groups, notes, used = {}, [], {member}
    if pairs is not None:
        groups, found = _pairs(download, pairs)
        used |= found
        if not found:
            notes.append(
                f"No {pairs} says which images are of one examination: every image counts as a patient of its own."
            )
    rejected: Rejected = []
    labelled: dict[str, Row] = {}
    for row in rows.to_dict("records"):
        name, label = row[image_column], _whole(row[label_column])
        unfit = [key for key, good in (keep or {}).items() if row[key] not in good]
        wrong = f"{unfit[0]} is {row[unfit[0]] or 'blank'}" if unfit else ""
        if not wrong and label not in classes:
            wrong = f"{label_column} is {label or 'blank'}, not one of {', '.join(classes)}"
        kept = {key: row[key] for key in metadata}
        _enter(labelled, rejected, Row(name, wrong, label, groups.get(_stem(name), ""), "", kept), member.path)
    return _joined(download, labelled, rejected, notes, used, where=in_folder(folder), table=member.path)


def one_hot(
    download: Download,
    *,
    table: str,
    image_column: str,
    classes: Sequence[str],
    folder: str | None = None,
    groups: str | None = None,
    group_column: str | None = None,
    metadata: Sequence[str] = (),
) -> Found:
    """A CSV with one column per class, 1 in that of the image's; another CSV may say what images belong together.

    Args:
        download: What was downloaded.
        table: Pattern of the CSV's name.
        image_column: Names of the images, in both tables.
        classes: Columns.
        folder: As for `table`.
        groups: Pattern of the name of the second CSV.
        group_column: Its column of groups.
        metadata: Columns of the second CSV that are kept.
    """
    member, rows = only_table(download, table, (image_column, *classes))
    used, notes, group_of, more = {member}, [], {}, {}
    if groups is not None:
        if matching(download, groups):
            table_of_groups, grouped = only_table(download, groups, (image_column, group_column, *metadata))
            used.add(table_of_groups)
            group_of = {_stem(row[image_column]): row[group_column] for row in grouped.to_dict("records")}
            more = {_stem(r[image_column]): {m: r[m] for m in metadata} for r in grouped.to_dict("records")}
        else:
            notes.append(f"No {groups} says which images belong together: every image counts as a patient of its own.")
    rejected: Rejected = []
    labelled: dict[str, Row] = {}
    for row in rows.to_dict("records"):
        name = row[image_column]
        marked = [label for label in classes if _is_one(row[label])]
        wrong = "" if len(marked) == 1 else f"it has {len(marked)} classes, not one"
        label = marked[0] if marked else ""
        key = _stem(name)
        found = Row(name, wrong, label, group_of.get(key, ""), "", more.get(key, {}))
        _enter(labelled, rejected, found, member.path)
    return _joined(download, labelled, rejected, notes, used, where=in_folder(folder), table=member.path)


def lists(
    download: Download,
    *,
    lists: Mapping[str, str],
    classes: Sequence[str],
    folder: str | None = None,
    drop: Mapping[str, str] | None = None,
) -> Found:
    """One text file per split with a line `name label` per image; the images in folders of the lists' names.

    Args:
        download: What was downloaded.
        lists: File names and the splits that they are.
        classes: All classes.
        folder: The folder of the lists, to be told from others of the same names.
        drop: Classes that are left out, with the reason.
    """
    used, rejected, items = set(), [], []
    taken: set[Member] = set()
    for name, split in lists.items():
        listed = [m for m in matching(download, name) if folder is None or m.folders[-1:] == (folder,)]
        listed = listed or [m for m in matching(download, name) if len(m.folders) == 0]
        if len(listed) != 1:
            place = f"{folder}/{name}" if folder else name
            raise InputError(f"The download holds one {place}. Received: {download.path} with {len(listed)}")
        used.add(listed[0])
        beside = (*listed[0].folders, os.path.splitext(name)[0])
        labelled: dict[str, Row] = {}
        for number, line in enumerate(download.text(listed[0]).splitlines(), 1):
            words = line.split()
            if not words:
                continue
            if len(words) != 2:
                rejected.append((line.strip(), f"line {number} of {listed[0].path} is no name and label"))
                continue
            label = _whole(words[1])
            wrong = (drop or {}).get(label, "")
            if not wrong and label not in classes:
                wrong = f"its label is {label}, not one of {', '.join(classes)}"
            _enter(labelled, rejected, Row(words[0], wrong, label, split=split), listed[0].path)
        part = _joined(
            download,
            labelled,
            [],
            [],
            used,
            where=lambda member, folders=beside: member.folders == folders,
            table=listed[0].path,
            others=False,
        )
        items += part.items
        rejected += part.rejected
        taken |= {item.member for item in part.items} | {m for m in download.members if m.folders == beside}
    if not items:
        raise InputError(f"No image that the lists name is in the download. Received: {download.path}")
    return Found(items, rejected + other_files(download, used | taken), [])


LAYOUTS: dict[str, Callable[..., Found]] = {
    "table": table,
    "one-hot": one_hot,
    "lists": lists,
    "class-folders": class_folders,
    "split-folders": split_folders,
    "label-table": label_table,
}


def check_layout(layout: Mapping[str, Any], place: str | os.PathLike) -> None:
    """Checks that a layout has a kind and that kind's options.

    Raises:
        ValueError: Naming what is wrong.

    Example:
        >>> check_layout({"kind": "class-folders", "classes": {"ILL": "ill"}}, "a.yaml")
    """
    import inspect

    if layout.get("kind") not in LAYOUTS:
        raise InputError(
            f"The kind of a layout is one of {', '.join(LAYOUTS)}. Received: {layout.get('kind')!r} in {place}"
        )
    parameters = list(inspect.signature(LAYOUTS[layout["kind"]]).parameters.values())[1:]
    known = {parameter.name: parameter.default is parameter.empty for parameter in parameters}
    for name in layout:
        if name not in (*known, "kind"):
            raise InputError(f"An option of this layout is one of {', '.join(known)}. Received: {name!r} in {place}")
    for name, is_needed in known.items():
        if is_needed and name not in layout:
            raise InputError(f"This layout needs the option {name}. Received: {place} without")


def _stem(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2]
    stem, suffix = os.path.splitext(base)
    return (stem if is_image(suffix) or is_image(base) else base).casefold()


def _whole(label: str) -> str:
    """Returns `2` for `2.0`, as tables write whole numbers where some are missing."""
    return label[:-2] if re.fullmatch(r"\d+\.0", label) else label


def _is_one(value: str) -> bool:
    try:
        return float(value) == 1
    except ValueError:
        return False


def _pairs(download: Download, pattern: str) -> tuple[dict[str, str], set[Member]]:
    """Returns the examination of each image that a table of pairs names, its header perhaps the first pair."""
    stems = {member.stem for member in download.members if is_image(member.name)}
    groups: dict[str, str] = {}
    members = matching(download, pattern)
    for member in members:
        table = read_table(download, member)
        for row in [tuple(table.columns), *table.itertuples(index=False)]:
            images = [_stem(value) for value in row if _stem(value) in stems]
            # Examinations that share an image are one.
            joined = {groups[image] for image in images if image in groups}
            together = {image for image, group in groups.items() if group in joined} | set(images)
            groups |= dict.fromkeys(together, min(joined, default=images[0] if images else ""))
    return groups, set(members)


def _enter(labelled: dict[str, Row], rejected: Rejected, row: Row, place: str) -> None:
    """Takes a row of a table: an image of two rows with one label stands once, with two labels not at all."""
    key = _stem(row.name)
    if not key:
        rejected.append((place, "a row without the name of an image"))
    elif key not in labelled:
        labelled[key] = row
    elif (labelled[key].label, labelled[key].wrong) != (row.label, row.wrong):
        wrong = f"two rows of {place} contradict each other"
        labelled[key] = dataclasses.replace(labelled[key], wrong=wrong)
    else:
        rejected.append((row.name, f"named twice in {place}; it is taken once"))


def _joined(
    download: Download,
    labelled: Mapping[str, Row],
    rejected: Rejected,
    notes: list[str],
    used: Iterable[Member],
    *,
    where: Callable[[Member], bool],
    table: str,
    others: bool = True,
) -> Found:
    """Puts the images of a download and the rows of its table together."""
    of_stem: dict[str, list[Member]] = collections.defaultdict(list)
    for member in download.members:
        if is_image(member.name) and where(member):
            of_stem[member.stem].append(member)
    items, seen = [], set()
    for key, row in labelled.items():
        members = of_stem.get(key, [])
        seen |= set(members)
        if not members:
            rejected.append((row.name, row.wrong or f"named in {table}, but there is no such image"))
        elif row.wrong or len(members) > 1:
            reason = row.wrong or "more than one image has this name"
            rejected += [(member.path, reason) for member in members]
        else:
            items.append(Item(members[0], row.label, row.group, row.split, row.metadata))
    without = [m for members in of_stem.values() for m in members if m not in seen]
    rejected += [(member.path, f"no label in {table}") for member in without]
    if others:
        rejected += other_files(download, {*used, *seen, *without})
    if not items and others:
        raise InputError(f"No image of {table} is in the download. Received: {download.path}")
    return Found(items, rejected, notes)
