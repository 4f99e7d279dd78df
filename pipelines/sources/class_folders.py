"""Class folders: the class, the split and the patient of every file, from its path."""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence

import numpy as np

from medkeras.errors import InputError

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The files of a folder of class folders.

    Attributes:
        files: Paths below the folder, with `/`.
        splits: `train`, `val`, `test` or `""` per file.
        labels: int32 class index per file.
        class_names: The sorted names of the class folders.
    """

    files: list[str]
    splits: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]


def class_folders(
    folder: str, files: Sequence[str], *, is_image: Callable[[str], bool], kinds: str, on_error: str
) -> ClassFolders:
    """Sorts the files below a folder by class, and by split where there are folders of splits.

    Args:
        folder: `<class>/...` or `<split>/<class>/...`, split one of train, val, valid, validation, test.
        files: Paths below the folder, as `files_below` gives them.
        is_image: Says whether such a path is an image of the kind that is wanted.
        kinds: What that is, for the errors.
        on_error: `"raise"` refuses other files in the class folders, `"skip"` keeps them.

    Raises:
        ValueError: If there are no images, fewer than two classes, a class without images in train, a class
            that train does not have, or a file that is no image or in no class folder.

    Example:
        >>> found = class_folders("x", ["ill/1.png", "well/2.png"], is_image=bool, kinds="PNG", on_error="raise")
        >>> found.class_names, found.labels.tolist()
        (('ill', 'well'), [0, 1])
    """
    files = [path for path in files if _belongs(path, folder, is_image)]
    wrong = next((path for path in files if not is_image(path)), None) if on_error == "raise" else None
    if wrong:
        raise InputError(f"Cannot read {os.path.join(folder, wrong)}: not one of {kinds}")
    if not any(is_image(path) for path in files):
        raise InputError(f"A folder source holds {kinds} files in class folders. Received: {folder}")
    splits, classes = _splits_and_classes(files, folder)
    names = _class_names(splits, classes, folder)
    return ClassFolders(files, splits, np.array([names.index(c) for c in classes], np.int32), tuple(names))


def _belongs(path: str, folder: str, is_image: Callable[[str], bool]) -> bool:
    """Says whether a file is data: a text beside the class folders is not, an image there is an error."""
    parts = path.split("/")
    depth = 2 if parts[0].lower() in SPLIT_NAMES else 1
    if len(parts) > depth:
        return True
    if is_image(path):
        raise InputError(f"An image lies in the folder of its class. Received: {os.path.join(folder, path)}")
    return False


def _splits_and_classes(files: list[str], folder: str) -> tuple[list[str], list[str]]:
    """Returns the split, `""` if none is given, and the class of every file."""
    tops = {path.split("/")[0] for path in files}
    named = {top for top in tops if top.lower() in SPLIT_NAMES}
    if not named:
        return [""] * len(files), [path.split("/")[0] for path in files]
    if named != tops:
        raise InputError(
            f"Beside {sorted(named)} there are only splits. Received: {folder} with {sorted(tops - named)}"
        )
    parts = [path.split("/") for path in files]
    return [SPLIT_NAMES[p[0].lower()] for p in parts], [p[1] for p in parts]


def _class_names(split: list[str], label: list[str], folder: str) -> list[str]:
    names = sorted({c for s, c in zip(split, label, strict=True) if s in ("", "train")})
    others = sorted(set(label) - set(names))
    if not names:
        raise InputError(f"A folder of splits has a train folder with images. Received: {folder}")
    if others:
        raise InputError(
            f"Every class of val and test is in train, which has {names}. Received: {folder} with {others}"
        )
    if len(names) < 2:
        raise InputError(f"A folder source needs at least two classes with images. Received: {folder} with {names}")
    return names


def patients_in(files: Sequence[str], pattern: str | None) -> list[str]:
    """Returns what the group of a regular expression matches in every path, or the paths if there is none.

    Raises:
        ValueError: If the expression is none, has not one group, or does not match a path.

    Example:
        >>> patients_in(["ill/p1_a.png", "well/p2_a.png"], "(p[0-9]+)_")
        ['p1', 'p2']
    """
    if pattern is None:
        return list(files)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"`patient_pattern` is no regular expression ({error}). Received: {pattern!r}") from error
    if compiled.groups != 1:
        raise InputError(f"`patient_pattern` must have one group. Received: patient_pattern={pattern!r}")
    found = [compiled.search(path) for path in files]
    for path, match in zip(files, found, strict=True):
        if match is None or not match.group(1):
            raise InputError(f"`patient_pattern` must match every path. Received: {pattern!r} for {path}")
    return [match.group(1) for match in found]
