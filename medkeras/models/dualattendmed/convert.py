"""The published DualAttendMed checkpoint's tensors and the variables that they fill."""

from typing import Any

from medkeras.checkpoints.layouts import Target, conv_kernel, dense_kernel
from medkeras.models.backbones import resnet_targets

# Positions in the official Sequential: convolution 0, norm 1, ReLU 2, pooling 3, stages 4 to 7.
STEM = ("features.0", "features.1")
STAGES = ("features.4", "features.5", "features.6", "features.7")


def official_tensors(model: Any) -> list[Target]:
    """Lists, for each variable of a DualAttendMed as published, the official tensor that it is made of."""
    gate, maps = model.get_layer("channel_attention"), model.get_layer("attention")
    return [
        *resnet_targets(model.backbone, stem=STEM, stages=STAGES),
        Target(gate.squeeze.kernel, ("channel_attention.fc1.weight",), dense_kernel),
        Target(gate.excite.kernel, ("channel_attention.fc2.weight",), dense_kernel),
        Target(maps.kernel, ("attentions.weight",), conv_kernel),
        Target(maps.bias, ("attentions.bias",)),
        Target(model.get_layer("logits").kernel, ("fc.weight",), dense_kernel),
    ]
