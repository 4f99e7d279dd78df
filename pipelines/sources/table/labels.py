"""Labels from the columns of a table: class names of one, or 0, 1, uncertain and blank of several."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.sources.table.csv_text import filled

UNCERTAIN, BLANK = -1.0, np.nan
LABEL_VALUES = {
    "0": 0.0,
    "0.0": 0.0,
    "1": 1.0,
    "1.0": 1.0,
    "-1": UNCERTAIN,
    "-1.0": UNCERTAIN,
    "": BLANK,
    "nan": BLANK,
}
POLICIES = ("ignore", "zeros", "ones", "smooth")
SMOOTH_RANGES = {"uncertain": (0.55, 0.85), "blank": (0.0, 0.3)}


def class_indices(values: pd.Series, class_names: Sequence[str] | None, csv: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the class names and the class index of every row, int32.

    Args:
        values: Class names or whole numbers, indexed by the rows of the CSV.
        class_names: The classes in order; by default the sorted values. A whole number that is no class name
            counts as its index.
        csv: The CSV, for the errors.

    Raises:
        ValueError: If a value is blank or no class, or there are fewer than two classes.

    Example:
        >>> class_indices(pd.Series(["well", "ill", "well"]), None, "a.csv")
        (('ill', 'well'), array([1, 0, 1], dtype=int32))
    """
    filled(values, csv)
    found = values.unique().tolist()
    if class_names is None:
        whole = all(value.isdecimal() for value in found)
        class_names = sorted(found, key=int) if whole else sorted(found)
    names = tuple(str(name) for name in class_names)
    if len(names) < 2:
        raise InputError(f"Column {values.name} needs at least two classes. Received: {csv} with {found}")
    index = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    labels = values.map(index)
    unknown = np.flatnonzero(labels.isna())
    if len(unknown):
        raise InputError(
            f"A label of column {values.name} is one of {', '.join(names)}. Received: {_at(values, unknown[0], csv)}"
        )
    return names, labels.to_numpy(np.int32)


def label_matrix(table: pd.DataFrame, csv: str) -> np.ndarray:
    """Returns one label per row and column, float32: 0, 1, -1 (uncertain) or NaN (blank).

    Args:
        table: The label columns, indexed by the rows of the CSV.
        csv: The CSV, for the errors.

    Raises:
        ValueError: If a value is another.

    Example:
        >>> label_matrix(pd.DataFrame({"cyst": ["1", "-1"], "mass": ["", "0.0"]}), "a.csv").tolist()
        [[1.0, nan], [-1.0, 0.0]]
    """
    labels = np.empty(table.shape, np.float32)
    for j, name in enumerate(table):
        codes, found = pd.factorize(table[name])
        wrong = next((i for i, value in enumerate(found) if value.lower() not in LABEL_VALUES), None)
        if wrong is not None:
            raise InputError(
                f"A label of column {name} is 0, 1, -1 (uncertain) or blank. "
                f"Received: {_at(table[name], codes.tolist().index(wrong), csv)}"
            )
        labels[:, j] = np.array([LABEL_VALUES[value.lower()] for value in found])[codes]
    return labels


def _at(values: pd.Series, position: int, csv: str) -> str:
    return f"{values.iloc[position]!r} in row {values.index[position]} of {csv}"


def known_labels(labels: np.ndarray) -> np.ndarray:
    """Returns what a label matrix says for sure: uncertain labels are NaN like blank ones.

    Example:
        >>> known_labels(np.array([1, 0, -1, np.nan])).tolist()
        [1.0, 0.0, nan, nan]
    """
    return np.where(labels == UNCERTAIN, np.float32(np.nan), labels)


def training_labels(
    labels: np.ndarray, ids: Sequence[str], names: Sequence[str], *, uncertain: str, blank: str
) -> np.ndarray | None:
    """Returns the labels to train with, float32, or None if they are the known ones.

    `smooth` draws uniformly from [0.55, 0.85] for an uncertain and from [0, 0.3] for a blank label. What is
    drawn follows from the record and the label alone.

    Args:
        labels: As from `label_matrix`, `(n, labels)`.
        ids: The ids of the records.
        names: The names of the labels.
        uncertain: One of `POLICIES`, for labels of -1.
        blank: One of `POLICIES`, for blank labels.

    Raises:
        ValueError: If a policy is unknown.

    Reference:
        Irvin et al., CheXpert, arXiv 1901.07031 (the policies); Pham et al., Interpreting chest X-rays via CNNs
        that exploit hierarchical disease dependencies and uncertainty labels, arXiv 1911.06475 (the ranges).

    Example:
        >>> labels = np.array([[1, -1], [-1, np.nan]], np.float32)
        >>> training_labels(labels, ("a", "b"), ("cyst", "mass"), uncertain="ones", blank="ignore").tolist()
        [[1.0, 1.0], [1.0, nan]]
    """
    policies = {"uncertain": uncertain, "blank": blank}
    for option, policy in policies.items():
        if policy not in POLICIES:
            raise InputError(f"`{option}` must be one of {', '.join(POLICIES)}. Received: {option}={policy!r}")
    if uncertain == blank == "ignore":
        return None
    filled_in = known_labels(labels)
    for option, cells in (("uncertain", labels == UNCERTAIN), ("blank", np.isnan(labels))):
        if policies[option] == "smooth":
            low, high = SMOOTH_RANGES[option]
            filled_in[cells] = (low + (high - low) * _draws(ids, names))[cells]
        elif policies[option] != "ignore":
            filled_in[cells] = policies[option] == "ones"
    return filled_in


def _draws(ids: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Returns numbers in [0, 1), `(ids, names)`, each from its id and its name: SplitMix64 of their hashes."""
    rows, columns = ([_hash(text) for text in texts] for texts in (ids, names))
    mixed = np.array(rows, np.uint64)[:, None] ^ np.array(columns, np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))) / 2.0**64


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
