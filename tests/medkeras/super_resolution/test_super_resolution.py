"""Super resolution: the schedule, the layers, the models, and the upscaler that joins them."""

import json
import os
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest

import ldm_files
from harness import run_layer_test
from jax_process import JAX
from medkeras.super_resolution import DDIM, VQVAE, LDMUpscaler, UNet, presets
from medkeras.super_resolution.autoencoder.codebook import Codebook
from medkeras.super_resolution.blocks import GroupNorm, SpatialAttention
from medkeras.super_resolution.diffusion.noise import standard_normal
from medkeras.super_resolution.settings import sample_size
from medkeras.super_resolution.tiling import Tiling

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


@pytest.fixture(scope="module")
def upscaler():
    return ldm_files.small_upscaler()


# The schedule.


def published_step(x, predicted, t, *, ratio, eta, noise):
    """Equations 12 and 16 of the article, with its alphas."""
    betas = np.linspace(0.0015**0.5, 0.0155**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    now, then = alphas[t], alphas[t - ratio] if t >= ratio else 1.0
    sigma = eta * ((1 - then) / (1 - now)) ** 0.5 * (1 - now / then) ** 0.5
    image = (x - (1 - now) ** 0.5 * predicted) / now**0.5
    return then**0.5 * image + (1 - then - sigma**2) ** 0.5 * predicted + sigma * noise


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 25, 100, 999])
def test_steps_are_those_of_the_article(steps, eta):
    schedule = DDIM()
    times, factors = schedule.timesteps(steps), schedule.factors(steps, eta=eta)
    for i in {0, steps // 2, steps - 1}:
        x, predicted, noise = (RNG.normal(size=(4, 5)) for _ in range(3))
        expected = published_step(x, predicted, times[i], ratio=1000 // steps, eta=eta, noise=noise)
        np.testing.assert_allclose(schedule.step(x, predicted, factors[i], noise), expected, atol=1e-10)
    assert factors[-1, 2] == 0 or steps > 500  # no noise is left at the end


def test_official_times_and_shares_of_signal():
    assert DDIM().timesteps(100)[[0, 1, -1]].tolist() == [991, 981, 1]
    assert DDIM().timesteps(50)[[0, -1]].tolist() == [981, 1]
    assert DDIM().timesteps(25)[[0, -1]].tolist() == [961, 1]
    np.testing.assert_allclose(DDIM().signal[[0, 999]], [0.9985, 6.6867e-4], rtol=1e-4)


def test_a_perfect_prediction_leads_back_to_the_image_in_any_number_of_steps():
    image, noise = RNG.normal(size=(2, 6, 6, 3)), RNG.normal(size=(2, 6, 6, 3))
    for steps in (1, 4, 30):
        schedule = DDIM()
        times = schedule.timesteps(steps)
        signal = schedule.signal[times[0]]
        x = signal**0.5 * image + (1 - signal) ** 0.5 * noise
        for row in schedule.factors(steps):
            x = schedule.step(x, noise, row)
        np.testing.assert_allclose(x, image, atol=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: DDIM(train_steps=0),
        lambda: DDIM(beta_start=0.1, beta_end=0.01),
        lambda: DDIM().timesteps(0),
        lambda: DDIM().timesteps(1000),
        lambda: DDIM().factors(10, eta=1.5),
        lambda: DDIM().factors(10, eta=float("nan")),
    ],
)
def test_a_schedule_out_of_range_is_refused(call):
    with pytest.raises(ValueError, match="Received: "):
        call()


# The layers.


def test_group_norm_keeps_the_contract_and_equals_numpy():
    x = 3 + 2 * normal(2, 5, 4, 6)
    run_layer_test(lambda dtype: GroupNorm(3, activation="silu", dtype=dtype), x, weights=(2, 0))
    groups = x.reshape(2, 5, 4, 3, 2)
    mean, variance = (f(groups, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
    expected = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(GroupNorm(3)(x), expected, atol=1e-5)


def test_group_norm_is_exact_far_from_zero():
    x = 1000 + normal(1, 8, 8, 4)
    groups = x.astype("float64").reshape(1, 64, 2, 2)
    expected = (groups - groups.mean(axis=(1, 3), keepdims=True)) / groups.std(axis=(1, 3), keepdims=True)
    np.testing.assert_allclose(GroupNorm(2)(x), expected.reshape(x.shape), atol=2e-3)


def test_attention_keeps_the_contract_and_equals_numpy_either_way():
    x = normal(2, 3, 5, 8)
    run_layer_test(lambda dtype: SpatialAttention(2, groups=4, block=4, dtype=dtype), x, weights=(10, 0))
    whole, blocks = (SpatialAttention(2, groups=4, block=block) for block in (None, 4))
    whole(x), blocks(x)
    blocks.set_weights(whole.get_weights())
    np.testing.assert_allclose(blocks(x), whole(x), atol=1e-6)
    y = np.asarray(whole.norm(x)).reshape(2, 15, 8)
    query, key, value = (y @ np.asarray(f.kernel) for f in (whole.query, whole.key, whole.value))
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = np.exp(query[..., part] @ key[..., part].transpose(0, 2, 1) / 2)
        heads.append(weights / weights.sum(axis=-1, keepdims=True) @ value[..., part])
    expected = x + (np.concatenate(heads, axis=-1) @ np.asarray(whole.project.kernel)).reshape(x.shape)
    np.testing.assert_allclose(whole(x), expected, atol=1e-5)


def test_the_codebook_takes_the_nearest_vector_and_the_first_of_equals():
    book, x = Codebook(9), normal(2, 4, 3, 2)
    book.build(x.shape)
    table = normal(9, 2)
    table[7] = table[2]
    book.embedding.assign(table)
    x[0, 0, 0] = table[2] + 1e-3
    found = np.asarray(book.indices(x))
    for place in np.ndindex(2, 4, 3):
        distances = [((x[place] - row) ** 2).sum() for row in table]
        assert found[place] == int(np.argmin(distances))
    assert found[0, 0, 0] == 2
    np.testing.assert_array_equal(book(x), table[found])


# The models.


@pytest.mark.parametrize("part", ["unet", "vqvae"])
def test_models_are_saved_and_loaded_in_safe_mode(part, upscaler, tmp_path):
    model = getattr(upscaler, part)
    inputs = {"unet": [normal(2, 8, 12, 6), np.array([3, 700])], "vqvae": normal(2, 16, 8, 3)}[part]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert again.get_config() == model.get_config()
    np.testing.assert_allclose(again(inputs), model(inputs), atol=1e-6)


LEVELS = {"widths": [8, 16], "depth": 1, "groups": 4}


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (VQVAE, {"channels": 3, "latent_channels": 2, "codebook_size": 10, "name": "book"}),
        (UNet, {"in_channels": 5, "out_channels": 2, "attention_levels": [1], "head_channels": 8, "name": "denoiser"}),
    ],
)
def test_a_configuration_has_the_keys_that_version_0_1_wrote(model, config):
    config = config | LEVELS
    built = model.from_config(config)
    assert built.get_config() == config and built.factor == 2


def test_the_denoiser_knows_the_time(upscaler):
    x = normal(1, 8, 8, 6)
    assert np.abs(upscaler.unet([x, np.array([1])]) - upscaler.unet([x, np.array([900])])).max() > 1e-4


@pytest.mark.parametrize(
    "call",
    [
        lambda: UNet(widths=(), head_channels=8),
        lambda: UNet(widths=(10,), groups=4),
        lambda: UNet(widths=(8, 16), groups=4, depth=0, head_channels=8),
        lambda: UNet(widths=(8, 16), groups=4, attention_levels=(2,), head_channels=8),
        lambda: UNet(widths=(8, 16), groups=4, attention_levels=(), head_channels=5),
        lambda: VQVAE(widths=(8,), groups=3),
        lambda: VQVAE(widths=(8,), groups=4, codebook_size=0),
        lambda: presets.preset("ldm_8x"),
        lambda: LDMUpscaler(UNet(**presets.preset("ldm_4x_tiny").unet, in_channels=4), VQVAE(widths=(8,), groups=4)),
    ],
)
def test_models_out_of_range_are_refused(call):
    with pytest.raises(ValueError, match="Received: "):
        call()


# The upscaler. Few shapes, all with fresh noise, for each has a program of its own.

QUICK = {"steps": 3, "eta": 0.7, "seed": 4, "batch_size": 2}


def seeded(image, step):
    """The noise that an image of (1, height, width, any) has."""
    return standard_normal((*image.shape[:3], 3), seed=QUICK["seed"], key=zlib.crc32(image.tobytes()), step=step)


def test_images_are_upscaled_as_their_steps_say(upscaler):
    """The compiled loop against steps that are called one by one."""
    images, noise = uniform(2, 8, 8, 3), normal(2, 8, 8, 3)
    times, factors, x = upscaler.schedule.timesteps(3), upscaler.schedule.factors(3, eta=0.7), noise
    for i in range(3):
        predicted = upscaler.unet([np.concatenate([x, 2 * images - 1], axis=-1), times[[i, i]]])
        fresh = np.concatenate([seeded(image[None], i + 1) for image in images])
        x = upscaler.schedule.step(x, np.asarray(predicted), factors[i].astype("float32"), fresh)
    expected = np.clip(np.asarray(upscaler.vqvae.decoder(x)) / 2 + 0.5, 0, 1)
    np.testing.assert_allclose(upscaler.upscale(images, **QUICK, noise=noise), expected, atol=1e-4)


def test_an_image_has_one_result_whatever_else_is_there(upscaler):
    images = uniform(3, 8, 8, 3)
    together = upscaler.upscale(images, **QUICK)
    assert together.shape == (3, 16, 16, 3) and together.dtype == np.float32
    np.testing.assert_allclose(upscaler.upscale(images[::-1], **QUICK)[::-1], together, atol=1e-4)
    np.testing.assert_allclose(upscaler.upscale(images[1:2], **QUICK), together[1:2], atol=1e-4)
    assert np.abs(upscaler.upscale(images, **QUICK | {"seed": 5}) - together).max() > 1e-2


ON_JAX = """
import json, sys
sys.modules["tensorflow"] = None
sys.path[:0] = ["tests/support", "tests/parity"]
import keras, ldm_files, numpy as np
assert keras.backend.backend() == "jax"
images = np.linspace(0, 1, 128, dtype="float32").reshape(2, 8, 8, 1)
print(json.dumps(ldm_files.small_upscaler().upscale(images, **OPTIONS).tolist()))
"""


@pytest.mark.process
def test_jax_gives_the_same_images_without_tensorflow(upscaler):
    result = subprocess.run(
        [sys.executable, "-c", ON_JAX.replace("OPTIONS", repr(QUICK))],
        env=os.environ | JAX,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    images = np.linspace(0, 1, 128, dtype="float32").reshape(2, 8, 8, 1)
    np.testing.assert_allclose(json.loads(result.stdout), upscaler.upscale(images, **QUICK), atol=1e-4)


def test_a_grey_image_is_shown_as_colours_and_averaged(upscaler):
    image = uniform(1, 8, 8, 1)
    settings = QUICK | {"eta": 1e-6, "noise": seeded(image, 0)}  # colours have other fresh noise
    grey = upscaler.upscale(image, **settings)
    expected = upscaler.upscale(np.repeat(image, 3, axis=-1), **settings)
    np.testing.assert_allclose(grey, expected.mean(axis=-1, keepdims=True), atol=1e-4)
    assert 0 <= grey.min() and grey.max() <= 1


def test_first_noise_is_seeded_by_the_image(upscaler):
    image = uniform(1, 8, 8, 1)
    expected = upscaler.upscale(image, **QUICK)
    np.testing.assert_array_equal(upscaler.upscale(image, **QUICK, noise=seeded(image, 0)), expected)


def test_images_are_enlarged_in_tiles_of_the_size_that_was_trained_on(upscaler):
    image, settings = uniform(1, 8, 14, 1), QUICK | {"steps": 1}
    assert upscaler.trained_edge is None and upscaler.tile == 128
    assert sample_size(ldm_files.UNET) == 64
    whole = upscaler.upscale(image, **settings)
    small = LDMUpscaler(upscaler.unet, upscaler.vqvae, schedule=upscaler.schedule, trained_edge=9)
    np.testing.assert_array_equal(small.upscale(image, **settings), upscaler.upscale(image, **settings, tile=8))
    assert np.abs(small.upscale(image, **settings) - whole).max() > 1e-3


@pytest.mark.parametrize("given", [0, -8, 1.5, "64", []])
def test_a_size_that_cannot_have_been_trained_on_is_refused(given):
    with pytest.raises(ValueError, match="Received: sample_size="):
        sample_size({"sample_size": given})


def test_tiles_of_a_model_are_what_they_are_alone_outside_the_overlap(upscaler):
    image, noise = uniform(1, 8, 14, 3), normal(1, 8, 14, 3)
    settings = QUICK | {"eta": 1e-6}  # fresh noise belongs to the whole image
    tiled = upscaler.upscale(image, **settings, noise=noise, tile=8, overlap=2)
    for start, alone in ((0, slice(0, 12)), (6, slice(4, 16))):
        part = slice(start, start + 8)
        tile = upscaler.upscale(image[:, :, part], **settings, noise=noise[:, :, part])
        np.testing.assert_allclose(tiled[:, :, start * 2 :][:, :, alone], tile[:, :, alone], atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "tile", "overlap"),
    [((8, 8), 8, 2), ((16, 9), 8, 2), ((37, 22), 8, 7), ((50, 13), 12, 1), ((9, 70), 64, 20)],
)
def test_tiles_that_are_enlarged_place_by_place_join_to_the_whole(shape, tile, overlap):
    image, tiling = uniform(*shape, 2), Tiling(*shape, tile=tile, overlap=overlap, multiple=4)
    canvas = tiling.canvas(3, 2)
    for place in tiling.places:
        part = tiling.cut(tiling.pad(image), place)
        assert part.shape[:2] == tiling.shape and not any(n % 4 for n in part.shape[:2])
        tiling.add(canvas, part.repeat(3, axis=0).repeat(3, axis=1), place, 3)
    np.testing.assert_allclose(tiling.crop(canvas, 3), image.repeat(3, axis=0).repeat(3, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("images", "options", "text"),
    [
        (np.zeros((1, 7, 8, 1)), {}, "at least 8 pixels"),
        (np.zeros((1, 8, 8, 2)), {}, "height, width"),
        (np.zeros((0, 8, 8, 1)), {}, "height, width"),
        (np.zeros((8, 8, 1)), {}, "height, width"),
        (np.zeros((1, 8, 8, 1), "uint8"), {}, "uint8"),
        (np.full((1, 8, 8, 1), 1.1), {}, r"\[0, 1\]"),
        (np.full((1, 8, 8, 1), np.nan), {}, r"\[0, 1\]"),
        (np.zeros((1, 8, 8, 1)), {"steps": 0}, "steps"),
        (np.zeros((1, 8, 8, 1)), {"eta": -0.1}, "eta"),
        (np.zeros((1, 8, 8, 1)), {"seed": -1}, "seed"),
        (np.zeros((1, 8, 8, 1)), {"batch_size": 0}, "batch_size"),
        (np.zeros((1, 8, 8, 1)), {"noise": np.zeros((1, 8, 8, 1))}, "noise"),
        (np.zeros((1, 8, 8, 1)), {"tile": 9}, "tile"),
        (np.zeros((1, 8, 8, 1)), {"tile": 4, "overlap": 2}, "tile"),
        (np.zeros((1, 8, 8, 1)), {"overlap": 0}, "overlap"),
    ],
)
def test_what_cannot_be_upscaled_is_refused(upscaler, images, options, text):
    with pytest.raises(ValueError, match=f"{text}.*Received: |Received: .*{text}"):
        upscaler.upscale(images, **options)
