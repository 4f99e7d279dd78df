"""What the first bytes of an image file tell, undecoded: its format and the shape it has when read."""

import dataclasses
import struct
from collections.abc import Iterator

from pipelines.images.tiff import tiff_size

PNG, BMP, TIFFS = b"\x89PNG\r\n\x1a\n", b"BM", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG, GIFS, RIFF = b"\xff\xd8\xff", (b"GIF87a", b"GIF89a"), b"RIFF"
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WebP")

PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # By colour type, alpha dropped.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_CHANNELS = {1: 1, 3: 3, 4: 3}  # By components; four are CMYK.
JPEG_SCAN = 0xDA


@dataclasses.dataclass(frozen=True)
class Header:
    """The format of an image file and its shape in pixels; `channels` is None where only the decoder knows."""

    format: str
    height: int
    width: int
    channels: int | None

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """`(height, width, channels)`, or None if the channels are not known."""
        return self.channels and (self.height, self.width, self.channels)


def image_format(head: bytes) -> str | None:
    """Returns which of `FORMATS` a file is by its first 12 bytes, whatever its name, or None.

    Example:
        >>> image_format(b"GIF89a" + bytes(8)), image_format(b"not an image")
        ('GIF', None)
    """
    if head.startswith(PNG):
        return "PNG"
    if head.startswith(JPEG):
        return "JPEG"
    if head.startswith(GIFS):
        return "GIF"
    if head.startswith(TIFFS):
        return "TIFF"
    if head.startswith(RIFF) and head[8:12] == b"WEBP":
        return "WebP"
    return "BMP" if head.startswith(BMP) else None


def read_header(head: bytes) -> Header | None:
    """Returns what the header tells, or None if the bytes are no image of `FORMATS` or too few.

    Args:
        head: The file from its start; 64 KiB tell nearly always, except of a TIFF, whose header may stand at
            its end.

    Example:
        >>> read_header(b"GIF89a" + struct.pack("<HH", 6, 4)).shape
        (4, 6, 3)
    """
    kind = image_format(head)
    if kind is None:
        return None
    try:
        header = Header(kind, *READERS[kind](head))
    except (struct.error, KeyError, StopIteration):
        return None
    return header if header.height > 0 and header.width > 0 else None


def _png(head: bytes) -> tuple[int, int, int | None]:
    name, width, height, _, color = struct.unpack_from(">4sIIBB", head, 12)
    return (height, width, PNG_CHANNELS.get(color)) if name == b"IHDR" else (0, 0, None)


def _jpeg(head: bytes) -> tuple[int, int, int | None]:
    at = next(at for marker, at in jpeg_segments(head) if marker in JPEG_FRAMES)
    height, width, components = struct.unpack_from(">HHB", head, at + 5)
    return height, width, JPEG_CHANNELS.get(components)


def _bmp(head: bytes) -> tuple[int, int, int | None]:
    if struct.unpack_from("<I", head, 14)[0] == 12:  # The header of OS/2.
        width, height, _, bits = struct.unpack_from("<HHHH", head, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", head, 18)
    return abs(height), width, 3 if bits > 8 else None  # A palette may be grey.


def _gif(head: bytes) -> tuple[int, int, int | None]:
    width, height = struct.unpack_from("<HH", head, 6)
    return height, width, 3


def _webp(head: bytes) -> tuple[int, int, int | None]:
    chunk = head[12:16]
    if chunk == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", head, 24)
        width, height = 1 + (low_w | high_w << 16), 1 + (low_h | high_h << 16)
    elif chunk == b"VP8L":
        bits = struct.unpack_from("<I", head, 21)[0]
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", head, 26))
    else:
        raise struct.error(f"no WebP chunk: {chunk!r}")
    return height, width, 3


READERS = {"PNG": _png, "JPEG": _jpeg, "BMP": _bmp, "GIF": _gif, "TIFF": tiff_size, "WebP": _webp}


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
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
