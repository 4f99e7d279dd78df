"""A CSV file that a job wrote, read again: what is missing or no number is named with the file."""

import os
from collections.abc import Sequence
from typing import Any

import pandas as pd

from medkeras.errors import InputError

AS_WRITTEN = {"keep_default_na": False, "na_values": {}}  # A class may be called NA.


def read_table(
    path: str | os.PathLike, *, columns: Sequence[str] = (), numbers: Sequence[str] | bool = (), **options: Any
) -> pd.DataFrame:
    r"""Reads a CSV file.

    Args:
        path: The file.
        columns: Those that it must have.
        numbers: Those that it must have and that must hold numbers, a blank being NaN; True for every column.
        **options: Of `pandas.read_csv`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no table, lacks a column, or has something else where a number must be; the file is named.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "history.csv"
        >>> _ = path.write_text("epoch,loss\n1,0.5\n")
        >>> read_table(path, numbers=["epoch", "loss"])["loss"].tolist()
        [0.5]
        >>> read_table(path, columns=["auc"])
        Traceback (most recent call last):
        ...
        medkeras.InputError: Cannot read ...history.csv: it must have the column auc. Received: epoch, loss
    """
    try:
        table = pd.read_csv(path, **options)
        numbers = list(table) if numbers is True else numbers or ()
        missing = [name for name in (*columns, *numbers) if name not in table]
        if missing:
            raise InputError(f"it must have the column {missing[0]}. Received: {', '.join(map(str, table))}")
        for name in numbers:
            table[name] = _numbers(table[name])
    except ValueError as error:
        raise InputError(f"Cannot read {os.fspath(path)}: {' '.join(str(error).split())}") from error
    return table


def _numbers(column: pd.Series) -> pd.Series:
    found = pd.to_numeric(column, errors="coerce")
    wrong = column[found.isna() & column.notna() & (column.astype(str).str.strip() != "")]
    if len(wrong):
        raise InputError(f"the column {column.name} must hold numbers. Received: {wrong.iloc[0]!r}")
    return found
