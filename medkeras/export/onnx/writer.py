"""ONNX: one file of standard operators for ONNX Runtime and whatever else reads ONNX."""

import contextlib
import importlib.util
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.export.inference import INPUT, float32_model, inference_function, model_labels
from medkeras.export.saved_model.functions import image_spec
from medkeras.models import ImageClassifier

OPSET = 18  # Of December 2022; every runtime since ONNX Runtime 1.14 has it.
LABELS = "labels"
# Not `optimize_transpose`, which breaks feature maps of one pixel; a runtime moves transpositions by itself.
_OPTIMIZERS = ("fold_constants", "merge_duplication", "remove_identity")


def export_onnx(
    model: ImageClassifier, path: str | os.PathLike, *, labels: Mapping[str, Any] | None = None
) -> pathlib.Path:
    """Writes a model as an ONNX file of standard operators.

    It takes `image`, float32 `(batch, *image_shape)` in [0, 1] with any number of images, and gives `probabilities`
    and `logits`, float32 `(batch, num_classes)`: the function that the SavedModel serves. Normalisation and what
    calibrates a `medkeras.uncertainty.Calibrated` model are in the graph. A model trained in mixed precision is
    written in float32. Weights are in the file, which ends at 2 GB.

    Args:
        model: A model of `medkeras.models`.
        path: The file to write; it ends in `.onnx`.
        labels: What is kept in the file as JSON, under `labels` of its metadata; by default
            `medkeras.export.inference.model_labels` of the model.

    Returns:
        The file.

    Raises:
        ModuleNotFoundError: If the extra `onnx` is not installed.
        ValueError: If the path does not end in `.onnx`, the model is not one of `medkeras.models`, Keras does not run
            on TensorFlow, or the model needs an operator that ONNX does not have: it is named, and nothing is written.

    Example:
        >>> import tempfile
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(16, 16, 1), num_classes=2, patch=8)
        >>> export_onnx(model, tempfile.mkdtemp() + "/chest.onnx").name
        'chest.onnx'
    """
    path = pathlib.Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"An ONNX file ends in .onnx. Received: path={str(path)!r}")
    check_onnx()
    model = float32_model(model)
    converted = _convert(model)
    if missing := _without_operator(converted):
        raise InputError(f"An ONNX file holds standard operators only. Received: a model that needs {missing}")
    _describe(converted, model_labels(model) if labels is None else labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(converted.SerializeToString())
    return path


def check_onnx() -> None:
    """Checks that the extra `onnx` is installed.

    Raises:
        ModuleNotFoundError: If it is not.
    """
    for name in ("onnx", "tf2onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"ONNX needs {name}: pip install 'medkeras[onnx]'", name=name)


def _convert(model: ImageClassifier) -> Any:
    import tensorflow as tf
    from tf2onnx import optimizer, tf_loader, tfonnx

    function = tf.function(inference_function(model), input_signature=[image_spec(model)], autograph=False)
    traced = function.get_concrete_function()
    image = traced.inputs[0].name
    outputs = {spec.name: name for name, spec in traced.structured_outputs.items()}
    frozen = tf_loader.from_function(traced, [image], list(outputs))
    with _quiet(), tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        converted = tfonnx.process_tf_graph(
            graph,
            opset=OPSET,
            input_names=[image],
            output_names=list(outputs),
            tensors_to_rename={image: INPUT} | outputs,
            custom_op_handlers={"Erfc": (_complement_of_erf, [])},
            continue_on_error=True,
        )
        chosen = {name: step for name, step in optimizer._get_optimizers().items() if name in _OPTIMIZERS}
        return optimizer.optimize_graph(converted, catch_errors=False, optimizers=chosen).make_model(model.name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the converter from logging the operators that are named in the error."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _complement_of_erf(graph: Any, node: Any, name: str, _: Any) -> None:
    """Erfc, which is in TensorFlow's GELU and which ONNX does not have."""
    shapes, types = node.output_shapes, node.output_dtypes
    graph.remove_node(name)
    erf = graph.make_node("Erf", list(node.input), shapes=shapes, dtypes=types)
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    graph.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=node.output, shapes=shapes, dtypes=types)


def _without_operator(converted: Any) -> str:
    import onnx

    known = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    needed = {node.op_type for node in converted.graph.node if node.domain or node.op_type not in known}
    return ", ".join(sorted(needed))


def _describe(converted: Any, labels: Mapping[str, Any]) -> None:
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    converted.metadata_props.add(key=LABELS, value=json.dumps(labels))
