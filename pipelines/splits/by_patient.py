"""Splits by patient: nobody's images stand in two splits, and every class is shared out in proportion."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medkeras.errors import InputError
from medkeras.tasks import is_multilabel
from pipelines.images.records import SPLITS, Records

GROUP = "kept_together"  # A column that no table is likely to have: `group` or `site` is metadata of many.


def split_records(
    records: Records, *, fractions: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0
) -> dict[str, Records]:
    """Splits records into train, val and test by patient, stratified by class as well as patients allow.

    Records with groups (`join_duplicates`) are split by group. A source's own `split` column is taken as given; a
    split that it lacks is taken from its train records.
    The result depends on the seed and on the records, not on their order.

    Args:
        records: What a source gave.
        fractions: Shares of train, val and test, positive, summing to 1.
        seed: Chooses among equally good splits.

    Returns:
        `{"train": ..., "val": ..., "test": ...}`, each in the order of the record ids.

    Raises:
        ValueError: If the fractions are no shares, only some records have a given split, there are fewer patients
            than splits to make, or a class is absent from a split. Labels of a `multilabel` task without a
            positive image are common and only warned of.

    Reference:
        The rarest class goes first, as in Sechidis et al., On the stratification of multi-label data,
        ECML PKDD 2011; here it is patients that are shared out, each to where chi-square falls most.

    Example:
        >>> table = pd.DataFrame({"id": list("abcdef"), "patient": list("uuvwxy"), "split": ""})
        >>> records = Records(name="six", task="binary", class_names=("no", "yes"), table=table,
        ...                   labels=np.array([0, 0, 0, 1, 1, 1]), read=lambda i: np.zeros((4, 4)))
        >>> try:
        ...     split_records(records)
        ... except ValueError as error:
        ...     print(error)
        Every split needs an image of every class. Received: class 'no' with train 2, val 0, test 1
    """
    fractions = _check_fractions(fractions)
    records = records.select(np.argsort(records.table["id"].to_numpy(dtype=str), kind="stable"))
    split = _given_splits(records)
    missing = [name for name in SPLITS if not (split == name).any()]
    if missing:
        pool = np.flatnonzero(split == "train")
        shares = {name: fractions[name] for name in ("train", *missing)}
        split[pool] = share_out(records.select(pool), shares, seed)
    for name in SPLITS:
        if not (split == name).any():
            raise InputError(
                f"Every split needs an image of every class. Received: {records.name} with none for {name}"
            )
    splits = {name: records.select(np.flatnonzero(split == name)) for name in SPLITS}
    check_classes(splits)
    return splits


def join_duplicates(records: Records, pairs: pd.DataFrame) -> Records:
    """Makes groups of patients whose images look the same: a split then parts no group.

    Args:
        records: What a source gave.
        pairs: Duplicates, as `pipelines.splits.duplicates.find_duplicates` gives them.

    Returns:
        The same records with a column `kept_together`: patients that are connected by duplicates, directly or
        through others, have one value; `patient` stays as it is.

    Example:
        >>> table = pd.DataFrame({"id": list("abcd"), "patient": list("uuvw"), "split": ""})
        >>> records = Records(name="four", task="binary", class_names=("no", "yes"), table=table,
        ...                   labels=np.array([0, 0, 1, 1]), read=lambda i: np.zeros((4, 4)))
        >>> pairs = pd.DataFrame([["b", "c", "near", 0.1]], columns=["a", "b", "kind", "distance"])
        >>> join_duplicates(records, pairs).table["kept_together"].tolist()
        ['u', 'u', 'u', 'w']
    """
    patients, patient = np.unique(records.table["patient"].to_numpy(dtype=str), return_inverse=True)
    of_id = dict(zip(records.table["id"], patient, strict=True))
    edges = [[of_id[a] for a in pairs["a"]], [of_id[b] for b in pairs["b"]]]
    graph = coo_array((np.ones(len(pairs)), edges), shape=(len(patients),) * 2)
    _, component = connected_components(graph, directed=False)
    first = patients[np.unique(component, return_index=True)[1]]
    return dataclasses.replace(records, table=records.table.assign(**{GROUP: first[component[patient]]}))


def _groups(records: Records) -> np.ndarray:
    return records.table[GROUP if GROUP in records.table else "patient"].to_numpy(dtype=str)


def manifest(splits: Mapping[str, Records]) -> pd.DataFrame:
    """Returns one row per record, `id`, `patient`, `split` and `label`; several labels are joined by `|`."""
    rows = [
        pd.DataFrame(
            {
                "id": records.table["id"],
                "patient": records.table["patient"],
                "split": name,
                "label": label_names(records),
            }
        )
        for name, records in splits.items()
    ]
    return pd.concat(rows, ignore_index=True)


def label_names(records: Records) -> list[str]:
    """Returns the class name of every record, or its positive labels joined by `|`."""
    if is_multilabel(records.task):
        names = np.array(records.class_names)
        return ["|".join(names[row == 1]) for row in records.labels]
    return [records.class_names[label] for label in records.labels]


def _check_fractions(fractions: Sequence[float]) -> dict[str, float]:
    if len(fractions) != len(SPLITS) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(
            "`fractions` must be three positive shares of train, val and test that sum to 1. "
            f"Received: fractions={tuple(fractions)}"
        )
    return dict(zip(SPLITS, fractions, strict=True))


def _given_splits(records: Records) -> np.ndarray:
    """Returns the source's split of every record; a source without splits has all in train."""
    split = records.table["split"].to_numpy(dtype=object).astype("U16")
    if (split == "").all():
        split[:] = "train"
    for i in np.flatnonzero(~np.isin(split, SPLITS))[:1]:
        raise InputError(
            f"A source gives each record a split, one of {', '.join(SPLITS)}, or gives none at all. "
            f"Received: split='{split[i]}' for {records.table['id'][i]}"
        )
    if not (split == "train").any():
        raise InputError(f"A source that gives splits must give train. Received: {', '.join(np.unique(split))}")
    return split


