"""What the header of an image file tells, undecoded: its format and the shape it has when read."""

import dataclasses
import io
from typing import BinaryIO

from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from pipelines.images.tiff import tiff_size

PNG, BMP, TIFFS = b"\x89PNG\r\n\x1a\n", b"BM", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG, GIFS, RIFF = b"\xff\xd8\xff", (b"GIF87a", b"GIF89a"), b"RIFF"
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WebP")
# The readers themselves: `Image.open` would refuse large images by a limit that is the whole process's.
PILLOW: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
GREY_MODES = ("1", "L", "LA", "I", "I;16")


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


def opened(data: bytes | BinaryIO, kind: str) -> Image.Image:
    """Returns an image of a format of `PILLOW`, of which Pillow has read the header.

    Raises:
        Exception: Of any type, if the header is damaged.
    """
    return PILLOW[kind](io.BytesIO(data) if isinstance(data, bytes) else data)


def read_header(data: bytes | BinaryIO) -> Header | None:
    """Returns what the header tells, or None if there is no image of `FORMATS` or too little of one.

    Args:
        data: The file, or its bytes.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (6, 4)).save(file, "BMP")
        >>> read_header(file.getvalue()).shape
        (4, 6, 3)
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    kind = image_format(file.read(12))
    file.seek(0)
    try:
        header = Header(kind, *(tiff_size(file.read()) if kind == "TIFF" else _shape(file, kind)))
    except Exception:  # Pillow raises whatever the damage leads to.
        return None
    return header if header.height > 0 and header.width > 0 else None


def _shape(file: BinaryIO, kind: str) -> tuple[int, int, int]:
    image = opened(file, kind)
    # A GIF has a palette, be it grey.
    return image.height, image.width, 1 if image.mode in GREY_MODES and kind != "GIF" else 3
