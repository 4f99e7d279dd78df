"""A volume in space: where its voxels lie in the patient, turned to one orientation and cut to one shape."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from medkeras.errors import InputError

# More than any scan of one series: a CT of 512 x 512 x 1500; in float32, 1.6 GB.
MAX_VOXELS = 4 * 10**8
SPACINGS = (1e-4, 1e3)  # Millimetres; all else is a damaged header or a wrong unit.
LEAST_VOLUME = 1e-2  # Of three unit vectors; below, the axes lie in one plane.


@dataclasses.dataclass(frozen=True)
class Grid:
    """The places of voxels.

    Args:
        shape: Voxels along the three axes.
        affine: `(4, 4)`, from voxel index to millimetres towards the patient's right, front and head (RAS).

    Raises:
        ValueError: If the affine is not finite or singular, or a voxel is not 0.0001 to 1000 mm long.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or affine[3].tolist() != [0, 0, 0, 1]:
            raise InputError(f"An affine has 4 x 4 finite numbers, the last row 0 0 0 1. Received: {affine.tolist()}")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"A volume has three axes, each of one voxel or more. Received: shape={self.shape}")
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if not all(SPACINGS[0] <= one <= SPACINGS[1] for one in self.spacing):
            raise InputError(
                f"Voxels are {SPACINGS[0]} to {SPACINGS[1]:.0f} mm long. "
                f"Received: {' x '.join(f'{one:.6g}' for one in self.spacing)} mm"
            )
        if abs(np.linalg.det(affine[:3, :3] / self.spacing)) < LEAST_VOLUME:
            raise InputError(f"The affine is singular: its axes lie in one plane. Received: {affine.tolist()}")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres from voxel to voxel along the three axes."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())


@dataclasses.dataclass(frozen=True)
class Volume:
    """Values on a grid.

    Attributes:
        array: `(I, J, K)` or `(I, J, K, C)`.
        affine: As in `Grid`.
    """

    array: np.ndarray
    affine: np.ndarray

    @property
    def grid(self) -> Grid:
        """The places of the voxels."""
        return Grid(self.array.shape[:3], self.affine)


def orientation_affine(codes: str, spacing: Sequence[float]) -> np.ndarray:
    """Returns the affine of axes that run straight to the named sides, the first voxel at the origin.

    Args:
        codes: One letter per axis for where it leads: R or L (right, left), A or P (front, back), S or I (head,
            feet).
        spacing: Millimetres from voxel to voxel along each axis.

    Raises:
        ValueError: If the letters do not name the three directions, once each.

    Example:
        >>> orientation_affine("LPS", (1, 1, 3)).diagonal().tolist()
        [-1.0, -1.0, 3.0, 1.0]
    """
    places = [("RAS".find(c), "LPI".find(c)) for c in str(codes).upper()]
    world = [max(pair) for pair in places]
    if sorted(world) != [0, 1, 2]:
        raise InputError(f"`orientation` names a side for each axis, as RAS or LPS. Received: orientation={codes!r}")
    affine = np.zeros((4, 4))
    affine[world, range(3)] = [step if right >= 0 else -step for (right, _), step in zip(places, spacing, strict=True)]
    affine[3, 3] = 1
    return affine


def to_ras(volume: Volume) -> Volume:
    """Turns a volume by quarter turns and mirrorings, so that its axes lead to right, front and head (RAS).

    No value changes. Oblique axes stay oblique: each goes to the side that it is nearest to, all three together.

    Returns:
        A volume whose array is a view of the given one.

    Example:
        >>> volume = Volume(np.arange(3.0).reshape(3, 1, 1), orientation_affine("LPS", (1, 1, 1)))
        >>> to_ras(volume).array.ravel().tolist(), to_ras(volume).affine[0].tolist()
        ([2.0, 1.0, 0.0], [1.0, 0.0, 0.0, -2.0])
    """
    order, mirrored = _way_to_ras(volume.affine)
    array = volume.array.transpose(*order, *range(3, volume.array.ndim))
    array = array[tuple(slice(None, None, -1 if m else 1) for m in mirrored)]
    return Volume(array, ras_grid(volume.grid).affine)


