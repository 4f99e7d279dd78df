"""Residual networks from keras-hub as parts of a model: built by name, tapped at stages, filled from files or presets.

They are ResNets "v1.5": the 3x3 convolution carries the stride, as in torchvision and timm, whose weights fit.
"""

import dataclasses
import os
import pathlib
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from medkeras import checkpoints
from medkeras.checkpoints.files import TORCH_SUFFIXES
from medkeras.checkpoints.layouts import Target, conv_kernel, norm

FILE_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)


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
) -> keras.Model:
    """Builds a residual network, with random weights.

    Args:
        name: One of `RESNETS`.
        image_shape: `(height, width, channels)` of what it sees, after normalisation.
        last_stride: Stride of the last stage, 1 or 2; with 1, its map has twice the rows and columns.
        taps: Stages to return, counted from 1, in ascending order; stages after the last are left out. By
            default the last stage.

    Returns:
        A model named `backbone`, from images to one feature map, or to a list of them if `taps` are given.

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
        raise ValueError(f"`last_stride` must be 1 or 2. Received: last_stride={last_stride}")
    stages = len(size.blocks)
    wanted = [stages] if taps is None else list(taps)
    if not wanted or wanted != sorted(set(wanted)) or not 1 <= wanted[0] <= wanted[-1] <= stages:
        raise ValueError(f"`taps` must be ascending stages from 1 to {stages}. Received: taps={taps}")
    kept = wanted[-1]
    network = _keras_hub().models.ResNetBackbone(
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
    return keras.Model(network.input, maps[0] if taps is None else maps, name="backbone")


def check_resnet(name: str) -> ResNetSize:
    """Returns the size of the network of this name.

    Raises:
        ValueError: If there is none.

    Example:
        >>> check_resnet("resnet152").blocks
        (3, 8, 36, 3)
    """
    if name not in RESNETS:
        raise ValueError(f"`backbone` must be one of {', '.join(RESNETS)}. Received: backbone={name!r}")
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


def load_pretrained(backbone: keras.Model, source: str | os.PathLike | Mapping[str, np.ndarray]) -> None:
    """Fills a network from `resnet` with pretrained weights; all of them or none.

    The classifier of a file is left aside, and so are stages that the network was built without.

    Args:
        backbone: The network.
        source: A torchvision or timm checkpoint (`.safetensors`, `.pt`, `.pth`, `.bin`, or a mapping of arrays),
            or the name of a keras-hub preset such as `"resnet_152_imagenet"` or `"hf://timm/resnet34.a1_in1k"`,
            which is downloaded now, or the folder of one.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If a torch file is given and torch is not installed.
        ValueError: If the weights are those of another network, or the preset cannot be had.

    Example:
        >>> load_pretrained(resnet("resnet_tiny", image_shape=(32, 32, 3)), {"fc.bias": np.zeros(2)})
        Traceback (most recent call last):
        ...
        ValueError: The checkpoint lacks 45 tensors, the first being conv1.weight.
    """
    if isinstance(source, Mapping) or pathlib.Path(source).suffix in FILE_SUFFIXES:
        targets = resnet_targets(backbone)
        arrays = checkpoints.read_arrays(source)
        kept = {name: array for name, array in arrays.items() if not _is_left_aside(name, backbone)}
        network = types.SimpleNamespace(official_tensors=lambda: targets, is_unused=lambda name: False)
        checkpoints.load(network, kept)
    else:
        _copy_preset(backbone, str(source))


def _stages(backbone: keras.Model) -> int:
    numbers = [re.match(r"stack(\d+)_", layer.name) for layer in backbone.layers]
    return 1 + max(int(found[1]) for found in numbers if found)


def _is_left_aside(name: str, backbone: keras.Model) -> bool:
    found = re.match(r"layer(\d)\.", name)
    return name.startswith("fc.") or bool(found and int(found[1]) > _stages(backbone))


def _copy_preset(backbone: keras.Model, name: str) -> None:
    try:
        preset = _keras_hub().models.Backbone.from_preset(name)
    except Exception as error:  # what is raised depends on where the preset was looked for
        reason = str(error).split(". ")[0] or type(error).__name__
        raise ValueError(
            f"Pretrained weights must be a file ending in {', '.join(FILE_SUFFIXES)}, or a keras-hub preset that can "
            f"be had ({reason}). Received: {name!r}"
        ) from error
    theirs = _weighted_layers(preset, _stages(backbone))
    ours = _weighted_layers(backbone, _stages(backbone))
    shapes = [{key: [w.shape for w in layer.weights] for key, layer in layers.items()} for layers in (theirs, ours)]
    if shapes[0] != shapes[1]:
        wrong = sorted(key for key in {*theirs, *ours} if shapes[0].get(key) != shapes[1].get(key))
        raise ValueError(
            f"The preset is another network: {len(wrong)} layers differ, the first being {wrong[0]}. Received: {name!r}"
        )
    for key, layer in ours.items():
        layer.set_weights(theirs[key].get_weights())


def _weighted_layers(network: keras.Model, stages: int) -> dict[str, keras.layers.Layer]:
    """Returns the layers with weights by name, without those of later stages."""
    found = {layer.name: layer for layer in network.layers if layer.weights}
    return {key: layer for key, layer in found.items() if not re.match(rf"stack[{stages}-9]_", key)}


def _keras_hub() -> Any:
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("ResNet backbones need keras-hub: pip install 'medkeras[backbones]'") from error
    return keras_hub
