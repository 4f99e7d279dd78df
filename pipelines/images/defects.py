"""Why the bytes of an image file are not one whole image: what the formats' own structure and checksums tell.

OpenCV decodes a truncated file with grey where the data end, and the first frame of many, so a file is checked
before it is decoded. PNG has checksums. JPEG has none: damage that leaves its structure sound decodes to wrong
pixels, and nothing in the file can tell. Pillow reads on over what is looked for here: see
`test_pillow_does_not_see_what_is_checked_here` in tests/pipelines/images/test_bad_files.py.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from pipelines.images.headers import FORMATS, PNG, image_format, opened, read_header
from pipelines.images.tiff import tiff_defect

JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN = 0xDA
JPEG_END, JPEG_RESTARTS = 0xD9, range(0xD0, 0xD8)
JPEG_BETWEEN_SCANS = {0xC4, 0xCC, JPEG_SCAN, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)}
JPEG_ADOBE = 0xEE
GIF_FRAME, GIF_EXTENSION, GIF_END = 0x2C, 0x21, 0x3B


def defect(data: bytes) -> str | None:
    """Returns why the bytes of an image file are not one whole image, or None if nothing is seen to be wrong.

    Args:
        data: The whole file.

    Example:
        >>> defect(b"")
        'zero bytes'
        >>> defect(PNG + b"half")
        'truncated PNG'
    """
    if not data:
        return "zero bytes"
    kind = image_format(data)
    if kind is None:
        return f"not an image of {', '.join(FORMATS)}"
    found = CHECKS[kind](data)
    return found or (None if read_header(data) else f"damaged {kind}, no size in its header")


def _png_defect(data: bytes) -> str | None:
    at, kind = len(PNG), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            return "truncated PNG"
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return "truncated PNG"
        if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return "damaged PNG, wrong checksum"
        if kind == b"acTL" and int.from_bytes(data[at + 8 : at + 12], "big") > 1:
            return "an animated PNG is not one image"
        at = end + 4
    return None


def _jpeg_defect(data: bytes) -> str | None:
    segments = {marker: at for marker, at in _jpeg_segments(data)}
    if JPEG_SCAN not in segments:
        return "truncated JPEG"
    frame = next((at for marker, at in segments.items() if marker in JPEG_FRAMES), None)
    if frame is not None and data[frame + 9] == 4 and not _has_adobe_marker(data, segments):
        return "a CMYK JPEG without the Adobe marker does not tell which value is full ink"
    return _jpeg_scans_defect(data, segments[JPEG_SCAN])


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields `(marker, offset)` of the segments up to the first scan, stepping over thumbnails in them."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # A fill byte.
            at += 1
            continue
        yield marker, at
        if marker == JPEG_SCAN:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _has_adobe_marker(data: bytes, segments: dict[int, int]) -> bool:
    return JPEG_ADOBE in segments and data.startswith(b"Adobe", segments[JPEG_ADOBE] + 4)


def _jpeg_scans_defect(data: bytes, start: int) -> str | None:
    """Walks the markers from the first scan to the end of the image."""
    end, restart = start, 0
    for marker, at in _jpeg_markers(data, start):
        if at < end:  # Inside a segment.
            continue
        if marker == JPEG_END:
            return None
        if marker in JPEG_RESTARTS:
            if marker != JPEG_RESTARTS[restart % 8]:
                return "damaged JPEG, restart markers out of order"
            restart += 1
        elif marker in JPEG_BETWEEN_SCANS:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            restart = 0
        else:
            return f"damaged JPEG, marker {marker:#x} among the pixels"
    return "truncated JPEG"


def _jpeg_markers(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yields `(marker, offset)` of all bytes 0xFF that are followed neither by 0, which escapes, nor by 0xFF."""
    codes = np.frombuffer(data, np.uint8)[start:]
    offsets = np.flatnonzero(codes[:-1] == 0xFF)
    following = codes[offsets + 1]
    chosen = (following != 0) & (following != 0xFF)
    yield from zip(following[chosen].tolist(), (offsets[chosen] + start).tolist(), strict=True)


def _bmp_defect(data: bytes) -> str | None:
    return "truncated BMP" if len(data) < int.from_bytes(data[2:6], "little") else None


def _gif_defect(data: bytes) -> str | None:
    frames, at = 0, 13 + _gif_colors(data, 10)
    while at < len(data) and data[at] != GIF_END:
        if data[at] == GIF_FRAME:
            frames += 1
            at = _after_gif_blocks(data, at + 11 + _gif_colors(data, at + 9))
        elif data[at] == GIF_EXTENSION:
            at = _after_gif_blocks(data, at + 2)
        else:
            return "damaged GIF, unknown block"
    if at >= len(data) or frames == 0:
        return "truncated GIF"
    return "an animated GIF is not one image" if frames > 1 else None


def _gif_colors(data: bytes, at: int) -> int:
    """Returns the bytes of the palette that the flags at an offset announce."""
    flags = int.from_bytes(data[at : at + 1])
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _webp_defect(data: bytes) -> str | None:
    try:
        frames = opened(data, "WebP").n_frames
    except Exception:  # Of any type, by the damage.
        return "truncated or damaged WebP"
    return "an animated WebP is not one image" if frames > 1 else None


CHECKS = {
    "PNG": _png_defect,
    "JPEG": _jpeg_defect,
    "BMP": _bmp_defect,
    "GIF": _gif_defect,
    "TIFF": tiff_defect,
    "WebP": _webp_defect,
}
