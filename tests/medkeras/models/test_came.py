"""CAME: what the correct layout of tokens changes, official files of other sizes, gradients, and bad input."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import medkeras
from fusion_parts import scaled_weights
from medkeras.models.came.blocks import scramble, shrink_tokens, unscramble

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def tiny(shape=(32, 32, 3), **options):
    return medkeras.models.create("came_tiny", input_shape=shape, **{"num_classes": 3, "memory": 4, **options})


def test_the_scrambled_view_is_that_of_the_memory():
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(scramble(x), np.moveaxis(x.reshape(2, 5, 3, 4), 1, -1))
    np.testing.assert_array_equal(unscramble(scramble(x)), x)


def test_patches_merge_in_the_published_order():
    x = keras.Input((4, 4, 1))
    model = keras.Model(x, shrink_tokens(x, 4, stage=2, std=0.1, name="merge"))
    model.get_layer("merge").kernel.assign(np.eye(4))
    merged = np.asarray(model(np.arange(16.0).reshape(1, 4, 4, 1)))[0, 0, 0]
    assert np.argsort(merged).tolist() == np.argsort([0, 4, 1, 5]).tolist()


def test_only_the_fair_network_keeps_what_is_seen_in_its_place():
    """A change in one corner stays in that corner's window of the first global block, unless tokens are scrambled."""
    for as_published in (False, True):
        keras.utils.set_random_seed(0)
        model = tiny((128, 128, 3), as_published=as_published, depths=(1, 1, 1, 1))
        x = uniform(1, 128, 128, 3)
        other = x.copy()
        other[:, :4, :4] = 1 - other[:, :4, :4]
        both = model.tensors("global_1")(np.concatenate([x, other]))["global_1"]
        moved = np.abs(both[0] - both[1]).max(axis=-1) > 1e-6
        assert moved[:7, :7].all()
        # The convolution reaches one place beyond the corner: all is inside the first window of 7.
        assert moved[7:].any() == as_published
        assert as_published or not moved[:, 7:].any()


def test_files_of_both_layouts_load_and_second_names_have_no_effect():
    fair, published = tiny(), tiny(as_published=True)
    weights = scaled_weights(fair, 2)
    unused = {name.replace("EA_1.", "ea.0."): np.zeros(3) for name in weights if name.startswith("EA_1.")}
    unused |= {"basic_layers.0.blocks.1.attn_mask": np.zeros(3), "fu1.W_pre.conv.bias": np.zeros(3)}
    x = uniform(2, 32, 32, 3)
    answers = []
    for model in (fair, published):
        medkeras.checkpoints.load(model, weights | unused)
        answers.append(np.asarray(model(x)))
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    with pytest.raises(ValueError, match="no place for 1 tensors, the first being fu2.norm_other"):
        medkeras.checkpoints.load(fair, weights | {"fu2.norm_other": np.zeros(3)})
    with pytest.raises(ValueError, match="no official checkpoint layout"):
        medkeras.checkpoints.load(tiny(irmlp_depthwise=True), weights)


@pytest.mark.parametrize("options", [{}, {"as_published": True}, {"irmlp_depthwise": True, "memory_epsilon": 1e-6}])
def test_every_weight_gets_a_finite_gradient(options):
    keras.utils.set_random_seed(0)
    model = tiny((32, 64, 1), **options)
    with tf.GradientTape() as tape:
        logits = model(uniform(3, 32, 64, 1), training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(np.arange(3), logits, from_logits=True))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient.numpy()).all(), weight.path


def test_gates_and_memory_are_in_their_range():
    seen = tiny().tensors("gate_external_2", "memory_2")(uniform(2, 32, 32, 3))
    gate, maps = (np.asarray(seen[name]) for name in ("gate_external_2", "memory_2"))
    assert gate.shape == (2, 4, 4, 1)
    assert 0 < gate.min() <= gate.max() < 1
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), np.ones((2, 4)), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shape": (32, 33, 3)}, r"input_shape=\(32, 33, 3\)"),
        ({"widths": (8, 16, 32, 60)}, "head_size=8"),
        ({"depths": (2, 2, 2)}, r"depths=\(2, 2, 2\)"),
        ({"head_size": 0}, "head_size=0"),
        ({"memory": 0}, "memory=0"),
        ({"conv_init_std": -1.0}, "conv_init_std=-1.0"),
        ({"memory_epsilon": -1.0}, "memory_epsilon=-1.0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match=f"Received: .*{text}"):
        tiny(**options)
