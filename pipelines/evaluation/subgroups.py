"""Subgroups of a run: whether it is as good for every age, sex, view or scanner that the data name."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from medkeras.errors import InputError
from medkeras.evaluation import Interval, groups_of, measure_subgroups
from pipelines.evaluation.one_vs_rest import Event
from pipelines.images.records import Records

OWN = ("id", "patient", "split")  # Columns of the records themselves.
SMALLEST = 10


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of metadata to group by.

    Attributes:
        name: Its name.
        edges: Where to cut its numbers; None for the rule of `medkeras.evaluation.groups_of`.
    """

    name: str
    edges: tuple[float, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> "Column":
        """Reads `sex`, or `age:40,60` with the edges of bands.

        Raises:
            ValueError: If an edge is no number, or there is no name.

        Example:
            >>> Column.parse("age:40,60")
            Column(name='age', edges=(40.0, 60.0))
        """
        name, colon, edges = text.partition(":")
        try:
            found = tuple(float(edge) for edge in edges.split(",")) if colon else None
        except ValueError:
            found = ()
        if not name or (colon and not found):
            raise InputError(f"A subgroup is a column, or a column with edges: age:40,60. Received: {text!r}")
        return cls(name, found)


def subgroup_columns(records: Records, asked: Sequence[str]) -> list[Column]:
    """Returns the columns that were asked for.

    Raises:
        ValueError: If the records have no such column, or it cannot be grouped by.
    """
    columns = [Column.parse(text) for text in asked]
    names = [column.name for column in columns]
    if len(set(names)) != len(names):
        raise InputError(f"Each column is grouped by once. Received: {', '.join(names)}")
    there = [name for name in records.table if name not in OWN]
    for column in columns:
        if column.name not in there:
            raise InputError(
                f"Subgroups are of columns that the data have: {', '.join(there) or 'none'}. Received: {column.name}"
            )
        try:
            groups_of(records.table[column.name].to_numpy(), edges=column.edges)
        except ValueError as error:
            raise InputError(f"{column.name}: {error}") from error
    return columns


def subgroup_table(records: Records, asked: Iterable[Event], columns: Sequence[Column]) -> pd.DataFrame:
    """Measures each group of each column for each class or label.

    Args:
        records: What was predicted.
        asked: See `pipelines.evaluation.one_vs_rest.events`.
        columns: See `subgroup_columns`.

    Returns:
        One row per class, column and group: see `medkeras.evaluation.Subgroup.to_dict`. Every difference counts as
        one of all that the table makes.
    """
    asked, patients = list(asked), records.table["patient"].to_numpy()
    groups = [groups_of(records.table[column.name].to_numpy(), edges=column.edges) for column in columns]
    rows: list[dict[str, Any]] = []
    for event in asked:
        for column, (index, names) in zip(columns, groups, strict=True):
            found = measure_subgroups(
                event.positive,
                event.scores,
                event.decided,
                index[event.rows],
                names,
                patients=patients[event.rows],
                smallest=SMALLEST,
                questions=len(asked) * len(columns),
            )
            rows += [{"class": event.name, "column": column.name} | group.to_dict() for group in found]
    return pd.DataFrame(rows)


def say_what_stands_out(table: pd.DataFrame) -> list[str]:
    """Returns a line for each difference between groups that stands out, and one for what was too small to compare."""
    lines = []
    for _, row in table[table["stands_out"] != ""].iterrows():
        for name in row["stands_out"].split("|"):
            apart = Interval(*(float(row[f"{name}_difference{end}"]) for end in ("", "_low", "_high")))
            lines.append(f"{row['class']}, {row['column']} {row['group']}: {name} differs by {apart}")
    small, groups = int(table["is_small"].sum()), len(table)
    what = f"{len(lines)} differences stand out" if lines else "no difference stands out"
    lines.append(
        f"subgroups: {what}; {small} of {groups} have fewer than {SMALLEST} positive or negative patients and are "
        "not compared"
    )
    return lines


def stands_out(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the groups that stand out: `class`, `column`, `group` and their `measures`."""
    rows = table[table["stands_out"] != ""]
    return [
        {
            "class": row["class"],
            "column": row["column"],
            "group": row["group"],
            "measures": row["stands_out"].split("|"),
        }
        for _, row in rows.iterrows()
    ]
