"""Warm-up requests: what TF Serving asks a model before it takes the first real request.

The file is a TFRecord of `tensorflow_serving.apis.PredictionLog`. Its few messages are encoded here by hand, since the
package that has them is bound to one version of TensorFlow.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medkeras.export.inference import INPUT, SIGNATURE
from medkeras.models import ImageClassifier

WARMUP = "assets.extra/tf_serving_warmup_requests"
# Numbers of the fields in the .proto files of TF Serving.
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _INPUTS = 6, 1, 1, 2
_MODEL_NAME, _SIGNATURE_NAME, _KEY, _VALUE = 1, 3, 1, 2


def write_warmup(path: pathlib.Path, model: ImageClassifier, signatures: Sequence[str]) -> None:
    """Writes one request of one image for `serving_default` and for each of the given signatures.

    Args:
        path: The file, `assets.extra/tf_serving_warmup_requests` in the folder of a SavedModel.
        model: The exported model.
        signatures: Some of `medkeras.export.saved_model.signatures.SIGNATURES`.

    Example:
        >>> import tempfile
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2)
        >>> path = pathlib.Path(tempfile.mkdtemp(), "requests")
        >>> write_warmup(path, model, ["serve_bytes"])
        >>> b"serve_bytes" in path.read_bytes()
        True
    """
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as file:
        for name in (SIGNATURE, *signatures):
            file.write(prediction_log(model.name, name, _inputs(model, name)))


def _inputs(model: ImageClassifier, signature: str) -> dict[str, Any]:
    import tensorflow as tf

    if signature == "serve_bytes":
        grey = tf.fill(model.image_shape, tf.constant(128, tf.uint8))
        return {"image_bytes": [tf.io.encode_png(grey).numpy()]}
    image = {INPUT: tf.fill((1, *model.image_shape), 0.5)}
    return image | {"samples": 2, "seed": 0} if signature == "uncertainty" else image


def prediction_log(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    r"""Returns a serialized `PredictionLog` of one request.

    Args:
        model: Name of the model.
        signature: Name of the signature.
        inputs: Tensors by name.

    Example:
        >>> prediction_log("chest", "explain", {})
        b'2\x14\n\x12\n\x10\n\x05chest\x1a\x07explain'
    """
    spec = _field(_MODEL_NAME, model.encode()) + _field(_SIGNATURE_NAME, signature.encode())
    request = _field(_MODEL_SPEC, spec) + b"".join(_field(_INPUTS, entry) for entry in _entries(inputs))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _entries(inputs: Mapping[str, Any]) -> Iterator[bytes]:
    import tensorflow as tf

    for name, value in inputs.items():
        yield _field(_KEY, name.encode()) + _field(_VALUE, tf.make_tensor_proto(value).SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of bytes: its number with wire type 2, the length, the content."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])
