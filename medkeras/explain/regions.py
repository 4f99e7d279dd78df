"""Localisation: from a map of a model to the regions that it marks, as masks and boxes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.localization import binarize, boxes
from medkeras.explain.methods.feature_maps import activations, image_batches, maps_on_image
from medkeras.explain.methods.input_gradients import most_probable
from medkeras.explain.methods.mirrored import mirrored_mean
from medkeras.explain.methods.registry import METHODS, explanation_maps, methods_of
from medkeras.models import Grid, ImageClassifier, Tokens

CLASS_MAPS = {"class_map": "grad_cam", "evidence_map": "hires_cam"}  # Their names as methods.
METHOD_OF = CLASS_MAPS | {"native_attention": "attention"}


@dataclasses.dataclass(frozen=True)
class Regions:
    """What the maps of some images mark; a slice of it holds a part of them.

    Attributes:
        point: The explain point that the maps are of, or the method.
        threshold: Share of a map's range that marks a region.
        maps: `(batch, *image grid)`, not scaled.
        masks: Where the map reaches the threshold, boolean `(batch, *image grid)`.
        boxes: For each image int64 `(regions, 2 * rank)`, the largest region first: the lower corner, then the
            upper one, counted like slices.
        scores: For each image float32 `(regions,)`, the highest value in the box as share of the map's range.
    """

    point: str
    threshold: float
    maps: np.ndarray
    masks: np.ndarray
    boxes: tuple[np.ndarray, ...]
    scores: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: slice) -> "Regions":
        parts = {name: getattr(self, name)[index] for name in ("maps", "masks", "boxes", "scores")}
        return dataclasses.replace(self, **parts)

    def edges(self, index: int, size: Sequence[int]) -> np.ndarray:
        """Returns the edges of one image's boxes in the pixels of the stored image.

        Pixel 0 has its centre at 0 and its edges at -0.5 and 0.5, as for `medkeras.explain.Fixations`.

        Args:
            index: Of the image.
            size: Pixels per axis of the image as it is stored, before it was resized to the model's size.

        Returns:
            float64 `(regions, rank, 2)`, lower and upper.
        """
        scale = np.array(size) / self.maps.shape[1:]
        corners = np.stack(np.split(self.boxes[index], 2, axis=1), axis=-1)
        return corners * scale[:, None] - 0.5


def localize(
    model: ImageClassifier,
    images: Any,
    *,
    point: str | None = None,
    threshold: float = 0.5,
    smallest: int = 1,
    target: Any = None,
    mirrored: bool = False,
) -> Regions:
    """Marks where a model looked, as masks and boxes of the image's size.

    A map that is constant or not finite marks nothing.

    Args:
        model: Any model with an explain point on a grid.
        images: `(batch, *model.image_shape)` in [0, 1].
        point: See `saliency_maps`.
        threshold: Share of a map's range, in (0, 1]; `medkeras.evaluation.choose_threshold` finds it on
            validation images whose lesions are known.
        smallest: Pixels that a region must have to get a box, >= 1.
        target: See `saliency_maps`.
        mirrored: See `saliency_maps`.

    Raises:
        ValueError: If an argument is out of range, the model has no such point, or the images do not fit it.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> found = localize(model, np.zeros((2, 32, 32, 3)), threshold=0.6)
        >>> found.point, found.masks.shape, len(found.boxes)
        ('attention', (2, 32, 32), 2)
    """
    name = point or default_map(model)
    maps = saliency_maps(model, images, point=name, target=target, mirrored=mirrored)
    return mark_regions(maps, point=name, threshold=threshold, smallest=smallest)


def mark_regions(maps: Any, *, point: str, threshold: float = 0.5, smallest: int = 1) -> Regions:
    """Marks where maps reach a share of their range; what `localize` does, for maps at hand.

    Args:
        maps: `(batch, *image grid)`.
        point: What to call the maps.
        threshold: See `localize`.
        smallest: See `localize`.

    Raises:
        ValueError: If there is no map, or an argument is out of range.

    Example:
        >>> mark_regions([[[0.0, 0.2, 1.0]]], point="attention", threshold=0.5).boxes[0].tolist()
        [[0, 2, 1, 3]]
    """
    maps = np.asarray(maps, np.float32)
    if maps.ndim not in (3, 4) or not maps.size:
        raise InputError(f"`maps` must be (batch, *image grid), not empty. Received: maps of shape {maps.shape}")
    masks = np.stack([binarize(values, threshold) for values in maps])
    found = tuple(boxes(mask, smallest=smallest) for mask in masks)
    scores = tuple(_scores(*pair) for pair in zip(maps, found, strict=True))
    return Regions(point, threshold, maps, masks, found, scores)


def saliency_maps(
    model: ImageClassifier,
    images: Any,
    *,
    point: str | None = None,
    target: Any = None,
    mirrored: bool = False,
) -> np.ndarray:
    """Returns one map per image on the image grid, by the name of an explain point or as class map.

    Args:
        model: Any model with an explain point on a grid.
        images: `(batch, *model.image_shape)` in [0, 1].
        point: An explain point with the rule `Grid` or `Tokens`, the mean being taken over its channels; or
            `class_map`, Grad-CAM, or `evidence_map`, HiResCAM; or another of `medkeras.explain.methods_of(model)`. By
            default `attention` where the model has it, else `class_map`.
        target: The class or label of a map that is of one, one for all images or one per image; by default the most
            probable. An explain point has none.
        mirrored: Whether to take the mean over all mirror images of an image, each map mirrored back: for the cost of
            4 maps, 8 of volumes, it lies on what the model looks for where a single map may lie beside it.

    Returns:
        Float32 `(batch, *image grid)`, not scaled.

    Raises:
        ValueError: If the model has no such map, the images do not fit it, or a target is out of place.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> saliency_maps(model, np.ones((1, 28, 28, 1)), point="priority").shape
        (1, 28, 28)
    """
    name, known = point or default_map(model), map_names(model)
    if name not in known:
        raise InputError(f"A map of `{model.name}` is one of {', '.join(known)}. Received: point={name!r}")
    if target is not None and not is_of_class(model, name):
        raise InputError(f"`{name}` is of no class. Received: point={name!r}, target={target!r}")
    if not mirrored:
        return _maps(model, images, name, target)
    images = np.concatenate(list(image_batches(model, images)))
    if target is None and is_of_class(model, name):
        target = most_probable(model, images, None)
    return mirrored_mean(lambda views: _maps(model, views, name, target), images)


def _maps(model: ImageClassifier, images: Any, name: str, target: Any) -> np.ndarray:
    if name not in model.explain_points:
        return explanation_maps(model, images, method=METHOD_OF.get(name, name), target=target)
    values = activations(model, images, name)[name].mean(axis=-1, keepdims=True)
    return maps_on_image(model, name, values)[..., 0]


def is_of_class(model: ImageClassifier, name: str) -> bool:
    """Says whether a map of `map_names(model)` is of a class, so that it takes a target.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", num_classes=2)
        >>> is_of_class(model, "attention"), is_of_class(model, "occlusion")
        (False, True)
    """
    return name not in model.explain_points and METHODS[METHOD_OF.get(name, name)].has_target


def map_names(model: ImageClassifier) -> list[str]:
    """Returns the maps by which a model can localise: its explain points on a grid, and its methods.

    The attention of a model that has no explain point of that name, but several that make it, is `native_attention`.

    Example:
        >>> from medkeras.models import create
        >>> map_names(create("dualattendmed_tiny", num_classes=2))[:5]
        ['attention', 'attention_maps', 'backbone', 'class_map', 'evidence_map']
    """
    points = model.explain_points
    names = [name for name, point in points.items() if isinstance(point.rule, (Grid, Tokens))]
    methods = methods_of(model)
    named = [name for name, method in METHOD_OF.items() if method in methods]
    # A point and a method share the name `attention`.
    less = {"native_attention"} if "attention" in names else {"attention"}
    return sorted({*names, *named, *methods} - less)


def default_map(model: ImageClassifier) -> str:
    """Returns the map by which a model localises where none is named.

    Raises:
        ValueError: If the model has neither the explain point `attention` nor `features`.

    Example:
        >>> from medkeras.models import create
        >>> default_map(create("focusnet2d_tiny", num_classes=2))
        'class_map'
    """
    for name in ("attention", "class_map"):
        if name in map_names(model):
            return name
    raise InputError(
        f"`{model.name}` has no explain point `attention` or `features`; name one of {', '.join(map_names(model))}. "
        "Received: no map"
    )


def _scores(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns the peak of each box as share of the map's range."""
    rank, low, high = values.ndim, values.min(), values.max()
    peaks = [values[tuple(map(slice, box[:rank], box[rank:]))].max() for box in found]
    return np.array([(peak - low) / (high - low) for peak in peaks], np.float32)
