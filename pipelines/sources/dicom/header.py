"""What the header of a DICOM file tells beside its pixels, without what identifies the patient."""

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.sources.dicom.file import items, numbers, read_dataset, value
from pipelines.sources.dicom.image import image_shape
from pipelines.sources.file_errors import naming

if TYPE_CHECKING:
    from pydicom import Dataset

TEXTS = {
    "modality": "Modality",
    "view": "ViewPosition",
    "sex": "PatientSex",
    "manufacturer": "Manufacturer",
    "photometric": "PhotometricInterpretation",
    "burned_in": "BurnedInAnnotation",
}
IDENTIFIERS = {"patient": "PatientID", "study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
LAYOUT = (
    "Rows Columns NumberOfFrames SamplesPerPixel BitsAllocated BitsStored HighBit PixelRepresentation "
    "PhotometricInterpretation"
).split()
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
KEYWORDS = (
    *("SpecificCharacterSet", "PatientAge", "PatientBirthDate", "StudyDate", "SharedFunctionalGroupsSequence"),
    *(*TEXTS.values(), *IDENTIFIERS.values(), *LAYOUT, *SPACINGS),
)
UNITS_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}
OLDEST = 90  # Years; the few people who are older could be told by their age.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of a file.

    Attributes:
        shape: `(H, W, C)` or `(frames, H, W, C)` of the image.
        identifiers: `patient`, `study` and `series` as they are in the file, `""` if absent; not to be kept.
        metadata: Columns for the table of the records, see `pipelines.sources.dicom.source.open_dicom`.
    """

    shape: tuple[int, ...]
    identifiers: dict[str, str] = dataclasses.field(repr=False)
    metadata: dict[str, Any]

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres from row to row and from column to column of an image; None if unknown, or of several frames."""
        found = self.metadata["row_spacing_mm"], self.metadata["column_spacing_mm"]
        return found if len(self.shape) == 3 and np.isfinite(found).all() else None


def read_header(path: str | os.PathLike, *, frame: int | None = None) -> Header:
    """Reads the header of a DICOM file up to the pixels.

    Args:
        path: The file.
        frame: Position of the one frame that will be read, or None for all.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, no DICOM, or describes no image.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> header = read_header(get_testdata_file("CT_small.dcm", download=False))
        >>> header.shape, header.metadata["modality"], header.metadata["row_spacing_mm"]
        ((128, 128, 1), 'CT', 0.661468)
    """
    with naming(path):
        dataset = read_dataset(path, pixels=False, keywords=KEYWORDS)
        rows, columns = _spacing(dataset)
        return Header(
            shape=image_shape(dataset, frame=frame),
            identifiers={name: _text(dataset, keyword) for name, keyword in IDENTIFIERS.items()},
            metadata={name: _text(dataset, keyword) for name, keyword in TEXTS.items()}
            | {"age": _age(dataset), "row_spacing_mm": rows, "column_spacing_mm": columns},
        )


def _text(dataset: "Dataset", keyword: str) -> str:
    found = value(dataset, keyword)
    return "" if found is None else " ".join(str(found).split())


def _spacing(dataset: "Dataset") -> tuple[float, float]:
    """Returns millimetres between rows and between columns, NaN if unknown.

    Of an X-ray the detector's spacing is taken where that of the patient is not given.
    """
    groups = items(dataset, "SharedFunctionalGroupsSequence")
    for source in (*(item for group in groups for item in items(group, "PixelMeasuresSequence")), dataset):
        for keyword in SPACINGS:
            found = numbers(source, keyword)
            if len(found) == 2 and min(found) > 0:
                return found[0], found[1]
    return np.nan, np.nan


def _age(dataset: "Dataset") -> float:
    """Returns the age at the study in years, `OLDEST` at most, NaN if unknown."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", _text(dataset, "PatientAge"))
    if match:
        return min(int(match[1]) / UNITS_PER_YEAR[match[2]], OLDEST)
    dates = [_text(dataset, keyword) for keyword in ("PatientBirthDate", "StudyDate")]
    if not all(re.fullmatch(r"[12]\d{3}(0[1-9]|1[0-2])([0-2]\d|3[01])", date) for date in dates):
        return np.nan
    born, studied = map(int, dates)
    # Of two dates as whole numbers yyyymmdd, the difference counts 10000 for each birthday that was reached.
    return float(min((studied - born) // 10000, OLDEST)) if studied >= born else np.nan
