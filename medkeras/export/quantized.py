"""What a smaller file costs: a quantised LiteRT file beside its Keras model, on images with labels."""

import math
import os
from collections.abc import Mapping
from typing import Any

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_predictions
from medkeras.evaluation.measures import named_measure
from medkeras.export.batches import model_images
from medkeras.export.bounds import QUANTIZED_BOUNDS, Bounds, check_bounds, merge_bounds
from medkeras.export.litert.runtime import LiteRTModel
from medkeras.export.parity import differences, keras_outputs, map_differences
from medkeras.models import ImageClassifier


def compare_quantized(
    model: ImageClassifier,
    images: Any,
    labels: Any,
    files: Mapping[str, str | os.PathLike],
    *,
    bounds: Bounds | None = None,
) -> dict[str, Any]:
    """Compares quantised files with the model they were made from, by what they decide and how they rank.

    Args:
        model: The model that was exported.
        images: `(count, *image_shape)` in [0, 1], best those of the validation split.
        labels: Their labels, as `medkeras.evaluation.evaluate` takes them.
        files: By the keys of `QUANTIZED_BOUNDS`, what `export_litert` wrote.
        bounds: For some of them other bounds, see `medkeras.export.bounds.merge_bounds`.

    Returns:
        `samples`; `auc`, of the model; and per file `probabilities`, `logits`, `agreement` and `map` as by
        `medkeras.export.compare`, `auc` and `auc_loss`, None where the labels define none, and `bounds`.

    Raises:
        ValueError: If labels and images do not fit, a name is unknown, or a file misses a bound.

    Example:
        >>> compare_quantized(None, [], [], {"litert-int4": "a.tflite"})
        Traceback (most recent call last):
        ...
        medkeras.InputError: A quantised format is one of litert-float16, ..., litert-full-int8. Received: 'litert-int4'
    """
    if unknown := [name for name in files if name not in QUANTIZED_BOUNDS]:
        raise InputError(f"A quantised format is one of {', '.join(QUANTIZED_BOUNDS)}. Received: {unknown[0]!r}")
    limits = merge_bounds(list(files), bounds)
    images = model_images(images, model.image_shape)
    expected = keras_outputs(model, images)
    labels, _ = check_predictions(labels, expected["probabilities"], task=model.task)
    auc = named_measure("auc", task=model.task)
    best = auc(labels, expected["probabilities"])
    report: dict[str, Any] = {"samples": len(images), "auc": _defined(best)}
    opened = {name: LiteRTModel(file) for name, file in files.items()}
    maps = dict(zip(files, map_differences(model, images, list(opened.values())), strict=True))
    for name, file in opened.items():
        found = file.predict(images)
        own = auc(labels, found["probabilities"])
        scores = {"auc": _defined(own), "auc_loss": _defined(best - own), "bounds": limits[name]}
        report[name] = differences(expected, found, model.task) | maps[name] | scores
        check_bounds(name, _measures(report[name]), limits[name])
    return report


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _measures(report: Mapping[str, Any]) -> dict[str, float | None]:
    differences = {part: report[part]["max"] for part in ("probabilities", "logits")}
    seen = report["map"]["mean"] if "map" in report else None
    return {**differences, "map": seen, "agreement": report["agreement"], "auc_loss": report["auc_loss"]}
