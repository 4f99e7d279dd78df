"""Functions of a model in a SavedModel, each once."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medkeras.errors import InputError
from medkeras.export.inference import INPUT
from medkeras.models import ImageClassifier


def image_spec(model: ImageClassifier) -> Any:
    """Returns the `tf.TensorSpec` of any number of a model's images."""
    import tensorflow as tf

    return tf.TensorSpec((None, *model.image_shape), tf.float32, name=INPUT)


def new_folder(path: str | os.PathLike) -> pathlib.Path:
    """Returns a folder that can be written without writing over anything.

    Raises:
        ValueError: If it holds something, or it or what it lies in is a file.

    Example:
        >>> new_folder("saved_models/chest/1").name
        '1'
    """
    path = pathlib.Path(path)
    is_in_file = any(place.is_file() for place in (path, *path.parents))
    if is_in_file or (path.is_dir() and any(path.iterdir())):
        raise InputError(f"A SavedModel is written to a new or empty folder. Received: path={str(path)!r}")
    return path


def write_functions(
    path: str | os.PathLike,
    model: ImageClassifier,
    functions: Mapping[str, tuple[Callable[..., dict[str, Any]], Sequence[Any]]],
    *,
    also: Mapping[str, str] | None = None,
) -> None:
    """Writes functions of a model as the signatures of a SavedModel.

    `keras.export.ExportArchive` would write each function twice, as a signature and as a method of the loaded object,
    and its `track` each weight twice, as a Keras variable and as the TensorFlow variable in it.

    Args:
        path: The folder to write.
        model: Whose weights the functions use.
        functions: By the name of their signature: the function, and the `tf.TensorSpec` of each of its arguments.
        also: Second names of signatures.

    Example:
        >>> import tempfile
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(16, 16, 1), num_classes=2, patch=8)
        >>> folder = tempfile.mkdtemp()
        >>> write_functions(folder, model, {"logits": (lambda image: {"logits": model(image)}, [image_spec(model)])})
        >>> (pathlib.Path(folder) / "saved_model.pb").is_file()
        True
    """
    import tensorflow as tf

    # A loaded `tf.Module` would not show its variables.
    holder = tf.train.Checkpoint(variables=[variable.value for variable in model.variables])
    traced = {
        name: tf.function(function, input_signature=specs, autograph=False).get_concrete_function()
        for name, (function, specs) in functions.items()
    }
    traced |= {second: traced[name] for second, name in (also or {}).items()}
    tf.saved_model.save(holder, str(pathlib.Path(path)), signatures=traced)
