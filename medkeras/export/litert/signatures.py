"""What a LiteRT file answers: the SavedModel that it is converted from."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from medkeras.errors import InputError
from medkeras.export.inference import EXPLAIN, INPUT, SIGNATURE, float32_model, inference_function
from medkeras.export.saved_model.explaining import attention_function, has_attention
from medkeras.export.saved_model.functions import image_spec, new_folder, write_functions
from medkeras.models import ImageClassifier

MAP_OUTPUTS = {"map", "probabilities"}


def edge_signatures(model: ImageClassifier) -> list[str]:
    """Returns what can be asked of a model's LiteRT file beside `serving_default`.

    Example:
        >>> from medkeras.models import create
        >>> [edge_signatures(create(name, num_classes=2)) for name in ("vit_tiny", "focusnet2d_tiny")]
        [['explain'], []]
    """
    return [EXPLAIN] if has_attention(model) else []


def export_edge_source(model: ImageClassifier, path: str | os.PathLike) -> pathlib.Path:
    """Writes the SavedModel from which LiteRT files of any precision are converted, see `export_litert`.

    It has `serving_default`, and for a model with the explain point `attention` also `explain`, see
    `medkeras.export.saved_model.explaining.attention_function`. The weights of both are one.

    Args:
        model: A model of `medkeras.models`.
        path: The folder to write, new or empty.

    Returns:
        The folder.

    Raises:
        ValueError: If the model is not one of `medkeras.models`, Keras does not run on TensorFlow, or `path` holds
            something already.

    Example:
        >>> import tempfile
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(16, 16, 1), num_classes=2, patch=8)
        >>> source_signatures(export_edge_source(model, tempfile.mkdtemp()))
        ['serving_default', 'explain']
    """
    path, model = new_folder(path), float32_model(model)
    functions = {SIGNATURE: inference_function(model)}
    if has_attention(model):
        functions[EXPLAIN] = attention_function(model)
    write_functions(path, model, {name: (function, [image_spec(model)]) for name, function in functions.items()})
    return path


def source_signatures(saved: str | os.PathLike) -> list[str]:
    """Returns the signatures of a SavedModel that a LiteRT file can have, see `read_signatures`.

    The `explain` of a served model is none of them: its box is not found by builtin operators.

    Args:
        saved: A folder that `export_edge_source` or `medkeras.export.export_saved_model` wrote.

    Raises:
        ValueError: If it is no SavedModel.

    Example:
        >>> source_signatures("no-such-model")
        Traceback (most recent call last):
        ...
        medkeras.InputError: A SavedModel is a folder with saved_model.pb. Received: no-such-model
    """
    found = read_signatures(saved)
    has_map = EXPLAIN in found and set(found[EXPLAIN].outputs) == MAP_OUTPUTS
    return [SIGNATURE, EXPLAIN] if has_map else [SIGNATURE]


def source_shape(saved: str | os.PathLike) -> tuple[int, ...]:
    """Returns the shape of an image of a SavedModel, see `read_signatures`."""
    sizes = read_signatures(saved)[SIGNATURE].inputs[INPUT].tensor_shape.dim[1:]
    return tuple(size.size for size in sizes)


def read_signatures(saved: str | os.PathLike) -> Mapping[str, Any]:
    """Returns the signatures of a SavedModel by name, without loading it.

    Args:
        saved: A folder that `export_edge_source` or `medkeras.export.export_saved_model` wrote.

    Raises:
        ValueError: If it is no SavedModel with `serving_default`.

    Example:
        >>> read_signatures("no-such-model")
        Traceback (most recent call last):
        ...
        medkeras.InputError: A SavedModel is a folder with saved_model.pb. Received: no-such-model
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = pathlib.Path(saved) / "saved_model.pb"
    if not path.is_file():
        raise InputError(f"A SavedModel is a folder with saved_model.pb. Received: {os.fspath(saved)}")
    try:
        graphs = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    except DecodeError as error:
        raise InputError(f"This is not a SavedModel, or a damaged one. Received: {path}") from error
    if not graphs or SIGNATURE not in graphs[0].signature_def:
        raise InputError(f"The SavedModel must have the signature {SIGNATURE!r}. Received: {path}")
    return graphs[0].signature_def
