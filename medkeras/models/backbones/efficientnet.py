"""EfficientNets from keras-hub as parts of a model: built by name and tapped at stages.

They pad as torch does, so that timm's weights fit and their maps lie where a residual network's lie.
"""

import dataclasses
import re
from collections.abc import Sequence

import keras
import numpy as np

from medkeras.checkpoints.layouts import Target, conv_kernel, norm
from medkeras.errors import InputError
from medkeras.models.backbones.hub import check_taps, keras_hub

# EfficientNet-B0, stage by stage; the others widen and deepen it.
KERNELS = (3, 3, 5, 3, 5, 5, 3)
REPEATS = (1, 2, 2, 3, 3, 4, 1)
FILTERS = (32, 16, 24, 40, 80, 112, 192, 320)  # Of the stem, then of each stage.
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class EfficientNetSize:
    """The size of an EfficientNet, as factors on EfficientNet-B0.

    Attributes:
        width: Factor on the filters, which are rounded to multiples of 8.
        depth: Factor on the blocks of each stage, rounded up.
    """

    width: float
    depth: float


EFFICIENTNETS = {
    "efficientnet_tiny": EfficientNetSize(0.5, 0.3),
    "efficientnet_b0": EfficientNetSize(1.0, 1.0),
    "efficientnet_b1": EfficientNetSize(1.0, 1.1),
    "efficientnet_b2": EfficientNetSize(1.1, 1.2),
    "efficientnet_b3": EfficientNetSize(1.2, 1.4),
    "efficientnet_b4": EfficientNetSize(1.4, 1.8),
    "efficientnet_b5": EfficientNetSize(1.6, 2.2),
}


def efficientnet(
    name: str, *, image_shape: Sequence[int], taps: Sequence[int] = (7,), model_name: str = "backbone"
) -> keras.Model:
    """Builds an EfficientNet without its top, with random weights.

    BatchNorm's moving statistics follow at 0.9, as in torch. No branch is dropped in training.

    Args:
        name: One of `EFFICIENTNETS`.
        image_shape: `(height, width, channels)` of what it sees, after normalisation.
        taps: Stages to return, counted from 1 to 7, in ascending order; stages after the last are left out. Their
            strides are 2, 4, 8, 16, 16, 32, 32.
        model_name: Name of the result.

    Returns:
        A model from images to a list of feature maps.

    Raises:
        ModuleNotFoundError: If keras-hub is not installed.
        ValueError: If an argument is out of range.

    Reference:
        Tan and Le, EfficientNet, arXiv 1905.11946.

    Example:
        >>> [m.shape[1:] for m in efficientnet("efficientnet_b4", image_shape=(224, 224, 3), taps=(3, 4)).outputs]
        [(28, 28, 56), (14, 14, 112)]
    """
    size = check_efficientnet(name)
    wanted = check_taps(taps, len(KERNELS))
    kept = wanted[-1]
    network = keras_hub().models.EfficientNetBackbone(
        stackwise_width_coefficients=[size.width] * kept,
        stackwise_depth_coefficients=[size.depth] * kept,
        stackwise_kernel_sizes=list(KERNELS[:kept]),
        stackwise_num_repeats=list(REPEATS[:kept]),
        stackwise_input_filters=list(FILTERS[:kept]),
        stackwise_output_filters=list(FILTERS[1 : kept + 1]),
        stackwise_expansion_ratios=list(EXPANSIONS[:kept]),
        stackwise_squeeze_and_excite_ratios=[0.25] * kept,
        stackwise_strides=list(STRIDES[:kept]),
        stackwise_block_types=["v1"] * kept,
        dropout=0.0,
        min_depth=None,
        use_depth_divisor_as_min_depth=True,
        cap_round_filter_decrease=True,
        batch_norm_momentum=MOMENTUM,
        input_shape=tuple(image_shape),
    )
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM  # keras-hub hands it to the stem alone.
    return keras.Model(network.input, [_end_of_stage(network, stage) for stage in wanted], name=model_name)


def check_efficientnet(name: str) -> EfficientNetSize:
    """Returns the size of the network of this name.

    Raises:
        ValueError: If there is none.

    Example:
        >>> check_efficientnet("efficientnet_b4").depth
        1.8
    """
    if name not in EFFICIENTNETS:
        raise InputError(f"`backbone` must be one of {', '.join(EFFICIENTNETS)}. Received: backbone={name!r}")
    return EFFICIENTNETS[name]


def _end_of_stage(network: keras.Model, stage: int) -> keras.KerasTensor:
    ends = (layer for layer in network.layers if re.fullmatch(rf"block{stage}[a-z]_(add|project_bn)", layer.name))
    return list(ends)[-1].output


def efficientnet_targets(backbone: keras.Model) -> list[Target]:
    """Lists, for each variable of a network from `efficientnet`, timm's tensor that it is made of.

    Args:
        backbone: The network.

    Example:
        >>> network = efficientnet("efficientnet_tiny", image_shape=(32, 32, 3), taps=(2,))
        >>> [t.names[0] for t in efficientnet_targets(network)][5:10:2]
        ['blocks.0.0.conv_dw.weight', 'blocks.0.0.bn1.bias', 'blocks.0.0.bn1.running_var']
    """
    targets = []
    for layer in backbone.layers:
        if layer.weights:
            targets += _targets(layer, _official_name(layer.name))
    return targets


def _official_name(layer: str) -> str:
    found = re.fullmatch(r"block(\d)([a-z])_(\w+)", layer)
    if found is None:
        return {"stem_conv": "conv_stem", "stem_bn": "bn1"}[layer]
    stage = int(found[1]) - 1
    parts = {"dwconv": "conv_dw", "se_reduce": "se.conv_reduce", "se_expand": "se.conv_expand"}
    if EXPANSIONS[stage] == 1:
        parts |= {"dwconv_bn": "bn1", "project": "conv_pw", "project_bn": "bn2"}
    else:
        parts |= {"expand_conv": "conv_pw", "expand_bn": "bn1", "dwconv_bn": "bn2"}
        parts |= {"project": "conv_pwl", "project_bn": "bn3"}
    return f"blocks.{stage}.{ord(found[2]) - ord('a')}.{parts[found[3]]}"


def _targets(layer: keras.layers.Layer, name: str) -> list[Target]:
    if isinstance(layer, keras.layers.BatchNormalization):
        return norm(name, layer)
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    bias = [Target(layer.bias, (f"{name}.bias",))] if layer.use_bias else []
    return [Target(layer.kernel, (f"{name}.weight",), _depthwise if is_depthwise else conv_kernel), *bias]


def _depthwise(array: np.ndarray) -> np.ndarray:
    """Turns `(channels, 1, rows, columns)` into `(rows, columns, channels, 1)`."""
    return np.moveaxis(array, (0, 1), (-2, -1))
