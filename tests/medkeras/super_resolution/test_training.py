"""Training of an upscaler: its losses against numpy, where gradients go, what is learnt, saved and refused."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import ldm_files
from jax_process import JAX
from medkeras.super_resolution import (
    DDIM,
    VQVAE,
    DiffusionTraining,
    LDMUpscaler,
    RestartCodes,
    UNet,
    VQVAETraining,
    degrade,
    presets,
    settings,
    standardize,
)
from medkeras.super_resolution.autoencoder.latents import encode, show

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(4, 8, 8, 1)).astype("float32")


def tiny_vqvae():
    return VQVAE(channels=1, latent_channels=2, widths=(8, 8), depth=1, codebook_size=16, groups=4)


def tiny_upscaler():
    unet = UNet(in_channels=3, out_channels=2, widths=(8, 8), depth=1, attention_levels=(), head_channels=8, groups=4)
    return LDMUpscaler(unet, tiny_vqvae())


@pytest.fixture(scope="module")
def untrained():
    """An upscaler by a factor of 2, and its first weights: it takes seconds to build."""
    keras.utils.set_random_seed(0)
    upscaler = tiny_upscaler()
    return upscaler, [model.get_weights() for model in (upscaler.unet, upscaler.vqvae)]


@pytest.fixture
def upscaler(untrained):
    upscaler, weights = untrained
    upscaler.vqvae.trainable = True
    for model, first in zip((upscaler.unet, upscaler.vqvae), weights, strict=True):
        model.set_weights(first)
    return upscaler


# The small image.


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_images_are_made_smaller_as_tensorflow_does(factor):
    images = RNG.uniform(size=(2, 16, 24, 3)).astype("float32")
    size = (16 // factor, 24 // factor)
    expected = tf.image.resize(images, size, "bicubic", antialias=True)
    np.testing.assert_allclose(degrade(images, factor), np.clip(expected, 0, 1), atol=1e-6)


def test_a_small_image_keeps_grey_values_and_mirror_images():
    np.testing.assert_allclose(degrade(np.full((1, 8, 8, 1), 0.3), 4), 0.3, rtol=1e-6)
    np.testing.assert_allclose(degrade(IMAGES[:, ::-1], 4), degrade(IMAGES, 4)[:, ::-1], atol=1e-6)


# The autoencoder.


def gradients(training, variables):
    with tf.GradientTape() as tape:
        seen = training(IMAGES, training=True)
        loss = training.compute_loss(IMAGES, y_pred=seen)
    found = tape.gradient(loss, [v.value for v in variables])
    return seen, [np.asarray(tf.convert_to_tensor(gradient)) for gradient in found]


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_the_loss_is_that_of_the_article(upscaler, kind):
    training = VQVAETraining(upscaler.vqvae, reconstruction=kind, commitment=0.5)
    seen = training(IMAGES)
    latent, table = encode(upscaler.vqvae, IMAGES), np.asarray(upscaler.vqvae.codebook.embedding)
    distances = ((latent[..., None, :] - table) ** 2).sum(axis=-1)
    error = np.asarray(upscaler.vqvae(2 * IMAGES - 1)) - (2 * IMAGES - 1)
    values = {
        "reconstruction": np.abs(error).mean() if kind == "l1" else (error**2).mean(),
        "codebook": distances.min(axis=-1).mean() / 2,
        "commitment": 0.5 * distances.min(axis=-1).mean() / 2,
    }
    np.testing.assert_allclose(training.compute_loss(IMAGES, y_pred=seen), sum(values.values()), rtol=1e-4)
    logged = {name: float(term.result()) for name, term in training.terms.items()}
    np.testing.assert_allclose([logged[name] for name in values], list(values.values()), rtol=1e-4)
    counts = np.bincount(distances.argmin(axis=-1).ravel(), minlength=16)
    share = counts[counts > 0] / counts.sum()
    use = {name: float(value) for name, value in training.use.result().items()}
    np.testing.assert_allclose(use["perplexity"], np.exp(-(share * np.log(share)).sum()), rtol=1e-5)
    assert use["used"] == (counts > 0).mean()


def test_vectors_follow_their_latents_alone(upscaler):
    """Neither the decoded image nor the commitment moves the codebook."""
    book = upscaler.vqvae.codebook
    seen, (gradient,) = gradients(VQVAETraining(upscaler.vqvae), [book.embedding])
    pull = 2 * np.asarray(seen["nearest"] - seen["latent"]) / np.size(seen["latent"])
    expected = np.zeros((16, 2))
    np.add.at(expected, np.asarray(seen["indices"]), pull)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


@pytest.mark.parametrize("commitment", [0.0, 0.25])
def test_the_codebook_loss_does_not_move_the_encoder(upscaler, commitment):
    """With a decoder that has the same answer to all, what is left is the commitment."""
    blind = upscaler.vqvae.decoder.get_layer("decoder.conv_out")
    blind.set_weights([np.zeros_like(w) for w in blind.get_weights()])
    bias = upscaler.vqvae.encoder.get_layer("quant_conv").bias
    seen, (gradient,) = gradients(VQVAETraining(upscaler.vqvae, commitment=commitment), [bias])
    pull = 2 * commitment * np.asarray(seen["latent"] - seen["nearest"]) / np.size(seen["latent"])
    np.testing.assert_allclose(gradient, pull.sum(axis=(0, 1, 2)), atol=1e-7)


def test_the_decoded_image_moves_encoder_and_decoder(upscaler):
    layers = [upscaler.vqvae.encoder.get_layer("quant_conv"), upscaler.vqvae.decoder.get_layer("post_quant_conv")]
    training = VQVAETraining(upscaler.vqvae, commitment=0)
    _, found = gradients(training, [layer.kernel for layer in layers])
    assert all(np.abs(gradient).max() > 1e-6 for gradient in found)


def test_the_history_has_every_term_and_the_use_of_the_codebook(upscaler):
    training, before = VQVAETraining(upscaler.vqvae), upscaler.vqvae.codebook.get_weights()[0]
    training.compile("sgd", run_eagerly=True)  # one program would take longer to make
    history = training.fit(IMAGES, verbose=0, callbacks=[RestartCodes(IMAGES)]).history
    assert set(history) == {"loss", "reconstruction", "codebook", "commitment", "perplexity", "used"}
    np.testing.assert_allclose(history["loss"][0], sum(history[name][0] for name in training.terms), rtol=1e-4)
    assert history["used"][0] > 0.5 and 4 < history["perplexity"][0] <= 16
    assert np.abs(upscaler.vqvae.codebook.get_weights()[0] - before).max() > 0.1


def test_unused_vectors_are_replaced_by_latents_and_used_ones_stay(upscaler):
    book, restart = upscaler.vqvae.codebook, RestartCodes(IMAGES, seed=3)
    latents = encode(upscaler.vqvae, IMAGES).reshape(-1, 2)
    table = np.concatenate([latents[:2], np.full((14, 2), 1e3)]).astype("float32")
    book.embedding.assign(table)
    restart.set_model(VQVAETraining(upscaler.vqvae))
    assert restart.restart() == 14
    after = np.asarray(book.embedding)
    np.testing.assert_array_equal(after[:2], table[:2])
    assert all((np.abs(latents - row).sum(axis=1) < 1e-6).any() for row in after[2:])
    assert len(np.unique(after[2:], axis=0)) == 14


def test_standardized_latents_change_no_image(upscaler):
    shown = show(IMAGES, 1)
    before, chosen = upscaler.vqvae(shown), upscaler.vqvae.codebook.indices(upscaler.vqvae.encoder(shown))
    latents = encode(upscaler.vqvae, IMAGES)
    offset, scale = standardize(upscaler.vqvae, IMAGES)
    after = encode(upscaler.vqvae, IMAGES)
    np.testing.assert_allclose(after, (latents - offset) / scale, atol=1e-4)
    np.testing.assert_allclose(after.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(after.std(), 1, atol=1e-3)
    np.testing.assert_array_equal(upscaler.vqvae.codebook.indices(after), chosen)
    np.testing.assert_allclose(upscaler.vqvae(shown), before, atol=1e-4)


# The denoiser.


def test_the_denoiser_is_asked_as_the_schedule_says(upscaler):
    training = DiffusionTraining(upscaler)
    latent, small = (np.asarray(part) for part in training.pairs(IMAGES))
    np.testing.assert_allclose(latent, encode(upscaler.vqvae, IMAGES), atol=1e-5)
    np.testing.assert_allclose(small, 2 * np.asarray(degrade(IMAGES, 2)) - 1, atol=1e-6)
    times, noise = np.array([0, 10, 500, 999]), RNG.normal(size=latent.shape).astype("float32")
    signal = DDIM().signal[times].reshape(-1, 1, 1, 1)
    mixed = signal**0.5 * np.asarray(latent) + (1 - signal) ** 0.5 * noise
    expected = upscaler.unet([np.concatenate([mixed, small], axis=-1), times])
    predicted = training.predicted(latent, small, times, noise)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)
    loss = training.compute_loss(IMAGES, y_pred={"predicted": predicted, "noise": noise})
    np.testing.assert_allclose(loss, np.mean((np.asarray(expected) - noise) ** 2), rtol=1e-5)


def test_times_and_noise_are_new_in_training_and_the_same_in_evaluation(upscaler):
    training = DiffusionTraining(upscaler, seed=1)
    draws = [np.asarray(training(IMAGES, training=is_training)["noise"]) for is_training in (True, True, False, False)]
    assert np.abs(draws[0] - draws[1]).max() > 0.1
    np.testing.assert_array_equal(draws[2], draws[3])
    assert abs(draws[0].std() - 1) < 0.2
    again = DiffusionTraining(upscaler, seed=1)
    np.testing.assert_array_equal(again(IMAGES, training=True)["noise"], draws[0])


def test_training_moves_the_denoiser_alone_and_follows_its_seed(upscaler):
    ends, first, frozen = [], upscaler.unet.get_weights(), upscaler.vqvae.get_weights()
    for _ in range(2):
        upscaler.unet.set_weights(first)
        training = DiffusionTraining(upscaler, seed=5)
        training.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), run_eagerly=True)
        training.fit(IMAGES, verbose=0)
        ends.append(training.unet.get_weights())
    for before, *after in zip(first, *ends, strict=True):
        np.testing.assert_array_equal(*after)
        assert np.isfinite(after[0]).all() and (after[0] != before).any() or not before.any()
    for before, after in zip(frozen, upscaler.vqvae.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


# Saving.


def test_a_saved_upscaler_is_the_same(upscaler, tmp_path):
    schedule = DDIM(train_steps=500, beta_end=0.02)
    upscaler = LDMUpscaler(upscaler.unet, upscaler.vqvae, schedule=schedule, trained_edge=24)
    upscaler.save(tmp_path / "new" / "upscaler")
    again = LDMUpscaler.from_pretrained(tmp_path / "new" / "upscaler")
    assert (again.schedule, again.trained_edge) == (schedule, 24)
    for part in ("unet", "vqvae"):
        ours, theirs = getattr(upscaler, part), getattr(again, part)
        assert theirs.get_config() == ours.get_config()
        for before, after in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_configurations_of_all_presets_come_back(name):
    for kind, given in (("UNet", presets.preset(name).unet), ("VQVAE", presets.preset(name).vqvae)):
        default = settings.arguments({"UNet": ldm_files.UNET, "VQVAE": ldm_files.VQVAE}[kind], kind)
        wanted = default | {key: list(v) if isinstance(v, tuple) else v for key, v in given.items()}
        assert settings.arguments(settings.configuration(wanted, kind), kind) == wanted


def test_the_official_configurations_come_out_as_they_went_in():
    official = {"UNet": ldm_files.UNET, "VQVAE": ldm_files.VQVAE, "DDIM": ldm_files.SCHEDULER}
    for kind, given in official.items():
        written = settings.configuration(settings.arguments(given, kind), kind)
        wanted = {name: value for name, value in given.items() if name not in ("sample_size", "vq_embed_dim")}
        assert written | wanted == written


# On JAX, and what is refused.

ON_JAX = """
import sys
sys.modules["tensorflow"] = None
sys.path[:0] = ["tests/support", "tests/parity"]
import keras, numpy as np
from medkeras.super_resolution import *
keras.utils.set_random_seed(0)
images = np.tile(np.linspace(0, 1, 256, dtype="float32").reshape(4, 8, 8, 1), (8, 1, 1, 1))
vqvae = VQVAE(channels=1, latent_channels=2, widths=(4,), depth=1, codebook_size=8, groups=2)
unet = UNet(in_channels=3, out_channels=2, widths=(4,), depth=1, attention_levels=(), head_channels=4, groups=2)
first, second = VQVAETraining(vqvae), DiffusionTraining(LDMUpscaler(unet, vqvae), seed=0)
for training, term in ((first, "reconstruction"), (second, "loss")):
    vqvae.trainable = training is first
    training.compile(keras.optimizers.SGD(0.1))
    losses = training.fit(images, epochs=20, verbose=0).history[term]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]), losses
