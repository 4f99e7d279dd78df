"""What a layout finds in a download: labelled images, and the tables that say what they are."""

import dataclasses
import fnmatch
import io
from collections.abc import Mapping, Sequence

import pandas as pd

from medkeras.errors import InputError
from pipelines.recipes.download import Download, Member

Rejected = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Item:
    """A labelled image of a download.

    Attributes:
        member: Its file.
        label: Its class, also the name of a folder; `""` where it has several labels.
        group: What must not be parted by a split: a patient, a lesion, an examination; `""` if nothing is known.
        split: `train`, `val` or `test`, or `""` where the download gives none.
        metadata: What else is known.
        labels: Of several labels, each with its value as in a table: 0, 1, -1 for uncertain, or blank.
        folder: The folder that it goes to where it has no class.
    """

    member: Member
    label: str
    group: str = ""
    split: str = ""
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folder: str = ""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a layout finds: images, what it could not take with the reason, and what the user should know."""

    items: list[Item]
    rejected: Rejected
    notes: list[str]


def matching(download: Download, pattern: str) -> list[Member]:
    """Returns the files of a name, which may have wildcards, in any letter case."""
    return [m for m in download.members if fnmatch.fnmatch(m.name.casefold(), pattern.casefold())]


def only_table(download: Download, pattern: str, columns: Sequence[str]) -> tuple[Member, pd.DataFrame]:
    """Returns the one CSV of a name that has some columns.

    Raises:
        ValueError: If there is none, or more than one.
    """
    members = matching(download, pattern)
    read = [(member, read_table(download, member)) for member in members]
    fitting = [(member, rows) for member, rows in read if set(columns) <= set(rows)]
    if len(fitting) == 1:
        return fitting[0]
    wanted = f"one {pattern} with the columns {', '.join(columns)}"
    if fitting:
        raise InputError(f"The download holds {wanted}. Received: {', '.join(m.path for m, _ in fitting)}")
    found = "; ".join(f"{member.path} with {', '.join(map(str, rows))}" for member, rows in read) or "none"
    raise InputError(f"The download holds {wanted}. Received: {download.path} with {found}")


def read_table(download: Download, member: Member) -> pd.DataFrame:
    """Reads a CSV of commas or semicolons as text, stripped.

    Raises:
        ValueError: If it cannot be read.
    """
    text = download.text(member)
    head = text.partition("\n")[0]
    try:
        table = pd.read_csv(
            io.StringIO(text), dtype=str, keep_default_na=False, sep=";" if head.count(";") > head.count(",") else ","
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"Cannot read {member.path}: {' '.join(str(error).split())}") from error
    table.columns = [str(name).strip() for name in table.columns]
    return table.fillna("").map(str.strip)


def other_files(download: Download, known: set[Member]) -> Rejected:
    """Returns the files that are not known, as rejected."""
    return [(member.path, "not part of the data") for member in download.members if member not in known]
