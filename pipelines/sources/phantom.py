"""The phantom source: seeded anatomy with lesions whose class, place and outline are known, no download.

A patient is a body ellipse with a rim, a few organs and a texture; a lesion kind is defined by its
appearance. All of it is written as functions of body coordinates, so every view of a patient is the same body
seen after a small rotation and shift, image and mask alike, and 2D and 3D share the code.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.version import __version__
from pipelines.images.records import Records
from pipelines.sources.options import SourceOptions

LESIONS = ("bright", "dark", "ring", "speckled")
CLASS_NAMES = {"binary": ("healthy", "lesion"), "multiclass": ("healthy", *LESIONS), "multilabel": LESIONS}
NAMES = tuple(f"{task}{suffix}" for suffix in ("", "3d") for task in CLASS_NAMES)
BODY, VIEW, LABELS, VIEWS, UNKNOWN = range(5)  # Streams of random numbers, so that no part disturbs another.
PREVALENCE = 0.35


@dataclass(frozen=True, kw_only=True)
class Options(SourceOptions):
    """What a phantom source takes.

    Attributes:
        images: Number of images; 600, in 3D 240. The last patient may have one view only.
        size: Side in pixels or voxels, at least 16; 64, in 3D 32.
        seed: Non-negative integer.
        unknown: Share of the labels of `multilabel` that are NaN, in [0, 1).
    """

    images: int | None = None
    size: int | None = None
    seed: int = 0
    unknown: float = 0.0


def open_phantom(name: str = "binary", **options: Any) -> Records:
    """Makes labelled phantom images with lesion masks, two or three views per patient.

    `binary` asks for any lesion, `multiclass` for the one kind, `multilabel` for every kind that is present.
    Image i depends on `(seed, i)` alone and is made anew on every `read(i)`.

    Args:
        name: `binary` (also `""`), `multiclass`, `multilabel`, or one of these with `3d` behind.
        **options: Those of `Options`; `task` may be another single-label task for the same labels, as `ordinal`.

    Raises:
        ValueError: If the name or an option is out of its range.

    Example:
        >>> records = open_phantom("binary", images=10)
        >>> records.read(3).shape, records.read(3).dtype, records.read_mask(3).dtype
        ((64, 64), dtype('uint8'), dtype('bool'))
    """
    given, name = Options(**options), name or "binary"
    if name not in NAMES:
        raise InputError(f"A phantom is one of {', '.join(NAMES)}. Received: name={name!r}")
    kind, rank = name.removesuffix("3d"), 3 if name.endswith("3d") else 2
    images = (600 if rank == 2 else 240) if given.images is None else given.images
    size = (64 if rank == 2 else 32) if given.size is None else given.size
    seed = given.seed
    _check_options(images, size, seed, given.unknown, kind)

    patient, view = _patients(images, seed)
    present = _lesions_present(kind, patient[-1] + 1, seed)
    draw = functools.partial(_draw, patient=patient, present=present, size=size, rank=rank, seed=seed)
    shape = (size,) * rank
    return Records(
        name=f"phantom-{name}",
        task=given.task or kind,
        class_names=CLASS_NAMES[kind],
        table=pd.DataFrame(
            {
                "id": [f"p{p:04d}_v{v}" for p, v in zip(patient, view, strict=True)],
                "patient": [f"p{p:04d}" for p in patient],
                "split": "",
                "view": view,
            }
        ),
        labels=_labels(kind, present[patient], given.unknown, seed),
        read=lambda i: draw(i)[0],
        read_mask=lambda i: draw(i)[1],
        read_shape=lambda i: (*shape, 1),
        rank=rank,
        fingerprint=lambda i: f"{__version__}-{name}-{size}-{seed}-{i}",
    )


def _check_options(images: int, size: int, seed: int, unknown: float, kind: str) -> None:
    if images < 1:
        raise InputError(f"`images` must be >= 1. Received: images={images}")
    if size < 16:
        raise InputError(f"`size` must be >= 16. Received: size={size}")
    if seed < 0:
        raise InputError(f"`seed` must be >= 0. Received: seed={seed}")
    if not 0 <= unknown < 1 or (unknown and kind != "multilabel"):
        raise InputError(f"`unknown` must be in [0, 1), and 0 unless multilabel. Received: unknown={unknown}")


def _patients(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the patient and the view number of every image."""
    views = np.random.default_rng([seed, VIEWS]).integers(2, 4, size=images)
    patient = np.repeat(np.arange(images), views)[:images]
    return patient, np.arange(images) - np.searchsorted(patient, patient)


