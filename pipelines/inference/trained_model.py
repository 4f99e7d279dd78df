"""A trained model in use: loading it from a run folder, with all that was chosen for it on validation."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console

from medkeras import models
from medkeras.errors import InputError
from medkeras.evaluation import OperatingPoint
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from medkeras.uncertainty import LogitScaling, with_scaling
from pipelines.images.records import Records
from pipelines.inference.answers import Answers, Sampling, answer, predict_logits, predict_records
from pipelines.inference.calibration import Calibration, CalibrationJson, PointJson, fit_answers, fit_logits
from pipelines.io.csv_table import read_table
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split

__all__ = [
    "Trained",
    "calibrate",
    "decisions",
    "digest",
    "load_calibrated",
    "load_member",
    "load_model",
    "load_trained",
    "predict_records",
]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run's model, how it is asked, and what was chosen for that on validation.

    Attributes:
        model: The calibrated model.
        sampling: How it is asked.
        point: Its operating point.
        calibration: Its prediction sets and what it refers; of a run that was never calibrated, without both.
        members: The other models of an ensemble.
    """

    model: ImageClassifier
    sampling: Sampling
    point: OperatingPoint
    calibration: Calibration
    members: tuple[ImageClassifier, ...] = ()

    def answer(
        self, records: Records, *, seed: int = 0, batch_size: int = 32, console: Console | None = None
    ) -> Answers:
        """Predicts records: see `pipelines.inference.answers.answer`."""
        how = {"sampling": self.sampling, "members": self.members, "seed": seed}
        return answer(self.model, records, batch_size=batch_size, console=console, **how)


def load_model(run: RunFolder) -> ImageClassifier:
    """Loads the best model of a run as it was trained, not calibrated.

    Raises:
        FileNotFoundError: If the folder holds no trained run.
        ValueError: If `model.keras` is damaged.
    """
    path = run.open() / "model.keras"
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(f"Cannot load {path}: {' '.join(str(error).split())[:200]}") from error
    model.jit_compile = False  # On a CPU, XLA takes longer to compile than most sets take to predict.
    return model


def load_calibrated(run: RunFolder) -> ImageClassifier:
    """Loads the best model of a run with calibrated logits, if the run was calibrated.

    Raises:
        FileNotFoundError: If the folder holds no trained run.
        ValueError: If `model.keras` is damaged.
    """
    model = load_model(run)
    return with_scaling(model, _calibration(run, "", model).scaling)


def load_trained(
    run: RunFolder,
    *,
    protocol: str | None = None,
    sampling: Sampling | None = None,
    console: Console | None = None,
) -> Trained:
    """Loads the best model of a run, calibrated, with its operating point.

    Args:
        run: The run folder.
        protocol: One of `medkeras.models.two_stage`, for a model that looks twice.
        sampling: How the model is asked; one prediction per image by default.
        console: Where the progress is shown; nowhere by default.

    What the run chose on validation belongs to one look and one prediction. For two looks, or for samples, it is
    chosen on the run's validation images when it is first asked for, and frozen beside the run's own:
    `operating_point_two_stage_<protocol>.json`, `calibration_mc-dropout_50.json`. Samples are of the model as it is
    scaled without them, and the models of an ensemble are each scaled as their own run found; what is frozen for an
    ensemble has the digest of its models in its name.

    Raises:
        FileNotFoundError: If the folder, or a member's, holds no trained run, or there is no operating point yet.
        ValueError: If `model.keras` is damaged, the protocol is unknown, the model has no attention maps or cannot be
            sampled, or a member does not fit or has seen images that this run is measured on.
    """
    sampling, model = sampling or Sampling(), load_model(run)
    _check_ended(run)
    if protocol is not None and sampling.members:
        raise InputError(f"An ensemble looks once. Received: two_stage={protocol!r}, members={sampling.members}")
    looks = ""
    if protocol is not None:
        twice = models.two_stage(model, protocol)
        twice.jit_compile = model.jit_compile
        model, looks = twice, f"_two_stage_{protocol}"
        if not (run / f"operating_point{looks}.json").is_file():
            calibrate(run, model, load_split(TrainConfig.from_run(run), "val"), suffix=looks, console=console)
    members = tuple(load_member(run, RunFolder(member)) for member in sampling.members)
    base, suffix = _calibration(run, looks, model), looks + sampling.suffix + digest(sampling.members)
    model = with_scaling(model, base.scaling)
    if not (run / f"operating_point{suffix}.json").is_file():
        records = load_split(TrainConfig.from_run(run), "val")
        answers = answer(model, records, sampling=sampling, members=members, console=console)
        _freeze(run, suffix, base, records, answers)
    return Trained(model, sampling, _point(run, suffix, model), _calibration(run, suffix, model), members)


