"""JPEG, JPEG-LS and JPEG 2000 streams in DICOM: what they say of their size, and their decoder."""

import functools
import importlib.util
import struct
import threading
from typing import Any

from medkeras.errors import InputError

PLUGIN = "imagecodecs"
JPEG_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
JPEG_2000_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
SYNTAXES = JPEG_SYNTAXES + JPEG_LS_SYNTAXES + JPEG_2000_SYNTAXES
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, (PLUGIN,))  # Part of what pydicom asks of a plugin.
JPEG, JPEG_2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
JPEG_FRAMES = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}  # F7 is JPEG-LS.
JPEG_SCAN = 0xDA
HEAD = 1 << 16
_LOCK = threading.Lock()


def check_codestream(stream: bytes, rows: int, columns: int, samples: int) -> None:
    """Checks that a compressed frame has the size that the DICOM header gives, before it is decoded.

    Raises:
        ValueError: If it has another size, or does not tell.

    Example:
        >>> check_codestream(b"no image", 8, 8, 1)
        Traceback (most recent call last):
        medkeras.InputError: the compressed pixels have no JPEG or JPEG 2000 header
    """
    found = codestream_shape(stream)
    if found is None:
        raise InputError("the compressed pixels have no JPEG or JPEG 2000 header")
    if found != (rows, columns, samples):
        raise InputError(
            f"Rows, Columns and SamplesPerPixel must be those of the compressed pixels, {found}. "
            f"Received: {(rows, columns, samples)}"
        )


def codestream_shape(stream: bytes) -> tuple[int, int, int] | None:
    """Returns `(height, width, channels)` of a JPEG, JPEG-LS or JPEG 2000 stream, or None if it does not tell.

    Example:
        >>> codestream_shape(bytes.fromhex("ffd8 ffc0 0011 08 0040 0030 03"))
        (64, 48, 3)
    """
    if stream.startswith(JPEG):
        return _jpeg_shape(stream)
    at = stream.find(JPEG_2000, 0, HEAD)  # Behind the boxes of a JP2 file, where there are any.
    if at < 0 or len(stream) < at + 42:
        return None
    right, bottom, left, top = struct.unpack(">4I", stream[at + 8 : at + 24])
    return bottom - top, right - left, int.from_bytes(stream[at + 40 : at + 42], "big")


def _jpeg_shape(stream: bytes) -> tuple[int, int, int] | None:
    at = 2
    while at + 10 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in JPEG_FRAMES:
            return struct.unpack(">HHB", stream[at + 5 : at + 10])
        if marker == JPEG_SCAN:
            return None
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None


@functools.cache
def register() -> None:
    """Gives pydicom imagecodecs as a decoder, so that every machine decodes alike whatever else is installed.

    libjpeg-turbo, CharLS and OpenJPEG, which are in it, refuse damaged streams that crash other decoders.
    """
    from pydicom.pixels import get_decoder

    with _LOCK:
        for syntax in SYNTAXES:
            decoder = get_decoder(syntax)
            if PLUGIN not in decoder.available_plugins:
                decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))


def is_available(syntax: str) -> bool:
    """Says whether a transfer syntax can be decoded; part of what pydicom asks of a plugin."""
    return syntax in SYNTAXES and importlib.util.find_spec("imagecodecs") is not None


def decode_frame(stream: bytes, runner: Any) -> bytes:
    """Decodes one frame; part of what pydicom asks of a plugin.

    Args:
        stream: The compressed frame.
        runner: The `pydicom.pixels.decoders.base.DecodeRunner`, which is told of the result's type.

    Returns:
        The values, pixel by pixel.
    """
    import imagecodecs

    syntax = runner.transfer_syntax
    if syntax in JPEG_LS_SYNTAXES:
        pixels = imagecodecs.jpegls_decode(stream)
    elif syntax in JPEG_2000_SYNTAXES:
        pixels = imagecodecs.jpeg2k_decode(stream, planar=False, numthreads=1)
        if str(runner.photometric_interpretation) in ("YBR_ICT", "YBR_RCT"):
            runner.set_option("photometric_interpretation", "RGB")
    else:
        # The same space in and out: pydicom converts, it knows the header.
        space = "GRAYSCALE" if runner.samples_per_pixel == 1 else "YCBCR"
        pixels = imagecodecs.jpeg8_decode(stream, colorspace=space, outcolorspace=space)
    if pixels.size != runner.frame_length(unit="pixels"):
        raise InputError(f"a frame has another size than its header says. Received: {pixels.shape}")
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.tobytes()