def _lesions_present(kind: str, patients: int, seed: int) -> np.ndarray:
    """Returns which lesion kinds each patient has, boolean `(patients, 4)`, the same for any `patients`."""
    rng = np.random.default_rng([seed, LABELS])
    if kind == "multilabel":
        return rng.random((patients, len(LESIONS))) < PREVALENCE
    count = len(CLASS_NAMES[kind])
    order, which = np.moveaxis(rng.random((-(-patients // count), count, 2)), 2, 0)
    classes = order.argsort(axis=1).ravel()[:patients]  # Each class once in every run of `count` patients.
    if kind == "binary":
        classes = classes * (1 + (which.ravel()[:patients] * len(LESIONS)).astype(int))
    return np.eye(len(LESIONS) + 1, dtype=bool)[classes, 1:]


def _labels(kind: str, present: np.ndarray, unknown: float, seed: int) -> np.ndarray:
    if kind == "binary":
        return present.any(axis=1).astype(np.int32)
    if kind == "multiclass":
        return (present @ np.arange(1, len(LESIONS) + 1)).astype(np.int32)
    hidden = np.random.default_rng([seed, UNKNOWN]).random(present.shape) < unknown
    return np.where(hidden, np.nan, present).astype(np.float32)


@dataclass(frozen=True)
class _Blob:
    """An ellipsoid in body coordinates, where the body spans about -1 to 1."""

    centre: np.ndarray
    axes: np.ndarray

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Returns 0 at the centre and 1 on the surface; points are `(rank, ...)`."""
        offset = points - self.centre.reshape(-1, *[1] * (points.ndim - 1))
        return np.sqrt(np.square(_dot(self.axes, offset)).sum(0))


def _draw(
    index: int, *, patient: np.ndarray, present: np.ndarray, size: int, rank: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns image `index`, uint8, and its lesion mask."""
    who = int(patient[index])
    body_rng, view_rng = (
        np.random.default_rng([seed, BODY, who]),
        np.random.default_rng([seed, VIEW, int(index)]),
    )
    points = _view(view_rng, size, rank)
    image, inside = _anatomy(body_rng, points)
    mask = np.zeros(image.shape, bool)
    for kind, centre in zip(LESIONS, _lesion_centres(body_rng, rank), strict=True):
        lesion_rng = np.random.default_rng(body_rng.integers(2**32))
        if present[who, LESIONS.index(kind)]:
            change, region = _lesion(lesion_rng, kind, points, centre)
            image = image + change * inside
            mask |= region
    return _expose(view_rng, image, inside), mask


def _view(rng: np.random.Generator, size: int, rank: int) -> np.ndarray:
    """Returns the body coordinates `(rank, size, ...)` that the pixels of one view see."""
    angles = rng.uniform(-0.2, 0.2, size=3)
    shift = rng.uniform(-0.08, 0.08, size=(rank, *[1] * rank)).astype(np.float32)
    return _dot(_rotation(angles, rank), _grid(size, rank)) + shift


@functools.lru_cache(maxsize=4)
def _grid(size: int, rank: int) -> np.ndarray:
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    return np.stack(np.meshgrid(*[axis] * rank, indexing="ij"))


def _rotation(angles: np.ndarray, rank: int) -> np.ndarray:
    """Returns a rotation matrix made of one turn in each plane."""
    matrix = np.eye(rank)
    planes = [(i, j) for i in range(rank) for j in range(i)]
    for angle, (i, j) in zip(angles, planes, strict=False):
        turn = np.eye(rank)
        turn[[i, j, i, j], [i, j, j, i]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix.astype(np.float32)


def _anatomy(rng: np.random.Generator, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the healthy body and a soft map of its inside."""
    rank = len(points)
    body = _blob(rng, np.zeros(rank), rng.uniform(0.74, 0.88, size=rank), turn=0.15)
    distance = body.distance(points) + 0.03 * _waves(rng, points, 4, low=2, high=5)
    inside = _step(0.93 - distance, 0.03)
    tissue = rng.uniform(0.32, 0.45) + 0.05 * _waves(rng, points, 6, low=3, high=9)
    for sign in rng.permutation([-1, -1, 1, 1])[: rng.integers(2, 5)]:
        centre = _direction(rng, rank) * rng.uniform(0.2, 0.5)
        organ = _blob(rng, centre, rng.uniform(0.1, 0.34, size=rank), turn=np.pi)
        tissue += sign * rng.uniform(0.06, 0.14) * _step(1 - organ.distance(points), 0.15)
    rim = rng.uniform(0.35, 0.5) * np.exp(-np.square((distance - 0.98) / (0.02 + 0.015 * rank)))
    return tissue * inside + rim, inside


def _lesion_centres(rng: np.random.Generator, rank: int) -> np.ndarray:
    """Returns four places `(4, rank)` in the body, apart from each other."""
    quarter = _rotation(np.array([np.pi / 2, 0, 0]), rank)
    place = np.zeros(rank)
    place[:2] = _direction(rng, 2)
    places = [np.linalg.matrix_power(quarter, k) @ place for k in rng.permutation(len(LESIONS))]
    jitter = rng.uniform(-0.1, 0.1, size=(len(LESIONS), rank)) * ([1, 1] if rank == 2 else [1, 1, 3])
    return np.array(places) * rng.uniform(0.32, 0.5, size=(len(LESIONS), 1)) + jitter


def _lesion(
    rng: np.random.Generator, kind: str, points: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a lesion adds to the image, and its region."""
    rank = len(points)
    blob = _blob(rng, centre, rng.uniform(0.15, 0.24, size=rank) * (1.35 if rank == 3 else 1), turn=np.pi)
    distance = blob.distance(points) + 0.12 * _waves(rng, points, 4, low=6, high=14)
    contrast = rng.uniform(0.2, 0.4)
    filled = _step(1 - distance, 0.12)
    grain = _waves(rng, points, 10, low=22, high=38)
    if kind == "ring":
        change = 1.2 * np.exp(-np.square((distance - 0.78) / 0.2)) - 0.3 * filled
    elif kind == "speckled":
        change = 1.1 * filled * np.tanh(2 * grain)
    else:
        change = (1 if kind == "bright" else -1) * filled * (1 + 0.25 * grain)
    return contrast * change, distance < 1


def _expose(rng: np.random.Generator, image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Adds speckle, detector noise, gain and offset, as uint8."""
    speckle = rng.standard_normal(image.shape, np.float32)
    for axis in range(image.ndim):
        speckle = speckle + np.roll(speckle, 1, axis)
    noisy = image * (1 + 0.11 * speckle / 2 ** (image.ndim / 2) * inside)
    noisy += 0.02 * rng.standard_normal(image.shape, np.float32)
    exposed = noisy * rng.uniform(0.85, 1.15) + rng.uniform(0.02, 0.06)
    return np.clip(255 * exposed, 0, 255).astype(np.uint8)


def _blob(rng: np.random.Generator, centre: np.ndarray, radii: np.ndarray, turn: float) -> _Blob:
    rotation = _rotation(rng.uniform(-turn, turn, size=3), len(centre))
    return _Blob(centre.astype(np.float32), (rotation / radii[:, None]).astype(np.float32))


def _waves(rng: np.random.Generator, points: np.ndarray, count: int, *, low: float, high: float) -> np.ndarray:
    """Returns a smooth texture of unit scale: plane waves of `low` to `high` radians per unit length."""
    rank = len(points)
    vectors = np.stack([_direction(rng, rank) * rng.uniform(low, high) for _ in range(count)]).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, size=(count, 1)).astype(np.float32)
    angles = _dot(vectors, points) + phases.reshape(-1, *[1] * rank)
    return np.cos(angles).sum(0) * np.sqrt(2 / count)


def _dot(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Multiplies `(m, rank)` by `(rank, ...)` without BLAS, whose threads stall on a busy machine."""
    return np.einsum("ij,j...->i...", matrix, points)


def _direction(rng: np.random.Generator, rank: int) -> np.ndarray:
    vector = rng.standard_normal(rank)
    return vector / np.linalg.norm(vector)


def _step(x: np.ndarray, width: float) -> np.ndarray:
    """Returns a smooth step from 0 to 1 around 0."""
    return 1 / (1 + np.exp(np.clip(-4 / width * x, -30, 30)))
