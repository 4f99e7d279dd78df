"""One DICOM file to one image: rescaled, windowed, never inverted, in grey or RGB."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medkeras.errors import InputError
from pipelines.sources.dicom.file import items, numbers, read_dataset, value
from pipelines.sources.dicom.luts import Table, read_palette, read_table
from pipelines.sources.dicom.pixels import (
    GREY,
    MAX_PIXELS,
    Layout,
    Stored,
    chosen_frames,
    layout_of,
    stored_pixels,
)
from pipelines.sources.file_errors import naming
from pipelines.sources.windows import WINDOWS, linear_window, parse_window

if TYPE_CHECKING:
    from pydicom import Dataset

HOUNSFIELD_RANGE = (-1024, 3071)  # 12 bits from the usual intercept on.
Window = str | int | Sequence[float] | None


def read_dicom(
    path: str | os.PathLike,
    *,
    window: Window = None,
    frame: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Reads the image of a DICOM file as it is meant to be looked at.

    Grey: stored values become physical ones (rescale or modality table), a window or table maps these to
    [0, 1], and `MONOCHROME1` is inverted, so 0 is always black. Pixels with the padding value are black. The
    window is `window`, else the first of the file, its table before its numbers. Where there is none: CT is
    mapped from -1024 to 3071 HU; 8 bits or fewer from their whole range; all else from its smallest to its
    largest value, so that two such images are not on one scale unless `window` says so.

    Colour: palettes and YBR become RGB. Overlays, alpha and colour profiles are ignored. Several frames make a
    volume in the order of the file.

    Args:
        path: A DICOM file with the standard prefix: any byte order, plain, deflated, RLE, JPEG (also 12 bits
            and lossless), JPEG-LS or JPEG 2000.
        window: For grey images, instead of the file's own: a name of `WINDOWS`, for CT in Hounsfield units;
            `(centre, width)` or `"centre,width"` in the units of the rescaled values, mapped by
            `linear_window`; or a whole number, the position of one of the file's own windows.
        frame: Position of the one frame to read, from 0; by default all.
        max_pixels: Largest number of pixels, of all frames that are read, checked before decoding.

    Returns:
        Grey: float32 in [0, 1], `(H, W)` or `(frames, H, W)`. Colour: `(H, W, 3)` or `(frames, H, W, 3)`, uint8
        or uint16, or float32 in [0, 1] where the file uses another number of bits.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If pydicom, or a decoder that the file needs, is not installed.
        ValueError: If the file is damaged, no DICOM or without pixels, its header is incomplete or contradicts
            itself or the pixels, or the image does not fit the arguments.

    Reference:
        DICOM PS3.3, sections C.7.6.3, C.11.1 and C.11.2.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> path = get_testdata_file("CT_small.dcm", download=False)
        >>> image = read_dicom(path, window="soft-tissue")
        >>> image.shape, image.dtype, float(image.min()), float(image.max())
        ((128, 128), dtype('float32'), 0.0, 1.0)
    """
    choice = check_window(window)
    with naming(path):
        dataset = read_dataset(path)
        stored = stored_pixels(dataset, frame=frame, max_pixels=max_pixels)
        if stored.layout.photometric in GREY:
            if isinstance(window, str) and window in WINDOWS:
                _check_hounsfield(dataset, frame or 0)
            image = _grey(dataset, stored, choice, frame or 0)
        else:
            if window is not None:
                raise InputError(f"a window is for grey images. Received: {stored.layout.photometric}")
            image = _color(dataset, stored)
    return image if len(image) > 1 else image[0]


def check_window(window: Window) -> int | tuple[float, float] | None:
    """Returns a window of `read_dicom` as a position, or as its centre and width; None stays.

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> check_window("brain"), check_window(1)
        ((40.0, 80.0), 1)
    """
    return window if window is None or isinstance(window, int) else parse_window(window)


def read_dicom_shape(path: str | os.PathLike, *, frame: int | None = None) -> tuple[int, ...]:
    """Returns `(H, W, C)` or `(frames, H, W, C)` of what `read_dicom` gives, from the header.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or no DICOM, or its header is not sound.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> read_dicom_shape(get_testdata_file("examples_palette.dcm", download=False))
        (350, 800, 3)
    """
    with naming(path):
        return image_shape(read_dataset(path, pixels=False), frame=frame)