def ras_grid(grid: Grid) -> Grid:
    """Returns the grid of a volume after `to_ras`."""
    order, mirrored = _way_to_ras(grid.affine)
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, old in enumerate(order):
        step[old, new] = -1 if mirrored[new] else 1
        step[old, 3] = grid.shape[old] - 1 if mirrored[new] else 0
    return Grid(tuple(grid.shape[old] for old in order), grid.affine @ step)


def _way_to_ras(affine: np.ndarray) -> tuple[list[int], list[bool]]:
    """Returns which axis becomes the first, second and third, and whether each is mirrored."""
    from scipy.optimize import linear_sum_assignment

    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order = linear_sum_assignment(-np.abs(directions))[1].tolist()
    return order, [bool(directions[side, axis] < 0) for side, axis in enumerate(order)]


def to_image(array: np.ndarray) -> np.ndarray:
    """Turns an array of a volume in RAS to the axes of our images, depth, height and width.

    Depth leads from head to feet, height from front to back, width from the patient's right to the left, as
    DICOM has rows and columns. Shown with the first row on top, an axial slice has the front on top, a coronal
    and a sagittal one the head, and the patient's right is on the left.

    Args:
        array: `(R, A, S)` or `(R, A, S, C)`.

    Returns:
        `(D, H, W)` or `(D, H, W, C)`, contiguous.

    Example:
        >>> to_image(np.arange(3).reshape(1, 1, 3)).ravel().tolist()
        [2, 1, 0]
    """
    return np.ascontiguousarray(np.swapaxes(array, 0, 2)[::-1, ::-1, ::-1])


def crop_or_pad(array: np.ndarray, shape: Sequence[int], *, centre: Sequence[float] | None = None) -> np.ndarray:
    """Cuts a window of voxels out of an array; what lies outside of the array is 0.

    Args:
        array: `(D, H, W)` or `(D, H, W, C)`.
        shape: `(D, H, W)` of the window.
        centre: Its middle, in voxels from the first one; by default the middle of the array. A window that
            cannot be centred to the voxel lies half a voxel further on.

    Raises:
        ValueError: If `shape` is not three positive whole numbers or `centre` is not three numbers.

    Example:
        >>> crop_or_pad(np.arange(1, 6).reshape(5, 1, 1), (3, 1, 2)).reshape(3, 2).tolist()
        [[2, 0], [3, 0], [4, 0]]
        >>> crop_or_pad(np.arange(1, 6).reshape(5, 1, 1), (3, 1, 1), centre=(4, 0, 0)).ravel().tolist()
        [4, 5, 0]
    """
    shape = check_shape(shape)
    centre = [(n - 1) / 2 for n in array.shape[:3]] if centre is None else list(centre)
    if len(centre) != 3 or not np.isfinite(centre).all():
        raise InputError(f"`centre` must be three finite numbers. Received: centre={centre}")
    window = np.zeros((*shape, *array.shape[3:]), array.dtype)
    inside, outside = [], []
    for stored, wanted, middle in zip(array.shape, shape, centre, strict=False):
        start = math.floor(middle - (wanted - 1) / 2 + 0.5)
        first, last = min(max(start, 0), stored), min(max(start + wanted, 0), stored)
        inside.append(slice(first, last))
        outside.append(slice(first - start, last - start))
    window[tuple(outside)] = array[tuple(inside)]
    return window


def check_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns three sizes as a tuple.

    Raises:
        ValueError: If they are not three positive whole numbers.
    """
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(sizes) != 3 or not all(isinstance(n, int) and n >= 1 for n in sizes):
        raise InputError(f"`shape` must be (depth, height, width), in voxels. Received: shape={shape!r}")
    return sizes


def check_size(shape: Sequence[int], max_voxels: int) -> None:
    """Checks that a volume is not too large.

    Raises:
        ValueError: If it has more than `max_voxels` voxels.
    """
    if math.prod(shape) > max_voxels:
        sizes = " x ".join(str(n) for n in shape)
        raise InputError(f"{sizes} voxels are more than `max_voxels`. Received: max_voxels={max_voxels}")
