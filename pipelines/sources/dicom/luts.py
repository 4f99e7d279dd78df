"""Lookup tables of DICOM: for the modality, for the grey scale and for palettes."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from medkeras.errors import InputError
from pipelines.sources.dicom.file import foreign, numbers, value

if TYPE_CHECKING:
    from pydicom import Dataset

CHANNELS = ("Red", "Green", "Blue")


@dataclasses.dataclass(frozen=True)
class Table:
    """One lookup table.

    Attributes:
        entries: uint16 `(n,)`.
        first: The value that the first entry is for; those below get the first entry, too, and those above the
            last entry's get the last.
        bits: Bits per entry.
    """

    entries: np.ndarray
    first: int
    bits: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Returns the entry for every value, uint16; values are rounded to whole numbers."""
        positions = np.rint(values).astype(np.int64) - self.first
        return self.entries[np.clip(positions, 0, len(self.entries) - 1)]


def read_table(item: "Dataset", *, signed: bool, little_endian: bool) -> Table:
    """Returns the table of an item of a Modality or VOI LUT Sequence.

    Args:
        item: The item.
        signed: Whether the values that are looked up may be negative.
        little_endian: The byte order of the file.

    Raises:
        ValueError: If the table is incomplete or contradicts its descriptor.
    """
    count, first, bits = _descriptor(item, "LUTDescriptor", signed)
    data = value(item, "LUTData")
    if isinstance(data, bytes):
        entries = _unpacked(data, count, little_endian)
    else:
        entries = np.array(numbers(item, "LUTData"), np.int64)
    return _checked(entries, count, first, bits, "LUTData")


def read_palette(dataset: "Dataset", *, signed: bool, little_endian: bool) -> tuple[Table, Table, Table]:
    """Returns the tables for red, green and blue of a palette image; an alpha table is ignored.

    Raises:
        ValueError: If a table is missing, incomplete or contradicts its descriptor.
    """
    if value(dataset, "RedPaletteColorLookupTableData") is None:
        return _segmented_palette(dataset, signed)
    tables = []
    for channel in CHANNELS:
        name = f"{channel}PaletteColorLookupTable"
        count, first, bits = _descriptor(dataset, f"{name}Descriptor", signed)
        data = value(dataset, f"{name}Data")
        if not isinstance(data, bytes):
            raise InputError(f"{name}Data is missing")
        tables.append(_checked(_unpacked(data, count, little_endian), count, first, bits, f"{name}Data"))
    return tuple(tables)


def _segmented_palette(dataset: "Dataset", signed: bool) -> tuple[Table, Table, Table]:
    from pydicom.pixels import apply_color_lut

    count, first, bits = _descriptor(dataset, "RedPaletteColorLookupTableDescriptor", signed)
    if bits not in (8, 16) or count > 2**bits:
        raise InputError(f"a segmented palette has 8 or 16 bits and no more entries. Received: {bits}, {count}")
    with foreign():
        colors = apply_color_lut(np.arange(first, first + count), dataset)
    return tuple(_checked(colors[:, i].astype(np.int64), count, first, bits, "palette") for i in range(3))


def _descriptor(item: "Dataset", keyword: str, signed: bool) -> tuple[int, int, int]:
    """Returns the number of entries, the value of the first, and the bits per entry."""
    found = numbers(item, keyword)
    if len(found) != 3:
        raise InputError(f"{keyword} must be three numbers. Received: {found}")
    count, first, bits = (int(number) for number in found)
    if signed and first >= 2**15:
        first -= 2**16
    if not 8 <= bits <= 16:
        raise InputError(f"{keyword} must give 8 to 16 bits per entry. Received: {bits}")
    return count % 2**16 or 2**16, first, bits


def _unpacked(data: bytes, count: int, little_endian: bool) -> np.ndarray:
    """Returns the entries, of which a byte each is as good as a word each; a byte may pad them."""
    if len(data) in (count, count + count % 2):
        words = np.frombuffer(data, np.uint8)
    else:
        words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little_endian else ">u2")
    return words.astype(np.int64)


def _checked(entries: np.ndarray, count: int, first: int, bits: int, keyword: str) -> Table:
    if len(entries) < count:
        raise InputError(f"{keyword} must have {count} entries. Received: {len(entries)}")
    entries = entries[:count]
    if entries.min() < 0 or entries.max() >= 2**bits:
        raise InputError(f"{keyword} must have entries of {bits} bits. Received: {entries.min()} to {entries.max()}")
    return Table(entries.astype(np.uint16), first, bits)
