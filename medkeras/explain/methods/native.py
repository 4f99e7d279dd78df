"""The attention that an architecture itself works by, as one map on the image."""

from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.explain.methods.feature_maps import activations, maps_on_image
from medkeras.models import ImageClassifier

ONE = ("attention", "priority")  # A point that says it all.
PER_STAGE = ("retention", "gate")  # Points of each stage, such as `retention_1`.


def native_attention(model: ImageClassifier, images: Any) -> np.ndarray:
    """Returns how much a model attends to each place, by the attention that its architecture has.

    It is the explain point `attention` (DualAttendMed, DCAT, ViT); else the mean of the `priority` maps that fixations
    are chosen from (FocusNet); else the mean over stages of `retention`, how much each place is looked at (HEMF), or of
    the spatial gates (CAME), each divided by its own mean so that all stages count alike. It is of no class.

    Args:
        model: A model with such a point.
        images: `(batch, *model.image_shape)` in [0, 1].

    Returns:
        Float32 `(batch, *image grid)`, not scaled.

    Raises:
        ValueError: If the model has no such point, or the images do not fit it.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> native_attention(model, np.ones((1, 28, 28, 1), "float32")).shape
        (1, 28, 28)
    """
    names = attention_points(model)
    if not names:
        raise InputError(
            f"`{model.name}` has no attention of its own. Received: explain points {sorted(model.explain_points)}"
        )
    maps = activations(model, images, *names)
    on_image = [maps_on_image(model, name, maps[name].mean(axis=-1, keepdims=True))[..., 0] for name in names]
    return on_image[0] if len(names) == 1 else np.mean([_by_mean(values) for values in on_image], axis=0)


def attention_points(model: ImageClassifier) -> list[str]:
    """Returns the explain points that `native_attention` reads, none where a model has no attention.

    Example:
        >>> from medkeras.models import create
        >>> attention_points(create("focusnet2d_tiny", num_classes=2))
        ['priority']
    """
    points = model.explain_points
    for name in ONE:
        if name in points:
            return [name]
    for kind in PER_STAGE:
        if names := [name for name in points if name.startswith(f"{kind}_")]:
            return names
    return []


def _by_mean(maps: np.ndarray) -> np.ndarray:
    mean = maps.mean(axis=tuple(range(1, maps.ndim)), keepdims=True)
    return np.divide(maps, mean, out=np.zeros_like(maps), where=mean > 0)
