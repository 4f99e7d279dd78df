"""Attention crop and drop: golden answers, a numpy twin, the same numbers in every form, and maps without a peak."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import seeded_weights  # noqa: E402
from jax_process import JAX
from medkeras.layers import attention_box, attention_crop, attention_drop, attention_indices, crop_to_boxes
from paths import PARITY, ROOT

CASES = [((4, 30, 43, 3), (5, 7)), ((3, 9, 14, 11, 2), (3, 5, 4)), ((1, 17, 16, 1), (17, 4)), ((2, 1, 12, 1), (3, 3))]


def images_of(shape):
    return np.random.default_rng(0).random(shape).astype("float32")


def blobs(batch, cells, seed=0):
    """One blob of attention per image, narrow enough for a box within the image."""
    rng, maps = np.random.default_rng(seed), 1.0
    for axis, count in enumerate(cells):
        centre, width = rng.uniform(0, count - 1, (batch, 1)), rng.uniform(0.1, 0.25, (batch, 1)) * count
        values = np.exp(-((np.arange(count) - centre) ** 2) / (2 * width**2))
        maps = maps * values.reshape(batch, *[1] * axis, count, *[1] * (len(cells) - axis - 1))
    return maps.astype("float32")


def aligned(values, size, axis):
    """Resizes one axis, corner pixels on corner pixels, one pixel at a time."""
    values, count = np.moveaxis(np.asarray(values, np.float64), axis, 0), values.shape[axis]
    rows = []
    for i in range(size):
        place = i * (count - 1) / (size - 1) if size > 1 else 0
        low = min(int(place), count - 1)
        high = min(low + 1, count - 1)
        rows.append(values[low] + (place - low) * (values[high] - values[low]))
    return np.moveaxis(np.stack(rows), 0, axis)


def resized(values, sizes):
    for axis, size in enumerate(sizes):
        values = aligned(values, size, axis)
    return values


def twin_box(attention, sizes, threshold, padding, peak="map"):
    values = resized(attention, sizes)
    places = np.argwhere(values >= threshold * (attention if peak == "map" else values).max())
    whole = [0] * len(sizes), list(sizes)
    if not len(places):
        return whole
    first, last = places.min(axis=0), places.max(axis=0)
    lower = [max(math.trunc(f - padding * n), 0) for f, n in zip(first, sizes, strict=True)]
    upper = [min(math.trunc(f + padding * n), n) for f, n in zip(last, sizes, strict=True)]
    return (lower, upper) if all(u > low for low, u in zip(lower, upper, strict=True)) else whole


def twin_crop(image, box, sizes):
    return resized(image[tuple(slice(low, high) for low, high in zip(*box, strict=True))], sizes)


@pytest.fixture(scope="module")
def golden():
    arrays = np.load(PARITY / "golden" / "attention_crop_drop.npz")
    images = seeded_weights.sample(tuple(arrays["input_shape"]), int(arrays["input_seed"]))
    return np.moveaxis(images, 1, -1), arrays["attention"][:, 0], arrays


@pytest.mark.parametrize("tenths", [3, 5, 7])
@pytest.mark.parametrize("jit", [False, True])
def test_golden_answers(golden, tenths, jit):
    images, attention, arrays = golden
    for name, function, options in (("crop", attention_crop, {"padding": 0.1}), ("drop", attention_drop, {})):
        compiled = tf.function(function, jit_compile=jit)
        answer = np.moveaxis(compiled(images, attention, threshold=tenths / 10, **options), -1, 1)[:, :, ::4, ::4]
        np.testing.assert_allclose(answer, arrays[f"{name}_theta{tenths}"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("shape", "cells"), CASES)
@pytest.mark.parametrize("peak", ["map", "image"])
def test_the_same_as_image_by_image(shape, cells, peak):
    images, attention, sizes = images_of(shape), blobs(shape[0], cells), shape[1:-1]
    threshold = np.linspace(0.35, 0.65, shape[0]).astype("float32")
    options = {"threshold": threshold, "peak": peak}
    boxes = attention_box(attention, image_size=sizes, padding=0.07, **options).numpy()
    crops = attention_crop(images, attention, padding=0.07, **options).numpy()
    drops = attention_drop(images, attention, fill=-1.0, **options).numpy()
    for i, (image, values) in enumerate(zip(images, attention, strict=True)):
        box = twin_box(values, sizes, threshold[i], 0.07, peak)
        assert boxes[i].tolist() == [*box[0], *box[1]]
        np.testing.assert_allclose(crops[i], twin_crop(image, box, sizes), atol=1e-5)
        on_image = resized(values, sizes)
        hidden = on_image >= threshold[i] * (values if peak == "map" else on_image).max()
        np.testing.assert_array_equal(drops[i], np.where(hidden[..., None], -1, image))


@pytest.mark.parametrize(("shape", "cells"), CASES)
def test_eager_graph_and_xla_agree(shape, cells):
    images, attention = tf.constant(images_of(shape)), tf.constant(blobs(shape[0], cells))
    for function in (attention_crop, attention_drop):
        eager = function(images, attention, threshold=0.5)
        for jit in (False, True):
            compiled = tf.function(function, jit_compile=jit)
            np.testing.assert_allclose(compiled(images, attention, threshold=0.5), eager, atol=1e-5)


ON_JAX = """
import jax, numpy as np
from medkeras.layers import attention_box, attention_crop, attention_drop, attention_indices
given, found = dict(np.load("INPUT")), {}
for case in ("0", "1"):
    images, maps = given["images" + case], given["maps" + case]
    found["crop" + case] = jax.jit(lambda x, a: attention_crop(x, a, threshold=0.4))(images, maps)
    found["drop" + case] = jax.jit(lambda x, a: attention_drop(x, a, threshold=0.4))(images, maps)
    found["box" + case] = jax.jit(lambda a: attention_box(a, image_size=images.shape[1:-1], threshold=0.4))(maps)
