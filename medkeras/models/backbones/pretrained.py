"""Pretrained weights of the networks from keras-hub: from files of torchvision and timm, and from presets."""

import dataclasses
import os
import pathlib
import re
import types
from collections.abc import Callable, Mapping

import keras
import numpy as np

from medkeras import checkpoints
from medkeras.checkpoints.files import TORCH_SUFFIXES
from medkeras.checkpoints.layouts import Target
from medkeras.errors import InputError
from medkeras.models.backbones.efficientnet import efficientnet_targets
from medkeras.models.backbones.hub import keras_hub
from medkeras.models.backbones.resnet import resnet_targets

FILE_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)


@dataclasses.dataclass(frozen=True)
class Family:
    """How the weights of one kind of network are named.

    Attributes:
        targets: Lists the official tensors that a network is made of.
        stage: Regular expression for the stage of one of our layers.
        official_stage: The same for an official tensor.
        first: Number of the first stage in official names less that in ours.
        top: Regular expression for official tensors, and our layers, behind the last stage.
    """

    targets: Callable[[keras.Model], list[Target]]
    stage: str
    official_stage: str
    first: int
    top: str


RESNET = Family(resnet_targets, r"stack(\d+)_", r"layer(\d+)\.", 1, r"fc\.")
EFFICIENTNET = Family(
    efficientnet_targets, r"block(\d)[a-z]_", r"blocks\.(\d)\.", -1, r"(classifier|conv_head|bn2)\.|top_"
)


def load_pretrained(backbone: keras.Model, source: str | os.PathLike | Mapping[str, np.ndarray]) -> None:
    """Fills a network from `resnet` or `efficientnet` with pretrained weights; all of them or none.

    The classifier of a file is left aside, and so are stages that the network was built without.

    Args:
        backbone: The network.
        source: A torchvision (residual networks) or timm checkpoint (`.safetensors`, `.pt`, `.pth`, `.bin`, or a
            mapping of arrays), or the name of a keras-hub preset such as `"resnet_152_imagenet"`,
            `"efficientnet_b4_ra2_imagenet"` or `"hf://timm/resnet34.a1_in1k"`, which is downloaded now, or the
            folder of one.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If a torch file is given and torch is not installed.
        ValueError: If the weights are those of another network, or the preset cannot be had.

    Example:
        >>> from medkeras.models.backbones import resnet
        >>> load_pretrained(resnet("resnet_tiny", image_shape=(32, 32, 3)), {"fc.bias": np.zeros(2)})
        Traceback (most recent call last):
        ...
        medkeras.InputError: The checkpoint lacks 45 tensors, the first being conv1.weight.
    """
    family = _family(backbone)
    if isinstance(source, Mapping) or pathlib.Path(source).suffix in FILE_SUFFIXES:
        targets = family.targets(backbone)
        arrays = checkpoints.read_arrays(source)
        last = _last_stage(family, backbone)
        kept = {name: array for name, array in arrays.items() if not _is_left_aside(family, name, last)}
        network = types.SimpleNamespace(official_tensors=lambda: targets, is_unused=lambda name: False)
        checkpoints.load(network, kept)
    else:
        _copy_preset(family, backbone, str(source))


def _family(backbone: keras.Model) -> Family:
    return EFFICIENTNET if any(layer.name == "stem_conv" for layer in backbone.layers) else RESNET


def _last_stage(family: Family, backbone: keras.Model) -> int:
    numbers = [re.match(family.stage, layer.name) for layer in backbone.layers]
    return max(int(found[1]) for found in numbers if found)


def _is_left_aside(family: Family, name: str, last: int) -> bool:
    found = re.match(family.official_stage, name)
    return bool(re.match(family.top, name)) or bool(found and int(found[1]) > last + family.first)


def _copy_preset(family: Family, backbone: keras.Model, name: str) -> None:
    try:
        preset = keras_hub().models.Backbone.from_preset(name)
    except Exception as error:  # what is raised depends on where the preset was looked for
        reason = str(error).split(". ")[0] or type(error).__name__
        raise InputError(
            f"Pretrained weights must be a file ending in {', '.join(FILE_SUFFIXES)}, or a keras-hub preset that can "
            f"be had ({reason}). Received: {name!r}"
        ) from error
    last = _last_stage(family, backbone)
    theirs, ours = (_weighted_layers(family, network, last) for network in (preset, backbone))
    shapes = [{key: [w.shape for w in layer.weights] for key, layer in layers.items()} for layers in (theirs, ours)]
    if shapes[0] != shapes[1]:
        wrong = sorted(key for key in {*theirs, *ours} if shapes[0].get(key) != shapes[1].get(key))
        raise InputError(
            f"The preset is another network: {len(wrong)} layers differ, the first being {wrong[0]}. Received: {name!r}"
        )
    for key, layer in ours.items():
        layer.set_weights(theirs[key].get_weights())


def _weighted_layers(family: Family, network: keras.Model, last: int) -> dict[str, keras.layers.Layer]:
    """Returns the layers with weights by name, without those of later stages and of the top."""
    found = {layer.name: layer for layer in network.layers if layer.weights}
    stages = {key: re.match(family.stage, key) for key in found}
    return {
        key: layer
        for key, layer in found.items()
        if not re.match(family.top, key) and (stages[key] is None or int(stages[key][1]) <= last)
    }
