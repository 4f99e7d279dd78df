"""Parity: how far an exported file is from its Keras model on the same images."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import tasks
from medkeras.explain import saliency_maps
from medkeras.export.batches import model_images
from medkeras.export.bounds import PLAIN_BOUNDS, Bounds, check_bounds, merge_bounds, missed
from medkeras.export.inference import EXPLAIN, INPUT, OUTPUTS, SIGNATURE, float32_model
from medkeras.export.litert.runtime import LiteRTModel
from medkeras.export.onnx.runtime import OnnxModel
from medkeras.export.saved_model.explaining import has_attention
from medkeras.models.base import ImageClassifier

ROUNDING_DRAWS = 4
_BATCH = 8


def compare(
    model: ImageClassifier,
    images: Any,
    *,
    saved_model: str | os.PathLike | None = None,
    litert: str | os.PathLike | None = None,
    onnx: str | os.PathLike | None = None,
    bounds: Bounds | None = None,
) -> dict[str, Any]:
    """Compares exported files with the model they were made from.

    A difference of logits is divided by the logit's size where that exceeds 1. Keras computes in float32, as
    the files do, also for a model trained in mixed precision.

    Args:
        model: The model that was exported.
        images: Samples, `(batch, *image_shape)` in [0, 1]; real ones tell more than noise.
        saved_model: A folder written by `export_saved_model`.
        litert: A file written by `export_litert`.
        onnx: A file written by `export_onnx`.
        bounds: What a format must hold to in place of 1e-5 of a probability (`saved_model`), 1e-4 (`litert`, also of
            its maps) or 1e-4 (`onnx`), see `medkeras.export.bounds.merge_bounds`: `{"litert": {"probabilities":
            1e-3}}`. Logits are reported and not bounded unless asked: a trained model can amplify the rounding of
            another runtime to 1e-4 of a logit.

    Returns:
        `samples`, and per given format: `probabilities` and `logits`, each with `max` and `mean` absolute
        difference; `agreement`, the share of images with the same decision (top class, or all labels at
        threshold 0.5); `map`, of a LiteRT file that explains, see `map_differences`; and `bounds`. `rounding`, see
        `rounding_differences`, where a difference is larger than the format's own bound: a model that chooses where
        to look next from what it saw may enlarge rounding beyond it, and no file in float32 can then hold it.

    Raises:
        ValueError: If there are no images, they have not the model's shape, a bound is unknown or out of range, or a
            difference exceeds its bound; the message says if the model's own rounding does, too.

    Example:
        >>> import tempfile
        >>> from medkeras.export import export_saved_model
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2, depth=1, saccades=1)
        >>> folder = export_saved_model(model, tempfile.mkdtemp())
        >>> report = compare(model, np.ones((1, 16, 16, 1), "float32"), saved_model=folder)
        >>> report["saved_model"]["agreement"]
        1.0
    """
    paths = {"saved_model": saved_model, "litert": litert, "onnx": onnx}
    limits = merge_bounds([name for name, path in paths.items() if path is not None], bounds)
    images = model_images(images, model.image_shape)
    expected = keras_outputs(model, images)
    report = {"samples": len(images)}
    if saved_model is not None:
        report["saved_model"] = differences(expected, _saved_model_outputs(saved_model, images), model.task)
    if litert is not None:
        edge = LiteRTModel(litert)
        report["litert"] = differences(expected, edge.predict(images), model.task)
        report["litert"] |= map_differences(model, images, [edge])[0]
    if onnx is not None:
        report["onnx"] = differences(expected, OnnxModel(onnx).predict(images), model.task)
    for name, own in limits.items():
        report[name]["bounds"] = own
        found = _measures(report[name])
        if missed(found, PLAIN_BOUNDS[name]):
            report.setdefault("rounding", rounding_differences(model, images, expected))
        check_bounds(name, found, own, hint=_rounding_hint(report.get("rounding", {}), own))
    return report


def keras_outputs(model: ImageClassifier, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `probabilities` and `logits` of a model on images, computed in float32 as the files do."""
    import tensorflow as tf

    model = float32_model(model)
    # Not `predict`, which traces a model again for the last batch.
    signature = [tf.TensorSpec((None, *model.image_shape), tf.float32)]
    answer = tf.function(lambda x: model(x, training=False), signature, autograph=False)
    logits = np.concatenate([answer(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)])
    return {"probabilities": np.asarray(tasks.to_probabilities(logits, model.task)), "logits": logits}


