"""AttentionCrop and AttentionDrop as augmentations: what travels along, what is drawn, and every form alike."""

import numpy as np
import pytest
import tensorflow as tf

from medkeras.layers import attention_box, attention_crop, attention_drop
from pipelines.augment import AttentionCrop, AttentionDrop, Augmenter, Flip

CROP, DROP = AttentionCrop((0.5, 0.5), probability=1.0), AttentionDrop((0.4, 0.4), probability=1.0)


def batch_of(shape=(4, 33, 40, 3), cells=(7, 9), **more):
    """Random images, with one blob of attention each in the middle third."""
    rng, maps = np.random.default_rng(0), 1.0
    for axis, count in enumerate(cells):
        centre = rng.uniform(0.4, 0.6, (shape[0], 1)) * (count - 1)
        values = np.exp(-((np.arange(count) - centre) ** 2) / (0.03 * count**2))
        maps = maps * values.reshape(shape[0], *[1] * axis, count, *[1] * (len(cells) - axis - 1))
    return {"image": tf.constant(rng.random(shape), tf.float32), "attention": tf.constant(maps, tf.float32)} | more


def drawn(batch, threshold=0.5, chosen=True):
    count = batch["image"].shape[0]
    return {"threshold": tf.fill([count], threshold), "chosen": tf.fill([count], chosen)}


@pytest.mark.parametrize(("shape", "cells"), [((4, 33, 40, 3), (7, 9)), ((2, 12, 14, 16, 1), (4, 4, 5))])
def test_they_are_the_functions_of_the_library(shape, cells):
    batch = batch_of(shape, cells)
    cropped = CROP.apply_batch(batch, drawn(batch))
    expected = attention_crop(batch["image"], batch["attention"], threshold=0.5, padding=0.1)
    np.testing.assert_array_equal(cropped["image"], expected)
    dropped = DROP.apply_batch(batch, drawn(batch, 0.4))
    expected = attention_drop(batch["image"], batch["attention"], threshold=0.4, fill=0.5)
    np.testing.assert_array_equal(dropped["image"], expected)
    np.testing.assert_array_equal(dropped["attention"], batch["attention"])
    assert np.abs(cropped["image"] - batch["image"]).max() > 0.1
    assert np.abs(dropped["image"] - batch["image"]).max() > 0.1


def test_what_was_not_chosen_stays_to_the_bit():
    batch = batch_of(mask=tf.ones((4, 33, 40)))
    for augmentation in (CROP, DROP):
        apply = tf.function(augmentation.apply_batch, jit_compile=True)
        changed = apply(batch, drawn(batch) | {"chosen": tf.constant([True, False, True, False])})
        for key in batch:
            np.testing.assert_array_equal(changed[key][1::2], batch[key][1::2])
        assert np.abs(changed["image"] - batch["image"])[::2].max() > 0.1


