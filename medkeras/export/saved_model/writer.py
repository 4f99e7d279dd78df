"""SavedModel: the folder that TF Serving reads, and that runs without Keras or this package."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medkeras.export.inference import SIGNATURE, float32_model, guarded, inference_function, model_labels
from medkeras.export.saved_model.functions import image_spec, new_folder, write_functions
from medkeras.export.saved_model.signatures import endpoint
from medkeras.export.saved_model.warmup import WARMUP, write_warmup
from medkeras.models.base import ImageClassifier

LABELS = "assets.extra/labels.json"


def export_saved_model(
    model: ImageClassifier,
    path: str | os.PathLike,
    *,
    signatures: Sequence[str] = (),
    steps: Sequence[Callable[..., Any]] = (),
    operating_point: Mapping[str, Any] | None = None,
    preprocess: Sequence[str] = (),
    sureness: Mapping[str, Any] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes a model as a SavedModel with the signatures `serving_default` and `serve`, which are one, and others.

    The input is `image`, float32 `(batch, *image_shape)` in [0, 1] with any number of images; the outputs are
    `probabilities` and `logits`, float32 `(batch, num_classes)`. Class names, task and thresholds lie in
    `assets.extra/labels.json`. A model trained in mixed precision is written in float32. What calibrates a
    `medkeras.uncertainty.Calibrated` model is in the graph.

    On demand there are more signatures, for any number of images too, each row by itself: `serve_bytes` takes the
    bytes of image files, see `medkeras.export.files_function`; `explain` says where, see
    `medkeras.export.explain_function`; `uncertainty` says how sure, see `medkeras.export.uncertainty_function`. For
    each signature there is a request with which TF Serving warms up.

    Args:
        model: A model of `medkeras.models`.
        path: The folder to write; for TF Serving it ends in an integer version.
        signatures: Some of `serve_bytes`, `explain` and `uncertainty`; `available_signatures` tells which a model
            can have.
        steps: What `serve_bytes` does to an image before it resizes it, see `medkeras.export.graph_step`.
        operating_point: Thresholds for `labels.json`, as the evaluation wrote them.
        preprocess: Names of the steps before resizing, for `labels.json`.
        sureness: Rules of prediction sets and referral, for `labels.json`.
        reading: How files are read whose kind leaves a choice, for `labels.json`.

    Returns:
        The folder.

    Raises:
        ValueError: If the model is not one of `medkeras.models` or cannot have a signature, Keras does not run on
            TensorFlow, or `path` holds something already.

    Example:
        >>> import tempfile
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2, depth=1, saccades=1)
        >>> folder = export_saved_model(model, tempfile.mkdtemp() + "/chest/1")
        >>> sorted(p.name for p in folder.iterdir())
        ['assets', 'assets.extra', 'fingerprint.pb', 'saved_model.pb', 'variables']
    """
    path = new_folder(path)
    model = float32_model(model)
    served = guarded(inference_function(model), model), [image_spec(model)]
    others = {name: endpoint(name, model, steps=steps) for name in signatures}
    write_functions(path, model, {SIGNATURE: served, **others}, also={"serve": SIGNATURE})
    labels = path / LABELS
    labels.parent.mkdir()
    write_warmup(path / WARMUP, model, signatures)
    notes = {"signatures": signatures, "preprocess": preprocess, "reading": reading}
    content = model_labels(model, operating_point=operating_point, sureness=sureness, **notes)
    labels.write_text(json.dumps(content, indent=2) + "\n")
    return path
