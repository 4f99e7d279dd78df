"""What a LiteRT file answers: the SavedModel that it is converted from."""

import os
import pathlib

from medkeras.export.explaining import attention_function, has_attention
from medkeras.export.functions import image_spec, write_functions
from medkeras.export.inference import EXPLAIN, SIGNATURE, float32_model, inference_function
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
    `medkeras.export.explaining.attention_function`. The weights of both are one.

    Args:
        model: A model of `medkeras.models`.
        path: The folder to write.

    Returns:
        The folder.

    Raises:
        ValueError: If the model is not one of `medkeras.models`, or Keras does not run on TensorFlow.

    Example:
        >>> import tempfile
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(16, 16, 1), num_classes=2, patch=8)
        >>> source_signatures(export_edge_source(model, tempfile.mkdtemp()))
        ['serving_default', 'explain']
    """
    model = float32_model(model)
    functions = {SIGNATURE: inference_function(model)}
    if has_attention(model):
        functions[EXPLAIN] = attention_function(model)
    write_functions(path, model, {name: (function, [image_spec(model)]) for name, function in functions.items()})
    return pathlib.Path(path)


def source_signatures(saved: str | os.PathLike) -> list[str]:
    """Returns the signatures of a SavedModel that a LiteRT file can have.

    The `explain` of a served model is none of them: its box is not found by builtin operators.

    Args:
        saved: A folder that `export_edge_source` or `medkeras.export.export_saved_model` wrote.

    Raises:
        ValueError: If it is no SavedModel.

    Example:
        >>> source_signatures("no-such-model")
        Traceback (most recent call last):
        ...
        ValueError: A SavedModel is a folder with saved_model.pb. Received: no-such-model
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = pathlib.Path(saved) / "saved_model.pb"
    if not path.is_file():
        raise ValueError(f"A SavedModel is a folder with saved_model.pb. Received: {os.fspath(saved)}")
    found = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs[0].signature_def
    has_map = EXPLAIN in found and set(found[EXPLAIN].outputs) == MAP_OUTPUTS
    return [SIGNATURE, EXPLAIN] if has_map else [SIGNATURE]
