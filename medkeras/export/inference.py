"""What every exported file has in common: the inference function and the labels of a model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from medkeras import tasks
from medkeras.errors import InputError
from medkeras.models import ImageClassifier, TwoStage
from medkeras.uncertainty import Calibrated

SIGNATURE, EXPLAIN = "serving_default", "explain"
INPUT = "image"
OUTPUTS = ("probabilities", "logits")


def float32_model(model: ImageClassifier) -> ImageClassifier:
    """Returns the model itself if it computes in float32, else a float32 copy of it with the same weights.

    Args:
        model: Any model of `medkeras.models`.

    Raises:
        ValueError: If the model is not an `ImageClassifier`, or Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "Export needs Keras on TensorFlow; a `.keras` file of another backend opens there. "
            f"Received: backend={keras.backend.backend()!r}"
        )
    if not isinstance(model, ImageClassifier):
        raise InputError(f"Export takes a model of `medkeras.models`. Received: model={type(model).__name__}")
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        copy = type(model).from_config(model.get_config())
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def guarded(function: Callable[..., dict[str, Any]], model: ImageClassifier) -> Callable[..., dict[str, Any]]:
    """Returns a function of images that refuses, in its graph, images of another shape than the model's.

    A server does not compare what it is sent with the shape of a signature, and a graph may answer a smaller image.
    """

    def answer(image: Any, *more: Any) -> dict[str, Any]:
        import tensorflow as tf

        return function(tf.ensure_shape(image, (None, *model.image_shape)), *more)

    return answer


def inference_function(model: ImageClassifier) -> Callable[[Any], dict[str, Any]]:
    """Returns the function that is exported: images `(batch, *image_shape)` to a dict of `OUTPUTS`."""

    def infer(image: Any) -> dict[str, Any]:
        logits = model(image, training=False)
        return {"probabilities": tasks.to_probabilities(logits, model.task), "logits": logits}

    return infer


def model_labels(
    model: ImageClassifier,
    *,
    operating_point: Mapping[str, Any] | None = None,
    preprocess: Sequence[str] = (),
    signatures: Sequence[str] = (),
    sureness: Mapping[str, Any] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns what a caller of an exported file must know, for JSON: names, task, input, looks, outputs, thresholds.

    `calibration` is the scaling that the graph of a `medkeras.uncertainty.Calibrated` model holds: its probabilities
    and logits are calibrated ones. It is None for other models.

    Args:
        model: The exported model.
        operating_point: The thresholds chosen on validation, as the evaluation wrote them.
        preprocess: Names of the steps that the caller applies to a stored image before it is resized.
        signatures: What else can be asked of the file, see `medkeras.export.export_saved_model`.
        sureness: The rules of prediction sets and referral that were fitted on validation.
        reading: How the caller reads files whose kind leaves a choice, a DICOM window for one.
    """
    is_calibrated = isinstance(model, Calibrated)
    looks = model.classifier if is_calibrated else model
    return {
        "name": model.name,
        "task": model.task,
        "class_names": list(model.class_names),
        "signature": SIGNATURE,
        "more_signatures": list(signatures),
        "input": {
            "name": INPUT,
            "shape": [None, *model.image_shape],
            "dtype": "float32",
            "range": [0.0, 1.0],
            "normalization": "Inputs are in [0, 1]; the model normalises them itself.",
        },
        "reading": dict(reading or {}),
        "preprocess": list(preprocess),
        "two_stage": looks.settings() if isinstance(looks, TwoStage) else None,
        "outputs": {name: [None, model.num_classes] for name in OUTPUTS},
        "calibration": model.scaling.to_dict() if is_calibrated else None,
        "operating_point": dict(operating_point) if operating_point else None,
        "sureness": dict(sureness) if sureness else None,
    }
