"""A trained model in use: loading it from a run folder, its probabilities for records, and its operating point."""

import keras
import numpy as np
from rich.console import Console

from medkeras.evaluation import OperatingPoint, choose_operating_point
from medkeras.models import ImageClassifier, two_stage
from medkeras.tasks import to_probabilities
from pipelines.cache import images_from_source
from pipelines.callbacks import BatchBar, bar
from pipelines.input_pipeline import InputPipeline
from pipelines.jobs.config import TrainConfig, load_split
from pipelines.records import Records
from pipelines.run_folder import RunFolder


def load_model(run: RunFolder) -> ImageClassifier:
    """Loads the best model of a run.

    Raises:
        FileNotFoundError: If the folder holds no trained run.
        ValueError: If `model.keras` is damaged.
    """
    path = run.open() / "model.keras"
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"Cannot load {path}: {' '.join(str(error).split())[:200]}") from error
    model.jit_compile = False  # On a CPU, XLA takes longer to compile than most sets take to predict.
    return model


def load_trained(
    run: RunFolder, *, protocol: str | None = None, console: Console | None = None
) -> tuple[ImageClassifier, OperatingPoint]:
    """Loads the best model of a run and its operating point.

    Args:
        run: The run folder.
        protocol: One of `medkeras.models.two_stage`, for a model that looks twice. The run's operating point belongs
            to one look: that of two is chosen on the run's validation images when it is first asked for, and
            frozen in `operating_point_two_stage_<protocol>.json`.
        console: Where the progress is shown; nowhere by default.

    Raises:
        FileNotFoundError: If the folder holds no trained run, or there is no operating point yet.
        ValueError: If `model.keras` is damaged, the protocol is unknown or the model has no attention maps.
    """
    model = load_model(run)
    if protocol is None:
        return model, load_operating_point(run)
    twice = two_stage(model, protocol)
    twice.jit_compile = model.jit_compile
    name = f"operating_point_two_stage_{protocol}.json"
    if not (run / name).is_file():
        point = choose_on(load_split(TrainConfig.from_run(run), "val"), twice, console=console)
        run.write_json(name, point.to_dict())
    return twice, OperatingPoint.from_dict(run.read_json(name))


def choose_on(records: Records, model: ImageClassifier, *, console: Console | None = None) -> OperatingPoint:
    """Chooses the operating point of a model on labelled records."""
    return choose_operating_point(records.labels, predict_records(model, records, console=console), task=model.task)


def load_operating_point(run: RunFolder) -> OperatingPoint:
    """Reads the threshold that was chosen on validation.

    Raises:
        FileNotFoundError: If the training has not ended, so that there is none.
    """
    if not (run / "operating_point.json").is_file():
        raise FileNotFoundError(
            f"The training has not ended; the same `medkeras train` continues it. Received: {run.path}"
        )
    return OperatingPoint.from_dict(run.read_json("operating_point.json"))


def predict_records(
    model: ImageClassifier, records: Records, *, batch_size: int = 32, console: Console | None = None
) -> np.ndarray:
    """Returns the probabilities of records in their order, float32 `(n, classes)`.

    Args:
        model: The model; images are brought to its size and channels.
        records: What to predict; labels are not looked at.
        batch_size: Images per step.
        console: Where the progress is shown; nowhere by default.

    Raises:
        ValueError: If the records are not of the model's rank, or an image cannot be read.
    """
    if records.rank != len(model.image_shape) - 1:
        raise ValueError(
            f"{model.name} takes images of shape {model.image_shape}. "
            f"Received: {records.name} with {records.rank}D images"
        )
    images = images_from_source(records, model.image_shape, check=False)
    pipeline = InputPipeline(records, image_shape=model.image_shape, batch_size=batch_size, images=images)
    unlabelled = pipeline.batches().map(lambda image, label: image)
    batches = -(-len(records) // pipeline.batch_size)
    with bar(console or Console(quiet=True)) as moving:
        callback = BatchBar(moving, title=f"Predicting {records.name}", batches=batches)
        logits = model.predict(unlabelled, verbose=0, callbacks=[callback])
    return np.asarray(to_probabilities(logits, model.task))


def decisions(point: OperatingPoint, probabilities: np.ndarray, model: ImageClassifier) -> list[str]:
    """Returns the class name decided for each row, or the decided labels joined by `|`."""
    decided, names = np.asarray(point.apply(probabilities)), np.array(model.class_names)
    if decided.ndim == 2:
        return ["|".join(names[row.astype(bool)]) for row in decided]
    return names[decided].tolist()
