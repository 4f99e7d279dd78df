"""The table source: a CSV with the path of every image, its label or labels, and whatever else is known."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.tasks import default_task, is_multilabel
from pipelines.images.decode import MAX_PIXELS
from pipelines.images.records import SPLITS, Records
from pipelines.sources.images import file_records
from pipelines.sources.table.boxes import BOX_COLUMNS, box_masks
from pipelines.sources.table.csv_text import filled, find_column, read_csv
from pipelines.sources.table.labels import class_indices, known_labels, label_matrix, training_labels
from pipelines.sources.table.paths import paths_of

PATH_COLUMNS = ("path", "image", "file", "filename", "image_path")
LABEL_COLUMNS = ("label", "class")
PATIENT_COLUMNS = ("patient", "patient_id")
SPLIT_COLUMNS = ("split",)


def open_table(
    csv: str,
    *,
    task: str | None = None,
    path_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    patient_column: str | None = None,
    split_column: str | None = None,
    mask_column: str | None = None,
    boxes: str | None = None,
    box_columns: Sequence[str] = BOX_COLUMNS,
    class_names: Sequence[str] | None = None,
    uncertain: str = "ignore",
    blank: str = "ignore",
    root: str | None = None,
    max_pixels: int = MAX_PIXELS,
    on_error: str = "raise",
) -> Records:
    r"""Opens a CSV table of images; all columns without a role are kept as metadata.

    Of several labels, -1 is uncertain and blank is not mentioned, as in CheXpert. `uncertain` and `blank` say
    what to train with: `"ignore"` leaves the label out of the loss, `"zeros"` and `"ones"` take it as absent or
    present, `"smooth"` as a number drawn for this image and label from [0.55, 0.85] (uncertain) or [0, 0.3]
    (blank). They fill `train_labels` only: in `labels`, which validation and test see, both stay unknown, so
    that a guess never counts as truth.

    Args:
        csv: The file, comma-separated, with a header row.
        task: One of `medkeras.tasks.TASKS`; by default `multilabel` for several label columns, else the
            single-label task that fits the number of classes.
        path_column: Column of the image paths, which are the ids; by default `path`, `image`, `file`,
            `filename` or `image_path`.
        label_columns: One column of class names or whole numbers, by default `label` or `class`; or several
            columns of 0, 1, -1 (uncertain) or blank (not mentioned), one per label.
        patient_column: Column of the patients; by default `patient` or `patient_id` where there is one, else
            every image is a patient of its own.
        split_column: Column of `train`, `val` and `test`; by default `split` where there is one.
        mask_column: Column of the paths of lesion masks, where there are masks; every pixel that is not 0
            belongs to the lesion.
        boxes: Instead of masks: a CSV of boxes around lesions, see `pipelines.sources.table.boxes.box_masks`.
        box_columns: Its columns of the left edge, the upper edge, the width and the height, in pixels.
        class_names: The classes in order; by default the sorted values, or the names of the label columns. A
            whole number that is no class name counts as its index.
        uncertain: Policy for labels of -1, one of `"ignore"`, `"zeros"`, `"ones"` and `"smooth"`.
        blank: The same for blank labels.
        root: Folder that the paths start from and do not leave, neither by `..` nor by a symbolic link;
            absolute paths below it are fine. By default the folder of the CSV.
        max_pixels: Height times width up to which an image is decoded, see `pipelines.images.decode.read_image`.
        on_error: `"raise"` refuses a file that is missing or lies outside of the root; `"skip"` keeps it as a
            record, so that `pipelines.images.decode.find_unreadable` reports it.

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
    if boxes is not None and mask_column is not None:
        raise InputError(f"Lesions have masks or boxes. Received: {mask_column=}, {boxes=}")
    table = read_csv(csv)
    columns = _columns(table, csv, path_column, label_columns, patient_column, split_column, mask_column)
    ids = _ids(table[columns.path], csv)
    label_table = table[list(columns.labels)]
    multilabel = len(columns.labels) > 1 or (task is not None and is_multilabel(task))
    if multilabel:
        names, stored = tuple(class_names or columns.labels), label_matrix(label_table, csv)
        labels = known_labels(stored)
        train_labels = training_labels(stored, ids, columns.labels, uncertain=uncertain, blank=blank)
    else:
        names, labels = class_indices(label_table.iloc[:, 0], class_names, csv)
        train_labels = None
        _check_no_policy(uncertain=uncertain, blank=blank)
    return file_records(
        name=os.path.splitext(os.path.basename(csv))[0],
        task=task or ("multilabel" if multilabel else default_task(len(names))),
        class_names=names,
        table=_described(table, columns, ids, csv),
        labels=labels,
        train_labels=train_labels,
        path_of=paths_of(table[columns.path], csv, root, on_error=on_error, distinct=True),
        mask_of=_masks(table, columns.mask, csv, root, on_error),
        boxes=None if boxes is None else box_masks(boxes, ids, box_columns),
        max_pixels=max_pixels,
    )


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The columns that have a role."""

    path: str
    labels: tuple[str, ...]
    patient: str | None
    split: str | None
    mask: str | None


def _columns(
    table: pd.DataFrame,
    csv: str,
    path: str | None,
    labels: str | Sequence[str] | None,
    patient: str | None,
    split: str | None,
    mask: str | None,
) -> _Columns:
    find = functools.partial(find_column, table, csv)
    names = (labels,) if isinstance(labels, str) or labels is None else tuple(labels)
    if len(set(names)) != len(names) or not names:
        raise InputError(f"`label_columns` must be one or more, all distinct. Received: {labels} for {csv}")
    return _Columns(
        path=find(path, usual=PATH_COLUMNS, option="path_column"),
        labels=tuple(find(name, usual=LABEL_COLUMNS, option="label_columns") for name in names),
        patient=find(patient, usual=PATIENT_COLUMNS, option="patient_column", optional=True),
        split=find(split, usual=SPLIT_COLUMNS, option="split_column", optional=True),
        mask=find(mask, usual=(), option="mask_column", optional=True),
    )


def _ids(paths: pd.Series, csv: str) -> list[str]:
    repeated = np.flatnonzero(paths.duplicated() & (paths != ""))
    if len(repeated):
        row = paths.index[repeated[0]]
        raise InputError(f"An image stands in one row. Received: {paths[row]} again in row {row} of {csv}")
    return filled(paths, csv)


def _masks(
    table: pd.DataFrame, column: str | None, csv: str, root: str | None, on_error: str
) -> Callable[[int], str] | None:
    if column is None:
        return None
    filled(table[column], csv)
    return paths_of(table[column], csv, root, on_error=on_error)


def _check_no_policy(**policies: str) -> None:
    for option, policy in policies.items():
        if policy != "ignore":
            raise InputError(f"`{option}` is for several labels, each 0, 1, -1 or blank. Received: {option}={policy!r}")


def _described(table: pd.DataFrame, columns: _Columns, ids: list[str], csv: str) -> pd.DataFrame:
    """Returns the table of the records: id, patient, split, and all columns without a role."""
    roles = {
        "id": ids,
        "patient": filled(table[columns.patient], csv) if columns.patient else ids,
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
