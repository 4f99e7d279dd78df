"""A CSV as text: strict about its form, so that no value ever stands in another column than its own."""

import csv
import io
import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medkeras.errors import InputError


def read_csv(path: str) -> pd.DataFrame:
    r"""Reads a CSV as text, so that a class called None or 007 stays what it is.

    Spaces around values are dropped, and so are rows without any value. A column without a name is called
    `column_<number>`.

    Args:
        path: The file, UTF-8, comma-separated, with a header row.

    Returns:
        A table of strings whose index holds the rows of the file, the header being row 1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no CSV, a row has more or fewer values than the header, two columns have one name,
            or there are no rows.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("path, label\na.png, 007\n")
        >>> read_csv(str(path)).loc[2].tolist()
        ['a.png', '007']
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No such file: {path}")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            text = file.read()
        lines = [list(map(str.strip, line)) for line in csv.reader(io.StringIO(text, newline=""), strict=True)]
    except (csv.Error, ValueError, OSError) as error:
        raise InputError(f"Cannot read {path}: {' '.join(str(error).split())}") from error
    if "\0" in text:
        raise InputError(f"Cannot read {path}: it is no UTF-8 text")
    rows = [number for number, line in enumerate(lines, 1) if any(line)]
    if len(rows) < 2:
        raise InputError(f"Cannot read {path}: it has no rows")
    header, *values = lines if len(rows) == len(lines) else [lines[number - 1] for number in rows]
    wrong = next((i for i, line in enumerate(values, 1) if len(line) != len(header)), None)
    if wrong is not None:
        raise InputError(
            f"Cannot read {path}: {len(header)} columns, but {len(values[wrong - 1])} values in row {rows[wrong]}"
        )
    return pd.DataFrame(np.array(values, dtype=object), index=rows[1:], columns=_names(header, path))


def _names(header: Sequence[str], path: str) -> list[str]:
    names = [name or f"column_{i}" for i, name in enumerate(header, 1)]
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise InputError(f"Cannot read {path}: two columns are called {repeated}")
    return names


def find_column(
    table: pd.DataFrame, path: str, name: str | None, *, usual: Sequence[str], option: str, optional: bool = False
) -> str | None:
    """Returns the named column, or the first of the usual ones, or None if it may be missing.

    Args:
        table: As from `read_csv`.
        path: The file, for the error.
        name: The column that is asked for, or None.
        usual: Names to look for if none is asked for.
        option: Name of the option that asks, for the error.
        optional: Whether there may be none of the usual ones.

    Raises:
        ValueError: If there is no such column.

    Example:
        >>> find_column(pd.DataFrame({"file": ["a.png"]}), "a.csv", None, usual=("path", "file"), option="path")
        'file'
    """
    found = next((c for c in ((name,) if name is not None else usual) if c in table), None)
    if found is None and (name is not None or not optional):
        wanted = name or " or ".join(usual)
        raise InputError(f"No column {wanted} in {path}, which has {', '.join(table)}. Received: {option}={name!r}")
    return found


def filled(values: pd.Series, path: str) -> pd.Series:
    """Returns a column that must have a value in every row.

    Raises:
        ValueError: If one is blank; its row is given.

    Example:
        >>> filled(pd.Series(["a", "b"]), "a.csv").tolist()
        ['a', 'b']
    """
    blank = np.flatnonzero(values == "")
    if len(blank):
        raise InputError(
            f"Every row needs a value in column {values.name}. Received: row {values.index[blank[0]]} of {path} without"
        )
    return values
