"""Super resolution of what a model looks at: its map, the regions that the map chooses, and the images with them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from medkeras.errors import InputError
from medkeras.explain import attention_rollout, default_map, map_names, relevance_map, saliency_maps
from medkeras.models import ImageClassifier, ViT
from medkeras.super_resolution.enhancement.reintegration import cut, reintegrate

CELLS = 14  # Along each edge, as ViT-B/16 has them, where a map is finer.
MAPS: dict[str, Callable[..., np.ndarray]] = {
    "rollout": attention_rollout,
    "published": functools.partial(attention_rollout, mode="published"),
    "relevance": relevance_map,
}


class Upscaler(Protocol):
    """What enlarges: `LDMUpscaler`, `Interpolation`, or anything that is called like them."""

    factor: int
    smallest: int

    def upscale(self, images: Any, **options: Any) -> np.ndarray:
        """Returns `(n, factor * height, factor * width, channels)` in [0, 1] from images in [0, 1]."""


def importance_maps(model: ImageClassifier, images: Any, *, name: str | None = None) -> np.ndarray:
    """Returns how important each cell of an image was for a model.

    Args:
        model: A `ViT`, or any model with a map, see `medkeras.explain.map_names`.
        images: `(batch, *model.image_shape)` in [0, 1], 2D.
        name: Of a ViT `rollout` (the default), `published` (the notebook's, which is upside down; see
            `medkeras.explain.attention_rollout`) or `relevance`, one cell per patch; else a map of `map_names`, by
            default `attention` or `class_map`, whose means over at most 14 x 14 cells are taken.

    Returns:
        Float32 `(batch, rows, columns)`, not scaled.

    Raises:
        ValueError: If the model has no such map, is not of 2D images, or the images do not fit it.

    Example:
        >>> model = ViT((32, 48, 3), num_classes=2, units=8, depth=2, heads=2, hidden=16)
        >>> importance_maps(model, np.ones((1, 32, 48, 3))).shape
        (1, 2, 3)
    """
    name = check_map(model, name)
    if name in MAPS:
        return MAPS[name](model, images)
    return np.stack([_in_cells(values) for values in saliency_maps(model, images, point=name)])


def check_map(model: ImageClassifier, name: str | None) -> str:
    """Returns the name of the map that `importance_maps` takes.

    Raises:
        ValueError: If there is no such map, or the model is not of 2D images.

    Example:
        >>> from medkeras.models import create
        >>> check_map(create("focusnet2d_tiny", num_classes=2), None)
        'class_map'
    """
    if len(model.image_shape) != 3:
        raise InputError(f"Only images are enhanced, no volumes. Received: a model of {model.image_shape}")
    own = list(MAPS) if isinstance(model, ViT) else []
    known = [*own, *map_names(model)]
    name = name or (own[0] if own else default_map(model))
    if name not in known:
        raise InputError(f"A map of `{model.name}` is one of {', '.join(known)}. Received: map={name!r}")
    return name


def enhance(
    images: Sequence[np.ndarray],
    regions: Sequence[Any],
    upscaler: Upscaler,
    *,
    multiple: int = 64,
    paste: str = "hard",
    keep_scale: bool = False,
    batch_size: int = 1,
    **sampling: Any,
) -> list[np.ndarray]:
    """Enlarges regions of images, and puts them back.

    An image's values may be of any range: the upscaler sees its lowest as 0 and its highest as 1, and what it gives is
    taken back to that range. An image of one value stays as it is. Regions of one size are enlarged together, whatever
    image they are of, and always `batch_size` at a time, the last one repeated: so an image's result does not depend on
    the others.

    Args:
        images: Each `(height, width, channels)`, float of any range; 1 or 3 channels.
        regions: For each image `(regions, 4)`, as from `RegionRule.regions`.
        upscaler: What enlarges them.
        multiple: Regions are padded by reflection to multiples of so many pixels.
        paste: See `reintegrate`.
        keep_scale: See `reintegrate`.
        batch_size: Regions at a time; each size of regions is compiled once for it.
        **sampling: Further arguments of `upscaler.upscale`: `steps`, `eta`, `seed`.

    Returns:
        The images, float32.

    Raises:
        ValueError: If a region would be smaller than the upscaler takes, or an argument is out of range.

    Example:
        >>> from medkeras.super_resolution.interpolated import Interpolation
        >>> (image,) = enhance([np.eye(80)[..., None]], [[(0, 0, 64, 64)]], Interpolation())
        >>> image.shape, bool((image[64:] == np.eye(80)[64:, :, None]).all())
        ((80, 80, 1), True)
    """
    if multiple < upscaler.smallest:
        raise InputError(f"The upscaler takes {upscaler.smallest} pixels and more. Received: smallest={multiple}")
    if batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    images = [np.asarray(image, "float32") for image in images]
    ranges = [(image.min(), np.ptp(image)) for image in images]
    units = [(image - low) / (span or 1) for image, (low, span) in zip(images, ranges, strict=True)]
    jobs = [(i, k) for i, boxes in enumerate(regions) for k in range(len(boxes)) if ranges[i][1]]
    parts = {(i, k): cut(units[i], regions[i][k], multiple=multiple) for i, k in jobs}
    large = _upscaled(parts, upscaler, batch_size, sampling)
    results = []
    for i, (image, (low, span)) in enumerate(zip(images, ranges, strict=True)):
        boxes = regions[i] if span else []
        enlarged = [low + span * large[i, k] for k in range(len(boxes))]
        results.append(reintegrate(image, boxes, enlarged, factor=upscaler.factor, paste=paste, keep_scale=keep_scale))
    return results


def _upscaled(
    parts: dict[tuple[int, int], np.ndarray], upscaler: Upscaler, batch_size: int, sampling: dict[str, Any]
) -> dict[tuple[int, int], np.ndarray]:
    """Returns the parts enlarged, those of one shape together."""
    shapes: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for key, part in parts.items():
        shapes.setdefault(part.shape, []).append(key)
    large = {}
    for keys in shapes.values():
        for start in range(0, len(keys), batch_size):
            chosen = keys[start : start + batch_size]
            filled = chosen + chosen[-1:] * (batch_size - len(chosen))
            found = upscaler.upscale(np.stack([parts[key] for key in filled]), batch_size=batch_size, **sampling)
            large |= dict(zip(chosen, found, strict=False))
    return large


def _in_cells(values: np.ndarray) -> np.ndarray:
    """Returns the means of a map over at most 14 x 14 cells."""
    for axis in (0, 1):
        edge = values.shape[axis]
        starts = np.arange(min(CELLS, edge)) * edge // min(CELLS, edge)
        counts = np.diff([*starts, edge])
        values = np.add.reduceat(values, starts, axis=axis) / np.expand_dims(counts, 1 - axis)
    return values.astype("float32")
