"""LiteRT (TFLite): one file of builtin operators for edge devices."""

import json
import os
import pathlib
import re
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.export.batches import model_images
from medkeras.export.inference import INPUT
from medkeras.export.litert.runtime import LABELS, read_litert
from medkeras.export.litert.signatures import export_edge_source, source_shape, source_signatures
from medkeras.models.base import ImageClassifier

PRECISIONS = ("float32", "float16", "int8", "full-int8")


def export_litert(
    model: ImageClassifier | str | os.PathLike,
    path: str | os.PathLike,
    *,
    precision: str = "float32",
    representative: Any = None,
    labels: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes a model as a LiteRT file that needs builtin operators only, no Flex delegate.

    The signature `serving_default` takes `image`, float32 `(batch, *image_shape)` in [0, 1] with any number
    of images, and gives `probabilities` and `logits`, float32 `(batch, num_classes)`. Normalisation is in the
    graph. A model trained in mixed precision is written in float32. A model with the explain point `attention` gets
    the signature `explain` too, of the same weights: from `image` to `map`, float32 `(batch, *image grid)`, not
    scaled, and `probabilities`.

    Args:
        model: A model of `medkeras.models`; or, to convert it several times, the folder of a SavedModel that
            `export_edge_source` wrote. From one of `export_saved_model` comes `serving_default` alone.
        path: The file to write; it ends in `.tflite`.
        precision: `float32`; `float16`, weights of half the size that are computed with in float32; `int8`, weights of
            a quarter of the size, whose products are taken in int8 with the range of each activation found anew for
            each image; or `full-int8`, activations too, with ranges found once on `representative`, and float32 only
            where the runtime has no int8 operator. Inputs and outputs are float32 in all.
        representative: For `full-int8`: images `(count, *image_shape)` in [0, 1] as the model will see them.
        labels: What is kept in the file as `labels.json`, in a zip archive behind the model, as TFLite's metadata
            keep files: `unzip -p chest.tflite labels.json`, or `medkeras.export.LiteRTModel.labels`.

    Returns:
        The file.

    Raises:
        ValueError: If the path does not end in `.tflite`, the precision is unknown, `full-int8` has no representative
            images of the model's shape and of finite numbers, or the model needs an operator that is not builtin: it
            is named. Nothing is written then.
        TypeError: If the labels have no form in JSON; nothing is written then.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2, depth=1, saccades=1)
        >>> from medkeras.export import LiteRTModel
        >>> file = export_litert(model, tempfile.mkdtemp() + "/chest.tflite")
        >>> outputs = LiteRTModel(file).predict(np.zeros((3, 16, 16, 1)))
        >>> outputs["probabilities"].shape, outputs["logits"].shape
        ((3, 2), (3, 2))
        >>> "CONV_2D" in check_builtin(file)
        True
    """
    path = pathlib.Path(path)
    if path.suffix != ".tflite":
        raise InputError(f"A LiteRT file ends in .tflite. Received: path={str(path)!r}")
    if precision not in PRECISIONS:
        raise InputError(f"`precision` must be one of {', '.join(PRECISIONS)}. Received: precision={precision!r}")
    if precision == "full-int8" and representative is None:
        raise InputError("full-int8 finds its ranges on representative images. Received: none")
    described = None if labels is None else json.dumps(labels)
    with tempfile.TemporaryDirectory() as folder:
        saved = model if isinstance(model, (str, os.PathLike)) else export_edge_source(model, folder)
        content = _converted(saved, precision, representative)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if described is not None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(zipfile.ZipInfo(LABELS), described)  # Of a fixed date: the same bytes again.
    return path


def _converted(saved: str | os.PathLike, precision: str, representative: Any) -> bytes:
    """Returns the LiteRT file of a SavedModel."""
    import tensorflow as tf

    signatures = source_signatures(saved)
    if precision == "full-int8":
        representative = model_images(representative, source_shape(saved))
    converter = tf.lite.TFLiteConverter.from_saved_model(os.fspath(saved), signature_keys=signatures)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    _set_precision(converter, precision, representative, signatures)
    return _convert(converter)


def _set_precision(converter: Any, precision: str, representative: Any, signatures: list[str]) -> None:
    import tensorflow as tf

    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "full-int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.representative_dataset = lambda: _one_by_one(representative, signatures)


def _one_by_one(images: np.ndarray, signatures: list[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    return ((name, {INPUT: image[None]}) for name in signatures for image in images)


def _convert(converter: Any) -> bytes:
    try:
        with warnings.catch_warnings():
            # The converter's own use of an interpreter that TensorFlow deprecates.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter", category=UserWarning)
            return converter.convert()
    except Exception as error:
        foreign = re.findall(r"TF (?:Select|Custom) ops: (.+)", str(error))
        reason = f"that needs {', '.join(foreign)}" if foreign else str(error).strip().splitlines()[-1]
        raise InputError(f"A LiteRT file holds builtin operators only. Received: a model {reason}") from error


def operators(path: str | os.PathLike) -> list[str]:
    """Returns the distinct operators of a LiteRT file, sorted; a custom or Flex operator under its own name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a LiteRT file, or a damaged one.

    Example:
        >>> operators("none.tflite")
        Traceback (most recent call last):
        ...
        FileNotFoundError: There is no such LiteRT file. Received: none.tflite
    """
    content = read_litert(path)
    try:
        found = sorted(_operator_names(content))
    except (struct.error, IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"The LiteRT file is damaged. Received: {path}") from error
    if not found:
        raise InputError(f"A LiteRT file has operators. Received: {path} without any")
    return found


def _operator_names(content: bytes) -> Iterator[str]:
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.Model.GetRootAs(content, 0)
    for code in (model.OperatorCodes(i) for i in range(model.OperatorCodesLength())):
        is_custom = code.BuiltinCode() == schema.BuiltinOperator.CUSTOM
        yield (
            code.CustomCode().decode() if is_custom else names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        )


def check_builtin(path: str | os.PathLike) -> list[str]:
    """Returns the operators of a LiteRT file if the plain runtime knows them all.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a LiteRT file, or holds Flex or custom operators: they are named.

    Example:
        >>> check_builtin("none.tflite")
        Traceback (most recent call last):
        ...
        FileNotFoundError: There is no such LiteRT file. Received: none.tflite
    """
    found = operators(path)
    if foreign := [name for name in found if name != name.upper()]:
        raise InputError(f"A LiteRT file must hold builtin operators only. Received: {path} with {', '.join(foreign)}")
    return found
