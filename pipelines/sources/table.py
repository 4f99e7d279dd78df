"""The table source: a CSV with the path of every image, its label or labels, and whatever else is known."""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medkeras.tasks import default_task, is_multilabel
from pipelines.records import SPLITS, Records
from pipelines.sources.images import file_records

PATH_COLUMNS = ("path", "image", "file", "filename", "image_path")
LABEL_COLUMNS = ("label", "class")
PATIENT_COLUMNS = ("patient", "patient_id")
SPLIT_COLUMNS = ("split",)
LABEL_VALUES = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "": np.nan, "nan": np.nan}


def open_table(
    csv: str,
    *,
    task: str | None = None,
    path_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    patient_column: str | None = None,
    split_column: str | None = None,
    mask_column: str | None = None,
    class_names: Sequence[str] | None = None,
    root: str | None = None,
    on_error: str = "raise",
) -> Records:
    r"""Opens a CSV table of images; all columns without a role are kept as metadata.

    Args:
        csv: The file, comma-separated, with a header row.
        task: One of `medkeras.tasks.TASKS`; by default `multilabel` for several label columns, else the
            single-label task that fits the number of classes.
        path_column: Column of the image paths, which are the ids; by default `path`, `image`, `file`,
            `filename` or `image_path`.
        label_columns: One column of class names or whole numbers, by default `label` or `class`; or several
            columns of 0, 1 or blank (unknown), one per label.
        patient_column: Column of the patients; by default `patient` or `patient_id` where there is one, else
            every image is a patient of its own.
        split_column: Column of `train`, `val` and `test`; by default `split` where there is one.
        mask_column: Column of the paths of lesion masks, where there are masks; every pixel that is not 0
            belongs to the lesion.
        class_names: The classes in order; by default the sorted values, or the names of the label columns. A
            whole number that is no class name counts as its index.
        root: Folder that the paths start from; by default that of the CSV.
        on_error: `"raise"` refuses a missing file; `"skip"` keeps it as a record, so that
            `pipelines.decode.find_unreadable` reports it.

    Raises:
        FileNotFoundError: If the CSV, `root` or, with its row, an image file does not exist.
        ValueError: If the CSV cannot be read, or a column, a label, a split, a patient or an id is not sound;
            the row is given, the header being row 1.

    Example:
        >>> import cv2, pathlib, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "b.png"):
        ...     _ = cv2.imwrite(str(root / name), np.zeros((8, 8), np.uint8))
        >>> _ = (root / "images.csv").write_text("path,cyst,mass,age\na.png,1,0,61\nb.png,,1,48\n")
        >>> records = open_table(str(root / "images.csv"), label_columns=("cyst", "mass"))
        >>> records.labels.tolist(), records.table["age"].tolist()
        ([[1.0, 0.0], [nan, 1.0]], [61, 48])
    """
    table = _read(csv)
    path_column = _column(table, csv, path_column, PATH_COLUMNS, "path_column")
    patient_column = _column(table, csv, patient_column, PATIENT_COLUMNS, "patient_column", optional=True)
    split_column = _column(table, csv, split_column, SPLIT_COLUMNS, "split_column", optional=True)
    mask_column = _column(table, csv, mask_column, (), "mask_column", optional=True)
    columns = (label_columns,) if isinstance(label_columns, str) or label_columns is None else tuple(label_columns)
    columns = tuple(_column(table, csv, name, LABEL_COLUMNS, "label_columns") for name in columns)

    ids = _ids(table[path_column], csv)
    paths = _paths(ids, csv, root, on_error)
    masks = _paths(_filled(table[mask_column], csv), csv, root, on_error) if mask_column else None
    if len(columns) > 1 or (task and is_multilabel(task)):
        names, labels = tuple(class_names or columns), _label_matrix(table, columns, csv)
    else:
        names, labels = _class_indices(table[columns[0]], class_names, csv)
    roles = {
        "id": ids,
        "patient": _filled(table[patient_column], csv) if patient_column else ids,
        "split": _splits(table[split_column], csv) if split_column else "",
    }
    used = {path_column, patient_column, split_column, mask_column, *columns}
    metadata = {_free(name, roles): _typed(table[name]) for name in table if name not in used}
    return file_records(
        name=os.path.splitext(os.path.basename(csv))[0],
        task=task or ("multilabel" if len(columns) > 1 else default_task(len(names))),
        class_names=names,
        table=pd.DataFrame(roles | metadata),
        labels=labels,
        paths=paths,
        mask_of=masks and masks.__getitem__,
    )