found["indices"] = attention_indices(np.moveaxis(given["maps0"], 0, -1)[None], given["uniforms"])
np.savez("OUTPUT", **found)
"""


@pytest.mark.process
def test_jax_gives_the_same(tmp_path):
    given = {"uniforms": np.random.default_rng(0).random((1, 20)).astype("float32")}
    for case, (shape, cells) in enumerate(CASES[:2]):
        given[f"images{case}"], given[f"maps{case}"] = images_of(shape), blobs(shape[0], cells)
        given[f"maps{case}"][-1] = np.nan
    np.savez(tmp_path / "in.npz", **given)
    code = ON_JAX.replace("INPUT", str(tmp_path / "in.npz")).replace("OUTPUT", str(tmp_path / "out.npz"))
    environment = os.environ | JAX
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=ROOT, timeout=300)
    found = np.load(tmp_path / "out.npz")
    for case, (shape, _) in enumerate(CASES[:2]):
        images, maps = given[f"images{case}"], given[f"maps{case}"]
        np.testing.assert_allclose(found[f"crop{case}"], attention_crop(images, maps, threshold=0.4), atol=1e-5)
        np.testing.assert_array_equal(found[f"drop{case}"], attention_drop(images, maps, threshold=0.4))
        boxes = attention_box(maps, image_size=shape[1:-1], threshold=0.4)
        np.testing.assert_array_equal(found[f"box{case}"], boxes)
    maps = np.moveaxis(given["maps0"], 0, -1)[None]
    np.testing.assert_array_equal(found["indices"], attention_indices(maps, given["uniforms"]))


def test_a_box_holds_the_maximum_of_its_map():
    maps = np.random.default_rng(0).random((200, 6, 9)).astype("float32")
    boxes = attention_box(maps, image_size=(61, 73), threshold=0.9, padding=0.1).numpy()
    peaks = np.stack(np.unravel_index(maps.reshape(200, -1).argmax(axis=1), (6, 9)), axis=1) * [60 / 5, 72 / 8]
    assert np.all((boxes[:, :2] <= peaks) & (peaks <= boxes[:, 2:]))
    assert (boxes != [0, 0, 61, 73]).any(axis=1).mean() > 0.5


def test_without_a_threshold_the_image_stays_to_the_bit():
    images, maps = images_of((3, 31, 24, 2)), blobs(3, (5, 5))
    for jit in (False, True):
        crop = tf.function(attention_crop, jit_compile=jit)
        np.testing.assert_array_equal(crop(images, maps, threshold=0.0, padding=0.1), images)


NO_PEAK = {
    "zero": np.zeros((5, 5)),
    "constant": np.full((5, 5), 0.1),
    "negative": -blobs(1, (5, 5))[0],
    "nan": np.where(np.eye(5) > 0, np.nan, 1.0),
    "infinite": np.where(np.eye(5) > 0, np.inf, 1.0),
}


@pytest.mark.parametrize("name", NO_PEAK)
@pytest.mark.parametrize("jit", [False, True])
def test_a_map_without_a_peak_changes_nothing_and_no_neighbour(name, jit):
    images, maps = images_of((2, 20, 20, 3)), np.stack([NO_PEAK[name], blobs(1, (5, 5))[0]]).astype("float32")
    for function in (attention_crop, attention_drop):
        changed = tf.function(function, jit_compile=jit)(images, maps).numpy()
        np.testing.assert_array_equal(changed[0], images[0])
        np.testing.assert_allclose(changed[1], function(images[1:], maps[1:])[0], atol=1e-6)
        assert np.abs(changed[1] - images[1]).max() > 0.1


def test_an_empty_box_is_the_whole_image():
    """One row of pixels reaches the threshold; without padding, the box from it to itself is empty."""
    attention = np.zeros((1, 5, 5), "float32")
    attention[0, 2, 2] = 1
    assert attention_box(attention, image_size=(5, 5), threshold=0.9, padding=0.0).numpy().tolist() == [[0, 0, 5, 5]]
    assert attention_box(attention, image_size=(5, 5), threshold=0.9, padding=0.2).numpy().tolist() == [[1, 1, 3, 3]]


def test_the_maximum_on_the_image_can_be_lower_than_that_of_the_map():
    """The peak lies between two pixels: no pixel reaches the map's own maximum."""
    attention = np.array([[[0, 1, 0, 0], [0, 1, 0, 0]]], "float32")
    below, above = (
        attention_box(attention, image_size=(2, 6), threshold=0.99, padding=0.34, peak=peak).numpy()[0].tolist()
        for peak in ("map", "image")
    )
    assert below == [0, 0, 2, 6]
    assert above == [0, 0, 1, 4]


