"""HEMF: its flags and ablation settings, official files of other sizes, what its maps show, and bad input."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import medkeras
from fusion_parts import scaled_weights
from jax_process import JAX
from medkeras.models.hemf.model import SETTINGS
from paths import ROOT

RNG = np.random.default_rng(0)
SIZE = {
    "widths": (8, 16, 16, 32),
    "local_depths": (1, 2, 1, 1),
    "global_depths": (2, 1, 1, 1),
    "heads": 2,
    "memory": 4,
}


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def tiny(shape=(32, 32, 3), **options):
    return medkeras.models.create("hemf_tiny", input_shape=shape, **{"num_classes": 3, **SIZE, **options})


def parameters(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.mark.parametrize(("name", "edge"), [("hemf_small", 224), ("hemf_tiny", 64)])
def test_presets_are_smaller_copies(name, edge):
    model = medkeras.models.create(name, num_classes=7)
    assert model.image_shape == (edge, edge, 3)
    assert parameters(model) < 66_678_263 / 4
    cells = [model.explain_points[f"fusion_{i}"].tensor.shape[1] for i in range(1, 5)]
    assert cells == [edge // 4, edge // 8, edge // 16, edge // 32]


def test_official_files_of_any_size_load_and_dead_tensors_have_no_effect():
    plain, whole = tiny(), tiny(build_dead_paths=True)
    weights = scaled_weights(whole, seed=2)
    buffers = {f"stages2.{i}.RetNetRelPos2d.{name}": np.ones(4) for i in range(4) for name in ("angle", "decay")}
    for model in (plain, whole):
        medkeras.checkpoints.load(model, {f"module.{n}": a for n, a in (weights | buffers).items()})
    x = uniform(2, 32, 32, 3)
    np.testing.assert_allclose(plain(x), whole(x), atol=1e-6)
    shifted = weights | {name: array + 1 for name, array in weights.items() if plain.is_unused(name)}
    assert len(shifted) > len(scaled_weights(plain, 1))
    medkeras.checkpoints.load(whole, shifted)
    np.testing.assert_allclose(plain(x), whole(x), atol=1e-6)


def test_norms_of_their_own_start_as_the_shared_ones():
    shared, own = tiny(), tiny(share_egf_norms=False)
    assert parameters(own) - parameters(shared) == 4 * 8  # one stage has a second layer
    weights = scaled_weights(shared, 1)
    for model in (shared, own):
        medkeras.checkpoints.load(model, weights)
    x = uniform(2, 32, 32, 3)
    np.testing.assert_allclose(own(x), shared(x), atol=1e-6)


def test_a_checkpoint_of_other_classes_loads_without_its_head_only_when_asked():
    model = tiny()
    weights = scaled_weights(tiny(num_classes=9), 1)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"conv_head.weight \(9, 32\)"):
        medkeras.checkpoints.load(model, weights)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    names = medkeras.checkpoints.load(model, weights, skip_head=True)
    assert not any(name.startswith("conv_head") for name in names)
    np.testing.assert_array_equal(model.get_layer("logits").kernel, before[-2])
    np.testing.assert_array_equal(model.get_layer("head_norm").gamma, weights["conv_norm.weight"])
    del weights["conv_head.weight"], weights["conv_head.bias"]
    medkeras.checkpoints.load(model, weights, skip_head=True)
    with pytest.raises(ValueError, match="lacks 2 tensors, the first being conv_head.weight"):
        medkeras.checkpoints.load(model, weights)


@pytest.mark.parametrize("options", [{"setting": "S6"}, {"sirmlp_depthwise": True}])
def test_other_wirings_have_no_official_layout(options):
    with pytest.raises(ValueError, match="no official checkpoint layout"):
        medkeras.checkpoints.load(tiny(**options), {})


def test_depthwise_sirmlp_has_the_weights_of_the_article():
    """Nine weights per channel instead of nine times the channels: 7,037,280 fewer in the published size."""
    for widths, fewer in ((SIZE["widths"], None), ((96, 192, 384, 768), 7_037_280)):
        difference = sum(9 * w * w - 9 * w for w in widths)
        if fewer:
            assert difference == fewer
        else:
            assert parameters(tiny()) - parameters(tiny(sirmlp_depthwise=True)) == difference


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_ablation_setting_trains_all_that_it_has(setting):
    keras.utils.set_random_seed(0)
    model, has = tiny(setting=setting), SETTINGS[setting]
    points = set(model.explain_points)
    assert ("local_4" in points) == ("local" in has)
    assert ("retention_4" in points) == ("global" in has)
    assert ("fusion_4" in points) == (len(has) > 1)
    assert ("memory_local_4" in points) == ("memory_attention" in has)
    assert ("gate_global_4" in points) == ("gates" in has)
    mlp = [layer.name for layer in model.layers if layer.name.endswith("mlp_expand")]
    assert len(mlp) == (4 if "mlp" in has else 0)
    with tf.GradientTape() as tape:
        logits = model(uniform(4, 32, 32, 3), training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(np.arange(4) % 3, logits, from_logits=True))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient.numpy()).all(), weight.path


def test_retention_points_are_one_attention():
    """The full map is the row map after the column map; from every place, the shares of all places sum to 1."""
    model = tiny((32, 64, 3))
    x = uniform(2, 32, 64, 3)
    seen = {
        n: np.asarray(v) for n, v in model.tensors("retention_1", "row_retention_1", "column_retention_1")(x).items()
    }
    height, width, heads = 8, 16, 2
    rows = seen["row_retention_1"].reshape(2, height, width, heads, width)
    columns = seen["column_retention_1"].reshape(2, height, width, heads, height)
    np.testing.assert_allclose(rows.sum(axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(columns.sum(axis=1), 1, atol=1e-5)
    full = np.einsum("bkxny,bklnx->bklyx", columns, rows) / heads
    np.testing.assert_allclose(seen["retention_1"], full.reshape(2, height, width, -1), atol=1e-6)
    np.testing.assert_allclose(seen["retention_1"].sum(axis=(1, 2)), 1, atol=1e-5)


def test_memory_points_are_shares_of_the_places():
    model = tiny()
    seen = model.tensors("memory_local_1", "memory_global_3")(uniform(2, 32, 32, 3))
    assert {n: tuple(v.shape) for n, v in seen.items()} == {
        "memory_local_1": (2, 8, 8, 8),
        "memory_global_3": (2, 2, 2, 8),
    }
    for maps in seen.values():
        np.testing.assert_allclose(np.asarray(maps).sum(axis=(1, 2)), 1, atol=1e-5)


def test_initial_weights_have_the_published_spread():
    keras.utils.set_random_seed(0)
    wide = tiny(widths=(32, 32, 64, 96))
    for std, model in ((0.2, wide), (0.02, tiny(widths=(32, 32, 64, 96), conv_init_std=0.02))):
        for name in ("local_4_1_conv", "global_4_shrink"):
            assert abs(np.std(model.get_layer(name).kernel) / std - 1) < 0.02
        assert abs(np.std(model.get_layer("global_4_1_retention").local.kernel) / std - 1) < 0.1
    assert abs(np.std(wide.get_layer("global_4_1_retention").query.kernel) / 0.02 - 1) < 0.05
    assert abs(np.std(wide.get_layer("fusion_3_local_memory").key) / 0.001 - 1) < 0.2
    linear = wide.get_layer("fusion_4_mix")
    bound = (3 * 96) ** -0.5
    for values in (linear.kernel, linear.bias):
        assert 0.9 * bound < np.abs(values).max() <= bound
    first, second = (wide.get_layer(f"local_2_{i}_conv").kernel.numpy() for i in (1, 2))
    assert np.abs(first - second).max() > 0.1, "two layers must not start equal"


def test_drop_path_rises_over_the_blocks_and_is_off_in_inference():
    keras.utils.set_random_seed(0)
    model = tiny(local_drop_path=0.4, global_drop_path=0.2, fusion_drop_path=0.3)
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, medkeras.layers.DropPath)}
    local = [rate for name, rate in rates.items() if name.startswith("local")]
    np.testing.assert_allclose(local, [0.1, 0.2, 0.3, 0.4])  # the first block's rate is 0
    assert max(rate for name, rate in rates.items() if name.startswith("global")) == pytest.approx(0.2)
    assert [rate for name, rate in rates.items() if name.startswith("fusion")] == [0.3] * 4
    x = uniform(2, 32, 32, 3)
    plain = tiny()
    given = {w.path: w for w in model.weights}
    for weight in plain.weights:
        weight.assign(given[weight.path])
    np.testing.assert_allclose(model(x, training=False), plain(x), atol=1e-6)
    assert model.stochastic == ()


def test_a_grey_image_is_shown_in_three_colours_and_a_batch_of_one_is_taken():
    grey, colour = tiny((32, 32, 1)), tiny()
    grey.set_weights(colour.get_weights())
    x = uniform(1, 32, 32, 1)
    np.testing.assert_allclose(grey(x), colour(np.repeat(x, 3, axis=-1)), atol=1e-6)
    assert np.isfinite(grey(x, training=True)).all()


def extreme_images(largest):
    """Scales from 0.01 to `largest`; and black, white, half and half, one bright pixel."""
    x = RNG.normal(size=(32, 32, 32, 3)) * 10.0 ** RNG.uniform(-2, np.log10(largest) - 1, (32, 1, 1, 1))
    x[0], x[1], x[2, :16], x[2, 16:], x[3] = -1, 1, -1, 1, -1
    x[3, 20, 7] = 1
    return x.astype("float32")


@pytest.mark.parametrize(("policy", "largest"), [("float32", 1e12), ("mixed_float16", 1e4), ("mixed_bfloat16", 1e12)])
def test_extreme_images_give_finite_logits_and_gradients(policy, largest):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = tiny(normalization="none")
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    with tf.GradientTape() as tape:
        logits = model(extreme_images(largest), training=True)
        loss = tf.reduce_mean(tf.nn.log_softmax(logits)[:, 0])
    assert np.isfinite(logits.numpy()).all()
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert np.isfinite(gradient.numpy()).all(), weight.path


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"input_shape": (30, 32, 3)}, r"input_shape=\(30, 32, 3\)"),
        ({"input_shape": (32, 32, 32, 1)}, r"input_shape=\(32, 32, 32, 1\)"),
        ({"widths": (8, 16, 32)}, r"widths=\(8, 16, 32\)"),
        ({"widths": (8, 16, 32, 66)}, "heads=2"),
        ({"widths": (4, 8, 16, 32)}, "heads=2"),
        ({"local_depths": (1, 1, 0, 1)}, r"local_depths=\(1, 1, 0, 1\)"),
        ({"heads": 0}, "heads=0"),
        ({"memory": 0}, "memory=0"),
        ({"setting": "S8"}, "setting='S8'"),
        ({"conv_init_std": 0.0}, "conv_init_std=0.0"),
        ({"memory_epsilon": -1e-6}, "memory_epsilon=-1e-06"),
        ({"global_drop_path": 1.0}, "global_drop_path=1.0"),
        ({"dropout": -0.1}, "dropout=-0.1"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match=f"Received: .*{text}"):
        tiny(**{"shape": options.pop("input_shape", (32, 32, 3)), **options})


ON_JAX = """
import json, numpy as np, medkeras, keras
assert keras.backend.backend() == "jax"
given, found = np.load("INPUT"), {}
for name, options in json.loads('OPTIONS').items():
    model = medkeras.models.create(name, **options)
    model.set_weights([given[f"{name}_{i}"] for i in range(len(model.weights))])
    found[name] = model.predict(given["images"], verbose=0)
np.savez("OUTPUT", **found)
"""


@pytest.mark.process
def test_jax_gives_the_same(tmp_path):
    # Equal widths: JAX compiles each new shape of an initial value.
    shared = {"input_shape": (32, 64, 1), "num_classes": 3, "memory": 4, "widths": (8, 8, 8, 8)}
    options = {"hemf_tiny": shared | {"heads": 2}, "came_tiny": shared | {"depths": (2, 1, 1, 1)}}
    given, expected = {"images": uniform(2, 32, 64, 1)}, {}
    for name, arguments in options.items():
        model = medkeras.models.create(name, **arguments)
        given |= {f"{name}_{i}": w for i, w in enumerate(model.get_weights())}
        expected[name] = model.predict(given["images"], verbose=0)
    np.savez(tmp_path / "in.npz", **given)
    code = ON_JAX.replace("INPUT", str(tmp_path / "in.npz")).replace("OUTPUT", str(tmp_path / "out.npz"))
    code = code.replace("OPTIONS", json.dumps(options))
    environment = os.environ | JAX
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=ROOT, timeout=600)
    found = np.load(tmp_path / "out.npz")
    for name, logits in expected.items():
        np.testing.assert_allclose(found[name], logits, atol=1e-5)
