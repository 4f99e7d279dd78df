"""CAME in numpy, written from the specification, with torch's names and layouts: (batch, channels, rows, columns)."""

import numpy as np

from hemf_twin import (
    batch_norm,
    channel_gate,
    channel_norm,
    classify,
    convolve,
    count,
    depthwise,
    external_attention,
    gelu,
    halved,
    linear,
    mapped,
    shares,
    shrink,
    spatial_gate,
)

WINDOW, SHIFT = 7, 3


def local_block(x, weights, name):
    y = channel_norm(depthwise(x, weights, f"{name}.dwconv", 1), weights, f"{name}.norm")
    return x + linear(gelu(convolve(y, weights, f"{name}.conv", padding=1)), weights, f"{name}.pwconv")


def windows(x):
    """Cuts `(batch, rows, columns, channels)` into `(batch, row, column, 49, channels)`, row and column of windows."""
    batch, rows, columns, channels = x.shape
    x = x.reshape(batch, rows // WINDOW, WINDOW, columns // WINDOW, WINDOW, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(*x.shape[:2], columns // WINDOW, WINDOW**2, channels)


def whole(x):
    """Undoes `windows`."""
    batch, down, right, _, channels = x.shape
    x = x.reshape(batch, down, right, WINDOW, WINDOW, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, down * WINDOW, right * WINDOW, channels)


def regions(length):
    """The region of each place of an axis: cut at the last 7 and at the last 3."""
    return np.searchsorted([length - WINDOW, length - SHIFT], np.arange(length), side="right")


def position_bias(table):
    """What relative positions add, `(heads, 49, 49)`: row (dy + 6) * 13 + dx + 6 of the table, query minus key."""
    y, x = np.divmod(np.arange(WINDOW**2), WINDOW)
    rows = (y[:, None] - y + WINDOW - 1) * (2 * WINDOW - 1) + x[:, None] - x + WINDOW - 1
    return table[rows].transpose(2, 0, 1)


def window_attention(x, weights, name, shifted):
    """`x` is channels first; so is what is returned."""
    table = weights[f"{name}.relative_position_bias_table"]
    heads, (rows, columns) = table.shape[1], x.shape[2:]
    x = np.roll(x, (-SHIFT, -SHIFT), axis=(2, 3)) if shifted else x
    parts = windows(linear(x, weights, f"{name}.qkv").transpose(0, 2, 3, 1))
    parts = parts.reshape(*parts.shape[:-1], 3, heads, -1).transpose(4, 0, 1, 2, 5, 3, 6)
    query, key, value = parts
    logits = query * np.float32(query.shape[-1] ** -0.5) @ key.swapaxes(-1, -2) + position_bias(table)
    if shifted:
        region = windows((regions(rows)[:, None] * 3 + regions(columns))[None, :, :, None])[..., 0]
        apart = region[..., :, None] != region[..., None, :]
        logits = logits - np.float32(100) * apart[:, :, :, None]
    seen = (shares(logits, axis=-1) @ value).swapaxes(3, 4)
    seen = whole(seen.reshape(*seen.shape[:4], -1)).transpose(0, 3, 1, 2)
    seen = np.roll(seen, (SHIFT, SHIFT), axis=(2, 3)) if shifted else seen
    return linear(seen, weights, f"{name}.proj")


def window_block(x, weights, name, *, shifted, scrambled):
    tokens = x.transpose(0, 2, 3, 1)  # (batch, rows, columns, channels), as the published code keeps them
    y = np.ascontiguousarray(tokens).reshape(x.shape) if scrambled else x
    y = channel_norm(convolve(y, weights, f"{name}.conv", padding=1), weights, f"{name}.ln")
    y = np.ascontiguousarray(y).reshape(tokens.shape).transpose(0, 3, 1, 2) if scrambled else y
    y = window_attention(y, weights, f"{name}.attn", shifted)
    return x + gelu(linear(y, weights, f"{name}.fc1"))


def shrink_tokens(x, weights, stage):
    if stage == 0:
        return channel_norm(convolve(x, weights, "patch_embed.proj", 4), weights, "patch_embed.norm", 1e-5)
    name = f"basic_layers.{stage}.downsample"
    x = np.concatenate([x[:, :, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))], axis=1)
    return linear(channel_norm(x, weights, f"{name}.norm", 1e-5), weights, f"{name}.reduction")


def external_stage(x, weights, stage):
    name = f"ea.{stage}" if stage else "EA_1"
    x = convolve(x, weights, f"{name}.0", 2 if stage else 4)
    return x + external_attention(channel_norm(x, weights, f"{name}.1.ln"), weights, f"{name}.1", 1)


def inverted_mlp(x, weights, name):
    x = gelu(convolve(x, weights, f"{name}.conv1.conv", padding=1)) + x
    x = gelu(linear(batch_norm(x, weights, f"{name}.bn1"), weights, f"{name}.conv2.conv"))
    return mapped(x, weights, f"{name}.conv3")


def fusion(branches, previous, weights, name):
    """Returns the fused map and the parts by their names in the golden file; `branches` by l, g and ea."""
    parts = {f"W_{letter}": mapped(z, weights, f"{name}.W_{letter}") for letter, z in branches.items()}
    joined, suffix = list(parts.values()), "_no_pre"
    if previous is not None:
        parts["W_pre"] = np.maximum(mapped(previous, weights, f"{name}.W_pre"), 0)
        parts["Avg"] = halved(parts["W_pre"])
        joined, suffix = [*joined, parts["Avg"]], ""
    z = parts[f"norm_all{suffix}"] = channel_norm(np.concatenate(joined, axis=1), weights, f"{name}.norm_all{suffix}")
    z = parts[f"dowm_all{suffix}"] = mapped(z, weights, f"{name}.dowm_all{suffix}")
    parts["gelu"] = gelu(z)
    attended = []
    for letter, z in branches.items():
        parts[f"sa_{letter}"] = spatial_gate(z, weights, f"{name}.sa_{letter}")
        z = z * parts[f"sa_{letter}"]
        parts[f"ca_{letter}"] = channel_gate(z, weights, f"{name}.ca_{letter}")
        attended.append(z * parts[f"ca_{letter}"])
    z = np.concatenate([*attended, parts["gelu"]], axis=1)
    parts["norm_all_end"] = channel_norm(z, weights, f"{name}.norm_all_end")
    parts["irmlp"] = parts["drop_path"] = inverted_mlp(parts["norm_all_end"], weights, f"{name}.irmlp")
    return parts["irmlp"] + parts.get("Avg", 0), parts


def came(x, weights, *, as_published=True):
    """Returns the logits, and the mean over the places of each part of the fusion blocks, named as in the file."""
    branches, fused, seen = dict.fromkeys(("l", "g", "ea"), x), None, {}
    for i in range(4):
        local, wide = shrink(branches["l"], weights, "downsample_layers", i), shrink_tokens(branches["g"], weights, i)
        for block in range(count(weights, f"stages.{i}.")):
            local = local_block(local, weights, f"stages.{i}.{block}")
            name = f"basic_layers.{i}.blocks.{block}"
            wide = window_block(wide, weights, name, shifted=block % 2 == 1, scrambled=as_published)
        branches = {"l": local, "g": wide, "ea": external_stage(branches["ea"], weights, i)}
        fused, parts = fusion(branches, fused, weights, f"fu{i + 1}")
        seen |= {f"mean_fu{i + 1}_{part}": values.mean((2, 3)) for part, values in parts.items()}
        seen[f"mean_fu{i + 1}"] = fused.mean((2, 3))
    return seen | {"logits": classify(fused, weights)}
