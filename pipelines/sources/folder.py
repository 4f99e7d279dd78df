"""The folder source: one folder per class, with or without train, val and test above."""

import os
import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from medkeras.tasks import default_task
from pipelines.records import Records
from pipelines.sources.images import IMAGE_SUFFIXES, file_records, files_below, is_image

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def open_folder(
    folder: str,
    *,
    task: str | None = None,
    patient_pattern: str | None = None,
    masks: str | None = None,
    on_error: str = "raise",
) -> Records:
    """Opens a folder of class folders of PNG, JPEG, BMP or TIFF files.

    Class names are the sorted folder names, the id of an image is its path below `folder`. A class folder may
    hold further folders; hidden files are left out.

    Args:
        folder: `<class>/...` or `<split>/<class>/...`, split one of train, val, valid, validation, test.
        task: One of `medkeras.tasks.TASKS`; by default the single-label task that fits the number of classes.
        patient_pattern: Regular expression with one group, searched in the path below `folder`; what the
            group matches is the patient. By default every image is a patient of its own.
        masks: Folder of lesion masks with the same layout and names; the suffix may be another. Every pixel
            that is not 0 belongs to the lesion.
        on_error: `"raise"` refuses files of other types and missing masks; `"skip"` keeps such a file as a
            record, so that `pipelines.decode.find_unreadable` reports it.

    Raises:
        FileNotFoundError: If `folder` or `masks` does not exist, or a mask is missing.
        ValueError: If there are no images, fewer than two classes, a class without images in train, a class
            that train does not have, a file that is no image or in no class folder, or a path without a
            patient.

    Example:
        >>> import pathlib, tempfile
        >>> import cv2
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("ill/p1_a.png", "ill/p1_b.png", "well/p2_a.png"):
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     _ = cv2.imwrite(str(root / name), np.zeros((8, 8), np.uint8))
        >>> records = open_folder(str(root), patient_pattern="(p[0-9]+)_")
        >>> records.class_names, records.labels.tolist(), records.table["patient"].tolist()
        (('ill', 'well'), [0, 0, 1], ['p1', 'p1', 'p2'])
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"No such folder: {folder}")
    files = [path for path in files_below(folder) if _belongs(path, folder)]
    if on_error == "raise":
        _check_types(files, folder)
    if not any(is_image(path) for path in files):
        raise ValueError(
            f"A folder source holds {', '.join(IMAGE_SUFFIXES)} files in class folders. Received: {folder}"
        )
    split, label = _splits_and_classes(files, folder)
    names = _class_names(split, label, folder)
    return file_records(
        name=os.path.basename(os.path.abspath(folder)),
        task=task or default_task(len(names)),
        class_names=names,
        table=pd.DataFrame({"id": files, "patient": _patients(files, patient_pattern), "split": split}),
        labels=np.array([names.index(c) for c in label], np.int32),
        paths=[os.path.join(folder, path) for path in files],
        mask_of=masks and _masks(masks, files, on_error),
    )


def _belongs(path: str, folder: str) -> bool:
    """Says whether a file is data: a text beside the class folders is not, an image there is an error."""
    parts = path.split("/")
    depth = 2 if parts[0].lower() in SPLIT_NAMES else 1
    if len(parts) > depth:
        return True
    if is_image(path):
        raise ValueError(f"An image lies in the folder of its class. Received: {os.path.join(folder, path)}")
    return False


def _check_types(files: list[str], folder: str) -> None:
    for path in files:
        if not is_image(path):
            raise ValueError(f"Cannot read {os.path.join(folder, path)}: not one of {', '.join(IMAGE_SUFFIXES)}")


def _splits_and_classes(files: list[str], folder: str) -> tuple[list[str], list[str]]:
    """Returns the split, `""` if none is given, and the class of every file."""
    tops = {path.split("/")[0] for path in files}
    named = {top for top in tops if top.lower() in SPLIT_NAMES}
    if not named:
        return [""] * len(files), [path.split("/")[0] for path in files]
    if named != tops:
        raise ValueError(
            f"Beside {sorted(named)} there are only splits. Received: {folder} with {sorted(tops - named)}"
        )
    parts = [path.split("/") for path in files]
    return [SPLIT_NAMES[p[0].lower()] for p in parts], [p[1] for p in parts]


def _class_names(split: list[str], label: list[str], folder: str) -> list[str]:
    names = sorted({c for s, c in zip(split, label, strict=True) if s in ("", "train")})
    others = sorted(set(label) - set(names))
    if not names:
        raise ValueError(f"A folder of splits has a train folder with images. Received: {folder}")
    if others:
        raise ValueError(
            f"Every class of val and test is in train, which has {names}. Received: {folder} with {others}"
        )
    if len(names) < 2:
        raise ValueError(f"A folder source needs at least two classes with images. Received: {folder} with {names}")
    return names


def _patients(files: list[str], pattern: str | None) -> list[str]:
    if pattern is None:
        return files
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"`patient_pattern` is no regular expression ({error}). Received: {pattern!r}") from error
    if compiled.groups != 1:
        raise ValueError(f"`patient_pattern` must have one group. Received: patient_pattern={pattern!r}")
    found = [compiled.search(path) for path in files]
    for path, match in zip(files, found, strict=True):
        if match is None or not match.group(1):
            raise ValueError(f"`patient_pattern` must match every path. Received: {pattern!r} for {path}")
    return [match.group(1) for match in found]


def _masks(masks: str, files: list[str], on_error: str) -> Callable[[int], str]:
    """Returns the rule from record index to mask file."""
    if not os.path.isdir(masks):
        raise FileNotFoundError(f"No such folder of masks: {masks}")
    found = {os.path.splitext(path)[0]: path for path in files_below(masks) if is_image(path)}
    wanted = [os.path.splitext(path)[0] for path in files]
    missing = next((path for path, stem in zip(files, wanted, strict=True) if stem not in found), None)
    if missing and on_error == "raise":
        raise FileNotFoundError(f"Every image needs a mask of its name in {masks}. Received: {missing} without")
    return lambda i: os.path.join(masks, found.get(wanted[i], files[i]))
