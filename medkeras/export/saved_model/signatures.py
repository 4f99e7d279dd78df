"""The signatures of a SavedModel: what can be asked of it beside `serving_default`."""

from collections.abc import Callable, Sequence
from typing import Any

from medkeras.errors import InputError
from medkeras.explain import map_names
from medkeras.export.inference import INPUT, guarded
from medkeras.export.saved_model.explaining import explain_function
from medkeras.export.saved_model.image_files import files_function
from medkeras.export.saved_model.sampling import can_sample, uncertainty_function
from medkeras.models import ImageClassifier

SIGNATURES = ("serve_bytes", "explain", "uncertainty")
BYTES = "image_bytes"


def available_signatures(model: ImageClassifier) -> dict[str, str | None]:
    """Returns, for each of `SIGNATURES`, None if a model can have it, else the reason why it cannot.

    Example:
        >>> from medkeras.models import create
        >>> available_signatures(create("focusnet2d_tiny", num_classes=2, dropout=0.0))
        {'serve_bytes': None, 'explain': None, 'uncertainty': 'the model has no dropout'}
    """
    is_image = len(model.image_shape) == 3 and model.image_shape[-1] in (1, 3)
    has_map = bool({"attention", "class_map"} & set(map_names(model)))
    return {
        "serve_bytes": None if is_image else "the model takes no grey or RGB images",
        "explain": None if has_map else "the model has no map of its own and no features",
        "uncertainty": None if can_sample(model) else "the model has no dropout",
    }


def endpoint(
    name: str, model: ImageClassifier, *, steps: Sequence[Callable[..., Any]] = ()
) -> tuple[Callable[..., dict[str, Any]], list[Any]]:
    """Returns the function of a signature and the specs of its inputs.

    Args:
        name: One of `SIGNATURES`.
        model: The model, in float32.
        steps: The preprocessing of `serve_bytes`, see `medkeras.export.graph_step`.

    Raises:
        ValueError: If the name is unknown, or the model cannot have this signature.

    Example:
        >>> from medkeras.models import create
        >>> _, specs = endpoint("serve_bytes", create("focusnet2d_tiny", num_classes=2))
        >>> specs
        [TensorSpec(shape=(None,), dtype=tf.string, name='image_bytes')]
    """
    import tensorflow as tf

    image = tf.TensorSpec((None, *model.image_shape), tf.float32, name=INPUT)
    if name == "serve_bytes":
        return files_function(model, steps=steps), [tf.TensorSpec((None,), tf.string, name=BYTES)]
    if name == "explain":
        return guarded(explain_function(model), model), [image]
    if name == "uncertainty":
        counts = [tf.TensorSpec((), tf.int32, name=each) for each in ("samples", "seed")]
        return guarded(uncertainty_function(model), model), [image, *counts]
    raise InputError(f"A signature is one of {', '.join(SIGNATURES)}. Received: {name!r}")
