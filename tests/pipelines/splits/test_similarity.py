"""Likeness of thumbnails: against scipy and numpy, and what must not change it."""

import cv2
import numpy as np
import pytest
from scipy.fft import dctn

from pipelines.splits.similarity import FREQUENCIES, SIDE, describe, likeness, thumbnail, turned, turned_descriptions


def textures(count, side=96, seed=0):
    noise = np.random.default_rng(seed).random((count, side, side), np.float32)
    return [cv2.normalize(cv2.GaussianBlur(image, (0, 0), side / 24), None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
            for image in noise]  # fmt: skip


@pytest.fixture(scope="module")
def thumbnails():
    return np.stack([thumbnail(image) for image in textures(12)])


def test_thumbnails_do_not_depend_on_type_channels_or_contrast():
    image = textures(1)[0]
    picture = thumbnail(image)
    assert picture.dtype == np.uint8 and picture.shape == (SIDE, SIDE)
    assert picture.min() == 0 and picture.max() == 255
    for same in (np.repeat(image[..., None], 3, -1), np.repeat(image[..., None], 4, -1), image.astype(np.uint16) * 257,
                 image[..., None], (image / 255).astype(np.float32), 40 + image // 2):  # fmt: skip
        np.testing.assert_allclose(thumbnail(same).astype(int), picture, atol=4)


@pytest.mark.parametrize("image", [np.zeros((5, 7), np.uint8), np.full((60, 60, 3), 9, np.uint16)])
def test_an_image_of_one_value_has_an_empty_thumbnail(image):
    assert not thumbnail(image).any()


@pytest.mark.parametrize("depth", [1, 2, 7, 32, 33, 64])
def test_a_volume_upside_down_has_the_same_thumbnail(depth):
    volume = np.stack(textures(depth, side=50))
    np.testing.assert_array_equal(thumbnail(volume, rank=3), thumbnail(volume[::-1], rank=3))
    np.testing.assert_array_equal(thumbnail(volume[..., None], rank=3), thumbnail(volume, rank=3))


def test_descriptions_are_weighted_low_frequencies(thumbnails):
    along = np.arange(FREQUENCIES)
    weights = np.sqrt(np.hypot(along[:, None], along))
    spectrum = dctn(thumbnails.astype(float), axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES]
    wanted = (spectrum * weights).reshape(len(thumbnails), -1)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(describe(thumbnails), wanted, atol=1e-5)


def test_descriptions_turn_as_thumbnails_do(thumbnails):
    ways = turned(thumbnails)
    assert len({way[0].tobytes() for way in ways}) == 8
    for way, descriptions in zip(ways, turned_descriptions(describe(thumbnails)), strict=True):
        np.testing.assert_allclose(descriptions, describe(way), atol=1e-5)


def test_an_image_is_like_itself_and_the_order_does_not_matter(thumbnails):
    np.testing.assert_allclose(likeness(thumbnails, thumbnails), 1, atol=1e-4)
    others = np.roll(thumbnails, 1, axis=0)
    scores = likeness(thumbnails, others)
    np.testing.assert_array_equal(scores, likeness(others, thumbnails))
    assert np.all(scores < 0.6)


def unaligned(first, second):
    """The correlation of gradients as they are."""
    a, b = (np.concatenate([np.diff(x.astype(float), axis=k).ravel() for k in (0, 1)]) for x in (first, second))
    return a @ b / np.sqrt(a @ a * (b @ b))


@pytest.mark.parametrize("cut", [(8, 0, 0, 0), (0, 0, 4, 7), (3, 6, 7, 2)])
def test_crops_are_aligned(cut):
    for image in textures(6, seed=1):
        top, bottom, left, right = cut
        cropped = thumbnail(image[top : 96 - bottom, left : 96 - right])
        score = float(likeness(thumbnail(image)[None], cropped[None])[0])
        assert score > 0.95 > 0.9 > unaligned(thumbnail(image), cropped)


def test_flat_thumbnails_are_like_nothing(thumbnails):
    flat = np.zeros_like(thumbnails)
    assert not likeness(flat, thumbnails).any() and not likeness(flat, flat).any()


def test_a_limit_changes_no_score_above_it(thumbnails):
    second = np.concatenate([thumbnails[:6, ::1], np.roll(thumbnails, 1, axis=0)[:6]])
    first = np.concatenate([thumbnails[:6], thumbnails[:6]])
    whole, limited = likeness(first, second), likeness(first, second, at_least=0.9)
    assert (whole >= 0.9).sum() == 6
    np.testing.assert_allclose(limited[whole >= 0.9], whole[whole >= 0.9], atol=1e-5)
    assert np.all(limited[whole < 0.9] < 0.9)


def test_no_pairs():
    assert likeness(np.zeros((0, SIDE, SIDE), np.uint8), np.zeros((0, SIDE, SIDE), np.uint8)).shape == (0,)
