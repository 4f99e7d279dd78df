"""How official tensors become our variables: one `Target` per variable, and the usual changes of layout."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


def _same(array: np.ndarray) -> np.ndarray:
    return array


@dataclasses.dataclass(frozen=True)
class Target:
    """A variable of ours and the official tensors that it is made of.

    Attributes:
        variable: The Keras variable.
        names: Names of the official tensors, in the order in which `transform` takes them.
        transform: From official arrays to one array of the variable's shape.
    """

    variable: Any
    names: tuple[str, ...]
    transform: Callable[..., np.ndarray] = _same


def dense_kernel(array: np.ndarray) -> np.ndarray:
    """Turns `(out, in)` into `(in, out)`.

    Example:
        >>> dense_kernel(np.zeros((2, 5))).shape
        (5, 2)
    """
    return array.T


def conv_kernel(array: np.ndarray) -> np.ndarray:
    """Turns `(out, in, *kernel)` into `(*kernel, in, out)`.

    Example:
        >>> conv_kernel(np.zeros((8, 3, 7, 5))).shape
        (7, 5, 3, 8)
    """
    return np.moveaxis(array, (0, 1), (-1, -2))


def norm(name: str, layer: Any) -> list[Target]:
    """Lists the targets of a batch or layer normalisation called `name` in the official checkpoint."""
    targets = [Target(layer.gamma, (f"{name}.weight",)), Target(layer.beta, (f"{name}.bias",))]
    if hasattr(layer, "moving_mean"):
        targets.append(Target(layer.moving_mean, (f"{name}.running_mean",)))
        targets.append(Target(layer.moving_variance, (f"{name}.running_var",)))
    return targets