def load_member(run: RunFolder, member: RunFolder) -> ImageClassifier:
    """Loads the calibrated model of another run, to predict with a run's own.

    Raises:
        FileNotFoundError: If the member's folder holds no trained run, or its training has not ended.
        ValueError: If it was trained on, or chosen by, patients of the run's test split, or trained on those of its
            validation split. Runs on other data are not compared.
    """
    model = load_calibrated(member)
    _check_ended(member)
    own, other = (TrainConfig.from_run(folder) for folder in (run, member))
    if (own.data, own.source_options) == (other.data, other.source_options):
        columns = ("patient", "split")
        mine, theirs = (read_table(folder / "splits.csv", columns=columns, dtype=str) for folder in (run, member))
        for split, seen in (("test", ("train", "val")), ("val", ("train",))):
            patients = theirs["patient"][theirs["split"].isin(seen)]
            common = sorted(set(mine["patient"][mine["split"] == split]) & set(patients))
            if common:
                raise InputError(
                    "A member must not have seen what an ensemble is measured on: train it with --split-file "
                    f"{run.path}/splits.csv. Received: {member.path}, which knows {len(common)} patients of the "
                    f"{split} split, {common[0]} for one"
                )
    return model


def digest(members: Sequence[str]) -> str:
    """Returns what tells an ensemble from others, also after a member was trained anew; nothing without members.

    Example:
        >>> digest(())
        ''
    """
    if not members:
        return ""
    files = [RunFolder(member) / name for member in members for name in ("model.keras", "calibration.json")]
    found = hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file()))
    return f"_{found.hexdigest()[:12]}"


def calibrate(
    run: RunFolder, model: ImageClassifier, records: Records, *, suffix: str = "", console: Console | None = None
) -> Calibration:
    """Calibrates a model on labelled records and chooses its operating point, sets and referral; all are frozen.

    Writes `calibration<suffix>.json` and `operating_point<suffix>.json`.
    """
    config = TrainConfig.from_run(run)
    logits = predict_logits(model, records, console=console)
    base = fit_logits(records.labels, logits, task=model.task, method=config.calibration)
    return _freeze(run, suffix, base, records, Answers.of_logits(logits, base.scaling))


def _freeze(run: RunFolder, suffix: str, base: Calibration, records: Records, answers: Answers) -> Calibration:
    config = TrainConfig.from_run(run)
    found, point = fit_answers(base, records.labels, answers, coverage=config.coverage, risk=config.risk)
    run.write_json(f"calibration{suffix}.json", found.to_dict())
    # Last: where there is an operating point, all is chosen.
    run.write_json(f"operating_point{suffix}.json", point.to_dict())
    return found


def _calibration(run: RunFolder, suffix: str, model: ImageClassifier) -> Calibration:
    """Reads what was fitted on validation; a run of an earlier version has nothing."""
    name = f"calibration{suffix}.json"
    if not (run / name).is_file():
        return Calibration(LogitScaling(model.task))

    def make(content: dict[str, Any]) -> Calibration:
        found = Calibration.from_dict(content)
        for values in (found.scaling.scale, found.scaling.shift):
            _check_of(model, found.scaling.task, len(values))
        if found.sets is not None:
            _check_of(model, found.sets.task, len(found.sets.limits))
        return found

    return run.read_json(name, CalibrationJson, make=make)


def _point(run: RunFolder, suffix: str, model: ImageClassifier) -> OperatingPoint:
    """Reads what was chosen on validation."""

    def make(values: dict[str, Any]) -> OperatingPoint:
        found = OperatingPoint.from_dict(values)
        _check_of(model, found.task, len(found.thresholds) if is_multilabel(found.task) else 1)
        return found

    return run.read_json(f"operating_point{suffix}.json", PointJson, make=make)


def _check_of(model: ImageClassifier, task: str, size: int) -> None:
    if task != model.task or size not in (1, model.num_classes):
        raise InputError(
            f"it must be of the model's task and classes, {model.task} of {model.num_classes}. "
            f"Received: {task} of {size}"
        )


def _check_ended(run: RunFolder) -> None:
    if not (run / "operating_point.json").is_file():
        raise FileNotFoundError(
            f"The training has not ended; the same `medkeras train` continues it. Received: {run.path}"
        )


def decisions(point: OperatingPoint, probabilities: np.ndarray, model: ImageClassifier) -> list[str]:
    """Returns the class name decided for each row, or the decided labels joined by `|`."""
    decided, names = np.asarray(point.apply(probabilities)), np.array(model.class_names)
    if decided.ndim == 2:
        return ["|".join(names[row.astype(bool)]) for row in decided]
    return names[decided].tolist()