def test_mask_boxes_and_attention_travel_with_a_crop():
    """A square is in the image, the mask, a box and the map: it is in the same place in all four afterwards."""
    square = np.zeros((2, 60, 60), "float32")
    square[0, 20:30, 24:40] = square[1, 35:47, 15:33] = 1
    boxes = np.array([[[20, 24, 30, 40], [-1] * 4], [[35, 15, 47, 33], [0, 0, 2, 2]]], "float32")
    batch = {"image": square[..., None], "mask": square, "boxes": boxes, "attention": square[:, ::3, ::3]}
    batch = {key: tf.constant(value) for key, value in batch.items()}
    moved = {key: value.numpy() for key, value in CROP.apply_batch(batch, drawn(batch)).items()}
    for i in range(2):
        rows, columns = (np.flatnonzero(moved["mask"][i].any(axis=axis)) for axis in (1, 0))
        assert moved["boxes"][i, 0].tolist() == [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
        inside = moved["image"][i, ..., 0] > 0.5
        assert np.count_nonzero(inside != (moved["mask"][i] > 0)) <= 2 * (len(rows) + len(columns))
        assert len(rows) > 20 and len(columns) > 20
        # The map of 20 cells is as fine as a third of the image.
        places = np.argwhere(moved["attention"][i] > 0.5) * 59 / 19
        assert np.abs(places.min(axis=0) - [rows[0], columns[0]]).max() < 6
        assert np.abs(places.max(axis=0) - [rows[-1], columns[-1]]).max() < 6
    assert moved["boxes"][0, 1].tolist() == moved["boxes"][1, 1].tolist() == [-1] * 4


def test_a_drop_after_a_crop_hides_the_same_place():
    """In a list, the drop sees the zoomed map: what it hides is what it would have hidden, seen through the crop."""
    batch = batch_of((3, 90, 90, 1), (15, 15))
    ones = batch | {"image": tf.ones_like(batch["image"])}
    hide = AttentionDrop((0.7, 0.7), fill=0.0)
    before = CROP.apply_batch(hide.apply_batch(ones, drawn(batch, 0.7)), drawn(batch))["image"].numpy() < 0.5
    after = hide.apply_batch(CROP.apply_batch(ones, drawn(batch)), drawn(batch, 0.7))["image"].numpy() < 0.5
    assert before.any() and (before & after).sum() / (before | after).sum() > 0.9


@pytest.mark.parametrize("augmentation", [AttentionCrop.ws_dan(), AttentionDrop.ws_dan()])
def test_eager_graph_and_xla_agree(augmentation):
    boxes = tf.constant([[[10.0, 12.0, 20.0, 30.0]]] * 4)
    batch, wanted = batch_of(mask=tf.ones((4, 33, 40)), boxes=boxes), drawn(batch_of(), 0.45)
    eager = augmentation.apply_batch(batch, wanted)
    for jit in (False, True):
        compiled = tf.function(augmentation.apply_batch, jit_compile=jit)(batch, wanted)
        for key in batch:
            np.testing.assert_allclose(compiled[key], eager[key], atol=1e-5)


@pytest.mark.parametrize(
    ("augmentation", "low", "high"),
    [
        (AttentionCrop.ws_dan(), 0.4, 0.6),
        (AttentionDrop.ws_dan(), 0.2, 0.5),
        (AttentionCrop.dual_attend_med(), 0.5, 0.5),
        (AttentionDrop.dual_attend_med(), 0.5, 0.5),
    ],
)
def test_thresholds_and_choices_are_drawn_as_published(augmentation, low, high):
    keys = tf.stack([tf.range(4000, dtype=tf.int64), tf.zeros(4000, tf.int64)], axis=1)
    parameters = tf.vectorized_map(lambda key: augmentation.draw(key, (8, 8, 3)), keys)
    threshold, chosen = parameters["threshold"].numpy(), parameters["chosen"].numpy()
    assert threshold.min() >= low - 1e-6 and threshold.max() <= high + 1e-6
    np.testing.assert_allclose([threshold.mean(), np.ptp(threshold)], [(low + high) / 2, high - low], atol=0.01)
    assert abs(chosen.mean() - 0.5) < 0.03
    assert low == high or abs(np.corrcoef(threshold, chosen)[0, 1]) < 0.06


def test_in_a_list_each_record_by_its_own_key():
    augment = Augmenter([Flip(("width",)), AttentionCrop(), AttentionDrop()], image_shape=(33, 40, 3), seed=3)
    batch, indices = batch_of(), np.array([5, 1, 8, 2])
    whole = augment.augment_batch(batch, 2, indices)["image"].numpy()
    order = np.array([2, 0, 3, 1])
    mixed = augment.augment_batch({k: tf.gather(v, order) for k, v in batch.items()}, 2, indices[order])
    np.testing.assert_array_equal(mixed["image"], whole[order])
    assert whole.min() >= 0 and whole.max() <= 1


def test_the_peak_on_the_image_is_asked_for():
    """Between two pixels, where only the coarse map has its peak."""
    maps, images = tf.constant([[[0.0, 1, 0, 0]] * 2]), tf.random.stateless_uniform((1, 2, 6, 1), (0, 1))
    batch = {"image": images, "attention": maps}
    for peak in ("map", "image"):
        crop = AttentionCrop((0.99, 0.99), padding=0.34, probability=1.0, peak=peak)
        box = attention_box(maps, image_size=(2, 6), threshold=0.99, padding=0.34, peak=peak)
        is_whole = box.numpy()[0].tolist() == [0, 0, 2, 6]
        assert is_whole == (peak == "map")
        unchanged = np.array_equal(crop.apply_batch(batch, drawn(batch, 0.99))["image"], images)
        assert unchanged == is_whole


def test_without_maps_they_say_what_is_missing():
    augment = Augmenter([AttentionCrop()], image_shape=(8, 8, 1))
    with pytest.raises(
        ValueError, match="AttentionCrop needs the maps of an `AttentionStore`.*Received: a batch of image"
    ):
        augment(tf.zeros((2, 8, 8, 1)), 0, [0, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionCrop((0.6, 0.4)), "Received: AttentionCrop"),
        (lambda: AttentionCrop((0.4, 1.4)), "Received: AttentionCrop"),
        (lambda: AttentionDrop((0.4,)), "Received: AttentionDrop"),
        (lambda: AttentionDrop(probability=1.5), "Received: AttentionDrop"),
        (lambda: AttentionCrop(padding=-0.1), "padding=-0.1"),
        (lambda: AttentionCrop(peak="top"), "peak='top'"),
        (lambda: AttentionDrop(fill=2.0), "fill=2.0"),
        (lambda: AttentionDrop(fill=()), r"fill=\(\)"),
        (lambda: Augmenter([AttentionDrop(fill=(0.1, 0.2))], image_shape=(8, 8, 3)), r"fill=\(0.1, 0.2\)"),
    ],
)
def test_wrong_arguments_state_the_rule(make, message):
    with pytest.raises(ValueError, match=message):
        make()
