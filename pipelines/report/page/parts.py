"""What sections are made of: paragraphs, lists of terms, charts, and what a run does not have."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.report.page.markup import Markup, join, tag
from pipelines.report.page.svg import Chart

Facts = Mapping[str, Any]
Charts = Mapping[str, Sequence[Chart]]
TITLES = {
    "summary": "In short",
    "authors": "Question and intended use",
    "data": "Data",
    "performance": "Performance",
    "decisions": "Decisions",
    "sureness": "How sure it is",
    "subgroups": "Groups of patients",
    "gallery": "Images",
    "localization": "Where it looks",
    "training": "Training",
    "comparison": "Comparison of runs",
    "statements": "From the authors",
    "checklist": "Reporting checklist",
    "reproduce": "To reproduce this",
}


def paragraph(*children: Any, **attributes: Any) -> Markup:
    """Returns a paragraph: see `pipelines.report.page.markup.tag`."""
    return tag("p", *children, **attributes)


def terms(rows: Iterable[tuple[Any, Any]]) -> Markup:
    """Returns names and what they stand for, side by side."""
    return tag("dl", *(part for name, value in rows for part in (tag("dt", name), tag("dd", value))), class_="terms")


def absent(facts: Facts, part: str) -> Markup:
    """Returns what is missing of a part or cannot be read, and the command that makes it."""
    says = [_absent(row) for row in facts["missing"] if row["part"] == part]
    return paragraph(*says, class_="missing")


def is_damaged(facts: Facts, part: str) -> bool:
    """Says whether a part is there and cannot be read."""
    return any(row["part"] == part and "damaged" in row for row in facts["missing"])


def _absent(row: Mapping[str, str]) -> Markup:
    if "damaged" in row:
        return join(
            [f"Not shown: {row['what']}. {row['damaged']}. It is made anew by ", tag("code", row["command"]), "."]
        )
    return join([f"Not in this run: {row['what']}. It comes from ", tag("code", row["command"]), "."])


def drawn(charts: Charts, *names: str) -> Markup:
    """Returns the charts of these names, as many in a row as there is room for."""
    return tag("div", *(chart.draw() for name in names for chart in charts.get(name, ())), class_="charts")
