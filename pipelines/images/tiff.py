"""TIFF: what its tags tell, which kinds OpenCV reads wrongly, and what it leaves to be done.

OpenCV scrambles planes of 16 bits, multiplies colours by an alpha that stands beside them, and gives 16-bit
images whose zero is white as their negative, all without an error.
"""

import struct
from collections.abc import Iterator

import numpy as np

from medkeras.errors import InputError

WIDTH, HEIGHT, BITS, COLOR, SAMPLES, PLANES, EXTRA = 256, 257, 258, 262, 277, 284, 338
NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # Types of whole numbers; all others are stepped over.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
GREY_SAMPLES = {(WHITE_IS_ZERO, 1), (BLACK_IS_ZERO, 1)}
DEEP_SAMPLES = GREY_SAMPLES | {(RGB, 3), (RGB, 4)}  # What OpenCV reads rightly beyond 8 bits.
UNASSOCIATED = 2


def tiff_pages(data: bytes) -> Iterator[dict[int, int]]:
    """Yields the tags of every page of a TIFF or BigTIFF: the first number of each tag of whole numbers.

    Args:
        data: The file; pages may stand anywhere in it.

    Raises:
        struct.error: If a page lies beyond the bytes.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count_form, offset_form, size = ("Q", "Q", 20) if big else ("H", "I", 12)
    at = _number(data, order + offset_form, 8 if big else 4)
    seen = set()
    while at and at not in seen:
        seen.add(at)
        first = at + struct.calcsize(count_form)
        after = first + size * _number(data, order + count_form, at)
        following = _number(data, order + offset_form, after)
        yield dict(_tags(data, order, range(first, after, size), offset_form))
        at = following


def _number(data: bytes, form: str, at: int) -> int:
    return struct.unpack_from(form, data, min(at, len(data)))[0]


def _tags(data: bytes, order: str, entries: range, offset_form: str) -> Iterator[tuple[int, int]]:
    """Yields `(tag, number)`; more numbers than an entry has room for stand where its offset points."""
    room = struct.calcsize(offset_form)
    for at in entries:
        tag, kind, count = struct.unpack_from(order + "HH" + offset_form, data, at)
        if kind in NUMBERS and count:
            place = at + 4 + room
            if count * struct.calcsize(NUMBERS[kind]) > room:
                place = _number(data, order + offset_form, place)
            yield tag, _number(data, order + NUMBERS[kind], place)


def tiff_size(head: bytes) -> tuple[int, int, int | None]:
    """Returns height, width and channels of the first page; channels are None where only the decoder knows.

    Raises:
        struct.error: If the page lies beyond the bytes.
        KeyError: If it has no size.
    """
    tags = next(tiff_pages(head), {})
    color = tags.get(COLOR)
    grey = (color, tags.get(SAMPLES, 1)) in GREY_SAMPLES
    channels = 1 if grey else 3 if color in (RGB, PALETTE, CMYK, YCBCR) else None
    return tags[HEIGHT], tags[WIDTH], channels


def tiff_defect(data: bytes) -> str | None:
    """Returns why a TIFF is not one image that OpenCV reads as it is stored, or None."""
    try:
        pages = list(tiff_pages(data))
    except struct.error:
        return "truncated TIFF"
    if len(pages) > 1:
        return "a TIFF of several pages is not one image"
    tags = pages[0] if pages else {}
    bits, samples, planes = tags.get(BITS, 1), tags.get(SAMPLES, 1), tags.get(PLANES, 1)
    if bits > 8 and ((tags.get(COLOR), samples) not in DEEP_SAMPLES or (planes == 2 and samples > 1)):
        return f"a TIFF of {bits} bits is grey, RGB or RGBA by pixel. Received: {_described(tags)}"
    return None


def _described(tags: dict[int, int]) -> str:
    names = {"PhotometricInterpretation": COLOR, "SamplesPerPixel": SAMPLES, "PlanarConfiguration": PLANES}
    return ", ".join(f"{name}={tags.get(tag)}" for name, tag in names.items())


def as_stored(image: np.ndarray, data: bytes) -> np.ndarray:
    """Undoes what OpenCV did to a decoded TIFF.

    Args:
        image: As decoded: `(H, W)`, or `(H, W, C)` with the alpha last.
        data: The file.

    Raises:
        ValueError: If a colour image of 8 bits is transparent somewhere: OpenCV has lost colours by that; or if
            floats have white at zero.
    """
    tags = next(tiff_pages(data))
    if image.dtype == np.uint8:
        if image.ndim == 3 and tags.get(EXTRA) == UNASSOCIATED and image[..., 3:].min(initial=255) < 255:
            raise InputError("a transparent TIFF is not read; save it without alpha")
        return image
    if tags.get(COLOR) != WHITE_IS_ZERO:
        return image
    if image.dtype == np.uint16 and tags.get(BITS) == 16:
        return np.iinfo(image.dtype).max - image
    raise InputError(f"a TIFF whose zero is white has up to 16 bits. Received: {image.dtype}")
