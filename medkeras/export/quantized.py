"""What a smaller file costs: a quantised LiteRT file beside its Keras model, on images with labels."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from medkeras.evaluation.checks import check_predictions
from medkeras.evaluation.measures import named_measure
from medkeras.export.batches import model_images
from medkeras.export.parity import differences, keras_outputs, map_differences
from medkeras.export.runtime import LiteRTModel
from medkeras.models import ImageClassifier

QUANTIZED_BOUNDS: dict[str, dict[str, float]] = {
    "litert-float16": {"logits": 2e-2},
    "litert-int8": {"agreement": 0.95, "auc_loss": 0.01},
    "litert-full-int8": {"agreement": 0.9, "auc_loss": 0.02},
}


def compare_quantized(
    model: ImageClassifier,
    images: Any,
    labels: Any,
    files: Mapping[str, str | os.PathLike],
    *,
    bounds: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Compares quantised files with the model they were made from, by what they decide and how they rank.

    Args:
        model: The model that was exported.
        images: `(count, *image_shape)` in [0, 1], best those of the validation split.
        labels: Their labels, as `medkeras.evaluation.evaluate` takes them.
        files: By the keys of `QUANTIZED_BOUNDS`, what `export_litert` wrote.
        bounds: For each key, other bounds: `logits`, the largest difference of a logit, divided by the logit where
            that exceeds 1; `agreement`, the smallest share of images with the same decision; `auc_loss`, how much of
            the AUC may be lost; `map`, the largest mean difference of the maps, as share of their highest values.

    Returns:
        `samples`; `auc`, of the model; and per file `probabilities`, `logits`, `agreement` and `map` as by
        `medkeras.export.compare`, `auc` and `auc_loss`, None where the labels define none, and `bounds`.

    Raises:
        ValueError: If labels and images do not fit, a name is unknown, or a file misses a bound.

    Example:
        >>> compare_quantized(None, [], [], {"litert-int4": "a.tflite"})
        Traceback (most recent call last):
        ...
        ValueError: A quantised format is one of litert-float16, litert-int8, litert-full-int8. Received: 'litert-int4'
    """
    limits = quantized_bounds(list(files), bounds or {})
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
        _check(name, report[name], limits[name])
    return report


def quantized_bounds(formats: Sequence[str], bounds: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Returns what each quantised format must hold to: its own bounds, changed by the given ones.

    Args:
        formats: Keys of `QUANTIZED_BOUNDS`.
        bounds: For some of these formats, see `compare_quantized`.

    Raises:
        ValueError: If a format or a bound is unknown, or a bound is of another format.

    Example:
        >>> quantized_bounds(["litert-int8"], {"litert-int8": {"agreement": 0.9}})
        {'litert-int8': {'agreement': 0.9, 'auc_loss': 0.01}}
    """
    if unknown := [name for name in formats if name not in QUANTIZED_BOUNDS]:
        raise ValueError(f"A quantised format is one of {', '.join(QUANTIZED_BOUNDS)}. Received: {unknown[0]!r}")
    known = ("logits", "agreement", "auc_loss", "map")
    for name, own in bounds.items():
        if name not in formats:
            raise ValueError(f"A bound is of a quantised format that is exported. Received: a bound of {name!r}")
        if unknown := sorted(set(own) - set(known)):
            raise ValueError(f"The bounds of {name} are among {', '.join(known)}. Received: {unknown[0]!r}")
    return {name: QUANTIZED_BOUNDS[name] | dict(bounds.get(name, {})) for name in formats}


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _check(name: str, report: dict[str, Any], limits: dict[str, float]) -> None:
    found = {"logits": report["logits"]["max"], "agreement": report["agreement"], "auc_loss": report["auc_loss"]}
    found["map"] = report["map"]["mean"] if "map" in report else None
    for key, limit in limits.items():
        if found[key] is None:  # No AUC on images of one class, no map in the file.
            continue
        holds = found[key] >= limit if key == "agreement" else found[key] <= limit
        if not holds:
            side = "at least" if key == "agreement" else "at most"
            raise ValueError(f"The {name} export must have {key} of {side} {limit:g}. Received: {found[key]:.3g}")
