"""The folder source: one folder per class, with or without train, val and test above."""

import os
from collections.abc import Callable

import pandas as pd

from medkeras.tasks import default_task
from pipelines.images.decode import MAX_PIXELS
from pipelines.images.records import Records
from pipelines.sources.class_folders import class_folders, patients_in
from pipelines.sources.images import IMAGE_SUFFIXES, file_records, files_below, is_image


def open_folder(
    folder: str,
    *,
    task: str | None = None,
    patient_pattern: str | None = None,
    masks: str | None = None,
    max_pixels: int = MAX_PIXELS,
    on_error: str = "raise",
) -> Records:
    """Opens a folder of class folders of PNG, JPEG, BMP, GIF, TIFF or WebP files.

    Class names are the sorted folder names, the id of an image is its path below `folder`. A class folder may
    hold further folders; hidden files are left out.

    Args:
        folder: `<class>/...` or `<split>/<class>/...`, split one of train, val, valid, validation, test.
        task: One of `medkeras.tasks.TASKS`; by default the single-label task that fits the number of classes.
        patient_pattern: Regular expression with one group, searched in the path below `folder`; what the
            group matches is the patient. By default every image is a patient of its own.
        masks: Folder of lesion masks with the same layout and names; the suffix may be another. Every pixel
            that is not 0 belongs to the lesion.
        max_pixels: Height times width up to which an image is decoded, see `pipelines.images.decode.read_image`.
        on_error: `"raise"` refuses files of other types and missing masks; `"skip"` keeps such a file as a
            record, so that `pipelines.images.decode.find_unreadable` reports it.

    Raises:
        FileNotFoundError: If `folder` or `masks` does not exist, or a mask is missing.
        ValueError: If there are no images, fewer than two classes, a class without images in train, a class
            that train does not have, a file that is no image or in no class folder, or a path without a
            patient.

    Example:
        >>> import pathlib, tempfile
        >>> import cv2
        >>> import numpy as np
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
    found = class_folders(
        folder, files_below(folder), is_image=is_image, kinds=", ".join(IMAGE_SUFFIXES), on_error=on_error
    )
    patients = patients_in(found.files, patient_pattern)
    return file_records(
        name=os.path.basename(os.path.abspath(folder)),
        task=task or default_task(len(found.class_names)),
        class_names=found.class_names,
        table=pd.DataFrame({"id": found.files, "patient": patients, "split": found.splits}),
        labels=found.labels,
        path_of=[os.path.join(folder, path) for path in found.files].__getitem__,
        mask_of=masks and _masks(masks, found.files, on_error),
        max_pixels=max_pixels,
    )


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
