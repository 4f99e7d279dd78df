"""A residual network and DualAttendMed in numpy, written from the specification, with torch's names and layouts."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def convolve(x, kernel, stride=1, padding=0):
    """`x` is (batch, channels, rows, columns), `kernel` (out, in, rows, columns)."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = sliding_window_view(x, kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("bihwyx,oiyx->bohw", windows, kernel, optimize=True)


def standardize(x, weights, name):
    scale = weights[f"{name}.weight"] / np.sqrt(weights[f"{name}.running_var"] + 1e-5)
    shift = weights[f"{name}.bias"] - weights[f"{name}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def block(x, weights, name, stride):
    """A basic or a bottleneck block; the first 3x3 convolution carries the stride."""
    count = 3 if f"{name}.conv3.weight" in weights else 2
    y, strided = x, 2 if count == 3 else 1
    for i in range(1, count + 1):
        kernel = weights[f"{name}.conv{i}.weight"]
        y = convolve(y, kernel, stride if i == strided else 1, kernel.shape[-1] // 2)
        y = standardize(y, weights, f"{name}.bn{i}")
        y = np.maximum(y, 0) if i < count else y
    if f"{name}.downsample.0.weight" in weights:
        x = convolve(x, weights[f"{name}.downsample.0.weight"], stride)
        x = standardize(x, weights, f"{name}.downsample.1")
    return np.maximum(x + y, 0)


def resnet(x, weights, blocks, strides, stem=("conv1", "bn1"), stages=("layer1", "layer2", "layer3", "layer4")):
    """Returns the feature map of each stage."""
    x = np.maximum(standardize(convolve(x, weights[f"{stem[0]}.weight"], 2, 3), weights, stem[1]), 0)
    x = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    x = sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(-2, -1))
    maps = []
    for stage, count, stride in zip(stages, blocks, strides, strict=False):
        for i in range(count):
            x = block(x, weights, f"{stage}.{i}", stride if i == 0 else 1)
        maps.append(x)
    return maps


def pool(features, attention, epsilon=1e-6):
    g = np.einsum("bmhw,bchw->bmc", attention, features).reshape(len(features), -1) / features[0, 0].size
    s = np.sign(g) * np.sqrt(np.abs(g) + epsilon)
    return s / np.linalg.norm(s, axis=1, keepdims=True)


def dualattendmed(x, weights, blocks, strides):
    """Returns logits, auxiliary logits, pooled feature and attention maps of the published network."""
    stages = [f"features.{i}" for i in (4, 5, 6, 7)]
    x = resnet(x, weights, blocks, strides, ("features.0", "features.1"), stages)[-1]
    squeeze, excite = (weights[f"channel_attention.fc{i}.weight"].T for i in (1, 2))
    gate = sum(np.maximum(p @ squeeze, 0) @ excite for p in (x.mean((2, 3)), x.max((2, 3))))
    x = x / (1 + np.exp(-gate))[:, :, None, None]
    maps = convolve(x, weights["attentions.weight"]) + weights["attentions.bias"][:, None, None]
    feature = pool(x, maps)
    logits = 100 * feature @ weights["fc.weight"].T
    even = 100 * pool(x, np.ones_like(maps)) @ weights["fc.weight"].T
    return {"logits": logits, "aux_logits": logits - even, "feature": feature, "attention": maps}