print("trained")
"""


@pytest.mark.process
def test_both_learn_a_few_images_on_jax_without_tensorflow():
    result = subprocess.run(
        [sys.executable, "-c", ON_JAX], env=os.environ | JAX, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0 and "trained" in result.stdout, result.stderr[-3000:]


@pytest.mark.parametrize(
    "call",
    [
        lambda u: degrade(np.zeros((1, 9, 8, 1)), 4),
        lambda u: degrade(np.zeros((8, 8, 1)), 4),
        lambda u: degrade(np.zeros((1, 8, 8, 1)), 0),
        lambda u: VQVAETraining(u.vqvae, reconstruction="l3"),
        lambda u: VQVAETraining(u.vqvae, commitment=-1),
        lambda u: VQVAETraining(u.vqvae)(np.zeros((1, 7, 8, 1))),
        lambda u: VQVAETraining(u.vqvae)(np.zeros((1, 8, 8, 3))),
        lambda u: DiffusionTraining(u)(np.zeros((1, 8, 6, 1))),
        lambda u: standardize(u.vqvae, 255 * IMAGES),
        lambda u: standardize(u.vqvae, IMAGES.astype("uint8")),
        lambda u: standardize(u.vqvae, np.full((1, 8, 9, 1), 0.5)),
        lambda u: encode(u.vqvae, IMAGES[:0]),
        lambda u: LDMUpscaler.from_preset("ldm_4x_tiny", channels=0),
    ],
)
def test_what_cannot_be_trained_on_is_refused(upscaler, call):
    with pytest.raises(ValueError, match="Received: "):
        call(upscaler)
