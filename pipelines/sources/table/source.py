"""The table source: a CSV with the path of every image, its label or labels, and whatever else is known."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.tasks import default_task, is_multilabel
from pipelines.images.decode import MAX_PIXELS
from pipelines.images.records import SPLITS, Records
from pipelines.sources.images import file_records
from pipelines.sources.options import MaskedTableOptions
from pipelines.sources.table.boxes import box_masks
from pipelines.sources.table.csv_text import filled, find_column, read_csv
from pipelines.sources.table.labels import class_indices, known_labels, label_matrix, training_labels
from pipelines.sources.table.paths import paths_of

PATH_COLUMNS = ("path", "image", "file", "filename", "image_path")
LABEL_COLUMNS = ("label", "class")
PATIENT_COLUMNS = ("patient", "patient_id")
SPLIT_COLUMNS = ("split",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(MaskedTableOptions):
    """What a CSV of images takes; `task` is by default `multilabel` for several label columns.

    Attributes:
        boxes: Instead of masks: boxes around lesions, a CSV, a `.json` as COCO has it or a folder of `.xml` as Pascal
            VOC has them, see `pipelines.sources.table.boxes.box_masks`.
        box_format: Of a CSV: `"xywh"` (left, upper edge, width, height) or `"xyxy"` (left, upper, right, lower edge).
        box_columns: Of a CSV, its four columns in that order, in pixels; by default as in
            `pipelines.sources.table.boxes.FORMATS`.
        max_pixels: Height times width up to which an image is decoded, see `pipelines.images.decode.read_image`.
    """

    boxes: str | None = None
    box_format: str = "xywh"
    box_columns: Sequence[str] | None = None
    max_pixels: int = MAX_PIXELS


def open_table(csv: str, **options: Any) -> Records:
    r"""Opens a CSV table of images; all columns without a role are kept as metadata.

    Of several labels, -1 is uncertain and blank is not mentioned, as in CheXpert. `uncertain` and `blank` say
    what to train with: `"ignore"` leaves the label out of the loss, `"zeros"` and `"ones"` take it as absent or
    present, `"smooth"` as a number drawn for this image and label from [0.55, 0.85] (uncertain) or [0, 0.3]
    (blank). They fill `train_labels` only: in `labels`, which validation and test see, both stay unknown, so
    that a guess never counts as truth.

    Args:
        csv: The file, comma-separated, with a header row.
        **options: Those of `Options`.

    Raises:
        FileNotFoundError: If the CSV, `root` or, with its row, an image file does not exist.
        ValueError: If the CSV cannot be read, a path leaves the root, or a column, a label, a policy, a split, a
            patient or an id is not sound; the row is given, the header being row 1.

    Reference:
        Irvin et al., CheXpert, arXiv 1901.07031; Pham et al., arXiv 1911.06475 (`"smooth"`).

    Example:
        >>> import cv2, pathlib, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "b.png"):
        ...     _ = cv2.imwrite(str(root / name), np.zeros((8, 8), np.uint8))
        >>> _ = (root / "images.csv").write_text("path,cyst,mass,age\na.png,1,-1,61\nb.png,,1,48\n")
        >>> records = open_table(str(root / "images.csv"), label_columns=("cyst", "mass"), uncertain="ones")
        >>> records.labels.tolist(), records.train_labels.tolist()
        ([[1.0, nan], [nan, 1.0]], [[1.0, 1.0], [nan, 1.0]])
    """
    given = Options(**options)
    if given.boxes is not None and given.mask_column is not None:
        raise InputError(
            f"Lesions have masks or boxes. Received: mask_column={given.mask_column!r}, boxes={given.boxes!r}"
        )
    table = read_csv(csv)
    columns = _columns(table, csv, given)
    ids = _ids(table[columns.path], csv)
    label_table = table[list(columns.labels)]
    policies = {"uncertain": given.uncertain, "blank": given.blank}
    multilabel = len(columns.labels) > 1 or (given.task is not None and is_multilabel(given.task))
    if multilabel:
        names, stored = tuple(given.class_names or columns.labels), label_matrix(label_table, csv)
        labels = known_labels(stored)
        train_labels = training_labels(stored, ids, columns.labels, **policies)
    else:
        names, labels = class_indices(label_table.iloc[:, 0], given.class_names, csv)
        train_labels = None
        _check_no_policy(**policies)
    path_of = functools.partial(paths_of, csv=csv, root=given.root, on_error=given.on_error)
    return file_records(
        name=os.path.splitext(os.path.basename(csv))[0],
        task=given.task or ("multilabel" if multilabel else default_task(len(names))),
        class_names=names,
        table=_described(table, columns, ids, csv),
        labels=labels,
        train_labels=train_labels,
        path_of=path_of(table[columns.path], distinct=True),
        mask_of=columns.mask and path_of(filled(table[columns.mask], csv)),
        boxes=None
        if given.boxes is None
        else box_masks(given.boxes, ids, box_format=given.box_format, columns=given.box_columns),
        max_pixels=given.max_pixels,
    )


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The columns that have a role."""

    path: str
    labels: tuple[str, ...]
    patient: str | None
    split: str | None
    mask: str | None


