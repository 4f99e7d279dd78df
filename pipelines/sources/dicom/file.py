"""A DICOM file as elements: reading it, asking for a value, and errors that name the file and no patient."""

import contextlib
import functools
import logging
import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medkeras.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_INFLATED = 2**30  # Bytes.
DEFLATED = "1.2.840.10008.1.2.1.99"
QUOTED = re.compile(r"""b?['"].*['"]""")
# What pydicom and the decoders raise on damaged files, beside ValueError and OSError.
FOREIGN_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    TypeError,
    struct.error,
    zlib.error,
)


@contextlib.contextmanager
def foreign() -> Iterator[None]:
    """Turns what pydicom and the decoders raise into ValueError; only their code stands in the block."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        yield
    except InvalidDicomError as error:
        raise InputError("not a DICOM file, its prefix is missing") from error
    except (ValueError, OSError, BytesLengthException, *FOREIGN_ERRORS) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        # What they quote of the file may identify a patient.
        text = QUOTED.sub("...", " ".join(str(error).split()))[:200]
        raise InputError(f"damaged DICOM, {type(error).__name__}: {text}") from error


@functools.cache
def _pydicom() -> ModuleType:
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("DICOM needs pydicom: pip install 'medkeras[dicom]'") from error
    # Its warnings quote header values, which may identify a patient; our own errors name the file.
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


def read_dataset(path: str | os.PathLike, *, pixels: bool = True, keywords: Sequence[str] | None = None) -> "Dataset":
    """Reads the header of a DICOM file, and its pixels undecoded.

    Args:
        path: A DICOM file with the standard prefix, of any transfer syntax.
        pixels: Whether to read the pixels.
        keywords: The elements to keep; by default all.

    Raises:
        ModuleNotFoundError: If pydicom is missing.
        OSError: If the file cannot be opened.
        ValueError: If it is no DICOM file, damaged, or inflates beyond a limit.
    """
    pydicom = _pydicom()
    with open(path, "rb") as file:
        if DEFLATED.encode() in file.read(512):
            _check_inflated(path)
        file.seek(0)
        with foreign():
            return pydicom.dcmread(
                file, stop_before_pixels=not pixels, specific_tags=None if keywords is None else list(keywords)
            )


def _check_inflated(path: str | os.PathLike) -> None:
    """Refuses a deflated file that would fill the memory, without inflating it as a whole."""
    from pydicom.filereader import read_file_meta_info

    with foreign():
        length = int(read_file_meta_info(path).FileMetaInformationGroupLength)
    with open(path, "rb") as file:
        file.seek(128 + 4 + 12 + length)
        data = file.read()
    stream, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with foreign():
        while data and not stream.eof:
            inflated += len(stream.decompress(data, 2**20))
            data = stream.unconsumed_tail
            if inflated > MAX_INFLATED:
                break
    if inflated > MAX_INFLATED:
        raise InputError(f"a deflated file may inflate to {MAX_INFLATED} bytes at most, this one exceeds it")


def value(dataset: "Dataset", keyword: str) -> Any:
    """Returns the value of an element, or None where it is absent or empty."""
    with foreign():
        found = dataset.get(keyword)
        return None if found is None or (hasattr(found, "__len__") and len(found) == 0) else found


def items(dataset: "Dataset", keyword: str) -> "Sequence[Dataset]":
    """Returns the items of a sequence, none where it is absent or empty."""
    found = value(dataset, keyword)
    if found is None:
        return ()
    if not isinstance(found, _pydicom().Sequence):
        raise InputError(f"{keyword} must be a sequence of items")
    return found


def numbers(dataset: "Dataset", keyword: str) -> list[float]:
    """Returns the values of a numeric element, none where it is absent or empty."""
    found = value(dataset, keyword)
    several = isinstance(found, Sequence) and not isinstance(found, (str, bytes))
    parts = [] if found is None else list(found) if several else [found]
    try:
        result = [float(part) for part in parts]
    except (TypeError, ValueError) as error:
        raise InputError(f"{keyword} must be a number") from error
    if not all(map(math.isfinite, result)):
        raise InputError(f"{keyword} must be finite. Received: {result}")
    return result
