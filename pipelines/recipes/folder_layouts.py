"""Layouts of downloads whose folders say the class, and perhaps the split."""

import re
from collections.abc import Callable, Mapping, Sequence

from medkeras.errors import InputError
from pipelines.images.names import is_image
from pipelines.recipes.download import Download, Member
from pipelines.recipes.found import Found, Item


def class_folders(
    download: Download,
    *,
    classes: Mapping[str, str],
    folder: str | None = None,
    group_pattern: str | None = None,
    note: str | None = None,
) -> Found:
    """One folder per class, wherever they are.

    Args:
        download: What was downloaded.
        classes: Names of the folders and the classes that they are.
        folder: The folder of the images within that of a class, in any letter case; None takes all of them.
        group_pattern: Regular expression at the start of a name; what its first group that takes part matches is
            what must not be parted. A name that it does not match stands alone.
        note: What the user should know.
    """
    items, rejected = [], []
    is_in_folder = in_folder(folder)
    for member in sorted(download.members, key=lambda member: member.path):
        label = next((classes[name] for name in reversed(member.folders) if name in classes), None)
        if label is None or not is_image(member.name):
            rejected.append((member.path, "no image in a folder of a class" if label is None else "no image"))
            continue
        if not is_in_folder(member):
            rejected.append((member.path, f"not in the folder {folder} of its class"))
            continue
        group = group_of(group_pattern, member)
        # Bare numbers begin anew in each folder; other names of a source mean the same one everywhere.
        items.append(Item(member, label, f"{label}/{group}" if group.isdigit() else group))
    absent = [name for name in classes if classes[name] not in {item.label for item in items}]
    if absent:
        raise InputError(
            f"The download holds a folder of images for each of {', '.join(classes)}. "
            f"Received: {download.path} without {', '.join(absent)}"
        )
    return Found(items, rejected, [note] if note else [])


def split_folders(
    download: Download,
    *,
    splits: Mapping[str, str],
    classes: Mapping[str, str],
    above: Sequence[str] = (),
    group_pattern: str | None = None,
    numbered_anew: Sequence[str] = (),
    note: str | None = None,
) -> Found:
    """One folder per split, and in it one per class.

    Other images of a patient of the test split are left out.

    Args:
        download: What was downloaded.
        splits: Names of the folders and the splits that they are.
        classes: Names of the folders in each and the classes that they are.
        above: What the folder of the splits may be called, in any letter case; it may also be the top one.
        group_pattern: As for `class_folders`.
        numbered_anew: Splits in which the same group is another patient.
        note: What the user should know.
    """
    items, rejected = [], []
    for member in sorted(download.members, key=lambda member: member.path):
        higher, split, label = ("", "", "", *member.folders)[-3:]
        if split not in splits or label not in classes or not is_image(member.name):
            rejected.append((member.path, "no image in a folder of a split and a class"))
        elif above and higher and higher.strip().casefold() not in {name.casefold() for name in above}:
            rejected.append((member.path, f"not of {' or '.join(above)}"))
        else:
            group = group_of(group_pattern, member)
            anew = f"{splits[split]}/" if group and splits[split] in numbered_anew else ""
            items.append(Item(member, classes[label], anew + group, splits[split]))
    found = {(item.split, item.label) for item in items}
    needed = list(dict.fromkeys(splits.values()))
    absent = [f"{split}/{name}" for split in needed for name in classes if (split, classes[name]) not in found]
    if absent:
        raise InputError(
            f"The download holds a folder of images for each of {', '.join(classes)} in {' and '.join(needed)}. "
            f"Received: {download.path} without {', '.join(absent)}"
        )
    tested = {item.group for item in items if item.group and item.split == "test"}
    kept = [item for item in items if item.split == "test" or item.group not in tested]
    left = {item.member for item in items} - {item.member for item in kept}
    rejected += [(member.path, "its patient is in the test split") for member in sorted(left, key=lambda m: m.path)]
    return Found(kept, rejected, [note] if note else [])


def in_folder(folder: str | None) -> Callable[[Member], bool]:
    """Returns the rule that says whether a file lies in a folder of this name, in any letter case; None takes all."""
    if folder is None:
        return lambda member: True
    wanted = folder.casefold()
    return lambda member: any(name.casefold() == wanted for name in member.folders[-1:])


def group_of(pattern: str | None, member: Member) -> str:
    """Returns the first group of a pattern that takes part at the start of a file's name, else `""`."""
    match = re.match(pattern, member.name) if pattern else None
    return next((part for part in match.groups() if part), "") if match else ""
