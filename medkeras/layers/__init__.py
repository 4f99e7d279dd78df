"""Reusable Keras layers: attention, sampling and blocks for images and volumes."""

from medkeras.layers.aligned_resizing import AlignedResizing
from medkeras.layers.always_on import AlwaysOn
from medkeras.layers.attention.bilinear import BilinearAttentionPooling
from medkeras.layers.attention.channel import ChannelAttention
from medkeras.layers.attention.crop_drop import (
    attention_box,
    attention_crop,
    attention_drop,
    attention_indices,
    crop_to_boxes,
)
from medkeras.layers.attention.crop_drop_layers import AttentionCrop, AttentionDrop
from medkeras.layers.attention.cross import CrossAttention
from medkeras.layers.attention.external import ExternalAttention
from medkeras.layers.attention.retention import AxialRetention, retention_map
from medkeras.layers.attention.self_attention import SelfAttention
from medkeras.layers.attention.spatial_gate import SpatialGate
from medkeras.layers.attention.window import WindowAttention
from medkeras.layers.channel_dense import ChannelDense
from medkeras.layers.drop_path import DropPath
from medkeras.layers.glimpse import Glimpse
from medkeras.layers.sampling import average_grid, interpolation_matrix, resize_aligned, sample_axes
from medkeras.layers.steady_max import steady_max
from medkeras.layers.steady_norms import SteadyBatchNorm, SteadyLayerNorm
from medkeras.layers.token_positions import TokenPositions, resize_positions
from medkeras.layers.volumes import GroupedConv, HalvingMaxPool, conv, global_average

__all__ = [
    "AlignedResizing",
    "AlwaysOn",
    "AttentionCrop",
    "AttentionDrop",
    "AxialRetention",
    "BilinearAttentionPooling",
    "ChannelAttention",
    "ChannelDense",
    "CrossAttention",
    "DropPath",
    "ExternalAttention",
    "Glimpse",
    "GroupedConv",
    "HalvingMaxPool",
    "SelfAttention",
    "SpatialGate",
    "SteadyBatchNorm",
    "SteadyLayerNorm",
    "TokenPositions",
    "WindowAttention",
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
    "resize_positions",
    "retention_map",
    "sample_axes",
    "steady_max",
]
