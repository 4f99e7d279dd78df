"""How a volume is looked at: axes, spacing, grey and shape, the same for an image and its label."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from medkeras.errors import InputError
from pipelines.sources.file_errors import naming
from pipelines.sources.volume.file import read_volume, read_volume_header
from pipelines.sources.volume.grey import PERCENTILES, Window, check_percentiles, grey_range, to_grey
from pipelines.sources.volume.grid import (
    MAX_VOXELS,
    Grid,
    Volume,
    check_shape,
    check_size,
    crop_or_pad,
    orientation_affine,
    ras_grid,
    to_image,
    to_ras,
)
from pipelines.sources.volume.resample import resample, resampled_grid, sample_nearest
from pipelines.sources.windows import parse_window

CENTRES = ("volume", "mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeView:
    """Reads volumes and their labels to one grid.

    Args:
        spacing: Millimetres from voxel to voxel, one number or `(D, H, W)`; by default each volume keeps its own.
        shape: `(D, H, W)` in voxels; by default each volume keeps its own.
        centre: Middle of `shape`: `"volume"`, or `"mask"` for the middle of the lesion's bounding box, where
            there is one. The latter looks at the label volume: an image to be tested has none.
        window: What becomes grey: a name as `lung`, for CT in Hounsfield units, or centre and width.
        percentiles: Without a window, the percentiles of each volume's own values that become 0 and 1.
        frame: Of files with several frames, the one to take, from 0; a label volume has one frame.
        orientation: Where the axes of a file lead that does not say it, as `RAS` or `LPS`; by default such a
            file is refused, for its left and right are unknown.
        max_voxels: Largest number of voxels of a volume, as stored and as resampled.

    Raises:
        ValueError: If an argument is out of its range.
    """

    spacing: float | Sequence[float] | None = None
    shape: Sequence[int] | None = None
    centre: str = "volume"
    window: Window = None
    percentiles: Sequence[float] = PERCENTILES
    frame: int | None = None
    orientation: str | None = None
    max_voxels: int = MAX_VOXELS

    def __post_init__(self) -> None:
        if self.centre not in CENTRES:
            raise InputError(f"`centre` must be volume or mask. Received: centre={self.centre!r}")
        if self.frame is not None and (not isinstance(self.frame, int) or self.frame < 0):
            raise InputError(f"`frame` must be a whole number >= 0. Received: frame={self.frame!r}")
        if not (isinstance(self.max_voxels, int) and self.max_voxels >= 1):
            raise InputError(f"`max_voxels` must be a whole number >= 1. Received: max_voxels={self.max_voxels!r}")
        if self.centre == "mask" and self.shape is None:
            raise InputError("`shape` must be given with centre='mask'. Received: shape=None")
        if self.shape is not None:
            check_size(check_shape(self.shape), self.max_voxels)
        if self.orientation is not None:
            orientation_affine(self.orientation, (1, 1, 1))
        if self.spacing is not None:
            resampled_grid(Grid((1, 1, 1), np.eye(4)), self.spacing)
        if self.window is not None:
            parse_window(self.window)
        check_percentiles(self.percentiles)

    def read(self, path: str | os.PathLike, *, mask: str | os.PathLike | None = None) -> np.ndarray:
        """Returns an image, `(D, H, W)` or `(D, H, W, 3)`, float32 in [0, 1].

        Args:
            path: The volume.
            mask: Its label volume, for `centre="mask"`.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is not sound; it is named.
        """
        stored = read_volume(path, frame=self.frame, orientation=self.orientation, max_voxels=self.max_voxels)
        with naming(path):
            volume = to_ras(stored)
            if self.spacing is not None:
                volume = resample(volume, self._ras_spacing(), max_voxels=self.max_voxels)
            image = to_image(self._grey(volume.array, stored.array))
        return self._cut(image, None if mask is None else self._label(mask, volume.grid))

    def read_mask(self, path: str | os.PathLike, *, image: str | os.PathLike) -> np.ndarray:
        """Returns where the label volume of an image is not 0, on the grid of what `read` gives, boolean.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is not sound, or the two do not meet in space; the file is named.
        """
        label = self._label(path, self._grid(image))
        return self._cut(label, label if self.centre == "mask" else None)

    def shape_of(self, path: str | os.PathLike) -> tuple[int, int, int, int]:
        """Returns `(D, H, W, C)` of what `read` gives, from the header.

        Raises:
            FileNotFoundError: If the file is missing.
            ValueError: If its header is not sound.
        """
        channels = read_volume_header(path, orientation=self.orientation).channels
        return (*(self.shape or self._grid(path).shape[::-1]), channels)

    def spacing_of(self, path: str | os.PathLike) -> tuple[float, float, float]:
        """Returns the millimetres from voxel to voxel of what `read` gives, `(D, H, W)`, from the header.

        Raises:
            FileNotFoundError: If the file is missing.
            ValueError: If its header is not sound.
        """
        return self._grid(path).spacing[::-1]

    def _ras_spacing(self) -> tuple[float, ...]:
        return tuple(np.broadcast_to(self.spacing, 3)[::-1].tolist())

    def _grid(self, path: str | os.PathLike) -> Grid:
        """Returns the grid of a volume before it is cut, from the header."""
        grid = ras_grid(read_volume_header(path, orientation=self.orientation).grid)
        if self.spacing is None:
            return grid
        with naming(path):
            grid = resampled_grid(grid, self._ras_spacing())
            check_size(grid.shape, self.max_voxels)
        return grid

    def _grey(self, array: np.ndarray, stored: np.ndarray) -> np.ndarray:
        """Maps an array to [0, 1]; percentiles are those of the stored one, whatever the spacing."""
        if stored.ndim == 4:
            if self.window is not None:
                raise InputError(f"a window is for grey volumes. Received: {stored.shape[-1]} channels")
            return array.astype(np.float32) / np.float32(np.iinfo(stored.dtype).max)
        return to_grey(array, *grey_range(stored, window=self.window, percentiles=self.percentiles))

    def _label(self, path: str | os.PathLike, grid: Grid) -> np.ndarray:
        label = read_volume(path, orientation=self.orientation, max_voxels=self.max_voxels)
        with naming(path):
            if label.array.ndim == 4:
                raise InputError("a label volume has one number per voxel. Received: colours")
            _check_meeting(label.grid, grid)
            return to_image(sample_nearest(Volume(label.array != 0, label.affine), grid).array)

    def _cut(self, array: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        if self.shape is None:
            return array
        found = None if label is None else np.argwhere(label)
        centre = None if found is None or not len(found) else (found.min(axis=0) + found.max(axis=0)) / 2
        return crop_or_pad(array, self.shape, centre=centre)


def _check_meeting(label: Grid, image: Grid) -> None:
    """Checks that the boxes of two grids overlap: a label elsewhere belongs to another scan."""
    corners = np.stack(np.meshgrid(*([-0.5, n - 0.5] for n in label.shape), indexing="ij")).reshape(3, -1)
    way = np.linalg.solve(image.affine, label.affine)
    places = way[:3, :3] @ corners + way[:3, 3:]
    if (places.max(axis=1) < -0.5).any() or (places.min(axis=1) > np.array(image.shape) - 0.5).any():
        raise InputError("a label volume lies where its image is, but these two do not meet in space")
