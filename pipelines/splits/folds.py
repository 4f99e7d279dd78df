"""Splits of another kind: folds of a cross-validation, and splits that a file gives."""

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.images.records import SPLITS, Records
from pipelines.splits.by_patient import check_classes, share_out


def fold_records(
    records: Records, *, folds: int, fold: int, val_fraction: float = 0.1, seed: int = 0
) -> dict[str, Records]:
    """Splits records for one round of a cross-validation, by patient and stratified by class.

    Over all folds every record is in test exactly once. Val is taken from the rest by the same rule. Splits that
    the source gives are put together.

    Args:
        records: What a source gave.
        folds: Number of parts, at least 2.
        fold: Which part is test, from 0.
        val_fraction: Share of all records that becomes val, in (0, 1 - 1 / folds).
        seed: Chooses among equally good parts.

    Raises:
        ValueError: If an argument is out of its range, there are fewer patients than parts, or a class is absent
            from a split.

    Example:
        >>> from pipelines.sources import open_source
        >>> records = open_source("phantom", images=60)
        >>> tests = [fold_records(records, folds=3, fold=k)["test"] for k in range(3)]
        >>> sorted(i for test in tests for i in test.table["id"]) == sorted(records.table["id"])
        True
    """
    if folds < 2:
        raise InputError(f"`folds` must be >= 2. Received: folds={folds}")
    if not 0 <= fold < folds:
        raise InputError(f"`fold` must be in [0, {folds - 1}]. Received: fold={fold}")
    rest = 1 - 1 / folds
    if not 0 < val_fraction < rest:
        raise InputError(f"`val_fraction` must be in (0, {rest:.2f}). Received: val_fraction={val_fraction}")
    records = records.select(np.argsort(records.table["id"].to_numpy(dtype=str), kind="stable"))
    part = share_out(records, {str(k): 1 / folds for k in range(folds)}, seed)
    split = np.where(part == str(fold), "test", "train").astype("U16")
    left = np.flatnonzero(split == "train")
    shares = {"train": rest - val_fraction, "val": val_fraction}
    split[left] = share_out(records.select(left), shares, seed)
    return _parted(records, split)


def read_split_file(path: str | os.PathLike) -> pd.Series:
    r"""Reads a CSV with the columns `id` and `split`, as `splits.csv` of a run; others are passed over.

    Returns:
        The split of each id.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such table, an id comes twice, or a split is not train, val or test.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "splits.csv"
        >>> _ = path.write_text("id,split\na.png,train\nb.png,test\n")
        >>> read_split_file(path).to_dict()
        {'a.png': 'train', 'b.png': 'test'}
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No such file: {path}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise InputError(f"Cannot read {path}: {' '.join(str(error).split())}") from error
    if not {"id", "split"} <= set(table):
        raise InputError(f"A split file has the columns id and split. Received: {path} with {', '.join(table)}")
    for name in table["id"][table["id"].duplicated()].head(1):
        raise InputError(f"An id stands once in a split file. Received: {name} twice in {path}")
    for name, split in table.loc[~table["split"].isin(SPLITS), ["id", "split"]].head(1).itertuples(index=False):
        raise InputError(f"A split is one of {', '.join(SPLITS)}. Received: {split!r} for {name} in {path}")
    return table.set_index("id")["split"]


def apply_split(records: Records, splits: pd.Series) -> dict[str, Records]:
    """Splits records as a file says.

    Args:
        records: What a source gave.
        splits: As `read_split_file` gives them.

    Raises:
        ValueError: If a record is not named, a name has no record, or a class is absent from a split.

    Example:
        >>> from pipelines.sources import open_source
        >>> records = open_source("phantom", images=30)
        >>> named = pd.Series(np.resize(["train", "val", "test"], 30), index=records.table["id"])
        >>> {name: len(part) for name, part in apply_split(records, named).items()}
        {'train': 10, 'val': 10, 'test': 10}
    """
    ids = records.table["id"]
    for what, names in (("record", ids[~ids.isin(splits.index)]), ("name", splits.index[~splits.index.isin(ids)])):
        if len(names):
            rule = "Every record is named in the split file" if what == "record" else "Every name is a record's"
            raise InputError(f"{rule}. Received: {list(names)[0]} and {len(names) - 1} more without, {records.name}")
    records = records.select(np.argsort(ids.to_numpy(dtype=str), kind="stable"))
    return _parted(records, splits.loc[records.table["id"]].to_numpy(dtype=str))


def _parted(records: Records, split: np.ndarray) -> Mapping[str, Records]:
    missing = [name for name in SPLITS if not (split == name).any()]
    if missing:
        raise InputError(f"There must be images in every split. Received: {records.name} without {', '.join(missing)}")
    splits = {name: records.select(np.flatnonzero(split == name)) for name in SPLITS}
    check_classes(splits)
    return splits
