"""Class folders: the class, the split, the patient and the mask of every file, from its path."""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.tasks import default_task
from pipelines.images.names import stem_of
from pipelines.images.records import Records
from pipelines.sources.images import PathOf, file_records, files_below
from pipelines.sources.options import FolderOptions

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


def folder_records(folder: str, found: ClassFolders, options: FolderOptions, **reading: Any) -> Records:
    """Returns the records of class folders, read as images.

    Args:
        folder: The folder.
        found: What `class_folders` found in it.
        options: The task and the pattern of patients.
        **reading: As for `pipelines.sources.images.file_records`.

    Raises:
        ValueError: As by `patients_in`.
    """
    patients = patients_in(found.files, options.patient_pattern)
    return file_records(
        name=os.path.basename(os.path.abspath(folder)),
        task=options.task or default_task(len(found.class_names)),
        class_names=found.class_names,
        table=pd.DataFrame({"id": found.files, "patient": patients, "split": found.splits}),
        labels=found.labels,
        path_of=[os.path.join(folder, path) for path in found.files].__getitem__,
        **reading,
    )


def masks_beside(
    masks: str, files: Sequence[str], *, is_image: Callable[[str], bool], on_error: str, what: str = "image"
) -> PathOf:
    """Returns the rule from record index to the mask of the same name, whatever its suffix.

    Args:
        masks: A folder of the same layout.
        files: Paths of the images below theirs.
        is_image: Says whether a path is a mask.
        on_error: `"raise"` refuses an image without a mask.
        what: What an image is called, for the error.

    Raises:
        FileNotFoundError: If the folder or, with `"raise"`, a mask is missing.
    """
    if not os.path.isdir(masks):
        raise FileNotFoundError(f"No such folder of masks: {masks}")
    found = {stem_of(path): path for path in files_below(masks) if is_image(path)}
    missing = next((path for path in files if stem_of(path) not in found), None)
    if missing and on_error == "raise":
        raise FileNotFoundError(f"Every {what} needs a mask of its name in {masks}. Received: {missing} without")
    return lambda i: os.path.join(masks, found.get(stem_of(files[i]), files[i]))
