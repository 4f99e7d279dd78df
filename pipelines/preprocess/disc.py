"""The bright disc of a fundus photograph: found by its edge, a circle of which part may lie outside the image."""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from pipelines.images.decode import to_float

WORKING_SIDE = 512  # Pixels of the longer side of the first search.
SMALLEST_SIDE = 16  # Pixels; no circle can be told in less.
DIRECTIONS = 720
SAMPLES = 192  # Of each ray near the edge.
LEVELS = (60, 100, 140, 180)  # Of 255 between the darkest and the brightest, tried where Otsu's finds no disc.
TRIALS = 300
OUTLINE_POINTS = 400
SHARE_OF_OUTLINE = 0.3  # A bright region with less of its outline on a circle is another shape.
SHARE_OF_CIRCLE = 0.16  # An edge that shows less of the circle does not fix it.
SHARE_OF_EDGE = 0.7  # An edge with fewer points on the circle is not one.


class Disc(NamedTuple):
    """A circle on an image, its centre possibly between pixels or outside.

    Attributes:
        row: Centre in pixels from the middle of the first row.
        column: Centre in pixels from the middle of the first column.
        radius: Radius in pixels.
    """

    row: float
    column: float
    radius: float

    def inside(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns which pixels of an image of `shape` lie in the disc, boolean `(H, W)`.

        Example:
            >>> Disc(1.0, 1.0, 1.2).inside((3, 3)).astype(int)
            array([[0, 1, 0],
                   [1, 1, 1],
                   [0, 1, 0]])
        """
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return np.square(rows - self.row) + np.square(columns - self.column) <= self.radius**2


def find_disc(image: np.ndarray) -> Disc | None:
    """Finds the disc of the retina on its dark ground.

    The disc may be cut by the image's sides or by black bars; notches, dark parts of its rim and text beside it
    do not move it.

    Args:
        image: `(H, W, C)`, uint8, uint16 or float in [0, 1].

    Returns:
        The disc, or None where no circular edge is seen: on an image that is black, or filled by the retina.

    Example:
        >>> image = np.zeros((80, 100, 1), np.uint8)
        >>> image[Disc(40.0, 45.0, 30.0).inside((80, 100))] = 200
        >>> [round(value) for value in find_disc(image)]
        [40, 45, 30]
    """
    if min(image.shape[:2]) < SMALLEST_SIDE:
        return None
    grey = cv2.GaussianBlur(to_float(brightest(image)), (0, 0), 1)
    for disc in _first_search(grey):
        for band in (0.06, 0.03):
            disc = disc and _refine(grey, disc, band)
        if disc:
            return disc
    return None


def brightest(image: np.ndarray) -> np.ndarray:
    """Returns the largest channel of every pixel, `(H, W)`; many times faster than `image.max(axis=-1)`."""
    return functools.reduce(np.maximum, np.moveaxis(image, -1, 0))


def _first_search(grey: np.ndarray) -> Iterator[Disc]:
    """Yields discs by the outline of the largest bright region of a smaller image, at several thresholds."""
    scale = max(1.0, max(grey.shape) / WORKING_SIDE)
    size = [max(round(n / scale), 1) for n in grey.shape]
    small = cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA)
    down, across = np.array(grey.shape) / size
    for points in _outlines(small):
        circle = _agreed_circle(points) if len(points) >= SMALLEST_SIDE else None
        if circle:
            row, column, radius = circle
            yield Disc((row + 0.5) * down - 0.5, (column + 0.5) * across - 0.5, radius * (down + across) / 2)


def _outlines(small: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the outline of the largest bright region, without what lies on the image's sides, `(n, 2)`."""
    # A logarithm sets the ground apart from a retina that is dark or bright, even or not.
    log = np.log(small + 0.02)
    if np.ptp(log) < 0.5:
        return
    levels = np.rint(255 * (log - log.min()) / np.ptp(log)).astype(np.uint8)
    otsu = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0]
    writing = max(small.shape) // 50  # Thinner than this is text or a notch.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (writing | 1, writing | 1))
    for level in (otsu, *LEVELS):
        bright = cv2.threshold(levels, level, 1, cv2.THRESH_BINARY)[1]
        bright = cv2.morphologyEx(bright, cv2.MORPH_OPEN, kernel)
        outlines = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        if outlines:
            points = max(outlines, key=cv2.contourArea)[:, 0, ::-1].astype(np.float64)
            points = points[np.all((points > 1) & (points < np.array(small.shape) - 2), axis=1)]
            yield points[:: max(len(points) // OUTLINE_POINTS, 1)]


def _agreed_circle(points: np.ndarray) -> Disc | None:
    """Returns the circle through three of the points that most of the others lie on, fitted to those."""
    chosen = np.random.default_rng(0).integers(len(points), size=(TRIALS, 3))
    first, second, third = np.moveaxis(points[chosen], 1, 0)
    u, v = second - first, third - first
    with np.errstate(divide="ignore", invalid="ignore"):  # Three points on a line make no circle.
        away = (np.square(u).sum(1) * v[:, ::-1].T - np.square(v).sum(1) * u[:, ::-1].T) * [[1], [-1]]
        away = (away / (2 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]))).T
        centres, radii = first + away, np.hypot(*away.T)
        off = np.abs(np.hypot(*(points[None] - centres[:, None]).transpose(2, 0, 1)) - radii[:, None])
        near = off < np.maximum(1.0, 0.01 * radii)[:, None]
    near[~((radii >= SMALLEST_SIDE / 2) & (radii <= 4 * WORKING_SIDE))] = False
    best = near[near.sum(axis=1).argmax()]
    return _fit_circle(points[best]) if best.sum() >= SHARE_OF_OUTLINE * len(points) else None


