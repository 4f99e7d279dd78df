"""Boxes around lesions in a CSV of their own, one row per box, as masks."""

import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.sources.table.csv_text import find_column, read_csv

FILE_COLUMNS = ("path", "image", "file", "filename", "image_path", "Image Index")
BOX_COLUMNS = ("x", "y", "width", "height")
Size = tuple[int, ...]


def box_masks(csv: str, ids: Sequence[str], columns: Sequence[str] = BOX_COLUMNS) -> Callable[[int, Size], np.ndarray]:
    r"""Returns the rule from an image and its size to the mask of its boxes, for images that a table names.

    A pixel belongs to a box that holds its centre, and each box has a pixel at least. An image without a row has none.
    Rows of other images are passed over.

    Args:
        csv: The file: a column of image files, named as in the table or without their folders, and four of numbers.
        ids: The images of the table.
        columns: Of the left edge, the upper edge, the width and the height, in pixels of the stored image; the edges
            of the image are 0 and its size.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no CSV, a column is missing, a value is no box, or no row is of an image of the table; when
            a mask is asked for, if a box leaves its image.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "boxes.csv"
        >>> _ = path.write_text("file,x,y,width,height\na.png,0,1,2,1\n")
        >>> box_masks(str(path), ["a.png", "b.png"])(0, (2, 3)).astype(int).tolist()
        [[0, 0, 0], [1, 1, 0]]
    """
    table = read_csv(csv)
    if len(columns) != len(BOX_COLUMNS):
        raise InputError(f"`box_columns` are those of {', '.join(BOX_COLUMNS)}. Received: {', '.join(columns)}")
    names = [find_column(table, csv, name, usual=(), option="box_columns") for name in columns]
    files = table[find_column(table, csv, None, usual=FILE_COLUMNS, option="path")]
    called = list(ids) if files.isin(set(ids)).any() else [os.path.basename(name) for name in ids]
    known = files.isin(set(called))
    if not known.any() or len(set(called)) < len(called):
        raise InputError(
            f"Boxes must be of images of the table, each of a name of its own. Received: {csv}, first {files.iloc[0]}"
        )
    values = table.loc[known, names].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    rows: dict[str, list[tuple[int, np.ndarray]]] = {}
    for row, file, box in zip(table.index[known], files[known], values, strict=True):
        if not np.isfinite(box).all() or min(box[2:]) <= 0 or min(box[:2]) < 0:
            raise InputError(f"A box has four numbers, and a size. Received: row {row} of {csv}")
        rows.setdefault(file, []).append((row, box))

    def mask(index: int, size: Size) -> np.ndarray:
        found = np.zeros(size, bool)
        for row, (left, top, width, height) in rows.get(called[index], ()):
            # Half a pixel for those who count the last one in.
            if left + width > size[1] + 0.5 or top + height > size[0] + 0.5:
                raise InputError(
                    f"A box lies within its image of {size}. Received: row {row} of {os.path.basename(csv)}"
                )
            found[_pixels(top, height), _pixels(left, width)] = True
        return found

    return mask


def _pixels(start: float, length: float) -> slice:
    """Returns the pixels whose centres lie within an edge of a box; the one at its middle if there is none."""
    first, last = np.ceil(np.array([start, start + length]) - 0.5).astype(int)
    return slice(first, last) if last > first else slice(int(start + length / 2), int(start + length / 2) + 1)
