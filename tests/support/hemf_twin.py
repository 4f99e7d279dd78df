"""HEMF in numpy, written from the specification, with torch's names and layouts: (batch, channels, rows, columns)."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import erf, expit
from scipy.special import softmax as shares


def convolve(x, weights, name, stride=1, padding=0):
    """A convolution of all channels, by one product of matrices."""
    kernel = weights[f"{name}.weight"]
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = sliding_window_view(x, kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    windows = windows.transpose(0, 2, 3, 1, 4, 5)
    y = windows.reshape(-1, kernel[0].size) @ kernel.reshape(len(kernel), -1).T
    return y.reshape(*windows.shape[:3], -1).transpose(0, 3, 1, 2) + bias(weights, name)


def depthwise(x, weights, name, padding):
    """A convolution that keeps the channels apart, one place of the kernel after the other."""
    kernel = weights[f"{name}.weight"][:, 0]
    rows, columns = x.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    places = np.ndindex(*kernel.shape[1:])
    y = sum(x[:, :, i : i + rows, j : j + columns] * kernel[:, i, j, None, None] for i, j in places)
    return y + bias(weights, name)


def linear(x, weights, name):
    """A linear layer or a 1x1 convolution."""
    kernel = weights[f"{name}.weight"].reshape(len(weights[f"{name}.weight"]), -1)
    y = kernel @ x.reshape(*x.shape[:2], -1)
    return y.reshape(len(x), len(kernel), *x.shape[2:]) + bias(weights, name)


def bias(weights, name):
    return weights[f"{name}.bias"][:, None, None] if f"{name}.bias" in weights else np.float32(0)


def channel_norm(x, weights, name, epsilon=1e-6):
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + np.float32(epsilon))
    return x * weights[f"{name}.weight"][:, None, None] + bias(weights, name)


def batch_norm(x, weights, name):
    scale = weights[f"{name}.weight"] / np.sqrt(weights[f"{name}.running_var"] + np.float32(1e-5))
    return (x - weights[f"{name}.running_mean"][:, None, None]) * scale[:, None, None] + bias(weights, name)


def mapped(x, weights, name):
    return batch_norm(linear(x, weights, f"{name}.conv"), weights, f"{name}.bn")


def gelu(x):
    return x * np.float32(0.5) * (1 + erf(x * np.float32(0.5**0.5)))


def halved(x):
    batch, channels, rows, columns = x.shape
    return x.reshape(batch, channels, rows // 2, 2, columns // 2, 2).mean((3, 5))


def count(weights, prefix):
    """How many numbered parts there are whose names begin so."""
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})


def shrink(x, weights, name, stage):
    if stage == 0:
        return channel_norm(convolve(x, weights, f"{name}.0.0", 4), weights, f"{name}.0.1")
    return convolve(channel_norm(x, weights, f"{name}.{stage}.0"), weights, f"{name}.{stage}.1", 2)


def local_block(x, weights, name):
    y = channel_norm(convolve(x, weights, f"{name}.conv", padding=1), weights, f"{name}.norm")
    return x + gelu(linear(depthwise(y, weights, f"{name}.dwconv", 1), weights, f"{name}.pwconv"))


def rotated(x):
    """Turns neighbouring pairs of (batch, heads, size, rows, columns) by the raster index."""
    size, rows, columns = x.shape[2:]
    speeds = (10_000.0 ** (-np.arange(size // 2) / (size // 2 - 1))).astype("float32")
    phase = (np.arange(rows * columns, dtype="float32") * speeds[:, None]).reshape(-1, rows, columns)
    even, odd, sine, cosine = x[:, :, 0::2], x[:, :, 1::2], np.sin(phase), np.cos(phase)
    return np.stack([even * cosine - odd * sine, odd * cosine + even * sine], axis=3).reshape(x.shape)


def along_rows(query, key, value):
    """Attends from each column (x) to those of its row (z); `(batch, heads, size, rows, columns)`."""
    heads, columns = query.shape[1], query.shape[4]
    places = np.arange(columns)
    decay = np.log(1 - 2.0 ** (-1 - 3 * np.arange(heads) / heads)).astype("float32")
    logits = np.einsum("bndyx,bndyz->bnyxz", query, key, optimize=True)
    logits = logits + decay[:, None, None, None] * np.abs(places[:, None] - places)
    return np.einsum("bnyxz,bndyz->bndyx", shares(logits, axis=-1), value, optimize=True).astype("float32")


def retention(x, weights, name, heads):
    batch, channels, rows, columns = x.shape
    query, key, value = (linear(x, weights, f"{name}.{letter}_proj") for letter in "qkv")
    local = depthwise(value, weights, f"{name}.lepe.conv", 2)
    key = key * np.float32((channels // heads) ** -0.5)
    query, key, value = (part.reshape(batch, heads, -1, rows, columns) for part in (query, key, value))
    query, key = rotated(query), rotated(key)
    seen = along_rows(query, key, value)
    seen = along_rows(*(part.swapaxes(3, 4) for part in (query, key, seen))).swapaxes(3, 4)
    return linear(seen.reshape(x.shape) + local, weights, f"{name}.out_proj")


def global_stage(x, weights, name, heads):
    for layer in range(count(weights, f"{name}.VRC.")):
        x = channel_norm(x + retention(x, weights, f"{name}.VRC.{layer}", heads), weights, f"{name}.norm1")
        x = channel_norm(x + linear(x, weights, f"{name}.FC.{layer}"), weights, f"{name}.norm2")
    return x


def external_attention(x, weights, name, heads):
    tokens = x.reshape(len(x), heads, -1, x[0, 0].size)
    maps = shares(weights[f"{name}.mk.weight"] @ tokens, axis=3)
    return (weights[f"{name}.mv.weight"] @ (maps / maps.sum(2, keepdims=True))).reshape(x.shape)


def spatial_gate(x, weights, name):
    padding = weights[f"{name}.conv1.weight"].shape[-1] // 2
    pooled = np.stack([x.mean(1), x.max(1)], axis=1)
    return expit(convolve(pooled, weights, f"{name}.conv1", padding=padding))


def channel_gate(x, weights, name):
    pooled = [x.mean((2, 3), keepdims=True), x.max((2, 3), keepdims=True)]
    hidden = [np.maximum(linear(p, weights, f"{name}.fc1"), 0) for p in pooled]
    return expit(sum(linear(h, weights, f"{name}.fc2") for h in hidden))


def squeezed_mlp(x, weights, name):
    squeezed = mapped(x, weights, f"{name}.conv_s")
    mixed = gelu(convolve(squeezed, weights, f"{name}.conv1.conv", padding=1)) + squeezed
    expanded = gelu(linear(batch_norm(mixed, weights, f"{name}.bn1"), weights, f"{name}.conv2.conv"))
    return mapped(expanded, weights, f"{name}.conv3")


def fusion(local, wide, previous, weights, name, heads):
    """Returns the fused map and the parts by their names in the golden file."""
    parts = {f"W_{letter}": mapped(z, weights, f"{name}.W_{letter}") for letter, z in (("l", local), ("g", wide))}
    joined, norm, mix = [parts["W_l"], parts["W_g"]], "norm2", "W"
    if previous is not None:
        parts["Updim"] = np.maximum(mapped(previous, weights, f"{name}.Updim"), 0)
        parts["Avg"] = halved(parts["Updim"])
        joined, norm, mix = [parts["Avg"], *joined], "norm1", "W3"
    parts[norm] = channel_norm(np.concatenate(joined, axis=1), weights, f"{name}.{norm}")
    parts[mix] = mapped(parts[norm], weights, f"{name}.{mix}")
    parts["gelu"] = gelu(parts[mix])
    attended = {}
    for letter, z in (("l", local), ("g", wide)):
        z = channel_norm(z, weights, f"{name}.norm_{letter}")
        parts[f"mea_{letter}"] = external_attention(z, weights, f"{name}.mea_{letter}", heads)
        z = parts[f"norm_{letter}"] = channel_norm(z * parts[f"mea_{letter}"], weights, f"{name}.norm_{letter}")
        parts[f"sa_{letter}"] = spatial_gate(z, weights, f"{name}.sa_{letter}")
        z = z * parts[f"sa_{letter}"]
        parts[f"ca_{letter}"] = channel_gate(z, weights, f"{name}.ca_{letter}")
        attended[letter] = z * parts[f"ca_{letter}"]
    z = np.concatenate([attended["g"], attended["l"], parts["gelu"]], axis=1)
    parts["norm3"] = channel_norm(z, weights, f"{name}.norm3")
    parts["residual"] = parts["drop_path"] = squeezed_mlp(parts["norm3"], weights, f"{name}.residual")
    return parts["residual"] + parts.get("Avg", 0), parts


def classify(x, weights):
    x = channel_norm(x.mean((2, 3), keepdims=True), weights, "conv_norm")
    return linear(x, weights, "conv_head")[:, :, 0, 0]


def hemf(x, weights, heads=8):
    """Returns the logits, and the mean over the places of each part of the fusion blocks, named as in the file."""
    local = wide = x
    fused, seen = None, {}
    for i in range(4):
        local, wide = shrink(local, weights, "downsample_layers", i), shrink(wide, weights, "downsample_layers2", i)
        for block in range(count(weights, f"stages.{i}.")):
            local = local_block(local, weights, f"stages.{i}.{block}")
        wide = global_stage(wide, weights, f"stages2.{i}", heads)
        fused, parts = fusion(local, wide, fused, weights, f"fu{i + 1}", heads)
        seen |= {f"mean_fu{i + 1}_{part}": values.mean((2, 3)) for part, values in parts.items()}
        seen[f"mean_fu{i + 1}"] = fused.mean((2, 3))
    return seen | {"logits": classify(fused, weights)}
