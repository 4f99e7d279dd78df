"""What crosses splits: patients, the same pixels and near-duplicates; and duplicates that contradict each other."""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.images.records import SPLITS, Records
from pipelines.splits.by_patient import label_names

POLICIES = ("stop", "warn", "off")
COLUMNS = ("kind", "split_a", "id_a", "label_a", "split_b", "id_b", "label_b", "distance")


class LeakError(InputError):
    """Splits share a patient, an image or a copy of one.

    Attributes:
        leaks: One row per pair, as `find_leaks` gives them.
    """

    def __init__(self, message: str, leaks: pd.DataFrame) -> None:
        super().__init__(message)
        self.leaks = leaks


def find_leaks(splits: Mapping[str, Records], pairs: pd.DataFrame) -> pd.DataFrame:
    """Finds what stands in two splits.

    Args:
        splits: `{split: Records}`.
        pairs: Duplicates among all records, as `pipelines.splits.duplicates.find_duplicates` gives them.

    Returns:
        One row per pair: `kind` (`patient`, `identical` or `near`), split, id and label of both, and `distance`,
        0 for patients and identical images. A patient in two splits is one row, with an image of each.

    Example:
        >>> table = pd.DataFrame({"id": ["a", "b"], "patient": ["p", "p"], "split": ""})
        >>> both = Records(name="two", task="binary", class_names=("no", "yes"), table=table,
        ...                labels=np.array([0, 1]), read=lambda i: np.zeros((4, 4)))
        >>> splits = {"train": both.select([0]), "test": both.select([1])}
        >>> find_leaks(splits, pd.DataFrame(columns=["a", "b", "kind", "distance"])).values.tolist()
        [['patient', 'train', 'a', 'no', 'test', 'b', 'yes', 0.0]]
    """
    where = _places(splits)
    rows = [*_shared_patients(where), *pairs[["kind", "a", "b", "distance"]].itertuples(index=False, name=None)]
    leaks = [_row(where, *row) for row in rows if where.at[row[1], "split"] != where.at[row[2], "split"]]
    return pd.DataFrame(leaks, columns=list(COLUMNS))


def described(splits: Mapping[str, Records], pairs: pd.DataFrame) -> pd.DataFrame:
    """Returns duplicates, within a split or across splits, with split and label of both images.

    Args:
        splits: `{split: Records}`.
        pairs: As for `find_leaks`.

    Returns:
        Rows as those of `find_leaks`; where `label_a` and `label_b` differ, the labels contradict each other.

    Example:
        >>> table = pd.DataFrame({"id": ["a", "b"], "patient": ["p", "q"], "split": ""})
        >>> both = Records(name="two", task="binary", class_names=("no", "yes"), table=table,
        ...                labels=np.array([0, 1]), read=lambda i: np.zeros((4, 4)))
        >>> pairs = pd.DataFrame([["a", "b", "identical", 0.0]], columns=["a", "b", "kind", "distance"])
        >>> described({"train": both}, pairs)[["label_a", "label_b"]].values.tolist()
        [['no', 'yes']]
    """
    where = _places(splits)
    rows = pairs[["kind", "a", "b", "distance"]].itertuples(index=False, name=None)
    return pd.DataFrame([_row(where, *row) for row in rows], columns=list(COLUMNS))


def check_leaks(splits: Mapping[str, Records], pairs: pd.DataFrame | None, *, policy: str = "stop") -> pd.DataFrame:
    """Returns the leaks of splits, as `find_leaks`, and stops or warns if there are any.

    Args:
        splits: `{split: Records}`.
        pairs: As for `find_leaks`; None with the policy `"off"`.
        policy: `"stop"`, `"warn"`, or `"off"`, which does not look.

    Raises:
        LeakError: If there are leaks and the policy is `"stop"`.
        ValueError: If the policy is unknown.

    Example:
        >>> len(check_leaks({}, None, policy="off"))
        0
    """
    check_policy(policy)
    if policy == "off":
        return pd.DataFrame(columns=list(COLUMNS))
    leaks = find_leaks(splits, pairs)
    if len(leaks) and policy == "stop":
        raise LeakError(summary(leaks), leaks)
    if len(leaks):
        warnings.warn(summary(leaks), stacklevel=2)
    return leaks


def check_policy(policy: str) -> None:
    """Raises a ValueError unless the policy is one of `POLICIES`.

    Example:
        >>> check_policy("warn")
    """
    if policy not in POLICIES:
        raise InputError(f"`leakage` must be one of {', '.join(POLICIES)}. Received: leakage={policy!r}")


def summary(leaks: pd.DataFrame) -> str:
    """Returns one line: how many leaks of each kind there are between which splits, and the first one.

    Example:
        >>> row = ["near", "train", "a.png", "ill", "test", "b.png", "well", 0.1]
        >>> summary(pd.DataFrame([row], columns=list(COLUMNS))).split(". ")[1]
        'Received: 1 near between train and test; first a.png (ill) and b.png (well).'
    """
    counts = leaks.groupby(["kind", "split_a", "split_b"], sort=False).size()
    found = ", ".join(f"{count} {kind} between {a} and {b}" for (kind, a, b), count in counts.items())
    first = leaks.iloc[0]
    return (
        "Splits must not share a patient or an image; keep copies together (group_duplicates), drop them, or pass "
        f"leakage='warn'. Received: {found}; first {first.id_a} ({first.label_a}) and {first.id_b} ({first.label_b})."
    )


def _places(splits: Mapping[str, Records]) -> pd.DataFrame:
    """Returns patient, split and label of every record, by id."""
    tables = [
        records.table[["id", "patient"]].assign(split=name, label=label_names(records))
        for name, records in splits.items()
    ]
    return pd.concat(tables).set_index("id")


def _shared_patients(where: pd.DataFrame) -> list[tuple[str, str, str, float]]:
    """Returns, for each patient and pair of splits, an image of either."""
    first = where.reset_index().drop_duplicates(["patient", "split"]).set_index("id")
    rows = []
    for _, images in first[first["patient"].duplicated(keep=False)].groupby("patient", sort=False):
        ids = images.index.tolist()
        rows += [("patient", a, b, 0.0) for i, a in enumerate(ids) for b in ids[i + 1 :]]
    return rows


def _row(where: pd.DataFrame, kind: str, a: str, b: str, distance: float) -> tuple:
    order = {name: i for i, name in enumerate(SPLITS)}
    if order.get(where.at[a, "split"], 0) > order.get(where.at[b, "split"], 0):
        a, b = b, a
    sides = [(where.at[name, "split"], name, where.at[name, "label"]) for name in (a, b)]
    return (kind, *sides[0], *sides[1], float(np.round(distance, 4)))