def share_out(records: Records, shares: Mapping[str, float], seed: int) -> np.ndarray:
    """Gives each record's patient one of the splits, the rarest class first, where it is needed most.

    Args:
        records: What is shared out.
        shares: Of each split, positive; their sum counts as 1.
        seed: Chooses among equally good splits.

    Returns:
        The name of the split of every record, `(n,)`.

    Raises:
        ValueError: If there are fewer patients than splits.
    """
    patients, patient = np.unique(_groups(records), return_inverse=True)
    if len(patients) < len(shares):
        raise InputError(f"There must be a patient for each of {', '.join(shares)}. Received: {len(patients)} patients")
    counts = _counts_by_patient(records, patient)
    share = np.array(list(shares.values())) / sum(shares.values())
    wanted = share[:, None] * counts.sum(axis=0)
    got = np.zeros_like(wanted)
    chosen = np.full(len(patients), -1)
    for column in _rarest_first(counts):
        queue = _large_patients_first(counts[:, column], chosen < 0, seed)
        for position, p in enumerate(queue):
            # What chi-square, the sum of (got - wanted)^2 / wanted, would change by.
            cost = (counts[p] * (counts[p] + 2 * (got - wanted)) / np.maximum(wanted, 1e-9)).sum(axis=1)
            lacking = got[:, column] == 0
            if 0 < lacking.sum() >= len(queue) - position:
                # The last patients of a class go where it is lacking, before any proportion.
                cost[~lacking] = np.inf
            chosen[p] = best = np.argmin(cost.round(6))
            got[best] += counts[p]
    return np.array(list(shares))[chosen][patient]


def _counts_by_patient(records: Records, patient: np.ndarray) -> np.ndarray:
    """Returns images per patient and class, and of any class in the last column."""
    if is_multilabel(records.task):
        carries = records.labels == 1
    else:
        carries = records.labels[:, None] == np.arange(len(records.class_names))
    carries = np.concatenate([carries, np.ones((len(records), 1), bool)], axis=1)
    counts = np.zeros((patient.max() + 1, carries.shape[1]))
    np.add.at(counts, patient, carries)
    return counts


def _rarest_first(counts: np.ndarray) -> list[int]:
    classes = np.argsort((counts[:, :-1] > 0).sum(axis=0), kind="stable")
    return [*classes, counts.shape[1] - 1]


def _large_patients_first(count: np.ndarray, is_open: np.ndarray, seed: int) -> np.ndarray:
    shuffled = np.random.default_rng(seed).permutation(len(count))
    queue = shuffled[(is_open & (count > 0))[shuffled]]
    return queue[np.argsort(-count[queue], kind="stable")]


def check_classes(splits: Mapping[str, Records]) -> None:
    """Checks that every class has an image in every split; labels of a multilabel task are only warned of.

    Raises:
        ValueError: Naming the class and its counts.
    """
    counts = {name: records.class_counts() for name, records in splits.items()}
    records = splits["train"]
    absent = np.flatnonzero((np.array(list(counts.values())) == 0).any(axis=0))
    if not len(absent):
        return
    names = ", ".join(repr(records.class_names[i]) for i in absent)
    if is_multilabel(records.task):
        warnings.warn(f"Labels without a positive image in a split: {names}.", stacklevel=3)
        return
    name, found = records.class_names[absent[0]], ", ".join(f"{k} {n[absent[0]]}" for k, n in counts.items())
    raise InputError(f"Every split needs an image of every class. Received: class {name!r} with {found}")
