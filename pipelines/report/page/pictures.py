"""The gallery: which images are shown, and each as data that stand in the page."""

import base64
import dataclasses
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.explain.figures.planes import planes_through

GROUPS = {
    "correct": "Decided rightly",
    "wrong": "Decided wrongly",
    "uncertain": "Least sure",
}
LARGEST = 384  # Pixels of an edge in the page.
QUALITY = 88  # Of WebP.
OPACITY = 0.85  # Of a map where it is largest.


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image of the gallery.

    Attributes:
        group: Of `GROUPS`.
        name: Id of the image.
        lines: What is known of it, `(what, value)`.
        image: The image, a data URI.
        overlay: Its map, transparent where it is 0, a data URI; None without a map.
        outline: The lesion's outline as SVG points, one text for each closed line.
        size: Height and width in pixels.
    """

    group: str
    name: str
    lines: tuple[tuple[str, str], ...]
    image: str
    overlay: str | None
    outline: tuple[str, ...]
    size: tuple[int, int]


def choose(
    is_wrong: np.ndarray,
    unsure: np.ndarray,
    classes: np.ndarray,
    *,
    patients: np.ndarray,
    count: int,
    seed: int = 0,
) -> dict[str, list[int]]:
    """Returns the rows to show in each of `GROUPS`, one image of a patient in each.

    Right ones are drawn by chance, class after class; of the wrong ones the surest come first, which are the worst;
    then the least sure of all.

    Args:
        is_wrong: `(n,)`, whether the decision is wrong.
        unsure: `(n,)`, how unsure the model is.
        classes: `(n,)`, what is true of each image.
        patients: `(n,)` patient of each image.
        count: Of each group.
        seed: Of the chance.

    Example:
        >>> choose(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.9, 0.6]), np.array(["a", "a", "b", "b"]),
        ...        patients=np.arange(4), count=2)
        {'correct': [0, 2], 'wrong': [1, 3], 'uncertain': [2, 3]}
    """
    is_wrong = np.asarray(is_wrong, bool)
    drawn = np.random.default_rng(seed).permutation(len(is_wrong))
    right = pd.Series(_one_each(drawn[~is_wrong[drawn]], patients), dtype=int)
    turns = right.groupby(classes[right]).cumcount()
    by_class = pd.DataFrame({"row": right, "turn": turns, "class": classes[right]}).sort_values(["turn", "class"])
    surest = np.argsort(unsure, kind="stable")
    return {
        "correct": by_class["row"].tolist()[:count],
        "wrong": _one_each(surest[is_wrong[surest]], patients)[:count],
        "uncertain": _one_each(np.argsort(-unsure, kind="stable"), patients)[:count],
    }


def _one_each(rows: np.ndarray, patients: np.ndarray) -> list[int]:
    """Returns the first row of each patient."""
    return rows[np.sort(np.unique(patients[rows], return_index=True)[1])].tolist()


def make_picture(
    group: str,
    name: str,
    lines: tuple[tuple[str, str], ...],
    *,
    image: np.ndarray,
    values: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
) -> Picture:
    """Returns a picture; of a volume the axial slice through the maximum of its map, or its middle.

    Args:
        group: Of `GROUPS`.
        name: Id of the image.
        lines: What is known of it.
        image: `(*image grid, channels)` in [0, 1].
        values: Map of the image grid, shown relative to its maximum; what is negative or not finite counts as 0.
        mask: Lesion, boolean of the image grid.
        spacing: From pixel to pixel along each axis, in any unit; equal by default.

    Example:
        >>> shown = make_picture("correct", "a.png", (), image=np.ones((4, 6, 1)), values=np.ones((4, 6)))
        >>> shown.size, shown.image[:22], shown.overlay[:21]
        ((4, 6), 'data:image/webp;base64', 'data:image/png;base64')
    """
    grid = image.shape[:-1]
    values = None if values is None else np.where(np.isfinite(values), np.maximum(values, 0), 0)
    peak = np.unravel_index(values.argmax(), grid) if values is not None and values.any() else (np.array(grid) - 1) / 2
    plane = planes_through(grid, peak)[0]
    shown = plane.cut(image)
    shown = shown if shown.shape[-1] == 3 else np.repeat(shown.mean(axis=-1, keepdims=True), 3, axis=-1)
    steps = [(spacing or [1] * len(grid))[axis] for axis in plane.axes]
    # The axis of the smaller pixels keeps as many as it has.
    size = [n * step / min(steps) for n, step in zip(shown.shape[:2], steps, strict=True)]
    scale = min(1.0, LARGEST / max(size))
    size = tuple(max(1, round(edge * scale)) for edge in size)
    pixels = _resized((255 * np.clip(shown, 0, 1)).round().astype(np.uint8), size)
    overlay = None if values is None else _overlay(plane.cut(values) / (values.max() or 1), size)
    outline = () if mask is None else _outline(plane.cut(mask), size)
    picture = _uri(".webp", pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return Picture(group, name, lines, picture, overlay, outline, size)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return pixels if pixels.shape[:2] == size else cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)


def _overlay(values: np.ndarray, size: tuple[int, int]) -> str:
    values = _resized(values.astype(np.float32), size)
    colors = matplotlib.colormaps["magma"](values, bytes=True)
    colors[..., 3] = (255 * OPACITY * np.sqrt(np.clip(values, 0, 1))).round()
    return _uri(".png", colors[..., [2, 1, 0, 3]], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _outline(mask: np.ndarray, size: tuple[int, int]) -> tuple[str, ...]:
    mask = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    lines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return tuple(" ".join(f"{x + 0.5:g},{y + 0.5:g}" for x, y in line[:, 0].tolist()) for line in lines)


def _uri(kind: str, pixels: np.ndarray, options: list[int]) -> str:
    written, data = cv2.imencode(kind, np.ascontiguousarray(pixels), options)
    if not written:
        raise InputError(f"An image can be written as {kind}. Received: pixels of shape {pixels.shape}")
    return f"data:image/{kind[1:]};base64,{base64.b64encode(data.tobytes()).decode()}"
