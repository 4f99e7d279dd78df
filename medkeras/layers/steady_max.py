"""A maximum whose gradient always has a place to go to."""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops


def steady_max(x: Any, axes: Sequence[int]) -> Any:
    """Returns the maximum over some axes, which stay with length 1; the gradient goes to the first place that has it.

    The usual gradient is shared by all places that equal the maximum. Where a compiler works out the values again, with
    other roundings, no place does, and the gradient is 0 / 0.

    Args:
        x: Tensor; the axes that are reduced have a known length.
        axes: Neighbouring axes, ascending.

    Example:
        >>> ops.convert_to_numpy(steady_max(ops.array([[[1.0, 5.0], [3.0, 2.0]]]), (1,))).tolist()
        [[[3.0, 5.0]]]
    """
    axis, places = axes[0], math.prod(x.shape[a] for a in axes)
    rest = x.shape[axes[-1] + 1 :]

    @ops.custom_gradient
    def largest(x: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            (upstream,) = arguments or (upstream,)
            one_axis = ops.reshape(x, (*ops.shape(x)[:axis], places, *rest))
            first = ops.argmax(one_axis, axis=axis)
            chosen = ops.one_hot(first, places, axis=axis, dtype=x.dtype)
            return ops.reshape(chosen, ops.shape(x)) * upstream

        return ops.max(x, axis=tuple(axes), keepdims=True), gradient

    return largest(x)