def image_shape(dataset: "Dataset", *, frame: int | None = None) -> tuple[int, ...]:
    """Returns what `read_dicom_shape` does, of a header that is read already.

    Raises:
        ValueError: If the header is not sound, or there is no such frame.
    """
    layout = layout_of(dataset)
    channels = 1 if layout.photometric in GREY else 3
    depth = () if chosen_frames(layout, frame) == 1 else (layout.frames,)
    return (*depth, layout.rows, layout.columns, channels)


def _grey(dataset: "Dataset", stored: Stored, choice: int | tuple[float, float] | None, first: int) -> np.ndarray:
    """Returns float32 `(F, H, W)` in [0, 1]; `first` is the position of the first frame in the file."""
    little_endian = dataset.file_meta.TransferSyntaxUID.is_little_endian
    places = range(first, first + len(stored.pixels))
    rescales = [_rescale(dataset, place, stored.layout, little_endian) for place in places]
    values = np.stack([rescale(pixels) for rescale, pixels in zip(rescales, stored.pixels, strict=True)])
    if not np.isfinite(values).all():
        raise InputError(f"pixels must be finite. Received: {(~np.isfinite(values)).sum()} that are not")
    if isinstance(choice, tuple):
        views = [_Linear(*choice)] * len(values)
    else:
        views = [_own_view(dataset, place, choice or 0, stored.layout, little_endian) for place in places]
        if choice is not None and None in views:
            raise InputError(f"`window` must be a position among the file's windows. Received: window={choice} of none")
    if None in views:
        views = [_full_range(dataset, values, stored, rescales[0])] * len(values)
    image = np.stack([view(frame) for view, frame in zip(views, values, strict=True)])
    if stored.layout.photometric == "MONOCHROME1":
        image = 1 - image
    if stored.padding is not None:
        image[stored.padding] = 0
    return image