def _saved_model_outputs(path: str | os.PathLike, images: np.ndarray) -> dict[str, np.ndarray]:
    import tensorflow as tf

    serve = tf.saved_model.load(os.fspath(path)).signatures[SIGNATURE]
    parts = [serve(**{INPUT: tf.constant(images[i : i + _BATCH])}) for i in range(0, len(images), _BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS}


def differences(expected: dict[str, np.ndarray], found: dict[str, np.ndarray], task: str) -> dict[str, Any]:
    """Returns how far two answers are apart, and the share of images with the same decision; see `compare`."""
    scale = {"probabilities": 1.0, "logits": np.maximum(1.0, np.abs(expected["logits"]))}
    report: dict[str, Any] = {}
    for name in OUTPUTS:
        difference = np.abs(expected[name] - found[name]) / scale[name]
        report[name] = {"max": float(difference.max()), "mean": float(difference.mean())}
    same = _decision(expected["probabilities"], task) == _decision(found["probabilities"], task)
    report["agreement"] = float(same.reshape(len(same), -1).all(axis=1).mean())
    return report


def map_differences(model: ImageClassifier, images: np.ndarray, files: Sequence[LiteRTModel]) -> list[dict[str, Any]]:
    """Returns how far the maps of LiteRT files are from the model's own, as shares of the highest value of each map.

    Args:
        model: The model that was exported.
        images: `(batch, *image_shape)` in [0, 1].
        files: What was written of it.

    Returns:
        Per file `{"map": {"max": ..., "mean": ...}}`; nothing for a file that does not explain.
    """
    if not any(EXPLAIN in file.signatures for file in files):
        return [{} for _ in files]
    expected = saliency_maps(float32_model(model), images, point="attention")
    shares = [_map_share(expected, file.predict(images, signature=EXPLAIN)["map"]) for file in files]
    return [{"map": {"max": float(share.max()), "mean": float(share.mean())}} for share in shares]


def rounding_differences(
    model: ImageClassifier, images: np.ndarray, expected: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Returns how far a model's own answers move when each pixel is moved to a neighbouring float32 number.

    A file that computes in float32 rounds in every layer, and cannot be expected to be closer to the model than that.

    Args:
        model: The model.
        images: `(batch, *image_shape)` in [0, 1].
        expected: Its answers on them, from `keras_outputs`.

    Returns:
        `probabilities`, `logits` and, of a model that explains, `map`: the largest difference over seeded draws of the
        direction of each pixel, in the measures of `compare`.
    """
    rng = np.random.default_rng(0)
    moved = [
        np.nextafter(images, rng.choice(np.array([-1, 2], "float32"), images.shape)) for _ in range(ROUNDING_DRAWS)
    ]
    found = [differences(expected, keras_outputs(model, near), model.task) for near in moved]
    worst = {name: {"max": max(draw[name]["max"] for draw in found)} for name in OUTPUTS}
    if has_attention(model):
        maps = [saliency_maps(float32_model(model), near, point="attention") for near in (images, *moved)]
        worst["map"] = {"max": max(_map_share(maps[0], other).max() for other in maps[1:])}
    return worst


def _map_share(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns the differences of maps as shares of the highest value of each expected one."""
    peak = np.abs(expected).max(axis=tuple(range(1, expected.ndim)), keepdims=True)
    return np.abs(expected - found) / np.where(peak > 0, peak, 1)


def _decision(probabilities: np.ndarray, task: str) -> np.ndarray:
    return probabilities >= 0.5 if tasks.is_multilabel(task) else probabilities.argmax(axis=-1)


def _measures(report: Mapping[str, Any]) -> dict[str, float | None]:
    largest = {part: report[part]["max"] if part in report else None for part in ("probabilities", "logits", "map")}
    return {**largest, "agreement": report["agreement"]}


def _rounding_hint(rounding: Mapping[str, Mapping[str, float]], bounds: Mapping[str, float]) -> str:
    """Says so if a model differs from itself by more than a bound allows."""
    for part, own in rounding.items():
        if own["max"] > bounds.get(part, math.inf):
            return (
                f"; Keras's own {part} move by up to {own['max']:.3g} when each pixel moves to the next float32 "
                "number, so no file can hold this bound: widen it knowingly"
            )
    return ""
