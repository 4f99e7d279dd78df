"""ViT in numpy from official weights, channels first; written from the specification, one step after the other."""

import math

import numpy as np
from scipy.special import erf, softmax

import seeded_weights

LAYER = "vit.encoder.layer"


def narrow_weights(seed, *, units=8, depth=3, hidden=12, patch=8, edge=4, classes=5):
    """A seeded checkpoint in the official layout, for any size of the network; `edge` is that of its position grid."""
    shapes = {
        "vit.embeddings.cls_token": (1, 1, units),
        "vit.embeddings.position_embeddings": (1, 1 + edge**2, units),
        "vit.embeddings.patch_embeddings.projection": (units, 3, patch, patch),
        "vit.layernorm": (units,),
        "classifier": (classes, units),
    }
    for i in range(depth):
        for part in ("query", "key", "value"):
            shapes[f"{LAYER}.{i}.attention.attention.{part}"] = (units, units)
        shapes[f"{LAYER}.{i}.attention.output.dense"] = (units, units)
        shapes[f"{LAYER}.{i}.intermediate.dense"] = (hidden, units)
        shapes[f"{LAYER}.{i}.output.dense"] = (units, hidden)
        shapes |= {f"{LAYER}.{i}.layernorm_{when}": (units,) for when in ("before", "after")}
    arrays = {}
    for name, shape in shapes.items():
        if name.startswith("vit.embeddings.") and "projection" not in name:
            arrays[name] = seeded_weights.tensor(name, shape, seed)
        else:
            for kind, size in (("weight", shape), ("bias", shape[:1])):
                arrays[f"{name}.{kind}"] = seeded_weights.tensor(f"{name}.{kind}", size, seed)
    return arrays


def vit(images, weights, *, heads, offsets=None):
    """Logits, tokens after each block, and attention of each block; `offsets` are added to the attention.

    Args:
        images: `(batch, 3, height, width)`, edges multiples of the patch.
        weights: Official names and arrays.
        heads: Number of heads.
        offsets: `(batch, blocks, heads, tokens, tokens)`.
    """

    def dense(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def by_head(x):
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    x = embedded(images, weights)
    depth = sum(name.endswith("layernorm_before.bias") for name in weights)
    tokens, attention = [x], []
    for i in range(depth):
        y = norm(x, f"{LAYER}.{i}.layernorm_before")
        q, k, v = (by_head(dense(y, f"{LAYER}.{i}.attention.attention.{n}")) for n in ("query", "key", "value"))
        maps = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1]), axis=-1)
        maps = maps if offsets is None else maps + offsets[:, i]
        read = (maps @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + dense(read, f"{LAYER}.{i}.attention.output.dense")
        y = dense(norm(x, f"{LAYER}.{i}.layernorm_after"), f"{LAYER}.{i}.intermediate.dense")
        x = x + dense(y * (1 + erf(y / math.sqrt(2))) / 2, f"{LAYER}.{i}.output.dense")
        tokens.append(x)
        attention.append(maps)
    logits = dense(norm(x, "vit.layernorm")[:, 0], "classifier")
    return {"logits": logits, "tokens": tokens, "attention": np.stack(attention, axis=1)}


def embedded(images, weights):
    kernel = weights["vit.embeddings.patch_embeddings.projection.weight"]
    patch = kernel.shape[-1]
    count, channels, height, width = images.shape
    rows, columns = height // patch, width // patch
    cut = images.reshape(count, channels, rows, patch, columns, patch).transpose(0, 2, 4, 1, 3, 5)
    x = cut.reshape(count, rows * columns, -1) @ kernel.reshape(len(kernel), -1).T
    x = x + weights["vit.embeddings.patch_embeddings.projection.bias"]
    first = np.repeat(weights["vit.embeddings.cls_token"], count, axis=0)
    return np.concatenate([first, x], axis=1) + positions(weights, rows, columns)


def positions(weights, rows, columns):
    table = weights["vit.embeddings.position_embeddings"][0]
    edge = math.isqrt(len(table) - 1)
    if (rows, columns) == (edge, edge):
        return table
    places = bicubic(table[1:].reshape(edge, edge, -1), rows, columns)
    return np.concatenate([table[:1], places.reshape(rows * columns, -1)])


def bicubic(grid, rows, columns):
    """One place at a time, by the four neighbours on each axis, those outside being the nearest inside."""

    def weight(d, a=-0.75):
        d = abs(d)
        if d <= 1:
            return ((a + 2) * d - (a + 3)) * d * d + 1
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0

    result = np.zeros((rows, columns, grid.shape[-1]))
    for r, s in np.ndindex(rows, columns):
        y, x = ((i + 0.5) * n / m - 0.5 for i, n, m in zip((r, s), grid.shape, (rows, columns), strict=False))
        for j in range(math.floor(y) - 1, math.floor(y) + 3):
            for k in range(math.floor(x) - 1, math.floor(x) + 3):
                value = grid[np.clip(j, 0, len(grid) - 1), np.clip(k, 0, grid.shape[1] - 1)]
                result[r, s] += weight(y - j) * weight(x - k) * value
    return result


def rollout(attention, *, published=False):
    """The whole product of matrices, then the row, or the column, of the class token: `(batch, patches)`."""
    mixed = attention.mean(axis=2) + np.eye(attention.shape[-1])
    mixed = mixed / mixed.sum(axis=-1, keepdims=True)
    product = np.eye(attention.shape[-1])
    for i in range(attention.shape[1]):
        product = product @ mixed[:, i] if published else mixed[:, i] @ product
    return 1 - product[:, 1:, 0] if published else product[:, 0, 1:]


def relevance(images, weights, targets, *, heads, step=1e-4):
    """As Chefer et al. write it, one image at a time, with the gradient by differences of the logit."""
    maps = []
    for image, target in zip(images.astype("float64"), targets, strict=True):
        attention = vit(image[None], weights, heads=heads)["attention"][0]
        gradient = np.zeros(attention.size)
        for start in range(0, attention.size, 512):  # so many differences at a time
            index = np.arange(start, min(start + 512, attention.size))
            offsets = np.zeros((2, len(index), attention.size))
            offsets[:, np.arange(len(index)), index] = [[step], [-step]]
            repeated = np.repeat(image[None], 2 * len(index), axis=0)
            offsets = offsets.reshape(-1, *attention.shape)
            up, down = np.split(vit(repeated, weights, heads=heads, offsets=offsets)["logits"][:, target], 2)
            gradient[index] = (up - down) / (2 * step)
        total = np.eye(attention.shape[-1])
        for block, slope in zip(attention, gradient.reshape(attention.shape), strict=True):
            total = total + np.maximum(block * slope, 0).mean(axis=0) @ total
        maps.append(total[0, 1:])
    return np.stack(maps)