def _read(csv: str) -> pd.DataFrame:
    """Reads the CSV as text, so that a class called None or 007 stays what it is."""
    if not os.path.isfile(csv):
        raise FileNotFoundError(f"No such file: {csv}")
    try:
        table = pd.read_csv(csv, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise ValueError(f"Cannot read {csv}: {' '.join(str(error).split())}") from error
    if len(table) == 0:
        raise ValueError(f"Cannot read {csv}: it has no rows")
    return table


def _column(
    table: pd.DataFrame,
    csv: str,
    name: str | None,
    usual: Sequence[str],
    option: str,
    *,
    optional: bool = False,
) -> str | None:
    """Returns the named column, or the first of the usual ones."""
    found = next((c for c in ((name,) if name is not None else usual) if c in table), None)
    if found is None and (name is not None or not optional):
        wanted = name or " or ".join(usual)
        raise ValueError(f"No column {wanted} in {csv}, which has {', '.join(table)}. Received: {option}={name!r}")
    return found


def _row(position: int) -> int:
    return position + 2


def _ids(paths: pd.Series, csv: str) -> list[str]:
    repeated = np.flatnonzero(paths.duplicated())
    if len(repeated):
        raise ValueError(
            f"An image stands in one row. Received: {paths[repeated[0]]} again in row {_row(repeated[0])} of {csv}"
        )
    return _filled(paths, csv)


def _filled(values: pd.Series, csv: str) -> list[str]:
    blank = np.flatnonzero(values == "")
    if len(blank):
        raise ValueError(
            f"Every row needs a value in column {values.name}. Received: row {_row(blank[0])} of {csv} without"
        )
    return values.tolist()


def _paths(ids: list[str], csv: str, root: str | None, on_error: str) -> list[str]:
    """Returns the files, which exist unless `on_error` is skip; each folder is listed once."""
    if root is not None and not os.path.isdir(root):
        raise FileNotFoundError(f"No such folder: root={root}")
    start = os.path.dirname(os.path.abspath(csv)) if root is None else root
    paths = [os.path.join(start, name) for name in ids]
    listed: dict[str, set[str]] = {}
    for position, path in enumerate(paths if on_error == "raise" else ()):
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in listed[folder]:
            raise FileNotFoundError(f"Cannot read {path}: no such file, row {_row(position)} of {csv}")
    return paths


def _label_matrix(table: pd.DataFrame, columns: Sequence[str], csv: str) -> np.ndarray:
    labels = np.empty((len(table), len(columns)), np.float32)
    for j, name in enumerate(columns):
        values = table[name].str.strip().str.lower()
        wrong = np.flatnonzero(~values.isin(LABEL_VALUES))
        if len(wrong):
            raise ValueError(
                f"A label of column {name} is 0, 1 or blank. "
                f"Received: {table[name][wrong[0]]!r} in row {_row(wrong[0])} of {csv}"
            )
        labels[:, j] = values.map(LABEL_VALUES)
    return labels


def _class_indices(
    values: pd.Series, class_names: Sequence[str] | None, csv: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the class names and the class index of every row."""
    _filled(values, csv)
    found = values.unique().tolist()
    if class_names is None:
        whole = all(value.isdecimal() for value in found)
        class_names = sorted(found, key=int) if whole else sorted(found)
    names = tuple(str(name) for name in class_names)
    if len(names) < 2:
        raise ValueError(f"Column {values.name} needs at least two classes. Received: {csv} with {found}")
    index = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    labels = values.map(index)
    unknown = np.flatnonzero(labels.isna())
    if len(unknown):
        raise ValueError(
            f"A label of column {values.name} is one of {', '.join(names)}. "
            f"Received: {values[unknown[0]]!r} in row {_row(unknown[0])} of {csv}"
        )
    return names, labels.to_numpy(np.int32)


def _splits(values: pd.Series, csv: str) -> list[str]:
    wrong = np.flatnonzero(~values.isin(SPLITS))
    if len(wrong) and (values != "").any():
        raise ValueError(
            f"Column {values.name} holds train, val or test. "
            f"Received: {values[wrong[0]]!r} in row {_row(wrong[0])} of {csv}"
        )
    return values.tolist()


def _free(name: str, roles: dict) -> str:
    return f"original_{name}" if name in roles else name


def _typed(values: pd.Series) -> pd.Series:
    """Returns numbers where every value is one or blank, else text."""
    numbers = pd.to_numeric(values.where(values != ""), errors="coerce")
    return numbers if numbers.notna().eq(values != "").all() and numbers.notna().any() else values
