"""Boxes around lesions, from a CSV, COCO JSON or Pascal VOC XML, as masks."""

import json
import os
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.sources.table.csv_text import find_column, read_csv

FILE_COLUMNS = ("path", "image", "file", "filename", "image_path", "Image Index")
FORMATS = {"xywh": ("x", "y", "width", "height"), "xyxy": ("x0", "y0", "x1", "y1")}
"""By name of a format of boxes in a CSV: its columns."""
VOC_EDGES = ("xmin", "ymin", "xmax", "ymax")
Size = tuple[int, ...]


def box_masks(
    path: str, ids: Sequence[str], *, box_format: str = "xywh", columns: Sequence[str] | None = None
) -> Callable[[int, Size], np.ndarray]:
    r"""Returns the rule from an image and its size to the mask of its boxes, for images that a table names.

    A pixel belongs to a box that holds its centre, and each box has a pixel at least. An image without a row has none.
    Rows of other images are passed over.

    Args:
        path: A CSV: a column of image files, named as in the table or without their folders, and four of numbers. Or
            a `.json` as COCO has it, or a folder of `.xml` as Pascal VOC has them, in which all objects are lesions.
        ids: The images of the table.
        box_format: Of a CSV: `"xywh"`, left and upper edge, width and height; or `"xyxy"`, left, upper, right and
            lower edge. In pixels of the stored image, whose own edges are 0 and its size.
        columns: Of a CSV, in the order of the format; by default those of `FORMATS`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of none of these kinds, a column is missing, a value is no box, or no row is of an
            image of the table; when a mask is asked for, if a box leaves its image.

    Reference:
        Lin et al., Microsoft COCO, arXiv 1405.0312; Everingham et al., The Pascal VOC challenge, IJCV 2010 (its pixels
        count from 1, and its right and lower pixels belong to the box).

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "boxes.csv"
        >>> _ = path.write_text("file,x,y,width,height\na.png,0,1,2,1\n")
        >>> box_masks(str(path), ["a.png", "b.png"])(0, (2, 3)).astype(int).tolist()
        [[0, 0, 0], [1, 1, 0]]
    """
    files, boxes = _read(path, box_format, columns)
    called = list(ids) if files.isin(set(ids)).any() else [os.path.basename(name) for name in ids]
    known = files.isin(set(called)).to_numpy()
    if not known.any() or len(set(called)) < len(called):
        first = files.iloc[0] if len(files) else "none"
        raise InputError(
            f"Boxes must be of images of the table, each of a name of its own. Received: {path}, first {first}"
        )
    rows: dict[str, list[tuple[int, np.ndarray]]] = {}
    for row, file, box in zip(files.index[known], files[known], boxes[known], strict=True):
        if not np.isfinite(box).all() or min(box[2:]) <= 0 or min(box[:2]) < 0:
            raise InputError(f"A box has four numbers, and a size. Received: row {row} of {path}")
        rows.setdefault(file, []).append((row, box))

    def mask(index: int, size: Size) -> np.ndarray:
        found = np.zeros(size, bool)
        for row, (left, top, width, height) in rows.get(called[index], ()):
            # Half a pixel for those who count the last one in.
            if left + width > size[1] + 0.5 or top + height > size[0] + 0.5:
                raise InputError(
                    f"A box lies within its image of {size}. Received: row {row} of {os.path.basename(path)}"
                )
            found[_pixels(top, height), _pixels(left, width)] = True
        return found

    return mask


def _read(path: str, box_format: str, columns: Sequence[str] | None) -> tuple[pd.Series, np.ndarray]:
    """Returns the file of every box, indexed by its row, and `(boxes, 4)` as `xywh`."""
    if os.path.isdir(path):
        read = _from_voc
    elif path.lower().endswith(".json"):
        read = _from_coco
    else:
        return _from_csv(path, box_format, columns)
    try:
        rows = read(path)
        files = pd.Series([os.fspath(file) for file, _ in rows], index=range(1, len(rows) + 1), dtype=object)
        return files, np.array([box for _, box in rows], float).reshape(len(rows), 4)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"No such file: {path}") from error
    except (LookupError, TypeError, ValueError, ElementTree.ParseError) as error:
        raise InputError(f"Cannot read {path}: no boxes as COCO or Pascal VOC have them ({error})") from error


def _from_csv(path: str, box_format: str, columns: Sequence[str] | None) -> tuple[pd.Series, np.ndarray]:
    table = read_csv(path)
    if box_format not in FORMATS:
        raise InputError(f"`box_format` must be one of {', '.join(FORMATS)}. Received: box_format={box_format!r}")
    usual = FORMATS[box_format]
    columns = usual if columns is None else columns
    if len(columns) != len(usual):
        raise InputError(f"`box_columns` are those of {', '.join(usual)}. Received: {', '.join(columns)}")
    names = [find_column(table, path, name, usual=(), option="box_columns") for name in columns]
    boxes = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if box_format == "xyxy":
        boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    return table[find_column(table, path, None, usual=FILE_COLUMNS, option="path")], boxes


def _from_coco(path: str) -> list[tuple[str, Sequence[float]]]:
    with open(path, encoding="utf-8") as file:
        stored = json.load(file)
    names = {image["id"]: image["file_name"] for image in stored["images"]}
    return [(names[found["image_id"]], found["bbox"]) for found in stored["annotations"]]


def _from_voc(folder: str) -> list[tuple[str, Sequence[float]]]:
    rows = []
    for name in sorted(name for name in os.listdir(folder) if name.lower().endswith(".xml")):
        root = ElementTree.parse(os.path.join(folder, name)).getroot()
        for box in root.iterfind("object/bndbox"):
            left, top, right, bottom = (float(box.findtext(edge)) for edge in VOC_EDGES)
            rows.append((root.findtext("filename"), (left - 1, top - 1, right - left + 1, bottom - top + 1)))
    return rows


def _pixels(start: float, length: float) -> slice:
    """Returns the pixels whose centres lie within an edge of a box; the one at its middle if there is none."""
    first, last = np.ceil(np.array([start, start + length]) - 0.5).astype(int)
    return slice(first, last) if last > first else slice(int(start + length / 2), int(start + length / 2) + 1)
