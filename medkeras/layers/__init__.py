"""Reusable Keras layers: attention, sampling and blocks for images and volumes."""

from medkeras.layers.glimpse import Glimpse
from medkeras.layers.sampling import average_grid, interpolation_matrix, sample_axes
from medkeras.layers.volumes import GroupedConv, HalvingMaxPool, conv, global_average

__all__ = [
    "Glimpse",
    "GroupedConv",
    "HalvingMaxPool",
    "average_grid",
    "conv",
    "global_average",
    "interpolation_matrix",
    "sample_axes",
]
