"""tf-explain's explainers and training callbacks on models of this package: the adapter that supplies the layer."""

import importlib
import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.models import ImageClassifier, Tokens
from medkeras.tasks import to_probabilities

LAYER = "features"
EXPLAINERS = {
    "GradCAM": "grad_cam",
    "OcclusionSensitivity": "occlusion_sensitivity",
    "IntegratedGradients": "integrated_gradients",
    "SmoothGrad": "smoothgrad",
}
OF_LOGITS = ("GradCAM", "IntegratedGradients")  # As their papers have it; the others ask for probabilities.


def tf_explain(name: str, model: ImageClassifier, images: Any, *, target: int, **options: Any) -> np.ndarray:
    """Returns the picture that an explainer of tf-explain draws of some images, side by side.

    Args:
        name: One of `EXPLAINERS`, such as `"GradCAM"`.
        model: A model of this package for images of three channels, with the explain point `features` for Grad-CAM.
        images: `(batch, height, width, 3)` in [0, 1].
        target: Index of the class.
        **options: What else the explainer's `explain` takes, such as `patch_size`.

    Returns:
        uint8, as tf-explain gives it.

    Raises:
        ValueError: If there is no such explainer, or the model is of volumes or has no `features`.
        ModuleNotFoundError: If tf-explain is not installed.

    Example:
        >>> tf_explain("ScoreCAM", None, [], target=0)
        Traceback (most recent call last):
        ...
        medkeras.InputError: An explainer is one of GradCAM, OcclusionSensitivity, IntegratedGradients, SmoothGrad. \
Received: name='ScoreCAM'
    """
    explainer = _load("core", name, name)()
    exposed = with_feature_layer(model, probabilities=name not in OF_LOGITS)
    given = (np.asarray(images, np.float32), None)
    return explainer.explain(given, exposed, class_index=target, **_layer_of(explainer.explain), **options)


def tf_explain_callback(name: str, validation_data: Any, *, target: int, **options: Any) -> keras.callbacks.Callback:
    """Returns a callback of tf-explain, for `model.fit` of a model of this package.

    After each epoch it writes its picture for TensorBoard.

    Args:
        name: As for `tf_explain`.
        validation_data: Images `(batch, height, width, 3)` in [0, 1], and their labels or None.
        target: Index of the class.
        **options: What else the callback takes, such as `output_dir`.

    Raises:
        ValueError: If there is no such explainer; in `fit`, as `tf_explain`.
        ModuleNotFoundError: If tf-explain is not installed.

    Example:
        >>> tf_explain_callback("ScoreCAM", (None, None), target=0)
        Traceback (most recent call last):
        ...
        medkeras.InputError: An explainer is one of GradCAM, OcclusionSensitivity, IntegratedGradients, SmoothGrad. \
Received: name='ScoreCAM'
    """
    kind = _load("callbacks", name, f"{name}Callback")

    class Adapted(kind):
        def set_model(self, model: keras.Model) -> None:
            # The weights are shared, so that it shows the model as it is trained.
            super().set_model(with_feature_layer(model, probabilities=name not in OF_LOGITS))

    return Adapted(validation_data, class_index=target, **_layer_of(kind.__init__), **options)


def with_feature_layer(model: ImageClassifier, *, probabilities: bool = False) -> keras.Model:
    """Returns a model with a layer named `features`, whose output is that explain point; the weights are shared.

    Args:
        model: A model of this package for images.
        probabilities: Whether it gives probabilities instead of logits.

    Raises:
        ValueError: If the model is none of this package, is of volumes, or has no explain point `features`.

    Example:
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(32, 48, 3), num_classes=2)
        >>> with_feature_layer(model).get_layer("features").output.shape
        (None, 2, 3, 192)
    """
    if not isinstance(model, ImageClassifier) or len(model.image_shape) != 3 or LAYER not in model.explain_points:
        raise InputError(
            f"tf-explain needs a 2D model of this package with the explain point `{LAYER}`. "
            f"Received: {getattr(model, 'name', model)!r}"
        )
    point, image = model.explain_points[LAYER], keras.Input(model.image_shape, name="image")
    seen = keras.Model(model.input, point.tensor)(image)
    features = keras.layers.Identity(name=LAYER)(point.rule.fold(seen))
    rest = keras.Model([model.input, point.tensor], model.output)
    logits = rest([image, _unfolded(features, seen, point.rule)])
    return keras.Model(image, to_probabilities(logits, model.task) if probabilities else logits)


def _unfolded(features: Any, seen: Any, rule: Any) -> Any:
    """Returns features as they were before the rule folded them; the leading tokens are those that were seen."""
    if not isinstance(rule, Tokens):
        return features
    tokens = ops.reshape(features, (-1, int(np.prod(rule.grid)), seen.shape[-1]))
    return ops.concatenate([seen[:, : rule.prefix], tokens], axis=1)


def _load(room: str, name: str, attribute: str) -> Any:
    if name not in EXPLAINERS:
        raise InputError(f"An explainer is one of {', '.join(EXPLAINERS)}. Received: name={name!r}")
    try:
        module = importlib.import_module(f"tf_explain.{room}.{EXPLAINERS[name]}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("tf-explain is missing: pip install 'medkeras[tf-explain]'") from error
    return getattr(module, attribute)


def _layer_of(function: Any) -> dict[str, str]:
    return {"layer_name": LAYER} if "layer_name" in inspect.signature(function).parameters else {}
