"""How alike two images are, whatever their size, contrast, small crops, flips and right-angle turns."""

import cv2
import numpy as np

from pipelines.images.decode import fit_stored

SIDE = 48  # Pixels of a thumbnail.
FREQUENCIES = 6  # Per axis, in a description.
CROP = 0.2  # Largest shift of an edge that alignment looks for, in half widths.
# Of Gauss-Newton: pixels of the thumbnail, blur in them, and steps; from coarse to fine, so that it finds the way.
SCHEDULE = ((SIDE // 4, 1.0, 6), (SIDE // 2, 0.75, 4), (SIDE, 0.0, 4))
MARGIN = 0.05  # By which detail may add to a likeness.
BATCH = 256  # Pairs aligned at once.
CHUNK = 4096  # Thumbnails described at once.


def thumbnail(image: np.ndarray, *, rank: int = 2) -> np.ndarray:
    """Returns a small grey picture of an image, its values stretched to the whole of uint8.

    Args:
        image: As stored, see `pipelines.images.records.Records.read`. Of a volume, a thin slab in its middle is
            taken: the mean of more would wash out what tells two bodies apart.
        rank: 2 for an image, 3 for a volume.

    Returns:
        uint8 `(48, 48)`; all 0 for an image of one value.

    Raises:
        ValueError: If the image is of no type or shape that is read.

    Example:
        >>> picture = thumbnail(np.arange(64, dtype=np.uint16).reshape(8, 8))
        >>> picture.shape, picture.dtype, int(picture.min()), int(picture.max())
        ((48, 48), dtype('uint8'), 0, 255)
    """
    if rank == 3:
        outer = (len(image) - 1 - len(image) // 32) // 2  # As much on both sides: a volume upside down gives the same.
        image = image[outer : len(image) - outer].mean(axis=0, dtype=np.float32)
        image = image / max(float(image.max()), 1e-9)
    if image.ndim == 3 and image.shape[-1] not in (1, 3):
        image = image.mean(axis=-1, dtype=np.float32)
        image = image / max(float(image.max()), 1e-9)
    picture = fit_stored(image, (SIDE, SIDE, 1))[..., 0].astype(np.float32)
    low, high = float(picture.min()), float(picture.max())
    if high <= low:
        return np.zeros((SIDE, SIDE), np.uint8)
    return np.rint((picture - low) * (255 / (high - low))).astype(np.uint8)


def describe(thumbnails: np.ndarray) -> np.ndarray:
    """Returns the coarse structure of thumbnails as unit vectors, float32 `(n, 36)`.

    They are the lowest cosine frequencies, without the mean, each weighted by the root of its frequency: the
    spectrum of images falls with frequency, and so finer structure still counts. A flat thumbnail has zeros.

    Args:
        thumbnails: `(n, 48, 48)`.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (2, 48, 48))
        >>> (describe(noise) @ describe(noise).T).round(2).diagonal().tolist()
        [1.0, 1.0]
    """
    basis = cv2.dct(np.eye(SIDE, dtype=np.float32), flags=cv2.DCT_ROWS).T[:FREQUENCIES]
    along = np.arange(FREQUENCIES, dtype=np.float32)
    weights = np.sqrt(np.hypot(along[:, None], along))
    found = np.empty((len(thumbnails), FREQUENCIES, FREQUENCIES), np.float32)
    for start in range(0, len(found), CHUNK):
        part = slice(start, start + CHUNK)
        found[part] = basis @ thumbnails[part].astype(np.float32) @ basis.T * weights
    return unit(found.reshape(len(found), -1))


def turned(thumbnails: np.ndarray) -> list[np.ndarray]:
    """Returns thumbnails as they are and in the seven other ways of flips and right-angle turns.

    Args:
        thumbnails: `(n, side, side)`.

    Example:
        >>> [int(t[0, 0, 0]) for t in turned(np.arange(4).reshape(1, 2, 2))]
        [0, 1, 2, 3, 0, 2, 1, 3]
    """
    return [each[:, ::y, ::x] for each in (thumbnails, thumbnails.transpose(0, 2, 1)) for y in (1, -1) for x in (1, -1)]


def turned_descriptions(descriptions: np.ndarray) -> list[np.ndarray]:
    """Returns the descriptions of `turned` thumbnails, in that order: signs change, or the axes do.

    Args:
        descriptions: As by `describe`.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (2, 48, 48))
        >>> bool(np.allclose(turned_descriptions(describe(noise))[5], describe(turned(noise)[5]), atol=1e-5))
        True
    """
    square = descriptions.reshape(-1, FREQUENCIES, FREQUENCIES)
    odd = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)
    signs = [y * x for y in (1.0, odd[:, None]) for x in (1.0, odd)]
    return [(each * sign).reshape(descriptions.shape) for each in (square, square.transpose(0, 2, 1)) for sign in signs]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors `(n, size)` scaled to length 1; one of zeros stays.

    Example:
        >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def likeness(first: np.ndarray, second: np.ndarray, *, at_least: float = -1.0) -> np.ndarray:
    """Returns how alike pairs of thumbnails are: the correlation of their gradients where they overlap.

    Before, one of a pair is aligned to the other: each axis is shifted and scaled, as by a crop, by least squares
    (Gauss-Newton). It is done both ways, and the better one counts: the order of a pair does not matter.
    Gradients, unlike values, tell images of one layout apart.

    Args:
        first: `(pairs, 48, 48)`.
        second: `(pairs, 48, 48)`.
        at_least: Pairs well below it at a quarter or half of the size are left at that: detail only parts them more.

    Returns:
        float32 `(pairs,)` in [-1, 1]; 0 where a thumbnail is flat.

    Example:
        >>> blob = np.exp(-((np.arange(48) - 20) ** 2) / 90)
        >>> picture = (255 * blob[:, None] * blob).astype(np.uint8)[None]
        >>> likeness(picture, 40 + picture // 2).round(2).tolist()
        [1.0]
    """
    scores = np.zeros(len(first), np.float32)
    for start in range(0, len(first), BATCH):
        part = slice(start, start + BATCH)
        a, b = _standardised(first[part]), _standardised(second[part])
        scores[part] = np.maximum(_aligned_likeness(a, b, at_least), _aligned_likeness(b, a, at_least))
    return scores


def _aligned_likeness(first: np.ndarray, second: np.ndarray, at_least: float) -> np.ndarray:
    """Aligns from coarse to fine; a pair that is unlike stays behind."""
    scores = np.zeros(len(first), np.float32)
    places, left = np.zeros((len(first), 4), np.float32), np.arange(len(first))
    for side, blur, steps in SCHEDULE:
        if not len(left):
            break
        a, b = _shrunk(first[left], side), _shrunk(second[left], side)
        places[left] = _align(_blurred(a, blur), _blurred(b, blur), places[left], steps)
        scores[left] = _gradient_correlation(a, b, places[left])
        left = left[scores[left] >= at_least - MARGIN]
    return scores


def _align(a: np.ndarray, b: np.ndarray, places: np.ndarray, steps: int) -> np.ndarray:
    """Improves by least squares where `a` lies in `b`: stretch and shift of the rows, then of the columns."""
    side = a.shape[1]
    along = np.linspace(-1, 1, side, dtype=np.float32)
    for _ in range(steps):
        warped, inside = _warp(b, places)
        down, right = np.gradient(warped, axis=(1, 2))
        slopes = (down * along[:, None], down, right * along, right, warped, np.ones_like(warped))
        slopes = np.stack(slopes, 1).reshape(len(a), 6, -1) * inside.reshape(len(a), 1, -1)
        normal = slopes @ slopes.transpose(0, 2, 1)
        # A little damping keeps flat images solvable.
        damping = 1e-5 * np.trace(normal, axis1=1, axis2=2) + 1e-6
        normal += damping[:, None, None] * np.eye(6, dtype=np.float32)
        solved = np.linalg.solve(normal, slopes @ a.reshape(len(a), -1, 1))[..., 0]
        gain = np.where(np.abs(solved[:, 4:5]) > 1e-3, solved[:, 4:5], 1)  # The contrast of `a` against `b`.
        move = np.clip(solved[:, :4] / gain * (2 / (side - 1)), -0.05, 0.05)
        places = np.clip(places + move, -CROP, CROP)
    return places


def _warp(images: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples each image linearly at its place; also returns which pixels lie inside it."""
    side = images.shape[1]
    along = np.linspace(-1, 1, side, dtype=np.float32)
    stretch, shift = 1 + places[:, 0::2, None], places[:, 1::2, None]
    at = (stretch * along + shift + 1) * ((side - 1) / 2)
    inside = (at > -0.5) & (at < side - 0.5)
    weights = np.maximum(0, 1 - np.abs(np.clip(at, 0, side - 1)[..., None] - np.arange(side, dtype=np.float32)))
    rows, columns = weights[:, 0], weights[:, 1]
    return rows @ images @ columns.transpose(0, 2, 1), inside[:, 0, :, None] & inside[:, 1, None, :]


def _gradient_correlation(a: np.ndarray, b: np.ndarray, places: np.ndarray) -> np.ndarray:
    warped, inside = _warp(b, places)
    both = inside[:, 1:, 1:] & inside[:, :-1, :-1]
    product, power_a, power_b = (np.zeros(len(a), np.float32) for _ in range(3))
    for slope_a, slope_b in zip(_slopes(a), _slopes(warped), strict=True):
        product += (slope_a * slope_b * both).sum(axis=(1, 2))
        power_a += (slope_a**2 * both).sum(axis=(1, 2))
        power_b += (slope_b**2 * both).sum(axis=(1, 2))
    return product / np.sqrt(np.maximum(power_a * power_b, 1e-12))


def _slopes(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corner = images[:, :-1, :-1]
    return images[:, 1:, :-1] - corner, images[:, :-1, 1:] - corner


def _blurred(images: np.ndarray, blur: float) -> np.ndarray:
    if not blur:
        return images
    along = np.arange(images.shape[1])
    weights = np.exp(-0.5 * ((along[:, None] - along) / blur) ** 2)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights @ images @ weights.T


def _shrunk(images: np.ndarray, side: int) -> np.ndarray:
    while images.shape[1] > side:
        images = images[:, ::2] + images[:, 1::2]
        images = (images[:, :, ::2] + images[:, :, 1::2]) * np.float32(0.25)
    return images


def _standardised(images: np.ndarray) -> np.ndarray:
    images = images.astype(np.float32)
    images = images - images.mean(axis=(1, 2), keepdims=True)
    return images / np.maximum(images.std(axis=(1, 2), keepdims=True), 1e-6)
