"""Random crops: their sizes against a sampler in numpy, their pixels against scipy, and what goes along."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from pipelines.augment import AUGMENTATIONS, Augmenter, ColorJitter, Flip, Gain, RandomResizedCrop, Warp
from pipelines.augment.random_numbers import fold_in

SHAPES = [(24, 24, 1), (18, 30, 3), (10, 12, 14, 1)]


def draw(augmentation, shape, count):
    if count > 20:
        return Augmenter([augmentation], image_shape=shape).draw(0, tf.range(count))[0]
    keys = fold_in(tf.constant([1, 0], tf.int64), tf.range(count))
    return tf.nest.map_structure(lambda *rows: tf.stack(rows), *(augmentation.draw(key, shape) for key in keys))


def boxes_of(parameters, shape):
    """The sides and the lower corners of crops that are not turned, in pixels."""
    sizes, matrix = np.array(shape[:-1]), parameters["matrix"].numpy().astype("float64")
    sides = np.abs(np.diagonal(matrix[..., :-1], axis1=1, axis2=2)) * sizes
    return sides, matrix[..., -1] + sizes / 2 - sides / 2


def sampled(shape, scale, ratio, count, seed=0):
    """The published rule, without rounding to pixels."""
    rng, (height, width) = np.random.default_rng(seed), shape[:2]
    found = []
    for _ in range(count):
        for _ in range(10):
            area = height * width * rng.uniform(*scale)
            aspect = np.exp(rng.uniform(*np.log(ratio)))
            h, w = np.sqrt(area / aspect), np.sqrt(area * aspect)
            if h <= height and w <= width:
                break
        else:
            h, w = min(height, width / ratio[0]), min(width, height * ratio[1])
        found.append([h, w, rng.uniform(0, height - h), rng.uniform(0, width - w)])
    return np.array(found)


@pytest.mark.parametrize(
    ("shape", "scale", "ratio"),
    [
        ((24, 24, 1), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((18, 60, 1), (0.3, 1.0), (3 / 4, 4 / 3)),  # Mostly too wide: the fallback.
        ((24, 24, 1), (0.5, 0.6), (1.0, 1.0)),
    ],
)
def test_sizes_and_places_have_the_published_distribution(shape, scale, ratio):
    sides, corners = boxes_of(draw(RandomResizedCrop(scale, ratio), shape, 4000), shape)
    expected = sampled(shape, scale, ratio, 4000)
    for mine, theirs in zip(np.hstack([sides, corners]).T, expected.T, strict=True):
        assert stats.ks_2samp(mine.round(3), theirs.round(3)).statistic < 0.045  # 0.1 % of equal samples exceed it.
    assert np.all(corners > -1e-3) and np.all(corners + sides < np.array(shape[:-1]) + 1e-3)


def test_a_volume_is_cut_to_a_share_of_its_content():
    shape, crop = (20, 24, 24, 1), RandomResizedCrop((0.3, 0.4), (0.8, 1.25))
    sides, corners = boxes_of(draw(crop, shape, 500), shape)
    share = sides.prod(axis=1) / (20 * 24 * 24)
    assert share.min() == pytest.approx(0.3, abs=0.01) and share.max() == pytest.approx(0.4, abs=0.01)
    for ratio in (sides[:, 2] / sides[:, 1], sides[:, 0] / np.sqrt(sides[:, 1] * sides[:, 2])):
        assert 0.799 < ratio.min() < 0.83 and 1.2 < ratio.max() < 1.251
    assert np.all(corners > -1e-3) and np.all(corners + sides < np.array(shape[:-1]) + 1e-3)


def resized(image, side, corner):
    """A crop resized with the middles of its outermost pixels half a pixel inside, as everywhere."""
    axes = [c + (np.arange(n) + 0.5) * s / n - 0.5 for c, s, n in zip(corner, side, image.shape, strict=False)]
    at = np.meshgrid(*axes, indexing="ij")
    return np.stack([ndimage.map_coordinates(c, at, order=1, mode="nearest") for c in np.moveaxis(image, -1, 0)], -1)


@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_are_those_of_a_crop_that_is_resized(shape):
    images = np.random.default_rng(0).random((5, *shape)).astype("float32")
    crop = RandomResizedCrop()
    parameters = draw(crop, shape, 5)
    cropped = crop.apply_batch({"image": tf.constant(images)}, parameters)["image"].numpy()
    for image, side, corner, got in zip(images, *boxes_of(parameters, shape), cropped, strict=True):
        np.testing.assert_allclose(got, resized(image, side, corner), atol=1e-4)


def test_crop_and_motion_are_the_motion_and_then_the_crop():
    """Composed in one map: what a smooth image shows after both, up to interpolating twice."""
    y, x = np.meshgrid(np.linspace(0, 1, 48), np.linspace(0, 1, 48), indexing="ij")
    image = tf.constant((np.sin(3 * y) * np.cos(4 * x))[None, ..., None] * 0.4 + 0.5, tf.float32)
    motion = Warp(rotation=30.0, translation=0.05, flip=("width",))
    both, alone = RandomResizedCrop((0.2, 0.3), motion=motion), RandomResizedCrop((0.2, 0.3))
    for n in range(6):
        key = fold_in(tf.constant([4, 2], tf.int64), n)
        parameters = {name: d.draw(key, (48, 48, 1))["matrix"][None] for name, d in (("both", both), ("crop", alone))}
        moved = {"matrix": motion.draw(fold_in(key, 2), (48, 48, 1))["matrix"][None]}
        warped = motion.apply_batch({"image": image}, moved)["image"]
        expected = alone.apply_batch({"image": warped}, {"matrix": parameters["crop"]})["image"]
        got = both.apply_batch({"image": image}, {"matrix": parameters["both"]})["image"]
        assert np.abs(got - expected).mean() < 5e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_the_whole_image_is_a_crop_too(shape):
    images = tf.constant(np.random.default_rng(0).random((3, *shape)), tf.float32)
    ratio = shape[1] / shape[0] if len(shape) == 3 else 14 / 12
    whole = RandomResizedCrop((1.0, 1.0), (ratio, ratio))
    if len(shape) == 4:
        whole = RandomResizedCrop((1.0, 1.0), (0.1, 0.11))  # Nothing fits: as much as the ratio allows.
        sides, _ = boxes_of(draw(whole, shape, 3), shape)
        np.testing.assert_allclose(sides, [[10, 12, 1.32]] * 3, atol=1e-4)
        return
    np.testing.assert_allclose(whole.apply_batch({"image": images}, draw(whole, shape, 3))["image"], images, atol=1e-5)


def test_masks_boxes_and_attention_go_along():
    shape, crop = (40, 48, 1), RandomResizedCrop((0.4, 0.9), motion=Warp(flip=("width",)))
    mask = np.zeros((8, 40, 48), "float32")
    mask[:, 12:26, 14:34] = 1
    boxes = np.array([[[12, 14, 26, 34], [-1] * 4]] * 8, "float32")
    coarse = mask.reshape(8, 10, 4, 12, 4).mean((2, 4))
    batch = {"image": mask[..., None], "mask": mask, "boxes": boxes, "attention": coarse}
    moved = crop.apply_batch({k: tf.constant(v) for k, v in batch.items()}, draw(crop, shape, 8))
    for image, seen, box, cells in zip(*(moved[k].numpy() for k in batch), strict=True):
        # Linear interpolation beside the nearest pixel: a half along an edge, a quarter in a corner.
        assert image[seen == 1].min() >= 0.25 - 1e-6 and image[seen == 0].max() <= 0.5 + 1e-6
        found = [np.flatnonzero(seen.any(axis=1 - axis)) for axis in (0, 1)]
        np.testing.assert_array_equal(box[0], [f[0] for f in found] + [f[-1] + 1 for f in found])
        np.testing.assert_array_equal(box[1], -1)
        np.testing.assert_allclose(ndimage.zoom(cells, 4, order=0), seen, atol=1)
        assert abs(cells.mean() - seen.mean()) < 0.05


def test_eager_mode_and_xla_agree_and_a_key_decides():
    crop = RandomResizedCrop(motion=Warp(flip=("width",)))
    parameters = draw(crop, (18, 30, 3), 4)
    images = tf.constant(np.random.default_rng(0).random((4, 18, 30, 3)), tf.float32)
    compiled = tf.function(crop.apply_batch, jit_compile=True)({"image": images}, parameters)["image"]
    np.testing.assert_allclose(compiled, crop.apply_batch({"image": images}, parameters)["image"], atol=1e-5)
    augment = Augmenter(AUGMENTATIONS["imagenet"], image_shape=(18, 30, 3), seed=5)
    shown = augment(images, 3, tf.constant([7, 1, 4, 2]))
    again = augment(tf.gather(images, [2]), 3, tf.constant([4]))
    np.testing.assert_allclose(shown[2], again[0], atol=1e-6)
    assert np.abs(augment(images, 4, tf.constant([7, 1, 4, 2])) - shown).max() > 0.1


def test_the_published_fundus_crop_is_224_of_256_pixels():
    crop, gain, colours = AUGMENTATIONS["fundus-published"]
    sides, corners = boxes_of(draw(crop, (32, 32, 3), 300), (32, 32, 3))
    np.testing.assert_allclose(sides, 28, atol=1e-4)
    assert corners.min() < 0.1 and corners.max() > 3.9
    assert (gain, colours) == (Gain(0.126), ColorJitter(saturation=0.5, hue=0.0))


def test_gain_is_a_factor():
    factors = draw(Gain(0.3), (4, 4, 1), 300).numpy()
    assert 0.7 <= factors.min() < 0.72 and 1.28 < factors.max() < 1.3
    images = tf.constant(np.random.default_rng(0).random((2, 4, 4, 1)), tf.float32)
    got = Gain(0.3).apply(images, tf.constant([0.8, 1.25]))
    np.testing.assert_allclose(got, np.clip(images * np.reshape([0.8, 1.25], (2, 1, 1, 1)), 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop((0.0, 1.0)), r"scale=\(0.0, 1.0\)"),
        (lambda: RandomResizedCrop((0.5, 1.1)), r"scale=\(0.5, 1.1\)"),
        (lambda: RandomResizedCrop((0.5,)), r"scale=\(0.5,\)"),
        (lambda: RandomResizedCrop(ratio=(2.0, 1.0)), r"ratio=\(2.0, 1.0\)"),
        (lambda: Gain(1.5), "strength=1.5"),
        (lambda: Augmenter([RandomResizedCrop(motion=Warp(flip=("depth",)))], image_shape=(4, 4, 1)), "Only volumes"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_flips_of_the_motion_are_those_of_flip():
    crop = RandomResizedCrop((1.0, 1.0), (1.0, 1.0), Warp(flip=("width",)))
    images = tf.constant(np.random.default_rng(0).random((12, 8, 8, 1)), tf.float32)
    parameters = draw(crop, (8, 8, 1), 12)
    flipped = parameters["matrix"][:, 1, 1].numpy() < 0
    assert 0 < flipped.sum() < 12
    expected = Flip().apply_batch({"image": images}, tf.constant(flipped[:, None]))["image"]
    np.testing.assert_allclose(crop.apply_batch({"image": images}, parameters)["image"], expected, atol=1e-5)
