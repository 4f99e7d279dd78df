"""An enlarged image is brought to agree with the small one that it came from."""

import numpy as np
import pytest

import ldm_files
from medkeras.super_resolution import degrade, make_consistent
from medkeras.super_resolution.degrade import downscaling

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


@pytest.mark.parametrize(("shape", "factor"), [((2, 32, 48, 3), 4), ((1, 30, 18, 1), 3), ((1, 8, 8, 1), 1)])
def test_the_result_becomes_the_small_image(shape, factor):
    large, small = uniform(*shape), uniform(shape[0], shape[1] // factor, shape[2] // factor, shape[3])
    found = make_consistent(large, small)
    rows, columns = downscaling(shape[1], factor), downscaling(shape[2], factor)
    np.testing.assert_allclose(np.einsum("ih,jw,bhwc->bijc", rows, columns, found), small, atol=1e-5)
    np.testing.assert_allclose(make_consistent(found, small), found, atol=1e-5)  # a projection


def test_no_enlarged_image_gets_farther_from_the_true_one():
    true = 0.25 + 0.5 * uniform(4, 32, 32, 1)
    small = np.asarray(degrade(true))  # of these values nothing is clipped
    for wrong in (uniform(4, 32, 32, 1), true + 0.1, np.zeros_like(true)):
        before, after = (np.square(x - true).sum(axis=(1, 2, 3)) for x in (wrong, make_consistent(wrong, small)))
        assert (after < before).all()
    np.testing.assert_allclose(make_consistent(true, small), true, atol=1e-5)


def test_an_upscaler_keeps_what_the_image_shows():
    upscaler, small = ldm_files.small_upscaler(), 0.3 + 0.4 * uniform(2, 16, 16, 1)
    free, kept = (upscaler.upscale(small, steps=2, consistent=kept) for kept in (False, True))
    misses = [np.abs(np.asarray(degrade(large, upscaler.factor)) - small).max() for large in (free, kept)]
    assert misses[1] < 0.05 < misses[0]  # what is left comes from clipping to [0, 1]


@pytest.mark.parametrize("large", [(1, 30, 32, 1), (2, 32, 32, 1), (1, 32, 32, 3), (32, 32), (1, 4, 4, 1)])
def test_shapes_that_do_not_fit_are_refused(large):
    with pytest.raises(ValueError, match="whole factor. Received: large of shape"):
        make_consistent(np.zeros(large), np.zeros((1, 8, 8, 1)))
