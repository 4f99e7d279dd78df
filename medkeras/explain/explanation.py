"""An explanation: everything that a model can say about its answer for some images."""

import dataclasses
from typing import Any

import keras
import numpy as np

from medkeras.errors import InputError
from medkeras.explain.explainable import explainable
from medkeras.explain.fixations import Fixations, fixations
from medkeras.explain.methods.class_map import class_map, class_targets
from medkeras.explain.methods.feature_maps import image_batches, pathway_maps
from medkeras.explain.methods.input_gradients import logits_of
from medkeras.explain.methods.registry import METHODS, check_method, explanation_maps
from medkeras.explain.regions import saliency_maps
from medkeras.models import ImageClassifier
from medkeras.models.focusnet.pathways import PATHWAYS
from medkeras.tasks import to_probabilities

OPTIONAL = ("fixations", "class_map", "attention", "maps", "targets")


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
        method: The method that was asked for; then only its maps are made, and what stands above is empty. None
            where none was.
        maps: Its maps, `(batch, *image grid)`: see `medkeras.explain.explanation_maps`.
        targets: The class or label that each map is of, `(batch,)`; None for a method that is of no class.
    """

    images: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    fixations: Fixations | None
    class_map: np.ndarray | None
    pathways: dict[str, np.ndarray]
    attention: np.ndarray | None = None
    method: str | None = None
    maps: np.ndarray | None = None
    targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> "Explanation":
        return dataclasses.replace(
            self,
            images=self.images[index],
            probabilities=self.probabilities[index],
            pathways={name: maps[index] for name, maps in self.pathways.items()},
            **{name: None if (part := getattr(self, name)) is None else part[index] for name in OPTIONAL},
        )


def explain(
    model: keras.Model,
    images: Any,
    *,
    method: str | None = None,
    target: Any = None,
    layer: str | None = None,
    task: str | None = None,
    **options: Any,
) -> Explanation:
    """Explains a model's answers: by every explain point that it has, or by one method.

    Args:
        model: Any model of this package, or any functional Keras model that classifies images: see
            `medkeras.explain.explainable`.
        images: `(batch, *model.image_shape)`, in [0, 1] for a model of this package.
        method: One of `medkeras.explain.methods_of(model)`.
        target: For a method of a class: its index or its name, one for all images or one per image; by default the
            class or label with the largest logit.
        layer: For a Keras model of another package, the layer whose output is looked at: see `explainable`.
        task: For a Keras model of another package, what its outputs are: see `explainable`.
        **options: What else the method takes.

    Raises:
        ValueError: If the images do not fit the model, the method does not apply to it, or an argument does not fit
            the method.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2, class_names=["healthy", "lesion"])
        >>> explanation = explain(model, np.ones((2, 28, 28, 1), "float32"))
        >>> explanation.probabilities.shape, sorted(explanation.pathways), len(explanation[:1])
        ((2, 2), ['konio', 'magno', 'parvo'], 1)
        >>> explain(model, np.ones((2, 28, 28, 1)), method="grad_cam", target="lesion").maps.shape
        (2, 28, 28)
    """
    if not isinstance(model, ImageClassifier):
        model = explainable(model, image_shape=np.shape(images)[1:], layer=layer, task=task)
    elif layer is not None or task is not None:
        raise InputError(f"A model of this package knows its points and its task. Received: {layer=}, {task=}")
    if method is not None:
        return _by_method(model, images, method, target, options)
    if target is not None or options:
        raise InputError(f"Only a method has a target and options. Received: target={target}, {sorted(options)}")
    return _by_points(model, images)


def target_index(model: ImageClassifier, target: Any) -> Any:
    """Returns a target with names of classes replaced by their indices.

    Raises:
        ValueError: If a name is no class of the model.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2, class_names=["healthy", "lesion"])
        >>> target_index(model, "lesion"), target_index(model, ["lesion", "healthy"]), target_index(model, 0)
        (1, [1, 0], 0)
    """
    if isinstance(target, str):
        if target not in model.class_names:
            raise InputError(f"`target` is one of {', '.join(model.class_names)}. Received: target={target!r}")
        return model.class_names.index(target)
    return [target_index(model, name) for name in target] if isinstance(target, list | tuple) else target


def _by_method(model: ImageClassifier, images: Any, method: str, target: Any, options: dict[str, Any]) -> Explanation:
    check_method(model, method)
    images, logits = _images_and_logits(model, images)
    targets = None
    if METHODS[method].has_target:
        targets = class_targets(target_index(model, target), len(images), model.num_classes)
        targets = np.where(targets < 0, logits.argmax(axis=-1), targets)
        target = targets
    maps = explanation_maps(model, images, method=method, target=target, **options)
    return Explanation(
        images=images,
        class_names=model.class_names,
        probabilities=np.asarray(to_probabilities(logits, model.task)),
        fixations=None,
        class_map=None,
        pathways={},
        method=method,
        maps=maps,
        targets=targets,
    )


def _by_points(model: ImageClassifier, images: Any) -> Explanation:
    points = model.explain_points
    images, logits = _images_and_logits(model, images)
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


def _images_and_logits(model: ImageClassifier, images: Any) -> tuple[np.ndarray, np.ndarray]:
    batches = list(image_batches(model, images))
    return np.concatenate(batches), np.concatenate([logits_of(model, batch) for batch in batches])
