"""SavedModel: the folder that TF Serving reads, and that runs without Keras or this package."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from medkeras.export.inference import INPUT, float32_model, inference_function, write_labels
from medkeras.models.base import ImageClassifier

LABELS = "assets.extra/labels.json"


def export_saved_model(
    model: ImageClassifier,
    path: str | os.PathLike,
    *,
    operating_point: Mapping[str, Any] | None = None,
    preprocess: Sequence[str] = (),
    sureness: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes a model as a SavedModel with the signatures `serving_default` and `serve`.

    The input is `image`, float32 `(batch, *image_shape)` in [0, 1] with any number of images; the outputs are
    `probabilities` and `logits`, float32 `(batch, num_classes)`. Class names, task and thresholds lie in
    `assets.extra/labels.json`. A model trained in mixed precision is written in float32. What calibrates a
    `medkeras.uncertainty.Calibrated` model is in the graph.

    Args:
        model: A model of `medkeras.models`.
        path: The folder to write; for TF Serving it ends in an integer version.
        operating_point: Thresholds for `labels.json`, as the evaluation wrote them.
        preprocess: Names of the steps before resizing, for `labels.json`.
        sureness: Rules of prediction sets and referral, for `labels.json`.

    Returns:
        The folder.

    Raises:
        ValueError: If the model is not one of `medkeras.models`, Keras does not run on TensorFlow, or `path`
            holds something already.

    Example:
        >>> import tempfile
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2, depth=1, saccades=1)
        >>> folder = export_saved_model(model, tempfile.mkdtemp() + "/chest/1")
        >>> sorted(p.name for p in folder.iterdir())
        ['assets', 'assets.extra', 'fingerprint.pb', 'saved_model.pb', 'variables']
    """
    path = pathlib.Path(path)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ValueError(f"A SavedModel is written to a new or empty folder. Received: path={str(path)!r}")
    model = float32_model(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    image = keras.InputSpec(shape=(None, *model.image_shape), dtype="float32", name=INPUT)
    archive.add_endpoint("serve", inference_function(model), input_signature=[image])
    archive.write_out(path, verbose=False)
    labels = path / LABELS
    labels.parent.mkdir()
    write_labels(labels, model, operating_point=operating_point, preprocess=preprocess, sureness=sureness)
    return path
