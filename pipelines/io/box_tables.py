"""Tables of places in an image: the columns per axis, boxes in pixels of the stored image, and file names."""

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from medkeras.explain import Regions

AXES = {2: ("row", "column"), 3: ("depth", "row", "column")}


def box_columns(rank: int) -> list[str]:
    """Returns the columns of a table of boxes.

    Example:
        >>> box_columns(2)
        ['file', 'map', 'box', 'score', 'row_from', 'row_to', 'column_from', 'column_to']
    """
    return ["file", "map", "box", "score", *(f"{axis}_{end}" for axis in AXES[rank] for end in ("from", "to"))]


def box_rows(name: str, found: Regions, stored: Sequence[int]) -> list[dict[str, str | int | float]]:
    """Returns the boxes of one image, from the model's pixels to those of the stored image.

    Args:
        name: The image's.
        found: Regions of this image alone.
        stored: Pixels per axis of the stored image.

    Example:
        >>> from medkeras.explain import mark_regions
        >>> found = mark_regions([[[0.0, 0.2, 1.0]]], point="attention", threshold=0.5)
        >>> list(box_rows("a.png", found, (2, 6))[0].values())
        ['a.png', 'attention', 1, 1.0, -0.5, 1.5, 3.5, 5.5]
    """
    edges = np.round(found.edges(0, stored), 2).reshape(-1, 2 * len(stored)).tolist()
    scored = enumerate(zip(found.scores[0].tolist(), edges, strict=True), start=1)
    columns = box_columns(len(stored))
    return [
        dict(zip(columns, [name, found.point, k, round(score, 4), *row], strict=True)) for k, (score, row) in scored
    ]


def file_name(name: str) -> str:
    """Returns the last part of a record's id, fit for a file name.

    Example:
        >>> file_name("scans/left eye.png")
        'left_eye'
    """
    stem = re.sub(r"\.(png|jpe?g|bmp|tiff?)$", "", pathlib.Path(name).name, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "_", stem)[:80]
