"""The runtime of LiteRT files: on the device, and here."""

import json
import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.export.batches import batches
from medkeras.export.inference import INPUT, SIGNATURE

LABELS = "labels.json"


def load_interpreter(path: str | os.PathLike, *, threads: int | None = None) -> Any:
    """Opens a LiteRT file with the `ai-edge-litert` runtime, or where it is missing with TensorFlow's.

    Args:
        path: The file; of any origin, also one without signatures.
        threads: How many the runtime computes with, at least 1; its own choice by default.

    Returns:
        The runtime's `Interpreter`. `get_signature_runner("serving_default")` of it takes `image`, float32
        `(batch, *image_shape)`, and returns a dict of arrays, `(batch, ...)`; `medkeras.export.LiteRTModel` does this
        with checks. The content was read whole: the file may be removed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a LiteRT file, or a damaged one, or `threads` is no positive integer.

    Example:
        >>> import tempfile
        >>> from medkeras.export import export_litert
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(16, 16, 1), num_classes=2, patch=8)
        >>> file = export_litert(model, tempfile.mkdtemp() + "/chest.tflite")
        >>> run = load_interpreter(file, threads=1).get_signature_runner("serving_default")
        >>> run(image=np.zeros((3, 16, 16, 1), "float32"))["probabilities"].shape
        (3, 2)
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tensorflow.lite import Interpreter

    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise InputError(f"`threads` must be an integer >= 1. Received: threads={threads}")
    content = read_litert(path)
    try:
        return Interpreter(model_content=content, num_threads=threads)
    except ValueError as error:
        raise InputError(f"The LiteRT file is damaged. Received: {path}") from error


def read_litert(path: str | os.PathLike) -> bytes:
    """Returns the content of a LiteRT file, known by its identifier `TFL3`; the rest is not checked.

    Args:
        path: The file.

    Returns:
        Its bytes: a flatbuffer of the schema of `ai_edge_litert.schema_py_generated`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a LiteRT file.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "photo.tflite")
        >>> path.write_bytes(b"GIF89a")
        6
        >>> read_litert(path)
        Traceback (most recent call last):
        ...
        medkeras.InputError: This is not a LiteRT file. Received: ...photo.tflite
        >>> read_litert("none.tflite")
        Traceback (most recent call last):
        ...
        FileNotFoundError: There is no such LiteRT file. Received: none.tflite
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no such LiteRT file. Received: {path}")
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise InputError(f"This is not a LiteRT file. Received: {path}")
    return content


class LiteRTModel:
    """A LiteRT file that is called like a Keras model.

    Args:
        path: A file written by `export_litert`.
        threads: See `load_interpreter`.

    Attributes:
        image_shape: Of the images that it takes.
        num_classes: How many classes or labels it tells apart.
        signatures: What can be asked of it: `serving_default`, and `explain` where the model has a map of its own.
        labels: What the file says of itself, see `export_litert`; None where it says nothing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a LiteRT file with the signature `serving_default`.

    Example:
        >>> LiteRTModel("none.tflite")
        Traceback (most recent call last):
        ...
        FileNotFoundError: There is no such LiteRT file. Received: none.tflite
    """

    def __init__(self, path: str | os.PathLike, *, threads: int | None = None) -> None:
        self._interpreter = load_interpreter(path, threads=threads)
        self.labels = _read_labels(path)
        self.signatures = tuple(sorted(self._interpreter.get_signature_list(), key=lambda name: name != SIGNATURE))
        if SIGNATURE not in self.signatures:
            raise InputError(f"The file must have the signature {SIGNATURE!r}. Received: {path}")
        self._runners: dict[str, Any] = {}
        run = self._runner(SIGNATURE)
        self.image_shape = tuple(int(n) for n in run.get_input_details()[INPUT]["shape"][1:])
        self.num_classes = int(run.get_output_details()["probabilities"]["shape"][-1])

    def predict(self, images: Any, *, signature: str = SIGNATURE, batch_size: int = 8) -> dict[str, np.ndarray]:
        """Runs the model on images.

        Args:
            images: `(batch, *image_shape)` in [0, 1].
            signature: One of `signatures`.
            batch_size: Images per call of the runtime.

        Returns:
            `probabilities` and `logits`, float32 `(batch, num_classes)`; of `explain`, `probabilities` and `map`,
            float32 `(batch, *image grid)`.

        Raises:
            ValueError: If the images do not have the model's shape or are not in [0, 1], `batch_size` is no positive
                integer, or the file has no such signature.
        """
        run = self._runner(signature)
        parts = [run(**{INPUT: batch}) for batch in batches(images, self.image_shape, batch_size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _runner(self, signature: str) -> Any:
        if signature not in self.signatures:
            raise InputError(
                f"A signature of this file is one of {', '.join(self.signatures)}. Received: signature={signature!r}"
            )
        if signature not in self._runners:
            self._runners[signature] = self._interpreter.get_signature_runner(signature)
        return self._runners[signature]


def _read_labels(path: str | os.PathLike) -> dict[str, Any] | None:
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(LABELS)) if LABELS in archive.namelist() else None
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"The {LABELS} in a LiteRT file is damaged. Received: {path}") from error
