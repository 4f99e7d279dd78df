"""Every method by its name: what explains an answer, and to which models it applies."""

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.explain.methods.class_map import CLASS_MAP_METHODS, class_map
from medkeras.explain.methods.feature_maps import maps_on_image
from medkeras.explain.methods.input_gradients import integrated_gradients, smooth_grad
from medkeras.explain.methods.native import attention_points, native_attention
from medkeras.explain.methods.occlusion import occlusion
from medkeras.explain.methods.rollout import attention_rollout, relevance_map, transformer_of
from medkeras.models import ImageClassifier, ViT


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to explain an answer.

    Attributes:
        maps: From model, images and options to maps `(batch, *image grid)`, float32.
        applies: Whether it applies to a model.
        has_target: Whether its maps are of a class, so that it takes `target`.
    """

    maps: Callable[..., np.ndarray]
    applies: Callable[[ImageClassifier], bool]
    has_target: bool = True


def explanation_maps(
    model: ImageClassifier, images: Any, *, method: str, target: Any = None, **options: Any
) -> np.ndarray:
    """Returns the maps of a method for some images.

    Args:
        model: Any model of this package.
        images: `(batch, *model.image_shape)` in [0, 1].
        method: One of `methods_of(model)`.
        target: Index of a class or label, one for all images or one per image, for a method of a class; by default
            the one with the largest logit.
        **options: What else the method takes, such as `steps` of `integrated_gradients`.

    Returns:
        Float32 `(batch, *image grid)`. The four of `features` are in [0, 1], each divided by its maximum; the others
        are not scaled, and `integrated_gradients` and `occlusion` have a sign.

    Raises:
        ValueError: If there is no such method, it does not apply to the model, or an argument does not fit.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> explanation_maps(model, np.ones((1, 28, 28, 1)), method="layer_cam", target=1).shape
        (1, 28, 28)
    """
    check_method(model, method)
    chosen = METHODS[method]
    if chosen.has_target:
        options["target"] = target
    elif target is not None:
        raise InputError(f"`{method}` is of no class. Received: target={target}")
    try:
        return chosen.maps(model, images, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise InputError(f"`{method}` has no such option. Received: {', '.join(options)}") from error


def methods_of(model: ImageClassifier) -> list[str]:
    """Returns the methods that apply to a model.

    Example:
        >>> from medkeras.models import create
        >>> methods_of(create("focusnet2d_tiny", num_classes=2))[:4]
        ['attention', 'grad_cam', 'grad_cam_plus_plus', 'layer_cam']
    """
    return [name for name, method in METHODS.items() if method.applies(model)]


def check_method(model: ImageClassifier, method: str) -> None:
    """Refuses a method that does not exist or does not apply to a model, and says which do.

    Raises:
        ValueError: If so.

    Example:
        >>> from medkeras.models import create
        >>> check_method(create("focusnet2d_tiny", num_classes=2), "gradcam")
        Traceback (most recent call last):
        ...
        medkeras.InputError: There is no such method; perhaps grad_cam. Received: method='gradcam'
    """
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=1) or METHODS
        raise InputError(f"There is no such method; perhaps {', '.join(near)}. Received: method={method!r}")
    if not METHODS[method].applies(model):
        raise InputError(f"`{model.name}` is explained by {', '.join(methods_of(model))}. Received: method={method!r}")


def _has_features(model: ImageClassifier) -> bool:
    return "features" in model.explain_points


def _has_transformer(model: ImageClassifier) -> bool:
    try:
        return isinstance(transformer_of(model), ViT)
    except ValueError:
        return False


def _of_patches(rollout: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Returns a rollout with its maps brought from the patches to the image."""

    def maps(model: ImageClassifier, images: Any, **options: Any) -> np.ndarray:
        return maps_on_image(model, "attention", rollout(model, images, **options)[..., None])[..., 0]

    return maps


def _always(model: ImageClassifier) -> bool:
    return True


METHODS = {
    "attention": Method(native_attention, lambda model: bool(attention_points(model)), has_target=False),
    **{name: Method(functools.partial(class_map, method=name), _has_features) for name in CLASS_MAP_METHODS},
    "attention_rollout": Method(_of_patches(attention_rollout), _has_transformer, has_target=False),
    "gradient_rollout": Method(_of_patches(relevance_map), _has_transformer),
    "integrated_gradients": Method(integrated_gradients, _always),
    "smooth_grad": Method(smooth_grad, _always),
    "occlusion": Method(occlusion, _always),
}
