"""Effective receptive fields: which pixels really drive the centre of a pathway's map."""

from typing import Any

import numpy as np
from keras import ops

from medkeras.backend.gradients import input_gradient
from medkeras.errors import InputError
from medkeras.explain.methods.feature_maps import image_batches, to_numpy
from medkeras.models import ImageClassifier, Positions


def effective_receptive_field(model: ImageClassifier, pathway: str, *, samples: int = 32, seed: int = 0) -> np.ndarray:
    """Measures how strongly each pixel drives the centre unit of a map, averaged over random images.

    It is the absolute gradient of the centre unit, summed over the map's channels, with respect to images of
    uniform noise in [0, 1].

    Args:
        model: A model with explain points.
        pathway: Name of a map among `model.explain_points`, such as `magno`.
        samples: Number of random images, at least 1.
        seed: Seed of the noise.

    Returns:
        Float32 of the image grid, its maximum 1, or all 0 where the unit is dead.

    Raises:
        ValueError: If the point is not declared or is no map, or `samples` is below 1.

    Reference:
        Luo et al., Understanding the Effective Receptive Field in Deep Convolutional Neural Networks,
        arXiv 1701.04128.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> field = effective_receptive_field(model, "parvo", samples=2)
        >>> field.shape, float(field.max())
        ((28, 28), 1.0)
    """
    if samples < 1:
        raise InputError(f"`samples` must be at least 1. Received: samples={samples}")
    maps_of = model.tensors(pathway)
    rule = getattr(model.explain_points.get(pathway), "rule", None)
    if rule is None or isinstance(rule, Positions):
        raise InputError(f"A receptive field belongs to a map. Received: pathway={pathway!r}")

    def centre(images: Any) -> Any:
        maps = rule.fold(maps_of(images, training=False)[pathway])
        middle = tuple(n // 2 for n in maps.shape[1:-1])
        return ops.sum(maps[(slice(None), *middle)], axis=-1)

    noise = np.random.default_rng(seed).uniform(size=(samples, *model.image_shape))
    total = np.zeros(model.image_shape[:-1], np.float32)
    for batch in image_batches(model, noise):
        total += np.abs(to_numpy(input_gradient(centre, batch)[1])).sum(axis=(0, -1))
    return total / total.max() if total.max() > 0 else total


def field_radius(field: np.ndarray, *, share: float = 0.9) -> float:
    """Returns the radius around the centre of mass within which a share of the field's mass lies.

    Args:
        field: Non-negative, of two or three axes.
        share: In (0, 1].

    Returns:
        Radius in pixels; 0 for a field without mass.

    Raises:
        ValueError: If `share` is outside (0, 1].

    Example:
        >>> field = np.zeros((9, 9))
        >>> field[4, 2:7] = 1.0
        >>> field_radius(field), field_radius(field, share=0.5)
        (2.0, 1.0)
    """
    if not 0 < share <= 1:
        raise InputError(f"`share` must be in (0, 1]. Received: share={share}")
    if not field.any():
        return 0.0
    distances = np.linalg.norm(np.indices(field.shape).T - centre_of_mass(field), axis=-1).T.ravel()
    order = np.argsort(distances, kind="stable")
    held = np.cumsum(field.ravel()[order], dtype=np.float64)
    # The last entry is the whole mass to the bit, so a share of 1 is always reached.
    return float(distances[order][np.searchsorted(held, share * held[-1])])


def centre_of_mass(field: np.ndarray) -> np.ndarray:
    """Returns the centre of mass of a field, in pixels; the middle of the grid for a field without mass.

    Example:
        >>> centre_of_mass(np.array([[0.0, 1.0, 3.0]])).tolist()
        [0.0, 1.75]
    """
    weights = field.astype(np.float64) if field.any() else np.ones(field.shape)
    return (np.indices(field.shape) * weights).reshape(field.ndim, -1).sum(axis=-1) / weights.sum()
