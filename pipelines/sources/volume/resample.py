"""A volume at another spacing: linear for images, by the nearest voxel for labels."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medkeras.errors import InputError
from pipelines.sources.volume.grid import MAX_VOXELS, SPACINGS, Grid, Volume, check_size, to_ras

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LEAN = 1e-3  # Voxels from one end to the other, by which axes that run alike may part, from rounding in headers.
TIE = 1e-6  # Voxels; of two equally near, rounding errors would choose.


def resampled_grid(grid: Grid, spacing: float | Sequence[float]) -> Grid:
    """Returns the grid of a volume after `resample`: the same middle and axes, another spacing.

    The length of an axis is rounded to whole voxels.

    Raises:
        ValueError: If `spacing` is not one number or three, in millimetres.
    """
    wanted = _spacing(spacing)
    shape = tuple(max(1, round(n * old / new)) for n, old, new in zip(grid.shape, grid.spacing, wanted, strict=True))
    step = np.eye(4)
    for axis in range(3):
        step[axis, axis] = wanted[axis] / grid.spacing[axis]
        step[axis, 3] = _positions(grid.shape[axis], shape[axis], step[axis, axis])[0]
    return Grid(shape, grid.affine @ step)


def _spacing(spacing: float | Sequence[float]) -> tuple[float, ...]:
    try:
        wanted = tuple(float(one) for one in np.broadcast_to(spacing, 3))
    except (TypeError, ValueError):
        wanted = (math.nan,)
    if not all(SPACINGS[0] <= one <= SPACINGS[1] for one in wanted):
        raise InputError(
            f"`spacing` must be one number or three, {SPACINGS[0]} to {SPACINGS[1]:.0f} mm. "
            f"Received: spacing={spacing!r}"
        )
    return wanted


def _positions(stored: int, wanted: int, step: float) -> np.ndarray:
    """Returns the places of the new voxels of an axis among the old ones."""
    return (np.arange(wanted) - (wanted - 1) / 2) * step + (stored - 1) / 2


def resample(
    volume: Volume, spacing: float | Sequence[float], *, nearest: bool = False, max_voxels: int = MAX_VOXELS
) -> Volume:
    """Brings a volume to another spacing, along its own axes and about its middle.

    Linear interpolation; where an axis gets coarser by a factor s, the mean of it over s - 1 old voxels, so that
    fine detail does not alias; at the border over as many as there are on both sides. All weights are positive,
    and what is linear in space stays as it is. Beyond the outermost centres the edge goes on.

    Args:
        volume: The volume; labels with `nearest`.
        spacing: Millimetres, one number or one per axis.
        nearest: Whether each voxel takes the value of the nearest old one, as labels need it.
        max_voxels: Largest number of voxels of the result.

    Returns:
        A volume of float32, or with `nearest` of the type that it had.

    Raises:
        ValueError: If `spacing` is out of range or the result is larger than `max_voxels`.

    Example:
        >>> volume = Volume(np.arange(6.0).reshape(6, 1, 1), np.eye(4))
        >>> resample(volume, (2, 1, 1)).array.ravel().tolist()
        [0.5, 2.5, 4.5]
    """
    grid = resampled_grid(volume.grid, spacing)
    check_size(grid.shape, max_voxels)
    if nearest:
        return sample_nearest(volume, grid)
    array = volume.array.astype(np.float32, copy=False)
    steps = np.divide(grid.spacing, volume.grid.spacing)
    for axis in np.argsort(-steps).tolist():  # What gets coarser comes first: less to do for the others.
        weights = _weights(array.shape[axis], grid.shape[axis], steps[axis])
        if weights is not None:
            rows = np.moveaxis(array, axis, 0)
            mixed = weights @ rows.reshape(len(rows), -1)
            array = np.moveaxis(mixed.reshape(-1, *rows.shape[1:]), 0, axis)
    return Volume(array, grid.affine)


def _weights(stored: int, wanted: int, step: float) -> "csr_array | None":
    """Returns the sparse matrix from old to new voxels of an axis, or None where nothing changes."""
    from scipy.sparse import coo_array

    if stored == wanted and abs(step - 1) * stored < 1e-3:
        return None
    places = _positions(stored, wanted, step)
    # At the border the window is narrower, so that it never leans to one side.
    half = np.clip(np.minimum(places, stored - 1 - places), 0, max(step - 1, 0) / 2)
    index = np.floor(places - half)[:, None] + np.arange(math.ceil(2 * half.max()) + 2)
    offset, half = places[:, None] - index, half[:, None]
    mean = (_hat_integral(offset + half) - _hat_integral(offset - half)) / np.maximum(2 * half, TIE)
    share = np.where(2 * half > TIE, mean, np.maximum(1 - np.abs(offset), 0))
    column = np.clip(index, 0, stored - 1).astype(np.int64)
    row = np.broadcast_to(np.arange(wanted)[:, None], column.shape)
    return coo_array((share.ravel().astype(np.float32), (row.ravel(), column.ravel())), (wanted, stored)).tocsr()


def _hat_integral(end: np.ndarray) -> np.ndarray:
    """Returns the integral of max(1 - |t|, 0) up to `end`."""
    end = np.clip(end, -1, 1)
    return np.where(end < 0, (1 + end) ** 2 / 2, 1 - (1 - end) ** 2 / 2)


def sample_nearest(volume: Volume, grid: Grid) -> Volume:
    """Gives every voxel of a grid the value of the nearest voxel in space, zero outside of the volume.

    Args:
        volume: `(I, J, K)`, labels say.
        grid: Any other grid.

    Example:
        >>> labels = Volume(np.array([[[1, 2]]]), np.eye(4))
        >>> sample_nearest(labels, Grid((1, 1, 4), np.diag([1, 1, 0.5, 1]))).array.ravel().tolist()
        [1, 1, 2, 2]
    """
    volume = to_ras(volume)
    way = np.linalg.solve(volume.affine, grid.affine)
    steps = way.diagonal()[:3]
    lean = np.abs(way[:3, :3] - np.diag(steps)) * grid.shape
    if (lean < LEAN).all():
        sampled = _take_nearest(volume.array, steps, way[:3, 3], grid.shape)
    else:
        sampled = _turn_nearest(volume.array, way, grid.shape)
    return Volume(sampled, grid.affine)


def _take_nearest(array: np.ndarray, steps: np.ndarray, start: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Looks up along axes that run alike."""
    index, inside = [], []
    for n, size, step, first in zip(shape, array.shape, steps, start, strict=True):
        nearest = np.floor(first + step * np.arange(n) - TIE + 0.5)
        places = np.flatnonzero((nearest >= 0) & (nearest < size))
        index.append(nearest[places].astype(np.int64))
        inside.append(places)
    sampled = np.zeros(shape, array.dtype)
    sampled[np.ix_(*inside)] = array[np.ix_(*index)]
    return sampled


def _turn_nearest(array: np.ndarray, way: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Looks up along axes that are turned against each other."""
    from scipy.ndimage import affine_transform

    values = array.astype(np.uint8) if array.dtype == bool else array
    sampled = affine_transform(
        values, way[:3, :3], way[:3, 3] - TIE, output_shape=shape, order=0, mode="grid-constant", prefilter=False
    )
    return sampled.astype(array.dtype, copy=False)
