"""Parity: how far an exported file is from its Keras model on the same images."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import tasks
from medkeras.explain import saliency_maps
from medkeras.export.batches import model_images
from medkeras.export.explaining import has_attention
from medkeras.export.inference import EXPLAIN, INPUT, OUTPUTS, SIGNATURE, float32_model
from medkeras.export.onnx_runtime import OnnxModel
from medkeras.export.runtime import LiteRTModel
from medkeras.models.base import ImageClassifier

CHECKED = ("probabilities", "map")
BOUNDS = {"saved_model": 1e-5, "litert": 1e-4, "onnx": 1e-4}
ROUNDING_DRAWS = 4
ROUNDING_MARGIN = 2  # How much farther another runtime may be than the model is from itself: it rounds in each layer.
_BATCH = 8


def compare(
    model: ImageClassifier,
    images: Any,
    *,
    saved_model: str | os.PathLike | None = None,
    litert: str | os.PathLike | None = None,
    onnx: str | os.PathLike | None = None,
    bounds: Mapping[str, float] | None = None,
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
        bounds: The largest difference of a probability allowed per format, by default
            `{"saved_model": 1e-5, "litert": 1e-4, "onnx": 1e-4}`; a quantised LiteRT file needs a wider one. It
            holds for a LiteRT file's maps too. Logits are reported and not bounded: a trained model can amplify the
            rounding of another runtime to 1e-4 of a logit. Where a model amplifies rounding beyond the bound, as one
            that chooses where to look next from what it saw may do, no file in float32 can hold it: the difference
            may then be twice that by which the model's own answers move when pixels are rounded differently.

    Returns:
        `samples`, and per given format: `probabilities` and `logits`, each with `max` and `mean` absolute
        difference; `agreement`, the share of images with the same decision (top class, or all labels at
        threshold 0.5); `map`, of a LiteRT file that explains, see `map_differences`; and `bound`. `rounding`, see
        `rounding_differences`, if a difference is larger than its bound and it was needed.

    Raises:
        ValueError: If there are no images, they have not the model's shape, a bound has an unknown name, or a
            difference exceeds its bound.

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
    bounds = dict(bounds or {})
    if unknown := sorted(set(bounds) - set(BOUNDS)):
        raise ValueError(f"`bounds` has the keys {', '.join(BOUNDS)}. Received: {unknown[0]!r}")
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
    for name, bound in (BOUNDS | bounds).items():
        if name in report:
            report[name]["bound"] = bound
            if any(report[name][part]["max"] > bound for part in CHECKED if part in report[name]):
                report.setdefault("rounding", rounding_differences(model, images, expected))
            _check(name, report[name], bound, report.get("rounding", {}))
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


def _check(name: str, report: dict[str, Any], bound: float, rounding: Mapping[str, Mapping[str, float]]) -> None:
    for part in CHECKED:
        found = report[part]["max"] if part in report else 0.0
        own = rounding.get(part, {"max": 0.0})["max"]
        if not found <= max(bound, ROUNDING_MARGIN * own):
            raise ValueError(
                f"The {name} export must agree with Keras to {bound:g}. Received: {part} that differ by {found:.3g}"
                + (f", {own:.3g} of it by rounding" if own else "")
            )
