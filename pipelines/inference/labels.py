"""What an exported model says of itself: its `labels.json`."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NotRequired

from typing_extensions import TypedDict

from medkeras.errors import InputError
from medkeras.evaluation import OperatingPoint
from medkeras.uncertainty import LogitScaling
from pipelines.inference.calibration import Calibration, PointJson, ReferralJson, SetsJson
from pipelines.io.json_types import mismatch


class InputJson(TypedDict):
    """Of `labels.json`: what the model takes."""

    shape: list[int | None]


class SurenessJson(TypedDict):
    """Of `labels.json`: what was fitted to validation, but for the scaling."""

    sets: NotRequired[SetsJson | None]
    referral: NotRequired[ReferralJson | None]
    left_out: NotRequired[dict[str, str]]


class LabelsJson(TypedDict):
    """What `labels.json` holds, as far as a prediction needs it."""

    name: str
    task: str
    class_names: list[str]
    input: InputJson
    preprocess: list[str]
    reading: NotRequired[dict[str, Any] | None]
    operating_point: PointJson | None
    sureness: SurenessJson | None


@dataclasses.dataclass(frozen=True)
class Labels:
    """What `labels.json` says of an exported model: as much of a model as is needed to feed and to read it.

    Attributes:
        name, task, class_names, image_shape: As of the model.
        preprocess: Steps on the stored images, see `pipelines.preprocess`.
        reading: How the run's source read its files, see `pipelines.sources.unlabelled.reading_options`.
        point: Where it decides.
        calibration: Its prediction sets and what it refers; the scaling is in the file.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    preprocess: tuple[str, ...]
    reading: Mapping[str, Any]
    point: OperatingPoint
    calibration: Calibration

    @property
    def num_classes(self) -> int:
        """How many classes or labels there are."""
        return len(self.class_names)

    @classmethod
    def read(cls, path: pathlib.Path) -> "Labels":
        """Reads the file; where no operating point was chosen, it is that of `OperatingPoint.default`.

        Raises:
            FileNotFoundError: If it is missing.
            ValueError: If it is not what an export writes.
        """
        if not path.is_file():
            raise FileNotFoundError(f"An exported model has labels.json beside it. Received: no {path}")
        try:
            values = json.loads(path.read_text())
            if reason := mismatch(values, LabelsJson):
                raise InputError(reason)
            task, names = values["task"], tuple(values["class_names"])
            point, sureness = values["operating_point"], values["sureness"] or {}
            return cls(
                name=values["name"],
                task=task,
                class_names=names,
                image_shape=tuple(values["input"]["shape"][1:]),
                preprocess=tuple(values["preprocess"]),
                reading=values.get("reading") or {},
                point=OperatingPoint.from_dict(point) if point else OperatingPoint.default(task, len(names)),
                calibration=Calibration.from_dict(
                    {"scaling": LogitScaling(task).to_dict(), "sets": None, "referral": None, "left_out": {}} | sureness
                ),
            )
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"labels.json is what an export writes. Received: {path}, {reason}") from error
