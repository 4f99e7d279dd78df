"""Residual networks from keras-hub as parts of a model: built by name and tapped at stages.

They are ResNets "v1.5": the 3x3 convolution carries the stride, as in torchvision and timm, whose weights fit.
"""

import dataclasses
import re
from collections.abc import Sequence

import keras

from medkeras.checkpoints.layouts import Target, conv_kernel, norm
from medkeras.errors import InputError
from medkeras.models.backbones.hub import check_taps, keras_hub


@dataclasses.dataclass(frozen=True)
class ResNetSize:
    """The size of a residual network.

    Attributes:
        blocks: Blocks of each stage.
        bottleneck: Blocks of three convolutions instead of two; their output has four times the filters.
        filters: Filters of each stage; keras-hub wants 64 in the first.
    """

    blocks: tuple[int, ...]
    bottleneck: bool = False
    filters: tuple[int, ...] = (64, 128, 256, 512)

    @property
    def block_type(self) -> str:
        """The name of its blocks in keras-hub."""
        return "bottleneck_block" if self.bottleneck else "basic_block"


RESNETS = {
    "resnet_tiny": ResNetSize((1, 1, 1), filters=(64, 64, 128)),
    "resnet10": ResNetSize((1, 1, 1, 1)),
    "resnet18": ResNetSize((2, 2, 2, 2)),
    "resnet34": ResNetSize((3, 4, 6, 3)),
    "resnet50": ResNetSize((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetSize((3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetSize((3, 8, 36, 3), bottleneck=True),
}


def resnet(
    name: str,
    *,
    image_shape: Sequence[int],
    last_stride: int = 2,
    taps: Sequence[int] | None = None,
    model_name: str = "backbone",
) -> keras.Model:
    """Builds a residual network, with random weights.

    Args:
        name: One of `RESNETS`.
        image_shape: `(height, width, channels)` of what it sees, after normalisation.
        last_stride: Stride of the last stage, 1 or 2; with 1, its map has twice the rows and columns.
        taps: Stages to return, counted from 1, in ascending order; stages after the last are left out. By
            default the last stage.
        model_name: Name of the result.

    Returns:
        A model from images to one feature map, or to a list of them if `taps` are given.

    Raises:
        ModuleNotFoundError: If keras-hub is not installed.
        ValueError: If an argument is out of range.

    Example:
        >>> backbone = resnet("resnet_tiny", image_shape=(32, 48, 3), last_stride=1)
        >>> backbone.output_shape
        (None, 4, 6, 128)
    """
    size = check_resnet(name)
    if last_stride not in (1, 2):
        raise InputError(f"`last_stride` must be 1 or 2. Received: last_stride={last_stride}")
    stages = len(size.blocks)
    wanted = check_taps([stages] if taps is None else taps, stages)
    kept = wanted[-1]
    network = keras_hub().models.ResNetBackbone(
        input_conv_filters=[size.filters[0]],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=list(size.filters[:kept]),
        stackwise_num_blocks=list(size.blocks[:kept]),
        stackwise_num_strides=[1, *[2] * (stages - 2), last_stride][:kept],
        block_type=size.block_type,
        image_shape=tuple(image_shape),
        data_format="channels_last",
    )
    maps = [network.pyramid_outputs[f"P{stage + 1}"] for stage in wanted]
    return keras.Model(network.input, maps[0] if taps is None else maps, name=model_name)


def check_resnet(name: str) -> ResNetSize:
    """Returns the size of the network of this name.

    Raises:
        ValueError: If there is none.

    Example:
        >>> check_resnet("resnet152").blocks
        (3, 8, 36, 3)
    """
    if name not in RESNETS:
        raise InputError(f"`backbone` must be one of {', '.join(RESNETS)}. Received: backbone={name!r}")
    return RESNETS[name]


def resnet_stride(name: str, *, last_stride: int = 2) -> int:
    """Returns the pixels of the image per row of the last feature map.

    Example:
        >>> resnet_stride("resnet152", last_stride=1)
        16
    """
    return 4 * 2 ** (len(check_resnet(name).blocks) - 2) * last_stride


_PARTS = {"0_conv": "downsample.0", "0_bn": "downsample.1"} | {
    f"{i}_{ours}": f"{theirs}{i}" for i in (1, 2, 3) for ours, theirs in (("conv", "conv"), ("bn", "bn"))
}


def _official_name(layer: str, stem: Sequence[str], stages: Sequence[str]) -> str:
    found = re.fullmatch(r"stack(\d+)_block(\d+)_(\w+)", layer)
    if found is None:
        return stem[("conv1_conv", "conv1_bn").index(layer)]
    return f"{stages[int(found[1])]}.{found[2]}.{_PARTS[found[3]]}"


def resnet_targets(
    backbone: keras.Model,
    *,
    stem: Sequence[str] = ("conv1", "bn1"),
    stages: Sequence[str] = ("layer1", "layer2", "layer3", "layer4"),
) -> list[Target]:
    """Lists, for each variable of a network from `resnet`, the official tensor that it is made of.

    Args:
        backbone: The network.
        stem: Official names of the first convolution and its norm; torchvision's and timm's by default.
        stages: Official names of the stages.

    Example:
        >>> [t.names[0] for t in resnet_targets(resnet("resnet_tiny", image_shape=(32, 32, 3)))][5]
        'layer1.0.conv1.weight'
    """
    targets = []
    for layer in backbone.layers:
        if layer.weights:
            name = _official_name(layer.name, stem, stages)
            is_conv = isinstance(layer, keras.layers.Conv2D)
            targets += [Target(layer.kernel, (f"{name}.weight",), conv_kernel)] if is_conv else norm(name, layer)
    return targets
