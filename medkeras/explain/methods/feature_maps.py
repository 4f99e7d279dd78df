"""Feature maps brought back to the image: a model's named tensors, and their resizing to the image grid."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.layers import sample_axes
from medkeras.models import ImageClassifier
from medkeras.models.focusnet.pathways import PATHWAYS

BATCH = 8  # Images at a time: a volume's gradients are large.


def pathway_maps(model: ImageClassifier, images: Any) -> dict[str, np.ndarray]:
    """Returns what each pathway sees: its mean activity over channels, on the image grid, not scaled.

    Args:
        model: A model with the explain points `magno`, `parvo`, `konio` and `features`.
        images: `(batch, *model.image_shape)` in [0, 1].

    Returns:
        For each of the four, float32 `(batch, *image grid)`.

    Raises:
        ValueError: If the model lacks a point, or the images do not fit it.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> {name: m.shape for name, m in pathway_maps(model, np.ones((1, 28, 28, 1), "float32")).items()}
        {'magno': (1, 28, 28), 'parvo': (1, 28, 28), 'konio': (1, 28, 28), 'features': (1, 28, 28)}
    """
    maps = activations(model, images, *PATHWAYS, "features")
    size = model.image_shape[:-1]
    return {name: resize_maps(m.mean(axis=-1, keepdims=True), size)[..., 0] for name, m in maps.items()}


def activations(model: ImageClassifier, images: Any, *names: str) -> dict[str, np.ndarray]:
    """Returns the values of named explain points, each folded by its rule; `"logits"` is the output itself.

    Args:
        model: Any model of this package.
        images: `(batch, *model.image_shape)` in [0, 1].
        *names: Keys of `model.explain_points`.

    Returns:
        `{name: float32 array}`: maps `(batch, *grid, channels)`, positions `(batch, count, rank)`.

    Raises:
        ValueError: If a name is not declared, or the images do not fit the model.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> activations(model, np.ones((3, 28, 28, 1), "float32"), "priority")["priority"].shape
        (3, 7, 7, 2)
    """
    tensors, points = model.tensors(*names), model.explain_points
    batches = [tensors(batch, training=False) for batch in image_batches(model, images)]
    values = {}
    for name in names:
        folded = [points[name].rule.fold(b[name]) if name in points else b[name] for b in batches]
        values[name] = np.concatenate([to_numpy(v) for v in folded])
    return values


def maps_on_image(model: ImageClassifier, name: str, maps: Any) -> np.ndarray:
    """Brings the maps of an explain point to the image grid, each cell to the place that it looks at.

    Args:
        model: Any model of this package.
        name: An explain point of it with the rule `Grid` or `Tokens`.
        maps: `(batch, *grid, channels)`, folded.

    Returns:
        Float32 `(batch, *image grid, channels)`.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> maps_on_image(model, "priority", np.ones((1, 7, 7, 2))).shape
        (1, 28, 28, 2)
    """
    stride = getattr(model.explain_points[name].rule, "stride", None)
    return resize_maps(maps, model.image_shape[:-1], stride=stride)


def resize_maps(maps: Any, size: Sequence[int], *, stride: int | None = None) -> np.ndarray:
    """Resizes maps linearly, axis by axis, and flat beyond the outermost cell centres.

    Args:
        maps: `(batch, *grid, channels)`, the grid of two or three axes.
        size: Pixels per axis.
        stride: Pixels from one cell centre to the next, the first lying on the first pixel; None where the cells
            cover the image evenly.

    Returns:
        Float32 `(batch, *size, channels)`.

    Example:
        >>> resize_maps(np.array([[[[0.0], [1.0]]]], "float32"), (1, 4))[0, 0, :, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
        >>> resize_maps(np.array([[[[0.0], [1.0]]]], "float32"), (1, 4), stride=2)[0, 0, :, 0].tolist()
        [0.0, 0.5, 1.0, 1.0]
    """
    maps = ops.convert_to_tensor(maps, "float32")
    positions = []
    for cells, pixels in zip(maps.shape[1:-1], size, strict=True):
        places = np.arange(pixels) / stride if stride else (np.arange(pixels) + 0.5) * cells / pixels - 0.5
        places = np.clip(places, 0, cells - 1)
        positions.append(ops.convert_to_tensor(np.tile(places, (maps.shape[0], 1)), "float32"))
    return ops.convert_to_numpy(sample_axes(maps, positions))


def image_batches(model: ImageClassifier, images: Any) -> Iterator[np.ndarray]:
    """Yields images in small float32 batches.

    Raises:
        ValueError: If there is no image, or the images are not of the model's shape.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> [len(batch) for batch in image_batches(model, np.zeros((11, 28, 28, 1)))]
        [8, 3]
    """
    images = np.asarray(images, np.float32)
    if images.shape[1:] != model.image_shape or not len(images):
        raise InputError(
            f"`images` must be (batch, {', '.join(map(str, model.image_shape))}). "
            f"Received: images of shape {images.shape}"
        )
    return (images[i : i + BATCH] for i in range(0, len(images), BATCH))


def to_numpy(tensor: Any) -> np.ndarray:
    """Returns a tensor of any backend and precision as float32 array.

    Example:
        >>> to_numpy(ops.ones((2,), "bfloat16")).tolist()
        [1.0, 1.0]
    """
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))