def _columns(table: pd.DataFrame, csv: str, given: Options) -> _Columns:
    find, labels = functools.partial(find_column, table, csv), given.label_columns
    names = (labels,) if isinstance(labels, str) or labels is None else tuple(labels)
    if len(set(names)) != len(names) or not names:
        raise InputError(f"`label_columns` must be one or more, all distinct. Received: {labels} for {csv}")
    return _Columns(
        path=find(given.path_column, usual=PATH_COLUMNS, option="path_column"),
        labels=tuple(find(name, usual=LABEL_COLUMNS, option="label_columns") for name in names),
        patient=find(given.patient_column, usual=PATIENT_COLUMNS, option="patient_column", optional=True),
        split=find(given.split_column, usual=SPLIT_COLUMNS, option="split_column", optional=True),
        mask=find(given.mask_column, usual=(), option="mask_column", optional=True),
    )


def _ids(paths: pd.Series, csv: str) -> list[str]:
    repeated = np.flatnonzero(paths.duplicated() & (paths != ""))
    if len(repeated):
        row = paths.index[repeated[0]]
        raise InputError(f"An image stands in one row. Received: {paths[row]} again in row {row} of {csv}")
    return filled(paths, csv).tolist()


def _check_no_policy(**policies: str) -> None:
    for option, policy in policies.items():
        if policy != "ignore":
            raise InputError(f"`{option}` is for several labels, each 0, 1, -1 or blank. Received: {option}={policy!r}")


def _described(table: pd.DataFrame, columns: _Columns, ids: list[str], csv: str) -> pd.DataFrame:
    """Returns the table of the records: id, patient, split, and all columns without a role."""
    roles = {
        "id": ids,
        "patient": filled(table[columns.patient], csv).tolist() if columns.patient else ids,
        "split": _splits(table[columns.split], csv) if columns.split else "",
    }
    used = {columns.path, columns.patient, columns.split, columns.mask, *columns.labels}
    metadata = {_free(name, roles): _typed(table[name]).to_numpy() for name in table if name not in used}
    return pd.DataFrame(roles | metadata)


def _splits(values: pd.Series, csv: str) -> list[str]:
    wrong = np.flatnonzero(~values.isin(SPLITS))
    if len(wrong) and (values != "").any():
        raise InputError(
            f"Column {values.name} holds train, val or test. "
            f"Received: {values.iloc[wrong[0]]!r} in row {values.index[wrong[0]]} of {csv}"
        )
    return values.tolist()


def _free(name: str, roles: dict) -> str:
    return f"original_{name}" if name in roles else name


def _typed(values: pd.Series) -> pd.Series:
    """Returns numbers where every value is one or blank, else text."""
    given = values[values != ""]
    if given.empty or np.isnan(pd.to_numeric(given.iloc[:1], errors="coerce")).all():  # Most text is told by this.
        return values
    numbers = pd.to_numeric(given, errors="coerce")
    return numbers.reindex(values.index) if numbers.notna().all() else values
