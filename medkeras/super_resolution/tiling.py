"""Large images in tiles: cut with overlap, and joined without seams."""

import dataclasses
import itertools

import numpy as np

from medkeras.errors import InputError


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Where the tiles of an image lie, and how they are joined.

    Edges that are no multiple of `multiple` are padded by reflection below and on the right. An axis that is longer
    than a tile is covered by evenly spaced tiles that overlap by at least `overlap`; there, the weight of a tile falls
    linearly to its border, and all weights of a place add up to one.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        tile: Longest edge of a tile; a multiple of `multiple`.
        overlap: Rows and columns that neighbours share at least, from 1 to `tile - 1`.
        multiple: What the edges of a tile must be multiples of.

    Raises:
        ValueError: If an argument is out of range, or an edge is too short to be padded.

    Example:
        >>> Tiling(10, 20, tile=8, overlap=2, multiple=4).places
        [(0, 0), (0, 6), (0, 12), (4, 0), (4, 6), (4, 12)]
    """

    height: int
    width: int
    tile: int
    overlap: int
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.multiple < 1 or self.tile < 1 or self.tile % self.multiple or not 0 < self.overlap < self.tile:
            raise InputError(
                f"`tile` must be a multiple of {self.multiple}, `overlap` from 1 to `tile - 1`. "
                f"Received: tile={self.tile}, overlap={self.overlap}"
            )
        if any(pad >= edge for pad, edge in zip(self.padding, (self.height, self.width), strict=True)):
            raise InputError(f"Edges must be at least {self.multiple}. Received: {self.height} x {self.width}")

    @property
    def padding(self) -> tuple[int, int]:
        """Rows added below and columns added on the right."""
        return -self.height % self.multiple, -self.width % self.multiple

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of every tile."""
        (below, right), tile = self.padding, self.tile
        return min(self.height + below, tile), min(self.width + right, tile)

    @property
    def places(self) -> list[tuple[int, int]]:
        """First row and first column of each tile, row by row."""
        return list(itertools.product(*self._axes))

    @property
    def _axes(self) -> list[list[int]]:
        """Where the tiles start along each axis."""
        edges = zip((self.height, self.width), self.padding, self.shape, strict=True)
        return [_starts(edge + pad, tile, self.overlap) for edge, pad, tile in edges]

    def pad(self, image: np.ndarray) -> np.ndarray:
        """Pads `(..., height, width, channels)` by reflection to whole multiples."""
        below, right = self.padding
        around = [(0, 0)] * (image.ndim - 3) + [(0, below), (0, right), (0, 0)]
        return np.pad(image, around, mode="reflect")

    def cut(self, padded: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        """Returns the tile at a place of a padded `(..., height, width, channels)`."""
        (top, left), (rows, columns) = place, self.shape
        return padded[..., top : top + rows, left : left + columns, :]

    def canvas(self, factor: int, channels: int) -> np.ndarray:
        """Returns zeros to which the tiles of an image, enlarged by `factor`, are added by `add`."""
        edges = (self.height + self.padding[0], self.width + self.padding[1])
        return np.zeros((edges[0] * factor, edges[1] * factor, channels), "float32")

    def add(self, canvas: np.ndarray, tile: np.ndarray, place: tuple[int, int], factor: int) -> None:
        """Adds an enlarged tile to a canvas, by its weights."""
        (top, left), (rows, columns) = (factor * np.array(pair) for pair in (place, self.shape))
        down, across = (weights[start] for weights, start in zip(self._weights(factor), place, strict=True))
        canvas[top : top + rows, left : left + columns] += tile * down[:, None, None] * across[:, None]

    def crop(self, canvas: np.ndarray, factor: int) -> np.ndarray:
        """Takes the padding off a canvas."""
        return canvas[: self.height * factor, : self.width * factor]

    def _weights(self, factor: int) -> list[dict[int, np.ndarray]]:
        """Returns for each axis the weights within the tiles by where they start."""
        found = []
        for starts, tile in zip(self._axes, self.shape, strict=True):
            ramp, total = _ramp(factor * tile, factor * self.overlap), np.zeros(factor * (starts[-1] + tile), "float32")
            for start in starts:
                total[factor * start : factor * (start + tile)] += ramp
            found.append({start: ramp / total[factor * start : factor * (start + tile)] for start in starts})
        return found


def _starts(edge: int, tile: int, overlap: int) -> list[int]:
    if edge == tile:
        return [0]
    count = 1 + -(-(edge - tile) // (tile - overlap))
    return [int(n) for n in np.linspace(0, edge - tile, count)]


def _ramp(edge: int, overlap: int) -> np.ndarray:
    """Returns weights in (0, 1] that rise from both ends over `overlap` places."""
    place = np.arange(edge) + 0.5
    return np.minimum(1, np.minimum(place, edge - place) / overlap).astype("float32")
