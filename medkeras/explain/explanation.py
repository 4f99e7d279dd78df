"""An explanation: everything that a model can say about its answer for some images."""

import dataclasses
from typing import Any

import numpy as np

from medkeras.explain.class_map import class_map
from medkeras.explain.fixations import Fixations, fixations
from medkeras.explain.maps import activations, image_batches, pathway_maps
from medkeras.explain.regions import saliency_maps
from medkeras.models import ImageClassifier
from medkeras.models.focusnet.pathways import PATHWAYS
from medkeras.tasks import to_probabilities


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a model answered for some images, and what it looked at; a slice of it explains a part of them.

    Attributes:
        images: `(batch, *image grid, channels)` in [0, 1].
        class_names: One name per class or label.
        probabilities: `(batch, classes)`.
        fixations: Where it looked; None if the model does not choose places.
        class_map: What spoke for the most probable class, `(batch, *image grid)` in [0, 1]; None if the model
            has no `features`.
        pathways: `{name: (batch, *image grid)}`, empty if the model has no pathways.
        attention: The model's own attention map, `(batch, *image grid)`, not scaled; None if it has none.
    """

    images: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    fixations: Fixations | None
    class_map: np.ndarray | None
    pathways: dict[str, np.ndarray]
    attention: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> "Explanation":
        return dataclasses.replace(
            self,
            images=self.images[index],
            probabilities=self.probabilities[index],
            fixations=None if self.fixations is None else self.fixations[index],
            class_map=None if self.class_map is None else self.class_map[index],
            pathways={name: maps[index] for name, maps in self.pathways.items()},
            attention=None if self.attention is None else self.attention[index],
        )


def explain(model: ImageClassifier, images: Any) -> Explanation:
    """Explains a model's answers by every explain point that it has.

    Args:
        model: Any model of this package.
        images: `(batch, *model.image_shape)` in [0, 1].

    Raises:
        ValueError: If the images do not fit the model.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> explanation = explain(model, np.ones((2, 28, 28, 1), "float32"))
        >>> explanation.probabilities.shape, sorted(explanation.pathways), len(explanation[:1])
        ((2, 2), ['konio', 'magno', 'parvo'], 1)
    """
    points = model.explain_points
    images = np.concatenate(list(image_batches(model, images)))
    logits = activations(model, images, "logits")["logits"]
    maps = pathway_maps(model, images) if set(PATHWAYS) <= set(points) else {}
    return Explanation(
        images=images,
        class_names=model.class_names,
        probabilities=np.asarray(to_probabilities(logits, model.task)),
        fixations=fixations(model, images) if "fixations" in points else None,
        class_map=class_map(model, images) if "features" in points else None,
        pathways={name: maps[name] for name in PATHWAYS if name in maps},
        attention=saliency_maps(model, images, point="attention") if "attention" in points else None,
    )
