"""The official super-resolution model against the reference answers, at full size, read from a folder."""

import shutil

import numpy as np
import pytest

import ldm_files
from ldm_files import seeded_weights
from medkeras.super_resolution import LDMUpscaler
from paths import PARITY


def golden(name):
    return {
        key: np.moveaxis(a, 1, -1) if a.ndim == 4 else a for key, a in np.load(PARITY / f"golden/{name}.npz").items()
    }


def sample(*arguments):
    return np.moveaxis(seeded_weights.sample(*arguments), 1, -1)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-4 * max(1, np.abs(expected).max()), rtol=0)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    for part, config in (("unet", ldm_files.UNET), ("vqvae", ldm_files.VQVAE)):
        arrays = seeded_weights.state_dict(PARITY / "keys" / f"ldm_{part}.tsv", 1)
        ldm_files.write(folder, part, config, arrays)
    ldm_files.write_scheduler(folder)
    upscaler = LDMUpscaler.from_pretrained(folder)
    shutil.rmtree(folder)
    return upscaler


def test_the_size_is_the_official_one(official):
    assert official.unet.count_params() == 113_622_563
    assert official.vqvae.count_params() == 55_322_782
    assert (official.factor, official.smallest) == (4, 32)


def test_the_autoencoder_gives_the_reference_answers(official):
    reference = golden("ldm_vqvae")
    latents = official.vqvae.encoder(2 * sample((1, 3, 64, 64), 1, "uniform") - 1)
    assert_close(latents, reference["latents"])
    assert_close(official.vqvae.codebook(latents), reference["quantized"])
    assert_close(official.vqvae.decoder(reference["latents"]), reference["decoded"])


def test_sampling_and_upscaling_give_the_reference_answers(official, monkeypatch):
    reference = golden("ldm_sr")
    image, noise = sample((1, 3, 32, 32), 1, "uniform"), sample((1, 3, 32, 32), 101)
    assert official.schedule.timesteps(5).tolist() == reference["timesteps"].tolist()
    seen = np.concatenate([noise, 2 * image - 1], axis=-1)
    assert_close(official.unet([seen, np.array([801])]), reference["first_eps"])
    sample_latents, latents = official.sampler.sample, []
    monkeypatch.setattr(
        official.sampler, "sample", lambda *a, **k: latents.append(sample_latents(*a, **k)) or latents[0]
    )
    large = official.upscale(image, steps=5, noise=noise)
    assert_close(latents[0], reference["final_latent"])
    # Where two vectors of the codebook are equally near, rounding decides.
    assert (np.abs(large - reference["image"]) <= 1e-2).mean() >= 0.99
