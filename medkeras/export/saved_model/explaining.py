"""The explanation of a model in a TensorFlow graph: its map on the image, and the box of what it marks most."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras import tasks
from medkeras.backend.gradients import input_gradient
from medkeras.errors import InputError
from medkeras.explain import default_map, map_names
from medkeras.models import ImageClassifier

THRESHOLD = 0.5


def explain_function(model: ImageClassifier, *, threshold: float = THRESHOLD) -> Callable[[Any], dict[str, Any]]:
    """Returns the function behind the signature `explain`.

    The map is that of `medkeras.explain.saliency_maps`: the model's attention where it has one, else the class map of
    the most probable class. The box is the first of `medkeras.explain.localize`, that of the largest region.

    Args:
        model: A model with the explain point `attention` or `features`.
        threshold: Share of a map's range that marks a region, in (0, 1].

    Returns:
        From images `(batch, *image_shape)` to `map`, float32 `(batch, *image grid)`, and `box`, int32
        `(batch, 2 * rank)`: the lower corner, then the upper one, counted like slices; zeros where nothing is marked.

    Raises:
        ValueError: If the model has neither point, or the threshold is out of range.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2, depth=1, saccades=1)
        >>> found = explain_function(model)(np.ones((2, 16, 16, 1), "float32"))
        >>> found["map"].shape.as_list(), found["box"].shape.as_list()
        ([2, 16, 16], [2, 4])
    """
    if not 0 < threshold <= 1:
        raise InputError(f"`threshold` must be in (0, 1]. Received: threshold={threshold}")
    name = default_map(model)
    maps = _class_maps(model) if name == "class_map" else _point_maps(model, name)

    def explain(image: Any) -> dict[str, Any]:
        found = maps(ops.convert_to_tensor(image))
        return {"map": found, "box": largest_box(found, threshold=threshold)}

    return explain


def has_attention(model: ImageClassifier) -> bool:
    """Says whether a model has a map of its own in its graph, which needs no gradient.

    Example:
        >>> from medkeras.models import create
        >>> [has_attention(create(name, num_classes=2)) for name in ("focusnet2d_tiny", "vit_tiny")]
        [False, True]
    """
    return "attention" in map_names(model)


def attention_function(model: ImageClassifier) -> Callable[[Any], dict[str, Any]]:
    """Returns the function behind the signature `explain` of a LiteRT file.

    The map is that of `explain_function`. There is no box: the runtime's builtin operators find no regions in a volume.

    Args:
        model: A model with the explain point `attention`.

    Returns:
        From images `(batch, *image_shape)` to `map`, float32 `(batch, *image grid)`, and `probabilities`, float32
        `(batch, num_classes)`.

    Raises:
        ValueError: If the model has no such point.

    Example:
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(16, 16, 1), num_classes=2, patch=8)
        >>> found = attention_function(model)(np.ones((3, 16, 16, 1), "float32"))
        >>> found["map"].shape.as_list(), found["probabilities"].shape.as_list()
        ([3, 16, 16], [3, 2])
    """
    if not has_attention(model):
        raise InputError(f"A LiteRT file explains by the explain point `attention`. Received: {model.name} without it")
    tensors = model.tensors("attention", "logits")

    def explain(image: Any) -> dict[str, Any]:
        seen = tensors(image, training=False)
        probabilities = tasks.to_probabilities(seen["logits"], model.task)
        return {"map": _point_on_image(model, "attention", seen["attention"]), "probabilities": probabilities}

    return explain


def _point_maps(model: ImageClassifier, name: str) -> Callable[[Any], Any]:
    tensors = model.tensors(name)
    return lambda image: _point_on_image(model, name, tensors(image, training=False)[name])


def _point_on_image(model: ImageClassifier, name: str, values: Any) -> Any:
    values = model.explain_points[name].rule.fold(ops.cast(values, "float32"))
    return _on_image(model, name, ops.mean(values, axis=-1))


def _class_maps(model: ImageClassifier) -> Callable[[Any], Any]:
    point, whole = model.explain_points["features"], model.tensors("features", "logits")
    rest = keras.Model([model.input, point.tensor], model.output)

    def maps(image: Any) -> Any:
        import tensorflow as tf

        seen = whole(image, training=False)
        # Not `ops.argmax`: the first of equal logits, as in numpy.
        wanted = tf.one_hot(tf.argmax(seen["logits"], axis=-1), model.num_classes)

        def logit(features: Any) -> Any:
            return ops.sum(rest([image, features], training=False) * wanted, axis=-1)

        _, gradient = input_gradient(logit, seen["features"])
        features, gradient = (point.rule.fold(values) for values in (seen["features"], gradient))
        places = tuple(range(1, len(features.shape) - 1))
        weights = ops.mean(gradient, axis=places, keepdims=True)
        found = _on_image(model, "features", ops.relu(ops.sum(weights * features, axis=-1)))
        return tf.math.divide_no_nan(found, ops.max(found, axis=tuple(range(1, len(found.shape))), keepdims=True))

    return maps


def _on_image(model: ImageClassifier, name: str, maps: Any) -> Any:
    """Resizes maps `(batch, *grid)` to the image grid, as `medkeras.explain.resize_maps`, for any batch."""
    stride = getattr(model.explain_points[name].rule, "stride", None)
    for cells, pixels in zip(maps.shape[1:], model.image_shape[:-1], strict=True):
        places = np.arange(pixels) / stride if stride else (np.arange(pixels) + 0.5) * cells / pixels - 0.5
        distances = np.abs(np.clip(places, 0, cells - 1) - np.arange(cells)[:, None])
        # A constant, which int8 can hold; with an axis of its own for the batch, which may be empty.
        weights = np.maximum(1 - distances, 0).astype("float32")[None]
        # The axis done goes to the end, so that the next one is the first.
        maps = ops.matmul(ops.moveaxis(maps, 1, -1), weights)
    return maps


def largest_box(maps: Any, *, threshold: float) -> Any:
    """Returns the box of the largest region that each map marks, as `medkeras.explain.mark_regions` finds it.

    Args:
        maps: A tensor, float32 `(batch, *image grid)`, of two or three axes.
        threshold: Share of a map's range that marks a region.

    Returns:
        int32 `(batch, 2 * rank)`; zeros for a map that is constant or not finite.

    Example:
        >>> largest_box(ops.array([[[0.0, 0.2, 1.0]]]), threshold=0.5).numpy().tolist()
        [[0, 2, 1, 3]]
    """
    import tensorflow as tf

    masks = _masks(maps, threshold)
    regions = _regions(masks)
    count, pixels = tf.shape(maps)[0], int(np.prod(maps.shape[1:]))
    flat = tf.reshape(regions, (count, pixels))
    sizes = tf.math.unsorted_segment_sum(
        tf.ones_like(flat), flat + (pixels + 1) * tf.range(count)[:, None], count * (pixels + 1)
    )
    largest = tf.argmax(tf.reshape(sizes, (count, pixels + 1))[:, :pixels], axis=1, output_type=tf.int32)
    chosen = masks & (regions == tf.reshape(largest, (-1, *[1] * (len(maps.shape) - 1))))
    return _corners(chosen)


def _masks(maps: Any, threshold: float) -> Any:
    import tensorflow as tf

    maps, grid = tf.cast(maps, tf.float64), list(range(1, len(maps.shape)))
    low, high = (reduce(maps, axis=grid, keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    is_marked = tf.math.is_finite(low) & tf.math.is_finite(high) & (low < high)
    return is_marked & (maps - low >= threshold * (high - low))


def _regions(masks: Any) -> Any:
    """Numbers each region by its first pixel, which spreads to its neighbours, diagonal ones too, until all have it.

    Pixels outside all regions get the number of pixels.
    """
    import tensorflow as tf

    pixels = int(np.prod(masks.shape[1:]))
    marked = tf.cast(masks, tf.float32)[..., None]
    start = tf.reshape(tf.range(pixels, 0, -1, dtype=tf.float32), (1, *masks.shape[1:], 1)) * marked

    def spread(seen: Any, _: Any) -> tuple[Any, Any]:
        return tf.nn.max_pool(seen, 3, 1, "SAME") * marked, seen

    found, _ = tf.while_loop(lambda a, b: tf.reduce_any(a != b), spread, (start, tf.zeros_like(start) - 1))
    return pixels - tf.cast(found[..., 0], tf.int32)


def _corners(masks: Any) -> Any:
    import tensorflow as tf

    rank, lower, upper = len(masks.shape) - 1, [], []
    for axis in range(1, rank + 1):
        line = tf.cast(tf.reduce_any(masks, axis=[n for n in range(1, rank + 1) if n != axis]), tf.int32)
        is_any = tf.reduce_max(line, axis=1)
        lower.append(tf.argmax(line, axis=1, output_type=tf.int32) * is_any)
        upper.append((masks.shape[axis] - tf.argmax(line[:, ::-1], axis=1, output_type=tf.int32)) * is_any)
    return tf.stack(lower + upper, axis=1)
