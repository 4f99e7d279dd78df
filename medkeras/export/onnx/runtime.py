"""The runtime of ONNX files."""

import json
import os
import pathlib
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.export.batches import batches
from medkeras.export.inference import INPUT, OUTPUTS
from medkeras.export.onnx.writer import LABELS, check_onnx


class OnnxModel:
    """An ONNX file that is called like a Keras model, by ONNX Runtime on the processor.

    Args:
        path: A file written by `export_onnx`.
        threads: How many the runtime computes with; its own choice by default.

    Attributes:
        image_shape: Of the images that it takes.
        num_classes: How many classes or labels it tells apart.
        labels: What its metadata say of it, see `export_onnx`.

    Raises:
        ModuleNotFoundError: If the extra `onnx` is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an ONNX file with the input and the outputs of `export_onnx`.

    Example:
        >>> import tempfile
        >>> from medkeras.export import export_onnx
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(16, 16, 1), num_classes=2, patch=8)
        >>> found = OnnxModel(export_onnx(model, tempfile.mkdtemp() + "/chest.onnx"))
        >>> found.image_shape, found.labels["class_names"], found.predict(np.zeros((3, 16, 16, 1)))["logits"].shape
        ((16, 16, 1), ['0', '1'], (3, 2))
    """

    def __init__(self, path: str | os.PathLike, *, threads: int | None = None) -> None:
        self._session = _session(pathlib.Path(path), threads)
        given = {value.name: value.shape for value in self._session.get_inputs()}
        answered = {value.name: value.shape for value in self._session.get_outputs()}
        noted = self._session.get_modelmeta().custom_metadata_map
        if set(given) != {INPUT} or set(answered) != set(OUTPUTS) or LABELS not in noted:
            raise InputError(f"The file must be one that `export_onnx` wrote. Received: {path}")
        self.image_shape = tuple(given[INPUT][1:])
        self.num_classes = int(answered["probabilities"][-1])
        self.labels = json.loads(noted[LABELS])

    def predict(self, images: Any, *, batch_size: int = 8) -> dict[str, np.ndarray]:
        """Runs the model on images.

        Args:
            images: `(batch, *image_shape)` in [0, 1].
            batch_size: Images per call of the runtime.

        Returns:
            `probabilities` and `logits`, float32 `(batch, num_classes)`.

        Raises:
            ValueError: If the images do not have the model's shape or are not in [0, 1], or `batch_size` is no positive
                integer.
        """
        parts = [self._session.run(OUTPUTS, {INPUT: batch}) for batch in batches(images, self.image_shape, batch_size)]
        return {name: np.concatenate(values) for name, values in zip(OUTPUTS, zip(*parts, strict=True), strict=True)}


def _session(path: pathlib.Path, threads: int | None) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"There is no such ONNX file. Received: {path}")
    check_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # Errors; it warns of nodes that it drops.
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its errors have no common kind of their own.
        raise InputError(f"This is not an ONNX file that the runtime can open. Received: {path}") from error
