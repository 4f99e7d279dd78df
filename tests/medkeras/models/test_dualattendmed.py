"""DualAttendMed: parity with the published network, what training sees, and the cases where attention is missing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import medkeras
import resnet_twin
import seeded_weights  # noqa: E402
from harness import run_layer_test
from medkeras.models import backbones
from medkeras.models.dualattendmed.layers import CounterfactualAttention
from paths import PARITY

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def tiny(shape=(32, 32, 3), **options):
    options = {"num_classes": 3, "attention_maps": 4, **options}
    return medkeras.models.create("dualattendmed_tiny", input_shape=shape, **options)


def assert_parity(actual, reference):
    np.testing.assert_allclose(actual, reference, atol=1e-4 * max(1.0, np.abs(reference).max()), rtol=0)


def test_the_published_network_gives_the_reference_answers():
    golden = np.load(PARITY / "golden" / "dualattendmed.npz")
    model = medkeras.models.create(
        "dualattendmed", input_shape=(128, 128, 3), num_classes=5, as_published=True, normalization="none"
    )
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 59_061_344
    medkeras.checkpoints.load(model, seeded_weights.state_dict(PARITY / "keys" / "dualattendmed.tsv", 1))
    inputs = seeded_weights.sample(tuple(golden["input_shape"]), int(golden["input_seed"]))
    seen = model.internals()(np.moveaxis(inputs, 1, -1), training=False)
    assert_parity(seen["logits"], golden["logits"])
    assert_parity(seen["aux_logits"], golden["aux_logits"])
    assert_parity(np.asarray(seen["feature"])[:, ::64], golden["feature"])
    mean = np.asarray(seen["attention"]).mean(-1)[:, None]
    assert_parity(mean, golden["mean_attention"])
    # Features are near 0.02 and the maps near 0.2: the bound above alone would be loose for them.
    for ours, reference in (
        (np.asarray(seen["feature"])[:, ::64], golden["feature"]),
        (mean, golden["mean_attention"]),
    ):
        np.testing.assert_allclose(ours, reference, atol=1e-4 * np.abs(reference).max(), rtol=0)


def published_weights(model, seed):
    """A seeded checkpoint in the published names and layouts, for any size of the network."""
    arrays = {}
    for target in model.official_tensors():
        (name,), shape = target.names, tuple(target.variable.shape)
        shape = {2: lambda s: s[::-1], 4: lambda s: (s[3], s[2], *s[:2])}.get(len(shape), lambda s: s)(shape)
        arrays[name] = seeded_weights.tensor(name, shape, seed)
    return arrays


@pytest.mark.parametrize(("shape", "seed"), [((37, 50, 3), 2), ((64, 40, 3), 3)])
def test_other_sizes_and_seeds_equal_a_numpy_twin(shape, seed):
    model = tiny(shape, as_published=True, normalization="none")
    weights = published_weights(model, seed)
    # As training on several devices saves it.
    medkeras.checkpoints.load(model, {f"module.{name}": array for name, array in weights.items()})
    images = RNG.normal(size=(2, *shape)).astype("float32")
    expected = resnet_twin.dualattendmed(np.moveaxis(images, -1, 1), weights, (1, 1, 1), (1, 2, 1))
    seen = model.internals()(images, training=False)
    assert sorted(seen) == sorted(expected)
    for name, twin in expected.items():
        ours = np.moveaxis(seen[name], -1, 1) if name == "attention" else seen[name]
        np.testing.assert_allclose(ours, twin, atol=2e-4 * np.abs(twin).max(), err_msg=name)
    points = model.tensors("attention", "attention_maps")(images, training=False)
    np.testing.assert_allclose(points["attention"][..., 0], expected["attention"].mean(1), atol=1e-4)
    np.testing.assert_allclose(points["attention_maps"], seen["attention"], atol=1e-6)


def test_a_checkpoint_of_another_depth_or_kind_is_refused():
    model = tiny(as_published=True)
    deeper = published_weights(tiny(as_published=True, backbone="resnet10"), 1)
    with pytest.raises(ValueError, match="no place for 15 tensors, the first being features.7.0.bn1"):
        medkeras.checkpoints.load(model, deeper)
    more_maps = published_weights(tiny(as_published=True, attention_maps=5), 1)
    with pytest.raises(ValueError, match=r"attentions.weight \(5, 128, 1, 1\)"):
        medkeras.checkpoints.load(model, more_maps)
    for other in (tiny(), tiny(as_published=True, reduction=None)):
        with pytest.raises(ValueError, match="no official checkpoint layout"):
            medkeras.checkpoints.load(other, {})


@pytest.mark.parametrize(
    ("name", "cells", "backbone", "channels", "maps"),
    [("dualattendmed_resnet50", 14, 23_508_032, 2048, 32), ("dualattendmed_small", 8, 11_176_512, 512, 16)],
)
def test_presets_have_the_weights_that_their_parts_have(name, cells, backbone, channels, maps):
    model = medkeras.models.create(name, num_classes=5)
    attention = 2 * channels * (channels // 16) + channels * maps + 2 * maps
    expected = backbone + attention + 5 * maps * channels
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == expected
    assert model.explain_points["attention_maps"].tensor.shape == (None, cells, cells, maps)


def test_a_pretrained_backbone_leaves_the_rest_as_it_was():
    model, other = tiny(), tiny()
    gate, classifier = (model.get_layer(n) for n in ("channel_attention", "logits"))
    before = [w.numpy() for w in (*gate.weights, *classifier.weights)]
    arrays = {t.names[0]: np.asarray(t.variable) for t in backbones.resnet_targets(other.backbone)}
    arrays = {n: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for n, a in arrays.items()}
    model.load_backbone(arrays | {"fc.weight": np.zeros((1000, 128))})
    x = uniform(2, 32, 32, 3)
    np.testing.assert_array_equal(model.backbone(x), other.backbone(x))
    for old, weight in zip(before, (*gate.weights, *classifier.weights), strict=True):
        np.testing.assert_array_equal(old, weight)
    with pytest.raises(ValueError, match="lacks"):
        model.load_backbone({name: a for name, a in arrays.items() if "layer3" not in name})


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return tiny(dropout=0.3)


def test_counterfactual_attention_keeps_the_contract():
    run_layer_test(lambda **k: CounterfactualAttention(seed=1, **k), uniform(2, 3, 3, 4), weights=(0, 0))
    layer, maps = CounterfactualAttention(seed=1), np.zeros((2, 40, 40, 4), "float32")
    drawn = np.asarray(layer(maps, training=True))
    assert 0 <= drawn.min() < 0.01
    assert 1.99 < drawn.max() <= 2
    assert abs(drawn.mean() - 1) < 0.02
    assert not np.array_equal(drawn, layer(maps, training=True))


def test_internals_show_what_the_model_does(model):
    x = uniform(3, 32, 32, 3)
    seen = model.internals()(x, training=False)
    np.testing.assert_array_equal(seen["logits"], model(x, training=False))
    np.testing.assert_allclose(np.linalg.norm(seen["feature"], axis=1), 1, atol=1e-5)
    assert np.asarray(seen["attention"]).min() >= 0
    even = model.get_layer("pooling")([model.tensors("features")(x)["features"], np.ones_like(seen["attention"])])
    expected = seen["logits"] - model.get_layer("logits")(even * 100)
    np.testing.assert_allclose(seen["aux_logits"], expected, atol=1e-4)


def test_internals_are_random_in_training_only(model):
    internals, x = model.internals(), uniform(3, 32, 32, 3)
    quiet = [internals(x, training=False)["aux_logits"] for _ in range(2)]
    np.testing.assert_array_equal(*quiet)
    drawn = [internals(x, training=True) for _ in range(2)]
    assert np.abs(drawn[0]["aux_logits"] - drawn[1]["aux_logits"]).max() > 1e-3
    np.testing.assert_allclose(drawn[0]["attention"], drawn[1]["attention"], atol=1e-6)


def test_internals_share_the_weights_and_add_only_a_seed(model):
    internals = model.internals()
    ours = {id(w) for w in model.weights}
    assert ours <= {id(w) for w in internals.weights}
    assert [w.name for w in internals.variables if id(w) not in {id(v) for v in model.variables}] == [
        "seed_generator_state"
    ]
    assert "counterfactual" not in {layer.name for layer in model.layers}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_internals_are_float32_and_nearly_the_same_under_mixed_precision(model, policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        half = type(model).from_config(model.get_config())
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    x = uniform(2, 32, 32, 3)
    expected = model.internals()(x, training=False)
    for name, values in half.internals()(x, training=False).items():
        assert values.dtype == "float32"
        np.testing.assert_allclose(values, expected[name], atol=0.1 * np.abs(expected[name]).max(), err_msg=name)
    drawn = half.internals()(x, training=True)
    assert all(values.dtype == "float32" and np.isfinite(values).all() for values in drawn.values())


class TwoBranches(keras.Model):
    """Trains both branches: the way a training wrapper uses the internals."""

    def __init__(self, model):
        super().__init__()
        self.classifier, self.internals = model, model.internals()

    def call(self, x, training=None):
        return self.internals(x, training=True) if training else self.classifier(x, training=False)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if not training:
            return loss(y, y_pred)
        maps = y_pred["attention"]
        alignment = ops.mean(ops.square(maps - ops.mean(maps, axis=-1, keepdims=True)))
        length = ops.mean(ops.sum(ops.square(y_pred["feature"]), axis=-1))
        return loss(y, y_pred["logits"]) + loss(y, y_pred["aux_logits"]) + 0.1 * alignment + length


def test_a_wrapper_trains_every_weight_in_one_compiled_step():
    keras.utils.set_random_seed(0)
    model = tiny((32, 32, 1))
    before = [w.numpy() for w in model.trainable_weights]
    labels = np.arange(24) % 3
    images = uniform(24, 32, 32, 1) * 0.3
    images[labels == 1, :16, :16] += 0.7
    images[labels == 2, 16:, 16:] += 0.7
    wrapper = TwoBranches(model)
    wrapper.compile(keras.optimizers.Adam(1e-3), jit_compile=True)
    losses = wrapper.fit(images, labels, epochs=8, batch_size=12, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    still = [w.path for w, b in zip(model.trainable_weights, before, strict=True) if np.array_equal(w.numpy(), b)]
    assert still == []


def test_a_grey_image_is_three_equal_channels():
    grey, colour = tiny((32, 32, 1)), tiny((32, 32, 3))
    colour.set_weights(grey.get_weights())
    x = uniform(2, 32, 32, 1)
    np.testing.assert_allclose(grey(x), colour(np.repeat(x, 3, axis=-1)), atol=1e-5)
    assert tiny((32, 32, 4), normalization="half").backbone.input_shape[-1] == 4


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_have_finite_answers(model, value):
    constant = np.full((1, 32, 32, 3), value, "float32")
    for x in model.internals()(constant, training=False).values():
        assert np.isfinite(x).all()


def test_no_attention_gives_even_logits_and_finite_gradients():
    """A BatchNorm far below zero closes every map of the batch."""
    model = tiny()
    model.get_layer("attention_norm").beta.assign([-1e3] * 4)
    internals, x = model.internals(), uniform(2, 32, 32, 3)
    with tf.GradientTape() as tape:
        seen = internals(x, training=False)
        total = ops.sum(seen["aux_logits"] ** 2)
    for name in ("attention", "feature", "logits"):
        np.testing.assert_array_equal(seen[name], 0)
    weights = [w.value for w in model.trainable_weights]
    assert all(np.isfinite(g).all() for g in tape.gradient(total, weights) if g is not None)


@pytest.mark.parametrize(
    "options",
    [
        {"reduction": None, "pooling": "max"},
        {"last_stride": 2, "scale": 10.0, "epsilon": 1e-12},
        {"attention_activation": None, "dropout": 0.5},
    ],
)
def test_options_build_what_they_say(options):
    model = tiny((64, 64, 3), **options)
    names = {layer.name for layer in model.layers}
    assert ("channel_attention" in names) == (options.get("reduction", 16) is not None)
    assert ("attention_norm" in names) == ("attention_activation" not in options)
    assert [layer.name for layer in model.stochastic] == (["dropout"] if "dropout" in options else [])
    seen = model.internals()(uniform(2, 64, 64, 3), training=False)
    assert seen["attention"].shape[1:3] == ((4, 4) if "last_stride" in options else (8, 8))
    kernel = model.get_layer("logits").kernel
    np.testing.assert_allclose(seen["logits"], options.get("scale", 100.0) * seen["feature"] @ kernel, atol=1e-4)
    pooling = model.get_layer("pooling")
    assert (pooling.pooling, pooling.epsilon) == (options.get("pooling", "average"), options.get("epsilon", 1e-6))
    config = model.get_config()
    assert {name: config[name] for name in options} == options


def test_as_published_decides_on_the_maps_alone():
    model = tiny(as_published=True, attention_activation="relu", attention_maps=6)
    assert model.attention_activation is None
    config = model.get_config()
    assert (config["attention_activation"], config["as_published"], config["attention_maps"]) == (None, True, 6)
    assert type(model).from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backbone": "vgg16"}, "backbone='vgg16'"),
        ({"last_stride": 4}, "last_stride=4"),
        ({"attention_maps": 0}, "attention_maps=0"),
        ({"reduction": 0}, "reduction=0"),
        ({"attention_activation": "gelu"}, "attention_activation='gelu'"),
        ({"pooling": "sum"}, "pooling='sum'"),
        ({"epsilon": 0}, "epsilon=0"),
        ({"scale": 0.0}, "scale=0.0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"shape": (32, 32, 32, 1)}, r"input_shape=\(32, 32, 32, 1\)"),
        ({"shape": (8, 64, 3)}, r"input_shape=\(8, 64, 3\)"),
        ({"shape": (32, 32, 2)}, "normalization='imagenet'"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        tiny(**options)
