"""The files of a run as a report reads them: one that cannot be read is named in the report, and stops nothing else."""

from typing import Any

import pandas as pd

from medkeras.errors import InputError
from pipelines.io.csv_table import read_table
from pipelines.io.json_shape import MEASURE, MEASURED, NUMBER
from pipelines.io.run_folder import RunFolder

CLASS = {"support": int, str: MEASURED}
DECIDED = {
    "per_class": {str: CLASS},
    "accuracy?": MEASURED,
    "confusion_matrix?": [[int]],
    "confusion_matrices?": {str: [[int]]},
}
ERROR = ({}, {"ece": MEASURE, "ece_equal_mass": MEASURE, "brier": MEASURED, "nll": MEASURED})
SURENESS = {
    "before?": ERROR,
    "after?": ERROR,
    "sets?": (None, {"promised": NUMBER, "covered": MEASURE, "per_class": {str: MEASURE}, "mean_size": NUMBER}),
    "selective?": (None, {str: MEASURED}),
}
METRICS = DECIDED | {
    "task": str,
    "class_names": [str],
    "count": int,
    "split": str,
    "patients?": int,
    "intervals?": {str: MEASURE},
    "class_intervals?": {str: {str: MEASURE}},
    "operating_point?": DECIDED,
    "calibration?": (None, SURENESS),
    "subgroups?": (None, {"columns": [str]}),
    "uncertainty?": (None, {"method": str, "samples?": int, "digest?": str}),
}
LOCATED = {"value": NUMBER, "low?": MEASURED, "high?": MEASURED}
LOCALIZATION = {
    "with_lesion": int,
    "patients": int,
    "threshold_from": str,
    "maps": {
        str: {"threshold": NUMBER, "area": MEASURED, "centre": MEASURED}
        | dict.fromkeys(("iou", "dice", "pointing", "energy"), LOCATED)
    },
}
POINT = {"thresholds": (None, [NUMBER]), "rule": str, "chosen_on?": (None, str)}
CALIBRATED = {"method?": (None, str), "images?": (None, int), "left_out": {str: str}}
ENVIRONMENT = {
    "python": str,
    "platform": str,
    "cpu_count": (None, int),
    "backend": str,
    "packages": {str: (None, str)},
    "variables?": {str: str},
    "command?": [str],
}


def check_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of `metrics.json` if its parts belong together.

    Raises:
        ValueError: If a class has no measures, the counts of decisions are of other classes, or calibration is
            measured after scaling only.
    """
    names = metrics["class_names"]
    if len(names) < 2 and metrics["task"] == "binary":
        raise InputError(f"a binary task has two classes. Received: {', '.join(names)}")
    for decided in (metrics, metrics.get("operating_point", metrics)):
        for name in names:
            if name not in decided["per_class"]:
                raise InputError(f"`per_class` must have every class. Received: none for {name}")
        _check_counts(decided, names)
    sureness = metrics.get("calibration") or {}
    if sureness.get("after") and not sureness.get("before"):
        raise InputError("`calibration` must have `before` where it has `after`. Received: none")
    return metrics


def _check_counts(decided: dict[str, Any], names: list[str]) -> None:
    if "confusion_matrices" in decided:
        found, edge = [decided["confusion_matrices"].get(name, []) for name in names], 2
    else:
        found, edge = [decided.get("confusion_matrix", [])], len(names)
    if any([len(row) for row in matrix] != [edge] * edge for matrix in found):
        raise InputError(f"The counts of decisions must be {edge} x {edge}. Received: others")


def check_localization(found: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of `localization.json` if it has a map.

    Raises:
        ValueError: If it has none.
    """
    if not found["maps"]:
        raise InputError("`maps` must have a map. Received: none")
    return found


class PartsRead:
    """Reads the files of a run, as far as they can be read.

    Args:
        run: The folder.

    Attributes:
        damaged: Why a file cannot be read, by its name.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run, self.damaged = run, {}

    def json(self, name: str, shape: Any, **options: Any) -> Any:
        """Returns the content of a JSON file, None if there is none or it is damaged."""
        return self._read(name, lambda: self.run.read_json(name, shape, **options))

    def table(self, name: str, **options: Any) -> pd.DataFrame | None:
        """Returns a CSV file, None if there is none or it is damaged."""
        return self._read(name, lambda: read_table(self.run / name, **options))

    def _read(self, name: str, read: Any) -> Any:
        if not (self.run / name).is_file():
            return None
        try:
            return read()
        except ValueError as error:
            self.damaged[name] = " ".join(str(error).replace(str(self.run / name), name).split())
            return None
