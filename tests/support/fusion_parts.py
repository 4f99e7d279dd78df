"""What golden files and numpy twins call the parts of HEMF and CAME, and seeded weights in published layouts."""

import keras
import numpy as np

import seeded_weights  # noqa: E402
from paths import PARITY

LETTERS = {"hemf": {"l": "local", "g": "global"}, "came": {"l": "local", "g": "global", "ea": "external"}}
# Linear layers that the published code has as 1x1 convolutions.
ONE_BY_ONE = {"W_l", "W_g", "W_ea", "W", "W3", "Updim", "W_pre", "dowm_all", "dowm_all_no_pre"}
ONE_BY_ONE |= {"conv_s", "conv2", "conv3", "ca_l", "ca_g", "ca_ea"}


def golden(name):
    """The inputs, channels first, and the reference answers."""
    stored = dict(np.load(PARITY / "golden" / f"{name}.npz"))
    return seeded_weights.sample(tuple(stored.pop("input_shape")), int(stored.pop("input_seed"))), stored


def official_names(name):
    return [key for key, _ in seeded_weights.read_keys(PARITY / "keys" / f"{name}.tsv")]


def official_weights(name, seed):
    return seeded_weights.state_dict(PARITY / "keys" / f"{name}.tsv", seed)


def scaled_weights(model, seed):
    """A seeded checkpoint in the published names and layouts, for any size of the network."""
    arrays = {}
    for target in model.official_tensors():
        (name,), shape = target.names, tuple(target.variable.shape)
        arrays[name] = seeded_weights.tensor(name, official_shape(name, shape), seed)
    return arrays


def official_shape(name, shape):
    if len(shape) == 4:
        return (shape[2], 1, *shape[:2]) if "dwconv" in name or "lepe" in name else (shape[3], shape[2], *shape[:2])
    if len(shape) != 2 or "position" in name:
        return shape
    parts = set(name.removesuffix(".weight").split("."))
    one_by_one = parts & ONE_BY_ONE
    return (*shape[::-1], 1, 1) if one_by_one else shape[::-1]


def answers(model, images, kind):
    """The logits, and each part's mean over the places, from images with channels first."""
    named = {"logits": model.output}
    for i in range(1, 5):
        named[f"mean_fu{i}"] = model.explain_points[f"fusion_{i}"].tensor
        named |= {f"mean_fu{i}_{part}": tensor for part, tensor in PARTS[kind](model, i).items()}
    seen = keras.Model(model.input, named)(np.moveaxis(images, 1, -1), training=False)
    for i in range(1, 5):
        for letter, branch in LETTERS[kind].items():
            key = f"mean_fu{i}_ca_{letter}"
            seen[key] = channel_gate(model.get_layer(f"fusion_{i}_{branch}_channels"), seen[key])
    arrays = {name: np.asarray(values) for name, values in seen.items()}
    return {name: values.mean(axis=(1, 2)) if values.ndim == 4 else values for name, values in arrays.items()}


def assert_parity(seen, reference):
    assert set(seen) == set(reference)
    for name, expected in reference.items():
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(seen[name], expected, atol=1e-4 * scale, rtol=0, err_msg=name)


def channel_gate(layer, x):
    """What a channel attention multiplies by; the layer itself gives the product."""
    pooled = (keras.ops.mean(x, axis=(1, 2)), keras.ops.max(x, axis=(1, 2)))
    return keras.ops.sigmoid(sum(layer.excite(layer.squeeze(p)) for p in pooled))


def hemf_parts(model, i):
    """The tensors of fusion block i by part; for channel gates, what they work on."""

    def out(name, call=0):
        return model.get_layer(f"fusion_{i}_{name}")._inbound_nodes[call].output_tensors[-1]

    mixed = {"norm2": "join_norm", "W": "mix_norm"} if i == 1 else {"norm1": "join_norm", "W3": "mix_norm"}
    parts = {name: out(ours) for name, ours in mixed.items()}
    parts |= {"gelu": out("mix_gelu"), "norm3": out("all_norm"), "residual": out("mlp_project_norm")}
    parts["drop_path"] = parts["residual"]
    if i > 1:
        parts |= {"Updim": out("carry_relu"), "Avg": out("carry_pool")}
    for letter, branch in LETTERS["hemf"].items():
        parts[f"W_{letter}"] = out(f"map_{branch}_norm")
        parts[f"norm_{letter}"] = out(f"{branch}_norm", 1)
        parts[f"mea_{letter}"] = out(f"{branch}_memory")
        parts[f"sa_{letter}"] = out(f"{branch}_gate")
        parts[f"ca_{letter}"] = model.get_layer(f"fusion_{i}_{branch}_channels").input
    return parts


def came_parts(model, i):
    """The tensors of fusion block i by part; for channel gates, what they work on."""

    def out(name):
        return model.get_layer(f"fusion_{i}_{name}").output

    suffix = "_no_pre" if i == 1 else ""
    parts = {f"norm_all{suffix}": out("join_norm"), f"dowm_all{suffix}": out("mix_norm"), "gelu": out("mix_gelu")}
    parts |= {"norm_all_end": out("all_norm"), "irmlp": out("mlp_project_norm"), "drop_path": out("mlp_project_norm")}
    if i > 1:
        parts |= {"W_pre": out("carry_relu"), "Avg": out("carry_pool")}
    for letter, branch in LETTERS["came"].items():
        parts |= {f"W_{letter}": out(f"map_{branch}_norm"), f"sa_{letter}": out(f"{branch}_gate")}
        parts[f"ca_{letter}"] = model.get_layer(f"fusion_{i}_{branch}_channels").input
    return parts


PARTS = {"hemf": hemf_parts, "came": came_parts}
