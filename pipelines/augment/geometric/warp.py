"""Random motions: one coordinate map, one resampling, in 2D and 3D alike."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.augmenter import Batch
from pipelines.augment.geometric.boxes import boxes_of_map
from pipelines.augment.geometric.flips import AXES, check_axes, draw_flips
from pipelines.augment.geometric.resample import check_border, warp, warp_nearest, within
from pipelines.augment.random_numbers import fold_in, normal, uniform
from pipelines.augment.smooth_fields import bsplines, expand, spline_count

# Mean square of a cubic B-spline grid along one axis; the mean square of a field is this to the power of its axes.
SPLINE_POWER = 151 / 315
# A B-spline field does not fold while each coefficient stays below 1 / 2.48 of the grid's spacing, in 3D.
FOLD_LIMIT = 0.4


@dataclasses.dataclass(frozen=True)
class Warp:
    """Turns, scales, shears, shifts, mirrors and bends an image, read once; masks, boxes, attention go along.

    Images and attention maps are interpolated linearly, masks by nearest neighbour, and a box becomes the
    smallest box around what was in it.

    Args:
        rotation: Largest angle either way, in degrees, in [0, 180]: one number, in the plane of height and
            width; for volumes also three, about the depth, the height and the width axis.
        scale: The size is multiplied by a factor between 1 / (1 + scale) and 1 + scale, scale >= 0.
        anisotropy: The same, drawn for each axis on its own, >= 0.
        translation: Largest shift along each axis, as a share of its length, in [0, 1).
        shear: Largest angle by which an axis leans over, for each pair of axes, in degrees, in [0, 60].
        flip: Axes to mirror with probability one half: any of `"width"`, `"height"` and, for volumes,
            `"depth"`.
        elastic: Standard deviation of a smooth random displacement, as a share of each axis' length, in
            [0, spacing / 8]. The map never folds.
        spacing: Distance of the grid points that carry the displacement, as a share of each axis, in (0, 1].
        border: What enters at the border: `edge`, the nearest pixel; `zero`; `reflect`, the image mirrored.

    Raises:
        ValueError: If an argument is out of its range, or when drawing, does not fit the image.

    Reference:
        Rueckert et al., Nonrigid registration using free-form deformations, IEEE TMI 18(8), 1999; Choi and Lee,
        Injectivity conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 62(6), 2000.

    Example:
        >>> Warp(rotation=10.0, elastic=0.02).draw(tf.constant([0, 0], tf.int64), (8, 8, 1))["matrix"].shape
        TensorShape([2, 3])
    """

    rotation: float | tuple[float, float, float] = 0.0
    scale: float = 0.0
    anisotropy: float = 0.0
    translation: float = 0.0
    shear: float = 0.0
    flip: tuple[str, ...] = ()
    elastic: float = 0.0
    spacing: float = 0.25
    border: str = "edge"
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not all(0 <= angle <= 180 for angle in self._angles()) or len(self._angles()) not in (1, 3):
            raise InputError(f"`rotation` must be one or three angles in [0, 180] degrees. Received: {self}")
        if not (self.scale >= 0 and self.anisotropy >= 0 and 0 <= self.translation < 1 and 0 <= self.shear <= 60):
            raise InputError(
                "`scale` and `anisotropy` must be >= 0, `translation` in [0, 1), `shear` in [0, 60] degrees. "
                f"Received: {self}"
            )
        if not (0 < self.spacing <= 1 and 0 <= self.elastic <= self.spacing / 8):
            raise InputError(f"`spacing` must be in (0, 1], `elastic` in [0, spacing / 8]. Received: {self}")
        check_axes(self.flip, none_allowed=True)
        check_border(self.border)

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> dict[str, tf.Tensor]:
        """Returns `matrix` and `elastic`.

        `matrix` `(axes, axes + 1)` leads from output to input pixels, both counted from the centre. `elastic`
        `(axes, *grid)` are the displacements at the grid points, in pixels, added to the output pixels first.
        """
        rank = len(image_shape) - 1
        if len(self._angles()) == 3 and rank == 2:
            raise InputError(f"An image turns by one angle. Received: rotation={self.rotation}")
        sizes = tf.constant(image_shape[:-1], tf.float32)
        random = uniform(key, [4 + 2 * rank + 3], -1.0, 1.0)
        scale, turns, stretch, shift, shears = tf.split(random, [1, 3, rank, rank, 3])
        zoom = tf.exp(-math.log1p(self.scale) * scale - math.log1p(self.anisotropy) * stretch)
        linear = self._rotation(turns, rank) @ self._shear(shears, rank) * zoom * self._mirror(key, image_shape)
        drawn = {"matrix": tf.concat([linear, (self.translation * sizes * shift)[:, None]], axis=1)}
        if self.elastic:
            drawn["elastic"] = self._displacements(key, image_shape)
        return drawn

    def apply_batch(self, batch: Batch, parameters: dict[str, tf.Tensor]) -> Batch:
        """Moves the images, and what belongs to them, as drawn."""
        sizes = tuple(batch["image"].shape[1:-1])
        coordinates = source_coordinates(parameters, sizes, spacing=self.spacing)
        moved = {"image": warp(batch["image"], coordinates, border=self.border)}
        if "mask" in batch:
            moved["mask"] = warp_nearest(batch["mask"], coordinates, border=self.border)
        if "boxes" in batch:
            seen = [within(c, size, self.border) for c, size in zip(coordinates, sizes, strict=True)]
            moved["boxes"] = boxes_of_map(batch["boxes"], seen, sizes)
        if "attention" in batch:
            cells = tuple(batch["attention"].shape[1:])
            coarse = source_coordinates(parameters, sizes, spacing=self.spacing, cells=cells)
            moved["attention"] = warp(batch["attention"][..., None], coarse, border=self.border)[..., 0]
        return dict(batch) | moved

    def _angles(self) -> tuple[float, ...]:
        return (self.rotation,) if isinstance(self.rotation, numbers.Real) else tuple(self.rotation)

    def _rotation(self, turns: tf.Tensor, rank: int) -> tf.Tensor:
        matrix = tf.eye(rank)
        # About depth, height and width: in the planes of the other two axes.
        planes = [(rank - 2, rank - 1), (0, 2), (0, 1)]
        for turn, limit, (i, j) in zip(tf.unstack(turns), self._angles(), planes, strict=False):
            angle = math.radians(limit) * turn
            matrix @= _in_plane(tf.cos(angle), tf.sin(angle), i, j, rank)
        return matrix

    def _shear(self, shears: tf.Tensor, rank: int) -> tf.Tensor:
        lean = tf.tan(math.radians(self.shear) * shears)
        pairs = [(i, j) for i in range(rank) for j in range(i + 1, rank)]
        return tf.eye(rank) + sum(lean[n] * _unit(i, j, rank) for n, (i, j) in enumerate(pairs))

    def _mirror(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        rank = len(image_shape) - 1
        if not self.flip:
            return tf.ones(rank)
        flips = tf.where(draw_flips(self.flip, fold_in(key, 1), image_shape), -1.0, 1.0)
        named = {rank + AXES[name]: flips[i] for i, name in enumerate(self.flip)}
        return tf.stack([named.get(axis, 1.0) for axis in range(rank)])

    def _displacements(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        rank = len(image_shape) - 1
        grid = normal(fold_in(key, 2), [rank] + [spline_count(self.spacing)] * rank)
        limit = FOLD_LIMIT * self.spacing
        shares = tf.clip_by_value(self.elastic / SPLINE_POWER ** (rank / 2) * grid, -limit, limit)
        return shares * tf.reshape(tf.constant(image_shape[:-1], tf.float32), [-1] + [1] * rank)


def source_coordinates(
    parameters: dict[str, tf.Tensor],
    sizes: Sequence[int],
    *,
    spacing: float = 0.25,
    cells: Sequence[int] | None = None,
) -> list[tf.Tensor]:
    """Returns where each output pixel comes from.

    Args:
        parameters: Those of `Warp.draw` for a batch.
        sizes: Pixels of each axis of the image.
        spacing: That of the `Warp`.
        cells: Size of a coarser grid over the same image, such as an attention map's, for its cells in place
            of the pixels.

    Returns:
        For each axis positions in pixels (or cells), `(batch, *sizes)`.

    Example:
        >>> shift = {"matrix": tf.constant([[[1.0, 0, 0], [0, 1, 2]]])}
        >>> source_coordinates(shift, (1, 4))[1].numpy()
        array([[[2., 3., 4., 5.]]], dtype=float32)
    """
    matrix, rank = parameters["matrix"], len(sizes)
    cells = sizes if cells is None else cells
    middle = [(np.arange(cell) + 0.5) / cell for cell in cells]
    places = []
    for axis, (size, cell) in enumerate(zip(sizes, cells, strict=True)):
        from_centre = (np.arange(cell) - (cell - 1) / 2) * (size / cell)
        along = [1, *(-1 if other == axis else 1 for other in range(rank))]
        places.append(tf.constant(from_centre.reshape(along), tf.float32))
    if "elastic" in parameters:
        field = expand(parameters["elastic"], [bsplines(m, spacing) for m in middle])
        places = [place + field[:, axis] for axis, place in enumerate(places)]

    def entry(i: int, j: int) -> tf.Tensor:
        return tf.reshape(matrix[:, i, j], [-1] + [1] * rank)

    coordinates = []
    for i, (size, cell) in enumerate(zip(sizes, cells, strict=True)):
        # A sum of products, not a matrix product: XLA then computes it where it is read, and stores nothing.
        from_centre = sum(entry(i, j) * place for j, place in enumerate(places)) + entry(i, rank)
        coordinates.append(from_centre * (cell / size) + (cell - 1) / 2)
    return coordinates


def _in_plane(cos: tf.Tensor, sin: tf.Tensor, i: int, j: int, rank: int) -> tf.Tensor:
    turned = (cos - 1) * (_unit(i, i, rank) + _unit(j, j, rank)) + sin * (_unit(j, i, rank) - _unit(i, j, rank))
    return tf.eye(rank) + turned


def _unit(i: int, j: int, rank: int) -> tf.Tensor:
    return tf.reshape(tf.one_hot(i * rank + j, rank * rank), (rank, rank))
