"""Explain points: the named tensors of a model from which every explanation works.

A model declares, for each tensor worth looking at, the rule that folds it back to an image grid. No user ever
names a layer, and no explanation guesses one.
"""

import dataclasses
from typing import Any

from keras import ops


@dataclasses.dataclass(frozen=True)
class Grid:
    """The tensor is a feature map `(batch, *grid, channels)` that covers the whole image.

    Attributes:
        stride: Pixels from the centre of one cell to that of the next, the first lying on the first pixel, as in
            networks that pad as torchvision's ResNet does; None where the cells cover the image evenly. The
            difference is half a cell: enough to miss a small lesion.
    """

    stride: int | None = None

    def fold(self, values: Any) -> Any:
        """Returns `values` unchanged: they already lie on a grid."""
        return values


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tensor is a sequence `(batch, prefix + prod(grid), channels)` in row-major order.

    Attributes:
        grid: Rows and columns (and, in 3D, depth first) of the token grid.
        prefix: Leading tokens without a place in the image, such as a class token.
    """

    grid: tuple[int, ...]
    prefix: int = 0

    def fold(self, values: Any) -> Any:
        """Returns the tokens as `(batch, *grid, channels)`."""
        return ops.reshape(values[:, self.prefix :], (-1, *self.grid, values.shape[-1]))


@dataclasses.dataclass(frozen=True)
class Positions:
    """The tensor holds places `(batch, count, rank)` in [-1, 1], -1 and 1 being the first and last pixel centres.

    Attributes:
        extents: Edges of the window around each place, as shares of the image edges, one per axis.
    """

    extents: tuple[float, ...]

    def fold(self, values: Any) -> Any:
        """Returns the positions unchanged: they are coordinates, not a map."""
        return values


Rule = Grid | Tokens | Positions


@dataclasses.dataclass(frozen=True)
class ExplainPoint:
    """A tensor of a functional model and the rule that gives it a place in the image.

    Attributes:
        tensor: Symbolic tensor of the model's graph. `features` is the output of an operation that is called
            once, so that `medkeras.explain.class_map` can cut the graph there.
        rule: `Grid`, `Tokens` or `Positions`.
        description: One phrase for figures and help.
    """

    tensor: Any
    rule: Rule
    description: str
