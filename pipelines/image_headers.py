"""What the bytes of a PNG or JPEG tell undecoded: the stored shape, and whether the file is whole.

OpenCV decodes a truncated file with grey where the data end, so a file is checked before it is decoded.
"""

import struct
import zlib
from collections.abc import Iterator

PNG, JPEG, BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"
PNG_CHANNELS = {
    0: 1,
    2: 3,
    4: 3,
    6: 3,
}  # By colour type, alpha dropped; a palette (3) is left to the decoder.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN = 0xDA


def defect(data: bytes) -> str | None:
    """Returns why the bytes of an image file are not a whole image, or None if nothing is seen to be wrong.

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
    if data.startswith(PNG):
        return _png_defect(data)
    if data.startswith(JPEG):
        scan = next((at for marker, at in _jpeg_segments(data) if marker == JPEG_SCAN), None)
        return "truncated JPEG" if scan is None or data.find(b"\xff\xd9", scan) < 0 else None
    if data.startswith(BMP) and len(data) < int.from_bytes(data[2:6], "little"):
        return "truncated BMP"
    return None


def header_shape(head: bytes) -> tuple[int, int, int] | None:
    """Returns `(height, width, channels)` from the first bytes of a PNG or JPEG, or None if they do not tell.

    Args:
        head: The file from its start; 64 KiB tell nearly always.

    Example:
        >>> header_shape(b"GIF89a") is None
        True
    """
    if head.startswith(PNG) and len(head) >= 26:
        width, height, _, color = struct.unpack(">IIBB", head[16:26])
        return (height, width, PNG_CHANNELS[color]) if color in PNG_CHANNELS else None
    if head.startswith(JPEG):
        for marker, at in _jpeg_segments(head):
            if marker in JPEG_FRAMES and at + 10 <= len(head):
                height, width, components = struct.unpack(">HHB", head[at + 5 : at + 10])
                return height, width, 1 if components == 1 else 3
    return None


def _png_defect(data: bytes) -> str | None:
    at, kind = len(PNG), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            return "truncated PNG"
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 8 + length
        if end + 4 > len(data):
            return "truncated PNG"
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return "damaged PNG, wrong checksum"
        at = end + 4
    return None


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
