"""The warp: scipy as oracle, exact flips and quarter turns, masks and boxes that go along."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from scipy.interpolate import BSpline

from pipelines.augment import Augmenter, Flip, Warp, warp, warp_nearest
from pipelines.augment.geometric.warp import source_coordinates
from pipelines.augment.random_numbers import fold_in
from pipelines.augment.smooth_fields import bsplines, legendre, spline_count

SHAPES = [(9, 7, 1), (6, 8, 3), (4, 6, 5, 1)]
SCIPY = {"edge": "nearest", "zero": "grid-constant", "reflect": "reflect"}
EVERYTHING = {"scale": 0.2, "anisotropy": 0.1, "translation": 0.1, "shear": 10.0, "elastic": 0.03}


def images_of(shape, batch=6, seed=0):
    return tf.constant(np.random.default_rng(seed).random((batch, *shape)), tf.float32)


def draw(augmentation, shape, count):
    if count > 20:
        return Augmenter([augmentation], image_shape=shape).draw(0, tf.range(count))[0]
    keys = fold_in(tf.constant([1, 0], tf.int64), tf.range(count))
    return tf.nest.map_structure(lambda *rows: tf.stack(rows), *(augmentation.draw(key, shape) for key in keys))


def identity(shape, batch=1):
    rank = len(shape) - 1
    return tf.concat([tf.eye(rank, batch_shape=[batch]), tf.zeros((batch, rank, 1))], axis=2)


def by_scipy(image, at, order, mode):
    channels = [ndimage.map_coordinates(c, at, order=order, mode=mode) for c in np.moveaxis(image, -1, 0)]
    return np.stack(channels, -1)


@pytest.mark.parametrize("border", SCIPY)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 5, 2)])
def test_warp_is_linear_interpolation(shape, border):
    images, rng = images_of(shape, 2), np.random.default_rng(1)
    sizes = np.array(shape[:-1])[:, None]
    at = rng.uniform(-1.6 * sizes, 2.6 * sizes, (2, len(sizes), 50)).astype("float32")
    warped = warp(images, tf.unstack(tf.constant(at), axis=1), border=border)
    for image, places, got in zip(images.numpy(), at, warped.numpy(), strict=True):
        np.testing.assert_allclose(got, by_scipy(image, places, 1, SCIPY[border]), atol=1e-5)


@pytest.mark.parametrize("border", SCIPY)
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_warp_nearest_reads_whole_pixels(border, dtype):
    values, rng = np.arange(1, 36).reshape(1, 7, 5).astype(dtype), np.random.default_rng(1)
    at = rng.uniform(-9, 15, (1, 2, 60)).astype("float32")
    read = warp_nearest(tf.constant(values), tf.unstack(tf.constant(at), axis=1), border=border)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[0], ndimage.map_coordinates(values[0], at[0], order=0, mode=SCIPY[border]))


def affine_by_scipy(image, matrix, mode):
    centre = (np.array(image.shape[:-1]) - 1) / 2
    offset = matrix[:, -1] + centre - matrix[:, :-1] @ centre
    planes = [
        ndimage.affine_transform(c, matrix[:, :-1], offset, order=1, mode=mode) for c in np.moveaxis(image, -1, 0)
    ]
    return np.stack(planes, -1)


@pytest.mark.parametrize("border", SCIPY)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_affine_warp_is_that_of_scipy(shape, border):
    motion = Warp(rotation=40.0, scale=0.3, anisotropy=0.2, translation=0.2, shear=20.0, border=border)
    images, parameters = images_of(shape), draw(motion, shape, 6)
    moved = motion.apply_batch({"image": images}, parameters)["image"].numpy()
    for image, matrix, got in zip(images.numpy(), parameters["matrix"].numpy(), moved, strict=True):
        np.testing.assert_allclose(got, affine_by_scipy(image, matrix, SCIPY[border]), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_elastic_warp_is_that_of_scipy(shape):
    motion = Warp(rotation=20.0, **EVERYTHING)
    sizes, rank = np.array(shape[:-1]), len(shape) - 1
    images, parameters = images_of(shape), draw(motion, shape, 6)
    moved = motion.apply_batch({"image": images}, parameters)["image"].numpy()
    knots = np.arange(-3, spline_count(0.25) + 1) * 0.25  # One spline per four knots in a row.
    bases = [BSpline.design_matrix((np.arange(n) + 0.5) / n, knots, 3).toarray() for n in sizes]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in sizes), indexing="ij"))
    centre = ((sizes - 1) / 2)[:, None]
    for i, got in enumerate(moved):
        letters = "abc"[:rank], "xyz"[:rank]
        rule = f"r{letters[0]}," + ",".join(x + a for a, x in zip(*letters, strict=True)) + f"->r{letters[1]}"
        bent = grid + np.einsum(rule, parameters["elastic"][i].numpy().astype("float64"), *bases)
        matrix = parameters["matrix"][i].numpy()
        at = matrix[:, :-1] @ (bent.reshape(rank, -1) - centre) + matrix[:, -1:] + centre
        np.testing.assert_allclose(got.reshape(-1, shape[-1]), by_scipy(images[i].numpy(), at, 1, "nearest"), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_identity_changes_nothing(shape):
    batch = {"image": images_of(shape, 1), "mask": images_of(shape, 1)[..., 0]}
    moved = Warp().apply_batch(batch, {"matrix": identity(shape)})
    for name in batch:
        np.testing.assert_array_equal(moved[name], batch[name])


@pytest.mark.parametrize("planes", [(0, 1), (1, 2), (0, 2)])
def test_quarter_turns_of_a_cube_are_exact(planes):
    images = images_of((6, 6, 6, 2), 1)
    turn = np.eye(3)
    turn[np.ix_(planes, planes)] = [[0, -1], [1, 0]]
    matrix = tf.constant(np.hstack([turn, np.zeros((3, 1))])[None], tf.float32)
    turned = Warp().apply_batch({"image": images}, {"matrix": matrix})["image"]
    np.testing.assert_array_equal(turned[0], np.rot90(images[0], -1, planes))


@pytest.mark.parametrize("rotation", [(90.0, 0.0, 0.0), (0.0, 90.0, 0.0), (0.0, 0.0, 90.0)])
def test_three_angles_turn_about_depth_height_and_width(rotation):
    axis = int(np.argmax(rotation))
    for matrix in draw(Warp(rotation=rotation), (8, 8, 8, 1), 5)["matrix"].numpy()[..., :-1]:
        np.testing.assert_allclose(matrix[axis], np.eye(3)[axis], atol=1e-6)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
        assert np.trace(matrix) < 2.999


@pytest.mark.parametrize("shape", SHAPES)
def test_flips_of_a_warp_are_those_of_flip(shape):
    axes = ("width", "height", "depth")[: len(shape) - 1]
    batch = batch_with_everything(shape, 12)
    motion = Warp(flip=axes)
    parameters = draw(motion, shape, 12)
    signs = np.sign(np.diagonal(parameters["matrix"][..., :-1].numpy(), axis1=1, axis2=2))[:, ::-1]
    moved, flipped = motion.apply_batch(batch, parameters), Flip(axes).apply_batch(batch, tf.constant(signs < 0))
    assert len(np.unique(signs, axis=0)) > 2
    for name in batch:
        np.testing.assert_array_equal(moved[name], flipped[name])


def batch_with_everything(shape, count):
    """Images with a blob each, its mask, its box, and an attention map that has the blob too."""
    rng, sizes = np.random.default_rng(3), np.array(shape[:-1])
    images, boxes = np.zeros((count, *shape), "float32"), np.full((count, 2, 2 * len(sizes)), -1.0, "float32")
    for i in range(count):
        low = rng.integers(sizes // 5, sizes // 2)
        high = low + rng.integers(sizes // 6, sizes // 3) + 1
        images[(i, *(slice(a, b) for a, b in zip(low, high, strict=True)))] = 1
        boxes[i, 0] = [*low, *high]
    mask = images[..., 0]
    batch = {"image": images, "mask": mask, "boxes": boxes, "attention": mask}
    return {name: tf.constant(value) for name, value in batch.items()}


@pytest.mark.parametrize("border", SCIPY)
@pytest.mark.parametrize("shape", [(40, 32, 1), (14, 20, 18, 1)])
def test_masks_and_boxes_travel_with_the_object(shape, border):
    motion = Warp(rotation=25.0, **EVERYTHING, border=border, flip=("width",))
    batch = batch_with_everything(shape, 8)
    moved = motion.apply_batch(batch, draw(motion, shape, 8))
    for image, mask, boxes in zip(
        moved["image"].numpy()[..., 0], moved["mask"].numpy(), moved["boxes"].numpy(), strict=True
    ):
        np.testing.assert_allclose(ndimage.center_of_mass(image), ndimage.center_of_mass(mask), atol=1)
        seen = [np.flatnonzero(mask.any(axis=tuple(set(range(mask.ndim)) - {a}))) for a in range(mask.ndim)]
        np.testing.assert_array_equal(boxes[0], [s[0] for s in seen] + [s[-1] + 1 for s in seen])
        np.testing.assert_array_equal(boxes[1], -1)


def test_a_box_that_leaves_the_image_is_no_box():
    shift = {"matrix": tf.constant([[[1.0, 0, 0], [0, 1, 6]]])}
    boxes = tf.constant([[[2, 0, 4, 5], [2, 3, 4, 7], [np.nan] * 4, [-1] * 4, [5, 5, 5, 9]]], tf.float32)
    batch = {"image": tf.zeros((1, 8, 8, 1)), "boxes": boxes}
    moved = Warp(border="zero").apply_batch(batch, shift)["boxes"][0]
    np.testing.assert_array_equal(moved, [[-1] * 4, [2, 0, 4, 1], [-1] * 4, [-1] * 4, [-1] * 4])
    flipped = Flip().apply_batch(batch, tf.constant([[True]]))["boxes"][0]
    np.testing.assert_array_equal(flipped, [[2, 3, 4, 8], [2, 1, 4, 5], [-1] * 4, [-1] * 4, [-1] * 4])


def test_attention_is_warped_on_its_own_grid():
    shape, factor = (32, 48, 1), 4
    motion = Warp(rotation=20.0, translation=0.1, elastic=0.02)
    parameters = draw(motion, shape, 4)
    fine = source_coordinates(parameters, shape[:-1])
    coarse = source_coordinates(parameters, shape[:-1], cells=(8, 12))
    for axis, (f, c) in enumerate(zip(fine, coarse, strict=True)):
        assert c.shape == (4, 8, 12)
        # A cell comes from where the middle of its 4 x 4 pixels comes from.
        pooled = tf.nn.avg_pool2d(tf.ones_like(f)[..., None] * f[..., None], factor, factor, "VALID")[..., 0]
        np.testing.assert_allclose((c + 0.5) * factor - 0.5, pooled, atol=0.02 * shape[axis])
    same = {"matrix": identity(shape, 4)}
    batch = {"image": images_of(shape, 4), "attention": images_of((8, 12, 1), 4)[..., 0]}
    np.testing.assert_allclose(Warp().apply_batch(batch, same)["attention"], batch["attention"], atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_warp_draws_within_its_ranges(shape):
    drawn = draw(Warp(rotation=30, scale=0.2, translation=0.1), shape, 200)["matrix"].numpy()
    determinant = np.linalg.det(drawn[..., :-1]) ** (1 / (len(shape) - 1))
    assert determinant.min() < 1 / 1.15 and determinant.max() > 1.15
    assert np.all((determinant > 1 / 1.2001) & (determinant < 1.2001))
    angle = np.degrees(np.arctan2(drawn[:, -1, -3], drawn[:, -1, -2]))
    assert 28 < np.abs(angle).max() <= 30.001
    assert np.all(np.abs(drawn[..., -1]) <= 0.1 * np.array(shape[:-1]) + 1e-6)


@pytest.mark.parametrize("name", ["shear", "anisotropy"])
def test_shear_keeps_the_volume_and_anisotropy_the_axes(name):
    drawn = draw(Warp(**{"shear": 30.0} if name == "shear" else {"anisotropy": 0.5}), (8, 8, 8, 1), 50)["matrix"]
    linear = drawn[..., :-1].numpy()
    if name == "shear":
        np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-5)
        assert 0.4 < np.abs(np.triu(linear, 1)).max() <= np.tan(np.radians(30))
    else:
        np.testing.assert_array_equal(linear * (1 - np.eye(3)), 0)
        assert np.all((linear.diagonal(axis1=1, axis2=2) > 1 / 1.5001) & (linear.diagonal(axis1=1, axis2=2) < 1.5001))


@pytest.mark.parametrize("shape", [(40, 60, 1), (20, 24, 28, 1)])
def test_displacements_have_the_strength_they_say_and_never_fold(shape):
    motion = Warp(elastic=0.02, spacing=0.25)
    sizes = np.array(shape[:-1])
    parameters = draw(motion, shape, 40)
    plain = source_coordinates({"matrix": parameters["matrix"]}, sizes.tolist())
    bent = source_coordinates(parameters, sizes.tolist())
    for size, flat, curved in zip(sizes, plain, bent, strict=True):
        assert np.std(curved - flat) == pytest.approx(0.02 * size, rel=0.15)
    strongest = Warp(elastic=0.25 / 8)
    field = np.stack(source_coordinates(draw(strongest, shape, 40), sizes.tolist()), axis=-1)
    jacobian = np.stack(
        [
            np.diff(field, axis=1 + a)[tuple([slice(None)] + [slice(0, n - 1) for n in sizes])]
            for a in range(len(sizes))
        ],
        axis=-1,
    )
    assert np.linalg.det(jacobian).min() > 0


def test_the_bases_are_those_of_scipy_and_numpy():
    at = np.linspace(0, 1, 50)
    knots = np.arange(-3, spline_count(0.3) + 1) * 0.3
    np.testing.assert_allclose(bsplines(at, 0.3), BSpline.design_matrix(at, knots, 3).toarray(), atol=1e-12)
    gram = legendre(4000, 3).T @ legendre(4000, 3) / 4000
    np.testing.assert_allclose(gram, np.eye(4), atol=1e-5)


@pytest.mark.parametrize(
    "motion", [Warp(20.0, **EVERYTHING, flip=("width",), border="reflect"), Flip()], ids=["Warp", "Flip"]
)
@pytest.mark.parametrize("shape", [(6, 8, 3), (4, 6, 5, 1)])
def test_eager_mode_graph_and_xla_agree(shape, motion):
    batch, parameters = batch_with_everything(shape, 4), draw(motion, shape, 4)
    batch["image"] = images_of(shape, 4)
    eager = motion.apply_batch(batch, parameters)
    for compiled in (False, True):
        other = tf.function(motion.apply_batch, jit_compile=compiled)(batch, parameters)
        for name, value in eager.items():
            np.testing.assert_allclose(other[name], value, atol=1e-4)


def test_many_pixels_are_counted_in_64_bits():
    shape = (1, 2**24 + 1)
    image = tf.reshape(tf.range(shape[1], dtype=tf.int32), (1, *shape))
    read = warp_nearest(tf.concat([image, image + 1], 0), [tf.zeros((2, 1)), tf.constant([[0.0], [2.0**24]])])
    np.testing.assert_array_equal(read, [[0], [2**24 + 1]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Warp(rotation=200), "`rotation` must.*Received: Warp"),
        (lambda: Warp(rotation=(10.0, 5.0)), "one or three angles"),
        (lambda: Augmenter([Warp(rotation=(1.0, 1.0, 1.0))], image_shape=(4, 4, 1)), "turns by one angle"),
        (lambda: Warp(translation=1.0), "Received: Warp"),
        (lambda: Warp(scale=-0.1), "Received: Warp"),
        (lambda: Warp(shear=61), "Received: Warp"),
        (lambda: Warp(elastic=0.04), r"spacing / 8"),
        (lambda: Warp(spacing=0.0), r"`spacing` must"),
        (lambda: Warp(flip=("time",)), r"axes=\('time',\)"),
        (lambda: Warp(border="wrap"), "edge, zero, reflect.*border='wrap'"),
        (lambda: Augmenter([Warp(flip=("depth",))], image_shape=(4, 4, 1)), "Only volumes"),
        (lambda: warp(tf.zeros((1, 2, 2, 1)), [tf.zeros((1, 1))] * 2, border="x"), "border='x'"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_flips_are_fair_and_axes_are_independent():
    drawn = draw(Flip(("width", "height")), (4, 4, 1), 400).numpy()
    assert np.all(np.abs(drawn.mean(axis=0) - 0.5) < 0.08)
    assert abs((drawn[:, 0] == drawn[:, 1]).mean() - 0.5) < 0.08


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_mirrors_each_axis_on_its_own(shape):
    axes = ("width", "height", "depth")[: len(shape) - 1]
    images = images_of(shape, 2 ** len(axes))
    chosen = np.array(list(itertools.product((False, True), repeat=len(axes))))
    flipped = Flip(axes).apply_batch({"image": images}, tf.constant(chosen))["image"].numpy()
    for image, flags, got in zip(images.numpy(), chosen, flipped, strict=True):
        np.testing.assert_array_equal(got, np.flip(image, [len(axes) - 1 - i for i in np.flatnonzero(flags)]))