def _refine(grey: np.ndarray, disc: Disc, band: float) -> Disc | None:
    """Fits the circle to its edge on the full image, sought up to `band` radii off; None if there is none."""
    points = _edge_points(grey, disc, band)
    kept, circle = points, None
    for _ in range(10):
        circle = _fit_circle(kept)
        if circle is None:
            return None
        off = np.abs(_residuals(points, circle))
        kept = points[off <= max(0.5, 2.5 * np.median(off))]
    near = np.count_nonzero(off <= max(1.0, 0.01 * circle.radius))
    return circle if near >= max(SHARE_OF_CIRCLE * DIRECTIONS, SHARE_OF_EDGE * len(points)) else None


def _edge_points(grey: np.ndarray, disc: Disc, band: float) -> np.ndarray:
    """Returns where rays from the centre leave the disc within the image, `(n, 2)`.

    The edge is where a ray falls half way from the retina near by to the ground.
    """
    angles = np.linspace(0, 2 * math.pi, DIRECTIONS, endpoint=False)
    radii = disc.radius * np.linspace(1 - 2 * band, 1 + band, SAMPLES)
    rows = (disc.row + np.sin(angles)[:, None] * radii).astype(np.float32)
    columns = (disc.column + np.cos(angles)[:, None] * radii).astype(np.float32)
    within = (rows >= 1) & (rows <= grey.shape[0] - 2) & (columns >= 1) & (columns <= grey.shape[1] - 2)
    seen = within.all(axis=1)
    if not seen.any():
        return np.empty((0, 2))
    profiles = cv2.remap(grey, columns[seen], rows[seen], cv2.INTER_LINEAR)
    retina, ground = np.median(profiles[:, : SAMPLES // 3], axis=1), profiles[:, -SAMPLES // 12 :].min(axis=1)
    half = (retina + ground) / 2
    last = SAMPLES - 1 - np.argmax(profiles[:, ::-1] >= half[:, None], axis=1)
    ray = np.flatnonzero((retina > 2 * ground + 0.01) & (last < SAMPLES - 1))
    last, half = last[ray], half[ray]
    high, low = profiles[ray, last], profiles[ray, last + 1]
    radius = radii[last] + (high - half) / (high - low) * (radii[1] - radii[0])
    angle = angles[seen][ray]
    return np.stack([disc.row + np.sin(angle) * radius, disc.column + np.cos(angle) * radius], axis=1)


def _residuals(points: np.ndarray, circle: Disc) -> np.ndarray:
    return np.hypot(points[:, 0] - circle.row, points[:, 1] - circle.column) - circle.radius


def _fit_circle(points: np.ndarray) -> Disc | None:
    """Fits a circle by least squares of its equation (Kasa's method); None for points on a line."""
    if len(points) < 3:
        return None
    mean = points.mean(axis=0)
    centred = points - mean
    design = np.column_stack([2 * centred, np.ones(len(points))])
    solution, _, rank, _ = np.linalg.lstsq(design, np.square(centred).sum(axis=1), rcond=1e-9)
    if rank < 3:
        return None
    row, column, rest = solution.tolist()
    return Disc(row + float(mean[0]), column + float(mean[1]), math.sqrt(rest + row**2 + column**2))
