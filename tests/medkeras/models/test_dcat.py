"""DCAT: two networks that read each other; what each option does, and that neither branch is the first by nature."""

import keras
import numpy as np
import pytest
from keras import ops

from medkeras.models import DCAT, backbones
from medkeras.models.dcat.fusion import Fusion, exchange

RNG = np.random.default_rng(0)
NETWORKS = ("efficientnet_tiny", "resnet_tiny")


def tiny(input_shape=(48, 64, 3), *, num_classes=3, **options):
    return DCAT(input_shape, num_classes=num_classes, **{"backbones": NETWORKS, "units": 8, "hidden": 16} | options)


def scattered(model, seed=0):
    """The model with weights of which none is 0 or equal to another."""
    rng = np.random.default_rng(seed)
    for w in model.weights:
        if w.dtype == "float32":
            w.assign(w + rng.uniform(0.0, 0.2, w.shape))
    return model


def images(model, count=2):
    return RNG.uniform(size=(count, *model.image_shape)).astype("float32")


def swapped(path):
    """The name of a weight in the model whose branches are exchanged."""
    return path.replace("first", "?").replace("second", "first").replace("?", "second")


def halves_swapped(array, axis):
    return np.concatenate(np.split(array, 2, axis)[::-1], axis)


@pytest.mark.parametrize("options", [{}, {"fusion": "sum", "gate": "channel", "hierarchy": "topdown", "heads": 2}])
def test_exchanging_the_branches_and_their_weights_changes_nothing(options):
    model = scattered(tiny(**options))
    twin = tiny(**options | {"backbones": NETWORKS[::-1]})
    values = {weight.path: np.asarray(weight) for weight in model.weights}
    for weight in twin.weights:
        value = values[swapped(weight.path)]
        is_joined = "fuse" in weight.path and "conv" in weight.path and options.get("fusion") != "sum"
        if is_joined or ("gate_" in weight.path and "kernel" in weight.path):
            value = halves_swapped(value, value.ndim - 2)
        weight.assign(value)
    x = images(model)
    np.testing.assert_allclose(twin(x), model(x), rtol=1e-4, atol=1e-4)
    reads, twins = (m.tensors("first_looks_1", "second_looks_1")(x) for m in (model, twin))
    np.testing.assert_allclose(reads["first_looks_1"], twins["second_looks_1"], atol=1e-5)
    assert np.abs(np.asarray(reads["first_looks_1"]) - reads["second_looks_1"]).max() > 1e-3


def exchanged(**options):
    setting = Fusion(8, 2, "other", "none", "concat", 4)
    setting = type(setting)(**vars(setting) | options)
    maps = {branch: keras.Input((3, 4, 8), name=branch) for branch in ("first", "second")}
    joined, attention = exchange(maps, setting, name="1")
    return scattered(keras.Model(maps, [joined, attention]))


@pytest.mark.parametrize("keys", ["other", "both"])
def test_the_rows_of_attention_sum_to_one(keys):
    model = exchanged(keys=keys)
    maps = {branch: RNG.normal(size=(2, 3, 4, 8)) for branch in ("first", "second")}
    for attention in model(maps)[1].values():
        assert attention.shape == (2, 2, 12, 12)
        np.testing.assert_allclose(ops.sum(attention, axis=-1), 1, atol=1e-5)


def test_gates_at_zero_are_the_identity_and_at_one_no_gates():
    model = exchanged(gate="channel")
    maps = {branch: RNG.normal(size=(2, 3, 4, 8)).astype("float32") for branch in ("first", "second")}
    ungated = exchanged()
    for branch in maps:
        ungated.get_layer(f"{branch}_reads_1").set_weights(model.get_layer(f"{branch}_reads_1").get_weights())
    open_ = ungated(maps)[0]
    for bias, expected in ((-1e4, maps), (1e4, open_)):
        for branch in maps:
            layer = model.get_layer(f"{branch}_gate_1")
            layer.set_weights([np.zeros(layer.kernel.shape), np.full(layer.bias.shape, bias)])
        for branch, joined in model(maps)[0].items():
            np.testing.assert_allclose(joined, expected[branch], atol=1e-5)


@pytest.mark.parametrize("keys", ["other", "both"])
def test_a_branch_reads_the_other_and_of_itself_only_if_asked(keys):
    """What is added to a branch, where its attention is even so that its queries do not count."""
    model = exchanged(keys=keys)
    layer = model.get_layer("first_reads_1")
    layer.query.kernel.assign(ops.zeros_like(layer.query.kernel))
    layer.query.bias.assign(ops.zeros_like(layer.query.bias))
    maps = {branch: RNG.normal(size=(1, 3, 4, 8)).astype("float32") for branch in ("first", "second")}
    added = [
        np.asarray(model({"first": first, "second": maps["second"]})[0]["first"]) - first
        for first in (maps["first"], maps["first"] ** 2)
    ]
    assert (np.abs(added[1] - added[0]).max() > 1e-3) == (keys == "both")


