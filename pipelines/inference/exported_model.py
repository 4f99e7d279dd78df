"""An exported model used as it is: no Keras model, no run, only the files and what lies beside them."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
from rich.console import Console

from medkeras.errors import InputError
from medkeras.evaluation import OperatingPoint
from medkeras.export import LiteRTModel, OnnxModel
from medkeras.export.inference import INPUT, SIGNATURE
from medkeras.export.litert.runtime import LABELS
from medkeras.tasks import is_multilabel
from medkeras.uncertainty import summarize
from pipelines.exporting.model_store import CHECKSUMS, check_files
from pipelines.images.records import Records
from pipelines.inference.answers import Answers, Sampling, pipeline_for
from pipelines.inference.calibration import Calibration
from pipelines.inference.labels import Labels
from pipelines.runtime.progress import bar

Runner = Callable[[np.ndarray], np.ndarray]
RUNTIMES = {".tflite": LiteRTModel, ".onnx": OnnxModel}


@dataclasses.dataclass(frozen=True)
class Artefact:
    """An exported model that predicts records as `pipelines.inference.trained_model.Trained` does.

    Attributes:
        model: What its labels say.
        probabilities: From images `(batch, *image_shape)` to its own probabilities, `(batch, classes)`.
    """

    model: Labels
    probabilities: Runner
    sampling: Sampling = dataclasses.field(default_factory=Sampling)

    @property
    def point(self) -> OperatingPoint:
        """Where it decides."""
        return self.model.point

    @property
    def calibration(self) -> Calibration:
        """Its prediction sets and what it refers."""
        return self.model.calibration

    def answer(
        self, records: Records, *, seed: int = 0, batch_size: int = 32, console: Console | None = None
    ) -> Answers:
        """Predicts records once; see `pipelines.inference.answers.answer`.

        Probabilities are those of the file. Where int8 rounds them, a row of a single-label task is divided by its
        sum, which rounding moves off 1.
        """
        parts = []
        with bar(console or Console(quiet=True)) as moving:
            row = moving.add_task(f"Predicting {records.name}", total=len(records))
            for images, _ in pipeline_for(self.model, records, batch_size).batches().as_numpy_iterator():
                parts.append(self.probabilities(images))
                moving.advance(row, len(images))
        found = np.concatenate(parts).astype(np.float64)
        if not is_multilabel(self.model.task):
            found /= found.sum(axis=1, keepdims=True)
        return Answers(self.model.task, summarize(found[None], task=self.model.task), found, found)


def open_saved_model(path: str | os.PathLike, *, console: Console | None = None) -> Artefact:
    """Opens a SavedModel that `medkeras export` wrote, after its checksums.

    Args:
        path: A version, or the folder of versions, of which the highest is taken, as TF Serving does.
        console: Where it is said that there is no list of checksums; nowhere by default.

    Raises:
        FileNotFoundError: If there is no such folder, or no labels in it.
        ValueError: If it is no SavedModel of a classifier, or a file differs from its checksum.

    Example:
        >>> open_saved_model("no-such-model")
        Traceback (most recent call last):
        ...
        FileNotFoundError: There is no such SavedModel. Received: no-such-model
    """
    import tensorflow as tf

    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no such SavedModel. Received: {path}")
    folder = _version(path)
    if not (folder / "saved_model.pb").is_file():
        raise InputError(f"A SavedModel is a folder with saved_model.pb. Received: {path}")
    labels = Labels.read(folder / "assets.extra" / LABELS)
    _check(folder, folder / "assets.extra" / CHECKSUMS, console)
    try:
        loaded = tf.saved_model.load(os.fspath(folder))
        serve = loaded.signatures[SIGNATURE]
        shape = serve.structured_input_signature[1][INPUT].shape[1:]
        classes = serve.structured_outputs["probabilities"].shape[-1]
    except (KeyError, OSError, ValueError, tf.errors.OpError) as error:
        raise InputError(f"Cannot load {folder}: {' '.join(str(error).split())[:200]}") from error
    _check_fit(labels, tuple(shape), classes, folder)

    def probabilities(images: np.ndarray) -> np.ndarray:
        # The function does not keep what it was loaded with.
        return loaded.signatures[SIGNATURE](**{INPUT: tf.constant(images)})["probabilities"].numpy()

    return Artefact(labels, probabilities)


def open_file(path: str | os.PathLike, suffix: str, *, console: Console | None = None) -> Artefact:
    """Opens a LiteRT or an ONNX file that `medkeras export` wrote, after its checksum.

    Args:
        path: The file, with `labels.json` beside it.
        suffix: `.tflite` or `.onnx`: what it must be.
        console: Where it is said that there is no list of checksums; nowhere by default.

    Raises:
        ModuleNotFoundError: If it is an ONNX file and the extra `onnx` is not installed.
        FileNotFoundError: If there is no such file, or no labels beside it.
        ValueError: If it is another kind of file or not of a classifier, or differs from its checksum.

    Example:
        >>> open_file("none.tflite", ".tflite")
        Traceback (most recent call last):
        ...
        FileNotFoundError: There is no such .tflite file. Received: none.tflite
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no such {suffix} file. Received: {path}")
    if path.suffix != suffix:
        raise InputError(f"The file must be a {suffix} file. Received: {path}")
    labels = Labels.read(path.parent / LABELS)
    _check(path.parent, path.parent / CHECKSUMS, console, needed=path.name)
    model = RUNTIMES[suffix](path)
    _check_fit(labels, model.image_shape, model.num_classes, path)
    return Artefact(labels, lambda images: model.predict(images)["probabilities"])


def _version(path: pathlib.Path) -> pathlib.Path:
    versions = [folder for folder in path.iterdir() if folder.name.isdigit()] if path.is_dir() else []
    is_store = versions and not (path / "saved_model.pb").is_file()
    return max(versions, key=lambda folder: int(folder.name)) if is_store else path


def _check(folder: pathlib.Path, checksums: pathlib.Path, console: Console | None, needed: str | None = None) -> None:
    if checksums.is_file():
        check_files(folder, checksums, needed=needed)
    elif console is not None:
        console.print(f"{folder} has no {CHECKSUMS}: its files are not checked", highlight=False, soft_wrap=True)


def _check_fit(labels: Labels, shape: tuple[int, ...], classes: int, path: pathlib.Path) -> None:
    if (shape, classes) != (labels.image_shape, labels.num_classes):
        raise InputError(
            f"labels.json must be of the model that it lies beside: images of {labels.image_shape}, "
            f"{labels.num_classes} classes. Received: {path} with images of {shape}, {classes} classes"
        )
