"""The DICOM source: a folder of class folders or a CSV of DICOM files, described by their headers, without names."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.tasks import default_task
from pipelines.images.names import is_dicom
from pipelines.images.records import Records
from pipelines.sources.class_folders import class_folders, patients_in
from pipelines.sources.dicom.header import IDENTIFIERS, Header, read_header
from pipelines.sources.dicom.image import Window, check_window, read_dicom
from pipelines.sources.dicom.pixels import MAX_PIXELS
from pipelines.sources.images import file_fingerprint, file_records, files_below
from pipelines.sources.pseudonyms import Pseudonyms
from pipelines.sources.table.paths import paths_of
from pipelines.sources.table.source import open_table

KINDS = ".dcm, .dicom, .ima or DICOM without a suffix"
THREADS = 8


def open_dicom(
    rest: str,
    *,
    task: str | None = None,
    window: Window = None,
    frame: int | None = None,
    salt: str | None = None,
    patient_pattern: str | None = None,
    path_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    patient_column: str | None = None,
    split_column: str | None = None,
    class_names: Sequence[str] | None = None,
    uncertain: str = "ignore",
    blank: str = "ignore",
    root: str | None = None,
    max_pixels: int = MAX_PIXELS,
    on_error: str = "raise",
) -> Records:
    """Opens DICOM files in class folders, or those that a CSV names.

    All headers are read at once, the pixels when they are asked for. The table has these columns from the
    header, blank or NaN where it is silent: `study`, `series`, `modality`, `view`, `sex`, `age` (years at the
    study, 90 for all who are older), `manufacturer`, `photometric`, `burned_in` (`YES` where text is part of the
    picture), `row_spacing_mm` and `column_spacing_mm`. A column of the CSV that has such a name keeps it, and the
    header's is called `dicom_<name>`. A header takes a few milliseconds.

    Privacy: patient, study and series are replaced by codes, see `Pseudonyms`, also in a column of the CSV that
    holds them for every file. Names, dates and all else of the header are not kept. What stays: file names, for
    they are the ids; the other columns of the CSV; and text in the picture itself, which may name the patient.

    The `patient` is the CSV's or the pattern's, else the PatientID, else the study, else the image itself. Where
    all files bear one PatientID, as after some anonymisations, patients must be named in one of the first ways.

    Args:
        rest: A folder as for `open_folder`, whose files end in .dcm, .dicom or .ima, or are DICOM files without
            a suffix (`DICOMDIR` is left out); or a CSV as for `open_table`.
        task: One of `medkeras.tasks.TASKS`; by default what the labels suggest.
        window: For grey images, see `read_dicom`: a name such as `lung`, a centre and a width, or a position.
        frame: Of files with several frames, the one to take, from 0; by default they are volumes.
        salt: Secret of at least 16 characters for the codes; by default one that is drawn for this process, so
            that codes differ between processes.
        patient_pattern: For a folder, as for `open_folder`.
        path_column: For a CSV, as for `open_table`, and so all down to `root`.
        label_columns: See `path_column`.
        patient_column: See `path_column`; the patients are replaced by codes.
        split_column: See `path_column`.
        class_names: See `path_column`.
        uncertain: See `path_column`.
        blank: See `path_column`.
        root: See `path_column`.
        max_pixels: Largest number of pixels, of all frames, up to which a file is decoded.
        on_error: `"raise"` refuses a file whose header cannot be read or is not sound; `"skip"` keeps it as a
            record, so that `pipelines.images.decode.find_unreadable` reports it.

    Raises:
        FileNotFoundError: If the folder, the CSV or a file does not exist.
        ModuleNotFoundError: If pydicom is not installed.
        ValueError: If an option, a header or the folder or CSV is not sound, an option is for the other of the
            two, or some files have several frames and others one.

    Example:
        >>> import pathlib, shutil, tempfile
        >>> from pydicom.data import get_testdata_file
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name, file in (("head", "CT_small"), ("heart", "MR_small")):
        ...     (root / name).mkdir()
        ...     _ = shutil.copy(get_testdata_file(f"{file}.dcm", download=False), root / name)
        >>> records = open_dicom(str(root), salt="of this one example")
        >>> records.table[["id", "patient", "modality"]].values.tolist()
        [['head/CT_small.dcm', '5b9a702b59808d85', 'CT'], ['heart/MR_small.dcm', '68c3aafcf6a5424b', 'MR']]
    """
    codes = Pseudonyms(salt)
    check_window(window)
    table_options = {
        "path_column": path_column,
        "label_columns": label_columns,
        "patient_column": patient_column,
        "split_column": split_column,
        "class_names": class_names,
        "uncertain": uncertain,
        "blank": blank,
        "root": root,
    }
    if os.path.isdir(rest):
        _check_unused("a folder", table_options)
        records, path_of = _from_folder(rest, task, patient_pattern, on_error)
    else:
        _check_unused("a CSV", {"patient_pattern": patient_pattern})
        records = open_table(rest, task=task, on_error=on_error, **table_options)
        path_of = paths_of(records.table["id"], rest, root, on_error="skip")
    headers = _headers(path_of, records, frame, on_error)
    described = dataclasses.replace(
        records, table=_described(records.table, headers, codes), rank=_rank(headers, records, on_error)
    )
    return _decoded(described, path_of, headers, window=window, frame=frame, max_pixels=max_pixels)


def _check_unused(kind: str, options: dict) -> None:
    for name, given in options.items():
        if given not in (None, "ignore"):
            raise InputError(f"DICOM files in {kind} are opened without `{name}`. Received: {name}={given!r}")


def _from_folder(
    folder: str, task: str | None, patient_pattern: str | None, on_error: str
) -> tuple[Records, Callable[[int], str]]:
    files = [path for path in files_below(folder) if os.path.basename(path).upper() != "DICOMDIR"]
    found = class_folders(
        folder, files, is_image=lambda path: is_dicom(os.path.join(folder, path)), kinds=KINDS, on_error=on_error
    )
    paths = [os.path.join(folder, path) for path in found.files]
    patients = patients_in(found.files, patient_pattern)
    records = file_records(
        name=os.path.basename(os.path.abspath(folder)),
        task=task or default_task(len(found.class_names)),
        class_names=found.class_names,
        table=pd.DataFrame({"id": found.files, "patient": patients, "split": found.splits}),
        labels=found.labels,
        path_of=paths.__getitem__,
    )
    return records, paths.__getitem__


def _headers(path_of: Callable[[int], str], records: Records, frame: int | None, on_error: str) -> list[Header | None]:
    """Reads all headers; with `"skip"`, None stands for one that cannot be read."""
    from rich.console import Console
    from rich.progress import track

    def header(i: int) -> Header | None:
        try:
            return read_header(path_of(i), frame=frame)
        except (ValueError, OSError):
            if on_error == "raise":
                raise
            return None

    # Threads overlap the waiting for files; Python parses one header at a time.
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        progress = {"description": "Reading headers", "console": Console(stderr=True), "transient": True}
        return list(track(pool.map(header, range(len(records))), total=len(records), **progress))


def _rank(headers: list[Header | None], records: Records, on_error: str) -> int:
    """Returns 3 for volumes and 2 for images, as the first file has it; with `"raise"` all must agree."""
    first = next((i for i, header in enumerate(headers) if header), None)
    if first is None:
        return 2
    rank = len(headers[first].shape) - 1
    other = next((i for i, header in enumerate(headers) if header and len(header.shape) != rank + 1), None)
    if other is not None and on_error == "raise":
        named = " and ".join(f"{records.table['id'].iloc[i]} with {_frames(headers[i].shape)}" for i in (first, other))
        raise InputError(f"All files have one frame, or all have several; pass `frame`. Received: {named}")
    return rank


def _decoded(
    records: Records,
    path_of: Callable[[int], str],
    headers: list[Header | None],
    *,
    window: Window,
    frame: int | None,
    max_pixels: int,
) -> Records:
    """Returns the records with images as they are read, all of one rank."""

    def shape_of(i: int) -> tuple[int, ...]:
        # A header that could not be read is read again, for its error.
        shape = (headers[i] or read_header(path_of(i), frame=frame)).shape
        if len(shape) != records.rank + 1:
            raise InputError(f"Cannot read {path_of(i)}: {_frames(shape)}, unlike other files (frame)")
        return shape

    def read(i: int) -> np.ndarray:
        shape_of(i)
        return read_dicom(path_of(i), window=window, frame=frame, max_pixels=max_pixels)

    return dataclasses.replace(
        records,
        read=read,
        read_shape=shape_of,
        read_spacing=lambda i: headers[i] and headers[i].spacing,
        fingerprint=lambda i: f"{file_fingerprint(path_of(i))}-{window}-{frame}",
    )


def _frames(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} frames" if len(shape) == 4 else "one frame"


def _described(table: pd.DataFrame, headers: list[Header | None], codes: Pseudonyms) -> pd.DataFrame:
    """Returns the table with the columns from the headers, and codes for all that identifies."""
    raw = {name: [header.identifiers[name] if header else "" for header in headers] for name in IDENTIFIERS}
    coded = {name: [codes(one) if one else "" for one in ones] for name, ones in raw.items()}
    given = (table["patient"] != table["id"]).any()
    patients = [
        (codes(own) if given else patient or study) or name
        for own, patient, study, name in zip(
            table["patient"], coded["patient"], coded["study"], table["id"], strict=True
        )
    ]
    described = table.assign(patient=patients)
    for column in described.columns.drop(["id", "patient", "split"]):
        for name in IDENTIFIERS:
            if _holds(described[column], raw[name]):
                described[column] = coded[name]
    names = next((list(header.metadata) for header in headers if header), [])
    metadata = {name: [header.metadata[name] if header else np.nan for header in headers] for name in names}
    metadata = {"study": coded["study"], "series": coded["series"]} | metadata
    return described.assign(**{f"dicom_{name}" if name in table else name: v for name, v in metadata.items()})


def _holds(column: pd.Series, identifiers: list[str]) -> bool:
    """Says whether a column of the CSV is a copy of identifiers, which as numbers may have lost their zeros."""
    pairs = [(str(own).strip().removesuffix(".0"), one) for own, one in zip(column, identifiers, strict=True) if one]
    return bool(pairs) and all(own.lstrip("0") == one.lstrip("0") for own, one in pairs)