@pytest.mark.parametrize(
    ("options", "grid", "channels", "stride"),
    [
        ({}, (5, 7), 16, 8),
        ({"pool_level1": 2}, (3, 4), 16, 16),
        ({"hierarchy": "topdown"}, (3, 4), 8, 16),
        ({"hierarchy": "topdown", "pool_level1": 2}, (3, 4), 8, 16),
    ],
)
def test_levels_and_options_have_their_grids(options, grid, channels, stride):
    """An image whose edges are no multiples of 16: halves are rounded up everywhere."""
    model = tiny((40, 56, 1), **options)
    points = model.explain_points
    assert points["features"].tensor.shape[1:] == (*grid, channels)
    assert points["features"].rule.stride == stride
    fine = tuple(-(-edge // (16 if "pool_level1" in options else 8)) for edge in (40, 56))
    assert points["first_looks_1"].tensor.shape[1:] == (*fine, np.prod(fine))
    assert points["second_looks_2"].tensor.shape[1:] == (3, 4, 12)
    seen = model.tensors("attention", "first_looks_2", "logits")(images(model))
    np.testing.assert_allclose(ops.sum(seen["attention"], axis=(1, 2, 3)), 1, atol=0.15)  # Repeated cells are cut off.
    np.testing.assert_allclose(ops.mean(ops.sum(seen["first_looks_2"], axis=(1, 2)), axis=-1), 1, atol=1e-5)
    assert np.isfinite(seen["logits"]).all()


def test_what_is_classified_are_the_means_of_both_levels():
    model = scattered(tiny((64, 64, 3), dropout=0.0))
    seen = model.tensors("fused_1", "fused_2", "features", "logits")(images(model))
    means = np.concatenate([ops.mean(seen[f"fused_{level}"], axis=(1, 2)) for level in "12"], axis=-1)
    np.testing.assert_allclose(ops.mean(seen["features"], axis=(1, 2)), means, rtol=1e-4)
    hidden = np.maximum(means @ model.get_layer("hidden").kernel + model.get_layer("hidden").bias, 0)
    layer = model.get_layer("logits")
    np.testing.assert_allclose(hidden @ layer.kernel + layer.bias, seen["logits"], rtol=1e-3)


def test_each_network_has_its_own_preprocessing():
    model = tiny(normalization="half", second_normalization="imagenet")
    first, second = (model.get_layer(name) for name in ("normalization", "second_normalization"))
    np.testing.assert_allclose(first(np.full((1, 1, 1, 3), 0.5)), 0, atol=1e-6)
    np.testing.assert_allclose(second(np.array([[[[0.485, 0.456, 0.406]]]])), 0, atol=1e-6)
    twin = DCAT.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    x = images(model)
    np.testing.assert_allclose(twin(x), model(x), atol=1e-6)
    same = tiny(normalization="half")
    same.set_weights(model.get_weights())
    assert np.abs(np.asarray(same(x)) - model(x)).max() > 1e-4


def weights_of(network):
    targets = backbones.efficientnet_targets if network.name.startswith("first") else backbones.resnet_targets
    arrays = {}
    for target in targets(network):
        value = np.asarray(target.variable)
        order = (2, 3, 0, 1) if "conv_dw" in target.names[0] else (3, 2, 0, 1)
        arrays[target.names[0]] = value.transpose(order) if value.ndim == 4 else value
    return arrays


def test_both_networks_are_filled_or_none():
    model, other = tiny(), scattered(tiny(), seed=1)
    first, second = (weights_of(network) for network in other.backbones)
    before = model.get_weights()
    with pytest.raises(ValueError, match="lacks 1 tensors, the first being conv1.weight"):
        model.load_backbone([first, {k: v for k, v in second.items() if k != "conv1.weight"}])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model.load_backbone([first, second])
    x = images(model)
    for ours, theirs in zip(model.backbones, other.backbones, strict=True):
        for a, b in zip(ours(x), theirs(x), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(FileNotFoundError, match="gone.pth"):
        model.load_backbone(",gone.pth")
    with pytest.raises(ValueError, match="with a comma between. Received: 'resnet34.pth'"):
        model.load_backbone("resnet34.pth")


def test_the_full_size_builds_with_the_published_taps():
    with keras.StatelessScope(initialize_variables=False):
        model = DCAT((224, 224, 3), num_classes=4)
    shapes = [[m[1:] for m in network.output_shape] for network in model.backbones]
    assert shapes == [[(28, 28, 56), (14, 14, 112)], [(28, 28, 128), (14, 14, 256)]]
    assert model.explain_points["features"].tensor.shape[1:] == (28, 28, 512)
    assert [layer.rate for layer in model.stochastic] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backbones": ("resnet34",)}, r"backbones=\('resnet34',\)"),
        ({"backbones": ("resnet34", "vgg16")}, r"backbones=\('resnet34', 'vgg16'\)"),
        ({"heads": 3}, "units=8, heads=3"),
        ({"gate": "sum"}, "gate='sum'"),
        ({"keys": None}, "keys=None"),
        ({"fusion": "max"}, "fusion='max'"),
        ({"hierarchy": "flat"}, "hierarchy='flat'"),
        ({"pool_level1": 3}, "pool_level1=3"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"hidden": 0}, "hidden=0"),
        ({"input_shape": (31, 64, 3)}, r"input_shape=\(31, 64, 3\)"),
        ({"input_shape": (64, 64, 64, 1)}, r"input_shape=\(64, 64, 64, 1\)"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match="Received: " + text):
        tiny(**options)
