"""What a report lacks: parts that a run does not have, or that cannot be read, and the commands that make them."""

import math
from collections.abc import Mapping
from typing import Any

ABSENT = "–"


def missing_parts(
    has: Mapping[str, Any], called: str, *, sampled: str, damaged: Mapping[str, str]
) -> list[dict[str, str]]:
    """Returns a row for each part that is not there or cannot be read, see `missing_row`.

    Args:
        has: The parts by name; what is empty is missing.
        called: The run folder in a command.
        sampled: What the names of files end in that belong to a way of sampling.
        damaged: Why a file cannot be read, by its name.

    Example:
        >>> [row["command"] for row in missing_parts({}, "runs/a", sampled="", damaged={})][:1]
        ['medkeras evaluate runs/a']
    """
    train, evaluate = f"medkeras train ... --run {called}", f"medkeras evaluate {called}"
    subgroups, localize = f"{evaluate} --subgroup COLUMN", f"medkeras localize {called}"
    wanted = [
        ("evaluation", "metrics.json", "measures on images that training has not seen", evaluate),
        ("subgroups", "subgroups.csv", "whether it is as good for every group of patients", subgroups),
        ("localization", "localization/localization.json", "whether its maps find what experts drew", localize),
        ("calibrated", f"calibration{sampled}.json", "calibration, prediction sets and referral", train),
        ("history", "history.csv", "the course of the training", train),
        ("environment", "environment.json", "versions and machine", train),
        ("data", "splits.csv", "the splits", train),
    ]
    # A run may be without these: they are named only where they cannot be read.
    others = [
        ("operating_point", f"operating_point{sampled}.json", "where it decides", train),
        ("decision_curve", "decision_curve.csv", "the decision curve", evaluate),
        ("errors", "errors.csv", "the worst errors", evaluate),
        ("leakage", "leakage.csv", "the search for leaks", train),
        ("rejected", "rejected.csv", "the images that were left out", train),
    ]
    rows = [row for row in wanted if not has.get(row[0])] + [row for row in others if row[1] in damaged]
    return [missing_row(part, what, command, damaged.get(file)) for part, file, what, command in rows]


def missing_row(part: str, what: str, command: str, damaged: str | None = None) -> dict[str, str]:
    """Returns a row of `missing`.

    Args:
        part: The fact that is missing.
        what: What it is, in words.
        command: What makes it.
        damaged: Why its file cannot be read, where there is one.

    Example:
        >>> missing_row("history", "the course", "medkeras train")
        {'part': 'history', 'what': 'the course', 'command': 'medkeras train'}
    """
    row = {"part": part, "what": what, "command": command}
    return row if damaged is None else row | {"damaged": damaged}


def is_absent(value: Any) -> bool:
    """Says whether a value is None or NaN.

    Example:
        >>> is_absent(None), is_absent(float("nan")), is_absent(0)
        (True, True, False)
    """
    return value is None or (isinstance(value, float) and math.isnan(value))