def _group(dataset: "Dataset", place: int, keyword: str) -> "Dataset":
    """Returns the part of the header that is about one frame: its own, that of all frames, or the whole."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", place), ("SharedFunctionalGroupsSequence", 0)):
        found = items(dataset, groups)[index : index + 1]
        inner = items(found[0], keyword) if found else ()
        if inner:
            return inner[0]
    return dataset


@dataclasses.dataclass(frozen=True)
class _Rescale:
    slope: float
    intercept: float

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return (pixels.astype(np.float64) * self.slope + self.intercept).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _ModalityTable:
    table: Table

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self.table(pixels).astype(np.float32)


def _rescale(dataset: "Dataset", place: int, layout: Layout, little_endian: bool) -> _Rescale | _ModalityTable:
    """Returns the map from the stored values of a frame to physical ones."""
    if tables := items(dataset, "ModalityLUTSequence"):
        return _ModalityTable(read_table(tables[0], signed=layout.signed, little_endian=little_endian))
    group = _group(dataset, place, "PixelValueTransformationSequence")
    slope, intercept = numbers(group, "RescaleSlope"), numbers(group, "RescaleIntercept")
    if len(slope) != len(intercept) or len(slope) > 1:
        raise InputError(f"RescaleSlope and RescaleIntercept come together. Received: {slope} and {intercept}")
    if slope == [0]:
        raise InputError("RescaleSlope must not be 0")
    return _Rescale(*slope, *intercept) if slope else _Rescale(1, 0)


@dataclasses.dataclass(frozen=True)
class _Linear:
    centre: float
    width: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.width == 0:
            return (values > self.centre).astype(np.float32)
        return linear_window(values, self.centre, self.width)


@dataclasses.dataclass(frozen=True)
class _Sigmoid:
    centre: float
    width: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        slope = np.clip(4 * (values.astype(np.float64) - self.centre) / self.width, -700, 700)
        return (1 / (1 + np.exp(-slope))).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _ViewTable:
    table: Table

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return self.table(values).astype(np.float32) / np.float32(2**self.table.bits - 1)


_View = _Linear | _Sigmoid | _ViewTable


def _own_view(dataset: "Dataset", place: int, index: int, layout: Layout, little_endian: bool) -> _View | None:
    """Returns the map from physical values to [0, 1] that the file gives for a frame, if it does."""
    if tables := items(dataset, "VOILUTSequence"):
        _check_index(index, len(tables))
        return _ViewTable(read_table(tables[index], signed=layout.signed, little_endian=little_endian))
    group = _group(dataset, place, "FrameVOILUTSequence")
    centres, widths = numbers(group, "WindowCenter"), numbers(group, "WindowWidth")
    if len(centres) != len(widths):
        raise InputError(f"WindowCenter and WindowWidth come in pairs. Received: {centres} and {widths}")
    if not centres:
        return None
    _check_index(index, len(centres))
    return _window_function(str(value(group, "VOILUTFunction") or "LINEAR"), centres[index], widths[index])


def _check_index(index: int, count: int) -> None:
    if not 0 <= index < count:
        raise InputError(f"`window` must be a position among the file's {count} windows. Received: window={index}")


def _window_function(function: str, centre: float, width: float) -> _Linear | _Sigmoid:
    """Returns a window of the file; `LINEAR` counts whole grey levels, so it is half a level off the exact one."""
    if width < 1 if function == "LINEAR" else width <= 0:
        least = ">= 1" if function == "LINEAR" else "> 0"
        raise InputError(f"WindowWidth must be {least} with {function}. Received: {width}")
    if function == "LINEAR":
        return _Linear(centre - 0.5, width - 1)
    if function == "LINEAR_EXACT":
        return _Linear(centre, width)
    if function == "SIGMOID":
        return _Sigmoid(centre, width)
    raise InputError(f"VOILUTFunction must be LINEAR, LINEAR_EXACT or SIGMOID. Received: {function!r}")


def _full_range(dataset: "Dataset", values: np.ndarray, stored: Stored, rescale: _Rescale | _ModalityTable) -> _Linear:
    """Returns the window for a file that has none."""
    if _in_hounsfield(dataset, 0):
        low, high = HOUNSFIELD_RANGE
    elif stored.layout.bits_stored <= 8 and isinstance(rescale, _Rescale):
        low, high = sorted(rescale(np.array(stored.layout.stored_range)).tolist())
    else:
        seen = values if stored.padding is None else values[~stored.padding]
        low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    return _Linear(low + (high - low) / 2, high - low)


def _in_hounsfield(dataset: "Dataset", place: int) -> bool:
    group = _group(dataset, place, "PixelValueTransformationSequence")
    rescaled = value(group, "RescaleSlope") is not None and value(dataset, "ModalityLUTSequence") is None
    return rescaled and value(dataset, "Modality") == "CT" and value(group, "RescaleType") in (None, "HU")


def _check_hounsfield(dataset: "Dataset", place: int) -> None:
    if not _in_hounsfield(dataset, place):
        raise InputError(
            f"a named window is for CT in Hounsfield units; give its numbers. "
            f"Received: Modality {value(dataset, 'Modality')!r}"
        )


def _color(dataset: "Dataset", stored: Stored) -> np.ndarray:
    """Returns `(F, H, W, 3)`."""
    layout = stored.layout
    if layout.photometric == "PALETTE COLOR":
        little_endian = dataset.file_meta.TransferSyntaxUID.is_little_endian
        tables = read_palette(dataset, signed=layout.signed, little_endian=little_endian)
        return _scaled(np.stack([table(stored.pixels) for table in tables], axis=-1), tables[0].bits)
    if layout.photometric != "RGB":
        raise InputError(f"the colour space {layout.photometric} is not supported")
    if layout.signed:
        raise InputError("PixelRepresentation must be 0 for colours. Received: 1")
    return _scaled(stored.pixels, layout.bits_stored)


def _scaled(colors: np.ndarray, bits: int) -> np.ndarray:
    """Keeps 8 and 16 bits as they are and scales all others to [0, 1]."""
    if bits in (8, 16):
        return colors.astype(np.uint8 if bits == 8 else np.uint16)
    return (colors / (2**bits - 1)).astype(np.float32)
