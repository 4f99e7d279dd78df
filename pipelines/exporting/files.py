"""The files of an export: each format in a folder of its own, with what it says of itself."""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from medkeras.export import edge_signatures, export_edge_source, export_litert, export_onnx, export_saved_model
from medkeras.export.inference import model_labels
from medkeras.export.litert.runtime import LABELS
from medkeras.models import ImageClassifier

LITERT = "litert"


@dataclasses.dataclass(frozen=True)
class ExportFiles:
    """Writes a model in the formats of an export.

    Attributes:
        model: The model.
        name: What its files are called.
        notes: What stands in `labels.json` beside what the model says, see `medkeras.export.inference.model_labels`.
        endpoints: `signatures` and `steps` of `medkeras.export.export_saved_model`.
        ranges: Images on which full int8 finds its ranges, or None.
        console: Where each file is announced.
    """

    model: ImageClassifier
    name: str
    notes: Mapping[str, Any]
    endpoints: Mapping[str, Any]
    ranges: np.ndarray | None
    console: Console = dataclasses.field(default_factory=lambda: Console(quiet=True))

    def write(self, folders: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
        """Writes each format into its folder and returns what was written: a folder and files."""
        files = self._litert({form: folder for form, folder in folders.items() if form.startswith(LITERT)})
        if folder := folders.get("saved_model"):
            with self.console.status("Writing the SavedModel"):
                files["saved_model"] = export_saved_model(self.model, folder, **self.notes, **self.endpoints)
        if folder := folders.get("onnx"):
            with self.console.status("Converting to ONNX"):
                files["onnx"] = export_onnx(self.model, folder / f"{self.name}.onnx", labels=self._labels(folder))
        return files

    def _litert(self, folders: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
        """Converts all precisions from one SavedModel."""
        if not folders:
            return {}
        with tempfile.TemporaryDirectory() as plain:
            with self.console.status("Tracing the model for LiteRT"):
                source = export_edge_source(self.model, plain)
            return {form: self._convert(source, form, folder) for form, folder in folders.items()}

    def _convert(self, source: pathlib.Path, form: str, folder: pathlib.Path) -> pathlib.Path:
        ending = form.removeprefix(LITERT)
        precision = ending.removeprefix("-")
        with self.console.status("Converting to LiteRT" + (precision and f", {precision}")):
            return export_litert(
                source,
                folder / f"{self.name}{ending}.tflite",
                precision=precision or "float32",
                representative=self.ranges,
                labels=self._labels(folder, edge_signatures(self.model)),
            )

    def _labels(self, folder: pathlib.Path, signatures: Sequence[str] = ()) -> dict[str, Any]:
        """Writes `labels.json` and returns it, for the file to hold too."""
        labels = model_labels(self.model, signatures=signatures, **self.notes)
        (folder / LABELS).write_text(json.dumps(labels, indent=2) + "\n")
        return labels
