"""Terms on attention maps: how alike or how apart the maps of one image are."""

from typing import Any

from keras import ops

DIVERSITY_MARGIN = 0.1


def attention_alignment(maps: Any, target: Any = None) -> Any:
    """Returns the mean squared distance of attention maps from a target map.

    Args:
        maps: `(batch, *grid, maps)`.
        target: `(batch, *grid)`, for instance a lesion mask on the grid; by default the mean of the maps of the
            image, through which the gradient flows too, as published.

    Returns:
        A scalar, float32.

    Reference:
        DualAttendMed, L_att.

    Example:
        >>> maps = ops.convert_to_tensor([[[[1.0, 3.0]]]])
        >>> float(attention_alignment(maps)), float(attention_alignment(maps, [[[1.0]]]))
        (1.0, 2.0)
    """
    maps = ops.cast(maps, "float32")
    target = ops.mean(maps, axis=-1) if target is None else ops.cast(target, "float32")
    return ops.mean(ops.square(maps - target[..., None]))


def attention_diversity(maps: Any, *, published: bool = False) -> Any:
    """Returns how much pairs of attention maps of one image overlap, beyond a margin of 0.1.

    Args:
        maps: `(batch, *grid, maps)`.
        published: Whether to take the published sign, `relu(0.1 - overlap)`, which is 0 for identical maps and
            largest for disjoint ones; the default is `relu(overlap - 0.1)`, which keeps maps apart.

    Returns:
        A scalar, float32: the mean over images and pairs; 0 with a single map.

    Reference:
        DualAttendMed, L_div; the overlap of two maps is the sum over the grid of their squared product.

    Example:
        >>> same, apart = [[[[1.0, 1.0]]]], [[[[1.0, 0.0]]]]
        >>> [round(float(attention_diversity(maps)), 2) for maps in (same, apart)]
        [0.9, 0.0]
    """
    maps = ops.cast(maps, "float32")
    count = maps.shape[-1]
    if count < 2:
        return ops.zeros((), "float32")
    squares = ops.square(ops.reshape(maps, (ops.shape(maps)[0], -1, count)))
    overlaps = ops.matmul(ops.transpose(squares, (0, 2, 1)), squares)
    over = DIVERSITY_MARGIN - overlaps if published else overlaps - DIVERSITY_MARGIN
    # Each pair stands twice beside the diagonal.
    pairs = ops.relu(over) * (1.0 - ops.eye(count))
    return ops.mean(ops.sum(pairs, axis=(1, 2))) / (count * (count - 1))
