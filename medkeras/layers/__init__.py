"""Reusable Keras layers: attention, sampling and blocks for images and volumes."""

from medkeras.layers.aligned_resizing import AlignedResizing
from medkeras.layers.always_on import AlwaysOn
from medkeras.layers.attention_crop import (
    attention_box,
    attention_crop,
    attention_drop,
    attention_indices,
    crop_to_boxes,
)
from medkeras.layers.attention_views import AttentionCrop, AttentionDrop
from medkeras.layers.bilinear_attention import BilinearAttentionPooling
from medkeras.layers.channel_attention import ChannelAttention
from medkeras.layers.channel_dense import ChannelDense
from medkeras.layers.cross_attention import CrossAttention
from medkeras.layers.drop_path import DropPath
from medkeras.layers.external_attention import ExternalAttention
from medkeras.layers.glimpse import Glimpse
from medkeras.layers.retention import AxialRetention, retention_map
from medkeras.layers.sampling import average_grid, interpolation_matrix, resize_aligned, sample_axes
from medkeras.layers.self_attention import SelfAttention
from medkeras.layers.spatial_gate import SpatialGate
from medkeras.layers.steady_max import steady_max
from medkeras.layers.steady_norms import SteadyBatchNorm, SteadyLayerNorm
from medkeras.layers.token_positions import TokenPositions, resize_positions
from medkeras.layers.volumes import GroupedConv, HalvingMaxPool, conv, global_average
from medkeras.layers.window_attention import WindowAttention

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
