"""Fundus photographs: the retina's disc cut out, and its colours taken relative to their surroundings."""

import dataclasses
import math
from typing import ClassVar

import cv2
import numpy as np

from medkeras.errors import InputError
from pipelines.images.decode import to_float
from pipelines.preprocess.disc import Disc, brightest, find_disc
from pipelines.preprocess.step import Step, from_float

ABSENT = ("keep", "raise")
GAIN = 4.0
SIGMA = 1 / 30  # Of the local average, in radii of the disc.
FINE_SIGMA = 6.0  # Pixels; a wider average is taken on a smaller image.
DARK = 0.1  # Of the retina's median brightness; a row of darker pixels lies beyond a cut.


@dataclasses.dataclass(frozen=True)
class FundusCrop(Step):
    """Cuts a fundus photograph to the bounding square of the retina's disc, black outside.

    A disc that the camera cut at the top and bottom gets its missing part in black, so that every retina comes
    out round and of one scale.

    Args:
        margin: What is kept beyond the disc's edge, as a share of its radius, in [0, 1): rims are not quite
            round, and what lies on them is retina.
        absent: What to do with an image on which no disc is seen, because it is black, no fundus photograph,
            or cropped within the retina already: `"keep"` leaves it as it is, `"raise"` refuses it.

    Raises:
        ValueError: If an option is out of its range, an image has neither 1 nor 3 channels, or no disc is seen
            and `absent` is `"raise"`.

    Example:
        >>> image = np.zeros((80, 100, 3), np.uint8)
        >>> image[Disc(40.0, 45.0, 30.0).inside((80, 100))] = 200
        >>> FundusCrop(margin=0.0)(image).shape
        (61, 61, 3)
    """

    margin: float = 0.01
    absent: str = "keep"
    name: ClassVar[str] = "fundus-crop"
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise InputError(f"`margin` must be in [0, 1). Received: margin={self.margin}")
        _check_absent(self.absent)

    def change_image(self, image: np.ndarray) -> np.ndarray:
        """Cuts the image."""
        disc = self._kept(image)
        return _cut(image, disc) if disc else image

    def change_mask(self, mask: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Cuts the mask as the image, False outside."""
        disc = self._kept(image)
        return _cut(mask[..., None], disc)[..., 0] if disc else mask

    def _kept(self, image: np.ndarray) -> Disc | None:
        disc = _disc_of(image, self)
        return disc and disc._replace(radius=disc.radius * (1 + self.margin))


@dataclasses.dataclass(frozen=True)
class FundusNormalize(Step):
    """Takes each colour relative to its local average: 4 (image - average) + 0.5, grey outside the disc.

    It evens out the light over a retina and between cameras. The average is Gaussian, of a thirtieth of the
    disc's radius, and of the disc's own pixels alone: taken with the black ground, the rim would come out
    bright, which is why the source cuts a tenth of the radius away. Where no disc is seen, the whole image
    counts as retina, half its longer side as the radius.

    Args:
        absent: What to do with an image on which no disc is seen: `"keep"` takes it whole, `"raise"` refuses
            it.

    Raises:
        ValueError: If `absent` is neither, an image has neither 1 nor 3 channels, or no disc is seen and
            `absent` is `"raise"`.

    Reference:
        Graham, Kaggle Diabetic Retinopathy Detection competition report, 2015.

    Example:
        >>> image = np.zeros((80, 100, 3), np.float32)
        >>> image[Disc(40.0, 45.0, 30.0).inside((80, 100))] = 0.8
        >>> bool(np.allclose(FundusNormalize()(image), 0.5))
        True
    """

    absent: str = "keep"
    name: ClassVar[str] = "fundus-normalize"

    def __post_init__(self) -> None:
        _check_absent(self.absent)

    def change_image(self, image: np.ndarray) -> np.ndarray:
        """Takes the colours relative to their local average."""
        disc = _disc_of(image, self)
        retina = _retina(image, disc) if disc else np.ones(image.shape[:2], bool)
        sigma = SIGMA * (disc.radius if disc else max(image.shape[:2]) / 2)
        colours = np.where(retina[..., None], to_float(image), np.float32(0))
        relative = GAIN * (colours - _local_average(colours, retina, sigma)) + np.float32(0.5)
        relative[~retina] = 0.5
        return from_float(relative, image.dtype)


def _check_absent(absent: str) -> None:
    if absent not in ABSENT:
        raise InputError(f"`absent` must be one of {', '.join(ABSENT)}. Received: absent={absent!r}")


def _disc_of(image: np.ndarray, step: FundusCrop | FundusNormalize) -> Disc | None:
    if image.shape[-1] not in (1, 3):
        raise InputError(f"{step.name} takes 1 or 3 channels. Received: {image.shape[-1]}")
    disc = find_disc(image)
    if disc is None and step.absent == "raise":
        raise InputError(f"{step.name} needs a bright disc on a dark ground. Received: an image without")
    return disc


def _cut(image: np.ndarray, disc: Disc) -> np.ndarray:
    """Returns the bounding square of the disc, zero outside the disc and outside the image."""
    reach = round(disc.radius)
    top, left = round(disc.row) - reach, round(disc.column) - reach
    side = 2 * reach + 1
    part = image[max(top, 0) : top + side, max(left, 0) : left + side]
    before = max(-top, 0), max(-left, 0)
    margins = [(n, side - n - size) for n, size in zip(before, part.shape, strict=False)]
    square = np.pad(part, [*margins, (0, 0)])
    square[~Disc(disc.row - top, disc.column - left, disc.radius).inside(square.shape)] = 0
    return square


def _retina(image: np.ndarray, disc: Disc) -> np.ndarray:
    """Returns the pixels of the disc without those above, below or beside a straight cut, boolean `(H, W)`."""
    inside = disc.inside(image.shape)
    grey = brightest(image)
    bright = inside & (grey > DARK * np.median(grey[inside]))
    for axis in (0, 1):
        lit = np.flatnonzero(bright.sum(axis=1 - axis) > inside.sum(axis=1 - axis) / 2)
        beyond = np.ones(inside.shape[axis], bool)
        beyond[lit[0] : lit[-1] + 1] = False
        inside[np.expand_dims(beyond, 1 - axis) & inside] = False
    return inside


def _local_average(colours: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """Returns the Gaussian average about each pixel, of the pixels inside alone; the others are 0 in `colours`.

    A wide average is taken on a smaller image, where it costs less and differs little.
    """
    height, width, channels = colours.shape
    step = max(math.floor(sigma / FINE_SIGMA), 1)
    size = (-(-width // step), -(-height // step))
    blurred, weight = (
        cv2.GaussianBlur(
            cv2.resize(values, size, interpolation=cv2.INTER_AREA),
            (0, 0),
            sigma / step,
            borderType=cv2.BORDER_CONSTANT,
        ).reshape(size[1], size[0], -1)
        for values in (colours, inside.astype(np.float32))
    )
    average = blurred / np.maximum(weight, 1e-6)
    return cv2.resize(average, (width, height), interpolation=cv2.INTER_LINEAR).reshape(colours.shape)