def test_no_gradient_reaches_the_map_and_the_image_has_its_own():
    images, maps = tf.constant(images_of((2, 16, 16, 1))), tf.constant(blobs(2, (4, 4)))
    for function in (attention_crop, attention_drop):
        with tf.GradientTape() as tape:
            tape.watch([images, maps])
            total = tf.reduce_sum(function(images, maps))
        to_images, to_maps = tape.gradient(total, [images, maps])
        assert to_maps is None
        # Each output pixel shares out a weight of 1, except where it is erased.
        kept = 512 if function is attention_crop else int(np.count_nonzero(function(tf.ones_like(images), maps)))
        np.testing.assert_allclose(tf.reduce_sum(tf.convert_to_tensor(to_images)), kept, rtol=1e-4)


def test_fill_goes_by_channel():
    images, maps = images_of((1, 8, 8, 3)), blobs(1, (4, 4))
    dropped = attention_drop(images, maps, fill=(0.1, 0.2, 0.3)).numpy()
    changed = (dropped != images).all(axis=-1)
    assert changed.any()
    np.testing.assert_allclose(dropped[changed], [[0.1, 0.2, 0.3]] * changed.sum(), atol=1e-7)


def test_masks_are_cropped_by_nearest_neighbour():
    masks = (images_of((2, 13, 10, 1)) > 0.5).astype("int32")
    boxes = np.array([[2, 1, 9, 10], [0, 0, 13, 10]], "int32")
    cropped = crop_to_boxes(masks, boxes, interpolation="nearest").numpy()
    rows, columns = (
        np.floor(s + np.arange(n) * (k - 1) / (n - 1) + 0.5).astype(int) for s, k, n in ((2, 7, 13), (1, 9, 10))
    )
    np.testing.assert_array_equal(cropped[0], masks[0][np.ix_(rows, columns)])
    np.testing.assert_array_equal(cropped[1], masks[1])


def test_half_precision_images_keep_their_type():
    images, maps = tf.cast(images_of((2, 12, 12, 1)), tf.float16), blobs(2, (4, 4))
    for function in (attention_crop, attention_drop):
        changed = function(images, maps)
        assert changed.dtype == tf.float16
        np.testing.assert_allclose(changed, function(tf.cast(images, tf.float32), maps), atol=2e-3)


def test_maps_are_drawn_by_the_root_of_their_mean():
    maps = np.random.default_rng(0).random((1, 4, 4, 5)).astype("float32") * [1, 9, 0, 4, 25]
    maps[..., 3] *= -1
    uniforms = (np.arange(20000, dtype="float32")[None] + 0.5) / 20000
    drawn = attention_indices(maps, uniforms).numpy()[0]
    weights = np.sqrt(np.maximum(maps, 0).mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 20000, weights / weights.sum(), atol=1e-3)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_maps_without_any_weight_are_as_likely(value):
    maps = np.full((1, 3, 3, 4), value, "float32")
    assert attention_indices(maps, np.array([[0.1, 0.3, 0.6, 0.9]])).numpy().tolist() == [[0, 1, 2, 3]]
    assert attention_indices(maps, np.array([[0.0, np.float32(1) - 2**-24]])).numpy().tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, a: attention_crop(x[..., 0], a), r"shapes \(2, 8, 8\) and \(2, 4, 4\)"),
        (lambda x, a: attention_drop(x, a[..., None]), r"shapes \(2, 8, 8, 1\) and \(2, 4, 4, 1\)"),
        (lambda x, a: attention_box(a, image_size=(8, 8, 8)), r"3 axes of cells.*shape \(2, 4, 4\)"),
        (lambda x, a: attention_crop(x, a, threshold=1.5), "threshold=1.5"),
        (lambda x, a: attention_drop(x, a, threshold=-0.1), "threshold=-0.1"),
        (lambda x, a: attention_drop(x, a, threshold=np.zeros((2, 1))), r"threshold of shape \(2, 1\)"),
        (lambda x, a: attention_crop(x, a, padding=1.0), "padding=1.0"),
        (lambda x, a: attention_crop(x, a, peak="pixel"), "peak='pixel'"),
        (lambda x, a: crop_to_boxes(x, np.zeros((2, 6), "int32")), r"boxes of shape \(2, 6\)"),
        (lambda x, a: crop_to_boxes(x, np.zeros((2, 4), "int32"), interpolation="cubic"), "interpolation='cubic'"),
        (lambda x, a: attention_indices(a, np.zeros((2, 2))), r"shapes \(2, 4, 4\) and \(2, 2\)"),
    ],
)
def test_wrong_arguments_state_the_rule(call, message):
    with pytest.raises(ValueError, match="Received: .*" + message if "cells" not in message else message):
        call(np.zeros((2, 8, 8, 1), "float32"), np.zeros((2, 4, 4), "float32"))
