"""What a LiteRT file answers: the SavedModel that it is converted from."""

import os
import pathlib

import keras

from medkeras.export.explaining import attention_function, has_attention
from medkeras.export.inference import EXPLAIN, INPUT, SIGNATURE, float32_model, inference_function, new_archive
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
    archive = new_archive(model)
    image = [keras.InputSpec(shape=(None, *model.image_shape), dtype="float32", name=INPUT)]
    # Of an endpoint that is called `serve`, the converter takes no second one.
    archive.add_endpoint(SIGNATURE, inference_function(model), input_signature=image)
    if has_attention(model):
        archive.add_endpoint(EXPLAIN, attention_function(model), input_signature=image)
    archive.write_out(path, verbose=False)
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
