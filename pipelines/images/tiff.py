"""TIFF: decoded by tifffile, and brought to grey or RGB of the stored type."""

import io
import logging
from typing import TYPE_CHECKING

import cv2
import numpy as np

from medkeras.errors import InputError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
GREY = (WHITE_IS_ZERO, BLACK_IS_ZERO)
SAMPLES = {WHITE_IS_ZERO: (1, 2), BLACK_IS_ZERO: (1, 2), RGB: (3, 4), PALETTE: (1,), CMYK: (4,), YCBCR: (3,)}
JPEG_CODES = (6, 7)


def _opened(data: bytes) -> "TiffFile":
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # Our own errors name the file.
    return tifffile.TiffFile(io.BytesIO(data))


def tiff_size(data: bytes) -> tuple[int, int, int]:
    """Returns height, width and channels of the first page.

    Raises:
        Exception: Of any type, if the header is damaged.
    """
    with _opened(data) as file:
        page = file.pages.first
        return page.imagelength, page.imagewidth, 1 if page.photometric in GREY else 3


def tiff_defect(data: bytes) -> str | None:
    """Returns why a TIFF is not one image, or None."""
    try:
        with _opened(data) as file:
            return "a TIFF of several pages is not one image" if len(file.pages) > 1 else None
    except Exception:  # Of any type, by the damage.
        return "truncated or damaged TIFF"


def read_tiff(data: bytes) -> np.ndarray:
    """Returns the image of the first page: `(H, W)`, or `(H, W, 3)` without alpha.

    Raises:
        ValueError: If it is damaged, or of a kind that is neither grey nor colours.
    """
    with _opened(data) as file:
        page = file.pages.first
        _check_kind(page)
        if page.photometric == YCBCR and page.compression not in JPEG_CODES:
            return _converted(data)
        try:
            pixels = page.asarray(maxworkers=1)
        except Exception as error:  # Of any type, by the damage.
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"truncated or damaged TIFF, or of a kind that is not read: {reason}") from error
        samples = page.samplesperpixel
        pixels = pixels.reshape((samples, *page.shape[-2:]) if page.planarconfig == 2 and samples > 1 else page.shape)
        pixels = np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 and samples > 1 else pixels
        return _grey(pixels, page) if page.photometric in GREY else _colours(pixels, page)


def _converted(data: bytes) -> np.ndarray:
    """Returns the RGB image of colours that tifffile gives as they are stored, converted by libtiff in OpenCV."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError("truncated or damaged TIFF, or of a kind that is not read")
    return np.ascontiguousarray(image[..., ::-1])


def _check_kind(page: "TiffPage") -> None:
    color, samples, bits = int(page.photometric), page.samplesperpixel, page.bitspersample
    fits = samples in SAMPLES.get(color, ()) and page.imagedepth == 1 and page.dtype is not None
    # Of other colours than RGB the meaning of the numbers is known for 8 bits alone.
    fits &= color in (*GREY, RGB) or bits <= 8
    if not fits:
        raise InputError(
            f"a TIFF of {bits} bits is grey, RGB or RGBA; this is of a kind that is not read. "
            f"Received: PhotometricInterpretation={color}, SamplesPerPixel={samples}"
        )
    if color == WHITE_IS_ZERO and (page.dtype.kind != "u" and bits > 1 or bits > 16):
        raise InputError(f"a TIFF whose zero is white has up to 16 bits. Received: {page.dtype}")


def _grey(pixels: np.ndarray, page: "TiffPage") -> np.ndarray:
    pixels = pixels[..., 0] if page.samplesperpixel > 1 else pixels
    largest = 2**page.bitspersample - 1
    if page.photometric == WHITE_IS_ZERO:
        pixels = largest - pixels.astype(np.uint8 if largest < 256 else np.uint16)
    return pixels.astype(np.uint8) * np.uint8(255 // largest) if largest < 255 else pixels


def _colours(pixels: np.ndarray, page: "TiffPage") -> np.ndarray:
    if page.photometric == PALETTE:
        palette = page.colormap >> 8 if page.colormap.max() > 255 else page.colormap
        return np.moveaxis(palette.astype(np.uint8)[:, pixels], 0, -1).copy()
    if page.photometric == CMYK:
        ink = 255 - pixels.astype(np.uint16)
        return (ink[..., :3] * ink[..., 3:] // 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., :3])
