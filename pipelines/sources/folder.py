"""The folder source: one folder per class, with or without train, val and test above."""

import dataclasses
import os
from typing import Any

from pipelines.images.decode import MAX_PIXELS
from pipelines.images.names import IMAGE_SUFFIXES, is_image
from pipelines.images.records import Records
from pipelines.sources.class_folders import class_folders, folder_records, masks_beside
from pipelines.sources.images import files_below
from pipelines.sources.options import MaskedFolderOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(MaskedFolderOptions):
    """What a folder of images takes.

    Attributes:
        max_pixels: Height times width up to which an image is decoded, see `pipelines.images.decode.read_image`.
    """

    max_pixels: int = MAX_PIXELS


def open_folder(folder: str, **options: Any) -> Records:
    """Opens a folder of class folders of PNG, JPEG, BMP, GIF, TIFF or WebP files.

    Class names are the sorted folder names, the id of an image is its path below `folder`. A class folder may
    hold further folders; hidden files are left out.

    Args:
        folder: `<class>/...` or `<split>/<class>/...`, split one of train, val, valid, validation, test.
        **options: Those of `Options`.

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
    given = Options(**options)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"No such folder: {folder}")
    found = class_folders(
        folder, files_below(folder), is_image=is_image, kinds=", ".join(IMAGE_SUFFIXES), on_error=given.on_error
    )
    return folder_records(
        folder,
        found,
        given,
        mask_of=given.masks and masks_beside(given.masks, found.files, is_image=is_image, on_error=given.on_error),
        max_pixels=given.max_pixels,
    )
