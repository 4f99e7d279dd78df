"""An EfficientNet in numpy, written from the article, with timm's names and layouts."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from resnet_twin import convolve, standardize


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def depthwise(x, kernel, stride):
    """`kernel` is (channels, 1, rows, columns)."""
    edge = kernel.shape[-1]
    x = np.pad(x, [(0, 0), (0, 0), (edge // 2,) * 2, (edge // 2,) * 2])
    windows = sliding_window_view(x, (edge, edge), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("bchwyx,cyx->bchw", windows, kernel[:, 0], optimize=True)


def excite(x, weights, name):
    """Weighs each channel by a gate from the means of all."""
    y = x.mean((2, 3), keepdims=True)
    for part, activation in (("reduce", silu), ("expand", sigmoid)):
        y = convolve(y, weights[f"{name}.se.conv_{part}.weight"])
        y = activation(y + weights[f"{name}.se.conv_{part}.bias"][:, None, None])
    return x * y


def block(x, weights, name, stride):
    y, norms = x, iter((1, 2, 3))
    if f"{name}.conv_pwl.weight" in weights:
        y = silu(standardize(convolve(y, weights[f"{name}.conv_pw.weight"]), weights, f"{name}.bn{next(norms)}"))
        last = "conv_pwl"
    else:
        last = "conv_pw"
    y = depthwise(y, weights[f"{name}.conv_dw.weight"], stride)
    y = silu(standardize(y, weights, f"{name}.bn{next(norms)}"))
    y = convolve(excite(y, weights, name), weights[f"{name}.{last}.weight"])
    y = standardize(y, weights, f"{name}.bn{next(norms)}")
    return x + y if x.shape == y.shape else y


def efficientnet(x, weights, strides=(1, 2, 2, 2, 1, 2, 1)):
    """Returns the feature map of each stage that there are weights of."""
    x = silu(standardize(convolve(x, weights["conv_stem.weight"], 2, 1), weights, "bn1"))
    maps = []
    for stage, stride in enumerate(strides):
        count = len({name.split(".")[2] for name in weights if name.startswith(f"blocks.{stage}.")})
        for i in range(count):
            x = block(x, weights, f"blocks.{stage}.{i}", stride if i == 0 else 1)
        if count:
            maps.append(x)
    return maps
