"""The pixels of a DICOM file as they are stored: their layout, checked for contradictions, and their decoding."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medkeras.errors import InputError
from pipelines.sources.dicom.codecs import PLUGIN, SYNTAXES, check_codestream, is_available, register
from pipelines.sources.dicom.file import foreign, numbers, value

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_PIXELS = 2**28
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
SAMPLES = dict.fromkeys((*GREY, "PALETTE COLOR"), 1) | dict.fromkeys(COLOR, 3)
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How the pixels of a file are stored.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        frames: Number of frames, 1 for a plain image.
        samples: Values per pixel, 1 or 3.
        photometric: What the values mean, as `MONOCHROME2` or `RGB`.
        bits_allocated: Bits of memory per value.
        bits_stored: Bits of them that are used.
        signed: Whether values may be negative.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    signed: bool

    @property
    def stored_range(self) -> tuple[int, int]:
        """The smallest and the largest value that the stored bits hold."""
        half = 2 ** (self.bits_stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    @property
    def row_bytes(self) -> float:
        """Bytes of one uncompressed row; not whole where pixels are packed bits."""
        subsampled = 2 / 3 if self.photometric == "YBR_FULL_422" else 1
        return self.columns * self.samples * self.bits_allocated / 8 * subsampled


def _whole(dataset: "Dataset", keyword: str, low: int, high: int, default: int | None = None) -> int:
    """Returns an element that is one whole number from `low` to `high`."""
    found = numbers(dataset, keyword) or ([] if default is None else [default])
    if not found:
        raise InputError(f"{keyword} is missing")
    if len(found) > 1 or found[0] % 1 or not low <= found[0] <= high:
        raise InputError(f"{keyword} must be a whole number from {low} to {high}. Received: {found}")
    return int(found[0])


def layout_of(dataset: "Dataset") -> Layout:
    """Returns the layout of the pixels, checked for contradictions; the pixels need not be read.

    Raises:
        ValueError: If an element is missing, out of range, or contradicts another.
    """
    allocated = _whole(dataset, "BitsAllocated", 1, 64)
    if allocated not in (1, 8, 16, 32, 64):
        raise InputError(f"BitsAllocated must be 1, 8, 16, 32 or 64. Received: {allocated}")
    floating = allocated >= 32 and value(dataset, "BitsStored") is None  # Float Pixel Data has no stored bits.
    photometric = str(value(dataset, "PhotometricInterpretation") or "")
    if photometric not in SAMPLES:
        raise InputError(f"PhotometricInterpretation must be one of {', '.join(SAMPLES)}. Received: {photometric!r}")
    layout = Layout(
        rows=_whole(dataset, "Rows", 1, 2**16 - 1),
        columns=_whole(dataset, "Columns", 1, 2**16 - 1),
        frames=_whole(dataset, "NumberOfFrames", 1, 2**31, default=1),
        samples=_whole(dataset, "SamplesPerPixel", 1, 4),
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=allocated if floating else _whole(dataset, "BitsStored", 1, allocated),
        signed=not floating and bool(_whole(dataset, "PixelRepresentation", 0, 1)),
    )
    if layout.samples != SAMPLES[photometric]:
        raise InputError(f"SamplesPerPixel of {photometric} is {SAMPLES[photometric]}. Received: {layout.samples}")
    if layout.bits_stored < allocated:
        # Other positions left the standard long ago, and pydicom would misread them.
        high = layout.bits_stored - 1
        _whole(dataset, "HighBit", high, high, default=high)
    return layout


@dataclasses.dataclass(frozen=True)
class Stored:
    """Decoded pixels, before anything is made of their values.

    Attributes:
        pixels: `(F, H, W)` or `(F, H, W, 3)`, of the stored type.
        padding: Boolean `(F, H, W)`, the pixels outside the image, or None if there are none.
        layout: Of `pixels`: `RGB` where the file has another colour space, as YBR.
    """

    pixels: np.ndarray
    padding: np.ndarray | None
    layout: Layout


def stored_pixels(dataset: "Dataset", *, frame: int | None, max_pixels: int) -> Stored:
    """Decodes the pixels, all frames or one.

    Args:
        dataset: A file, read with its pixels.
        frame: Index of the one frame to decode; None decodes all.
        max_pixels: Largest number of pixels to decode, in all frames together.

    Raises:
        ModuleNotFoundError: If the compression needs a decoder that is not installed.
        ValueError: If there are no pixels, too many, or the header contradicts them.
    """
    keyword = next((name for name in PIXELS if value(dataset, name) is not None), None)
    if keyword is None:
        raise InputError("no pixel data")
    data = value(dataset, keyword)
    if not isinstance(data, bytes):
        raise InputError(f"{keyword} must be bytes")
    layout = layout_of(dataset)
    frames = chosen_frames(layout, frame)
    if frames * layout.rows * layout.columns > max_pixels:
        raise InputError(
            f"an image has at most {max_pixels} pixels (max_pixels). "
            f"Received: {frames} x {layout.rows} x {layout.columns}"
        )
    syntax = value(dataset.file_meta, "TransferSyntaxUID")
    if syntax is None:
        raise InputError("TransferSyntaxUID is missing")
    with foreign():
        compressed = syntax.is_encapsulated
    if compressed:
        _check_streams(data, dataset, layout, frame, syntax)
    else:
        _check_length(len(data), layout)
    pixels, photometric = _decode(dataset, layout, frame, syntax)
    padding = _padding(dataset, pixels, layout)  # Its value may need more than the stored bits.
    if syntax not in SYNTAXES:
        pixels = _used_bits(pixels, layout)
    return Stored(pixels, padding, dataclasses.replace(layout, frames=frames, photometric=photometric))


def chosen_frames(layout: Layout, frame: int | None) -> int:
    """Returns how many frames are read.

    Raises:
        ValueError: If there is no such frame.
    """
    if frame is None:
        return layout.frames
    if not 0 <= frame < layout.frames:
        raise InputError(f"`frame` must be from 0 to {layout.frames - 1}. Received: frame={frame}")
    return 1


def _check_length(length: int, layout: Layout) -> None:
    """Refuses uncompressed pixels that Rows, Columns or NumberOfFrames do not describe.

    Up to one row too much is padding, which some devices append.
    """
    wanted = math.ceil(layout.row_bytes * layout.rows * layout.frames)
    if not wanted <= length <= wanted + max(layout.row_bytes, 1):
        raise InputError(
            f"Rows, Columns, BitsAllocated and NumberOfFrames ask for {wanted} bytes of pixels. Received: {length}"
        )


def _check_streams(data: bytes, dataset: "Dataset", layout: Layout, frame: int | None, syntax: str) -> None:
    """Counts the compressed frames and looks at what they say of their size, before anything is decoded."""
    from pydicom.encaps import generate_frames, get_frame

    count = layout.frames
    with foreign():
        options = {"number_of_frames": count, "extended_offsets": _extended_offsets(dataset)}
        streams = list(generate_frames(data, **options)) if frame is None else [get_frame(data, frame, **options)]
    if frame is None and len(streams) != count:
        raise InputError(f"NumberOfFrames must count the frames. Received: {count} for {len(streams)} frames")
    for stream in streams if syntax in SYNTAXES else ():
        check_codestream(stream, layout.rows, layout.columns, layout.samples)


def _extended_offsets(dataset: "Dataset") -> tuple[bytes, bytes] | None:
    names = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    return tuple(dataset[name].value for name in names) if all(name in dataset for name in names) else None


def _decode(dataset: "Dataset", layout: Layout, frame: int | None, syntax: Any) -> tuple[np.ndarray, str]:
    """Returns `(F, H, W)` or `(F, H, W, 3)` and their photometric interpretation."""
    from pydicom.pixels import get_decoder

    if syntax in SYNTAXES:
        if not is_available(syntax):
            raise ModuleNotFoundError(f"{syntax.name} needs a decoder: pip install 'medkeras[dicom]'")
        register()
    with foreign():
        pixels, properties = get_decoder(syntax).as_array(
            dataset,
            index=frame,
            decoding_plugin=PLUGIN if syntax in SYNTAXES else "",
            allow_excess_frames=False,
            **({} if syntax in SYNTAXES else {"correct_unused_bits": False}),
        )
    tail = (layout.rows, layout.columns, layout.samples)[: 2 if layout.samples == 1 else 3]
    return pixels.reshape(-1, *tail), str(properties["photometric_interpretation"])


def _padding(dataset: "Dataset", pixels: np.ndarray, layout: Layout) -> np.ndarray | None:
    """Says which pixels have the padding value, or lie in its range."""
    bounds = numbers(dataset, "PixelPaddingValue")[:1]
    if not bounds or layout.samples != 1 or pixels.dtype.kind not in "iu":
        return None
    bounds += numbers(dataset, "PixelPaddingRangeLimit")[:1] or bounds
    # The sign of these elements is often taken for another than that of the pixels.
    low, high = sorted(_wrapped(int(bound), layout) for bound in bounds)
    found = (pixels >= low) & (pixels <= high)
    return found if found.any() else None


def _wrapped(number: int, layout: Layout) -> int:
    number %= 2**layout.bits_allocated
    return number - 2**layout.bits_allocated if layout.signed and number >= 2 ** (layout.bits_allocated - 1) else number


def _used_bits(pixels: np.ndarray, layout: Layout) -> np.ndarray:
    """Clears the unused bits, which once held overlays, and extends the sign over them."""
    unused = layout.bits_allocated - layout.bits_stored
    if unused == 0 or layout.bits_allocated == 1:
        return pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    return pixels << unused >> unused
