"""The files of a run as a report reads them: one that cannot be read is named in the report, and stops nothing else."""

from typing import Annotated, Any, NotRequired

import pandas as pd
import pydantic
from typing_extensions import TypedDict

from medkeras.errors import InputError
from pipelines.io.csv_table import read_table
from pipelines.io.json_types import Measure, Measured
from pipelines.io.run_folder import RunFolder


def _with_support(measures: Any) -> Any:
    if isinstance(measures, dict) and type(measures.get("support")) is not int:
        raise InputError(f"a class must have `support`, a whole number. Received: {measures.get('support')!r}")
    return measures


# Before: afterwards all numbers are of one type.
ClassMeasures = Annotated[dict[str, Measured], pydantic.BeforeValidator(_with_support)]


class Decided(TypedDict):
    """Of `metrics.json`: what decisions are worth."""

    per_class: dict[str, ClassMeasures]
    accuracy: NotRequired[Measured]
    confusion_matrix: NotRequired[list[list[int]]]
    confusion_matrices: NotRequired[dict[str, list[list[int]]]]


class CalibrationError(TypedDict, total=False):
    """Of `metrics.json`: empty where there is none, else whole."""

    ece: Measure
    ece_equal_mass: Measure
    brier: Measured
    nll: Measured


class PredictionSets(TypedDict):
    """Of `metrics.json`."""

    promised: float
    covered: Measure
    per_class: dict[str, Measure]
    mean_size: float


def _whole_or_empty(error: CalibrationError) -> CalibrationError:
    for name in CalibrationError.__annotations__:
        if error and name not in error:
            raise InputError(f"a calibration error must have `{name}`. Received: {', '.join(error)}")
    return error


Error = Annotated[CalibrationError, pydantic.AfterValidator(_whole_or_empty)]


class Sureness(TypedDict, total=False):
    """Of `metrics.json`: how sure the model is, and how rightly."""

    before: Error
    after: Error
    sets: PredictionSets | None
    selective: dict[str, Measured] | None


class Subgroups(TypedDict):
    """Of `metrics.json`."""

    columns: list[str]


class Uncertainty(TypedDict):
    """Of `metrics.json`: how the model was asked."""

    method: str
    samples: NotRequired[int]
    digest: NotRequired[str]


class Metrics(Decided):
    """What `metrics.json` holds, as far as a report shows it."""

    task: str
    class_names: list[str]
    count: int
    split: str
    patients: NotRequired[int]
    intervals: NotRequired[dict[str, Measure]]
    class_intervals: NotRequired[dict[str, dict[str, Measure]]]
    operating_point: NotRequired[Decided]
    calibration: NotRequired[Sureness | None]
    subgroups: NotRequired[Subgroups | None]
    uncertainty: NotRequired[Uncertainty | None]


class Located(TypedDict):
    """Of `localization.json`: a measure with its interval."""

    value: float
    low: NotRequired[Measured]
    high: NotRequired[Measured]


class LocatedMap(TypedDict):
    """Of `localization.json`: one map."""

    threshold: float
    area: Measured
    centre: Measured
    iou: Located
    dice: Located
    pointing: Located
    energy: Located


class Localization(TypedDict):
    """What `localization.json` holds, as far as a report shows it."""

    with_lesion: int
    patients: int
    threshold_from: str
    maps: dict[str, LocatedMap]


class Point(TypedDict):
    """What `operating_point.json` holds, as far as a report shows it."""

    thresholds: list[float] | None
    rule: str
    chosen_on: NotRequired[str | None]


class Calibrated(TypedDict):
    """What `calibration.json` holds, as far as a report shows it."""

    method: NotRequired[str | None]
    images: NotRequired[int | None]
    left_out: dict[str, str]


class Environment(TypedDict):
    """What `environment.json` holds, as far as a report shows it."""

    python: str
    platform: str
    cpu_count: int | None
    backend: str
    packages: dict[str, str | None]
    variables: NotRequired[dict[str, str]]
    command: NotRequired[list[str]]


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

    def json(self, name: str, kind: Any, **options: Any) -> Any:
        """Returns the content of a JSON file, None if there is none or it is damaged."""
        return self._read(name, lambda: self.run.read_json(name, kind, **options))

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
