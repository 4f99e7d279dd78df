"""Preprocessing steps in a TensorFlow graph, for the files that a served model decodes itself."""

from collections.abc import Callable
from typing import Any


def graph_step(name: str, options: dict[str, Any]) -> Callable[..., Any] | None:
    """Returns a preprocessing step as a function of a graph, or None where it has no such form.

    `square` and `centre-crop` have one, which move pixels and change none, and `percentile`. What goes by the places
    of the image's contents, such as `clahe`, has none that equals the step of the training to the last level.

    Args:
        name: Name of the step.
        options: Its options, all of them.

    Returns:
        From levels, int32 `(H, W, C)`, and the highest possible level, 255 by default, to levels; or None.

    Example:
        >>> import tensorflow as tf
        >>> tuple(graph_step("square", {"fill": "zero"})(tf.ones((1, 3, 1), tf.int32)).shape)
        (3, 3, 1)
        >>> graph_step("clahe", {"clip": 2.0, "tiles": 8}) is None
        True
    """
    step = _STEPS.get(name)
    return step and (lambda levels, highest=255: step(levels, highest, **options))


def _square(levels: Any, _: Any, *, fill: str) -> Any:
    import tensorflow as tf

    sizes = tf.shape(levels)[:2]
    missing = tf.reduce_max(sizes) - sizes
    if fill == "zero":
        margins = tf.stack([missing // 2, missing - missing // 2], axis=1)
        return tf.pad(levels, tf.pad(margins, [[0, 1], [0, 0]]))
    for axis in (0, 1):
        places = tf.range(tf.reduce_max(sizes)) - missing[axis] // 2
        levels = tf.gather(levels, tf.clip_by_value(places, 0, sizes[axis] - 1), axis=axis)
    return levels


def _centre_crop(levels: Any, _: Any, *, share: float, form: str) -> Any:
    import tensorflow as tf

    sizes = tf.shape(levels)[:2]
    sides = sizes if form == "own" else tf.fill([2], tf.reduce_min(sizes))
    kept = tf.cast(tf.round(tf.constant(share, tf.float64) * tf.cast(sides, tf.float64)), tf.int32)
    kept = tf.maximum(kept, 1)
    start = (sizes - kept) // 2
    return levels[start[0] : start[0] + kept[0], start[1] : start[1] + kept[1]]


def _percentile(levels: Any, highest: Any, *, low: float, high: float) -> Any:
    import tensorflow as tf

    black, white = (_quantile(levels, share / 100) for share in (low, high))
    highest = tf.cast(highest, tf.float64)
    shares = tf.clip_by_value((tf.cast(levels, tf.float64) - black) / (white - black), 0, 1)
    return tf.cond(black == white, lambda: levels, lambda: tf.cast(tf.round(shares * highest), tf.int32))


def _quantile(levels: Any, share: float) -> Any:
    """Returns what numpy's `quantile` does, in its order of sums, from a histogram: sorting would cost more."""
    import tensorflow as tf

    up_to = tf.cumsum(tf.math.bincount(tf.reshape(levels, [-1])))
    place = tf.cast(tf.size(levels) - 1, tf.float64) * share
    ranks = tf.cast(tf.stack([tf.floor(place), tf.math.ceil(place)]), tf.int32)
    below, above = tf.unstack(tf.cast(tf.searchsorted(up_to, ranks, side="right"), tf.float64))
    rest = place - tf.floor(place)
    return tf.where(rest < 0.5, below + (above - below) * rest, above - (above - below) * (1 - rest))


_STEPS: dict[str, Callable[..., Any]] = {"square": _square, "centre-crop": _centre_crop, "percentile": _percentile}
