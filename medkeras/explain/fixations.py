"""Fixations: where a model chose to look, in pixels."""

import dataclasses
from typing import Any

import numpy as np

from medkeras.explain.methods.feature_maps import activations, resize_maps
from medkeras.models import ImageClassifier


@dataclasses.dataclass(frozen=True)
class Fixations:
    """The places that a model looked at, in the order in which it did.

    Pixel 0 has its centre at 0 and its edges at -0.5 and 0.5. The order of axes is that of the image.

    Attributes:
        places: Centres of the glimpses, in pixels, `(batch, count, rank)`.
        boxes: Edges of the glimpses, in pixels, clipped to the image: `(batch, count, rank, 2)`, lower
            and upper.
        priorities: Maps that the places were chosen from, `(batch, count, *image grid)`; None if the model
            has none.
    """

    places: np.ndarray
    boxes: np.ndarray
    priorities: np.ndarray | None

    def __getitem__(self, index: Any) -> "Fixations":
        priorities = None if self.priorities is None else self.priorities[index]
        return Fixations(self.places[index], self.boxes[index], priorities)


def fixations(model: ImageClassifier, images: Any) -> Fixations:
    """Returns where a model looks in each image.

    Args:
        model: A model with the explain point `fixations`, and `priority` if it has such maps.
        images: `(batch, *model.image_shape)` in [0, 1].

    Raises:
        ValueError: If the model has no fixations, or the images do not fit it.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> looked = fixations(model, np.ones((1, 28, 28, 1), "float32"))
        >>> looked.places.shape, looked.boxes.shape, looked.priorities.shape
        ((1, 2, 2), (1, 2, 2, 2), (1, 2, 28, 28))
    """
    points = model.explain_points
    names = ("fixations", "priority") if "priority" in points else ("fixations",)
    values = activations(model, images, *names)
    size = np.array(model.image_shape[:-1], np.float32)
    places = (values["fixations"] + 1) / 2 * (size - 1)
    reach = np.asarray(points["fixations"].rule.extents, np.float32) * size / 2
    boxes = np.clip(np.stack([places - reach, places + reach], axis=-1), -0.5, size[:, None] - 0.5)
    priorities = None
    if "priority" in values:
        priorities = np.moveaxis(resize_maps(values["priority"], model.image_shape[:-1]), -1, 1)
    return Fixations(places, boxes, priorities)
