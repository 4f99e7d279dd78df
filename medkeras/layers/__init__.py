"""Reusable Keras layers: attention, sampling and blocks for images and volumes."""

from medkeras.layers.attention_crop import (
    attention_box,
    attention_crop,
    attention_drop,
    attention_indices,
    crop_to_boxes,
)
from medkeras.layers.bilinear_attention import BilinearAttentionPooling
from medkeras.layers.channel_attention import ChannelAttention
from medkeras.layers.glimpse import Glimpse
from medkeras.layers.sampling import average_grid, interpolation_matrix, resize_aligned, sample_axes
from medkeras.layers.volumes import GroupedConv, HalvingMaxPool, conv, global_average

__all__ = [
    "BilinearAttentionPooling",
    "ChannelAttention",
    "Glimpse",
    "GroupedConv",
    "HalvingMaxPool",
    "attention_box",
    "attention_crop",
    "attention_drop",
    "attention_indices",
    "average_grid",
    "conv",
    "crop_to_boxes",
    "global_average",
    "interpolation_matrix",
    "resize_aligned",
    "sample_axes",
]
