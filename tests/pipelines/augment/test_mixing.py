"""MixUp and CutMix: labels follow the pixels, unknown labels stay unknown, masks go along."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pipelines.augment import Augmenter, CutMix, MixUp
from pipelines.augment.random_numbers import fold_in

SHAPES = [(20, 24, 3), (10, 12, 14, 1)]
NAN = float("nan")


def draw(augmentation, shape, count):
    if count > 20:
        return Augmenter([augmentation], image_shape=shape).draw(0, tf.range(count))[0]
    keys = fold_in(tf.constant([1, 0], tf.int64), tf.range(count))
    return tf.nest.map_structure(lambda *rows: tf.stack(rows), *(augmentation.draw(key, shape) for key in keys))


def own_values(shape, count=6):
    """Image i holds the value i / 10 everywhere, its label is class i."""
    values = np.arange(count, dtype="float32") / 10
    image = np.broadcast_to(values.reshape(-1, *[1] * len(shape)), (count, *shape))
    return {"image": tf.constant(image), "label": tf.eye(count)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mixing", [MixUp(1.0), CutMix()], ids=repr)
def test_labels_are_shares_of_the_pixels(mixing, shape):
    batch, parameters = own_values(shape), draw(mixing, shape, 6)
    mixed = mixing.apply_batch(batch, parameters)
    np.testing.assert_allclose(tf.reduce_sum(mixed["label"], axis=1), 1, atol=1e-6)
    values = np.arange(6) / 10
    # The mean of an image of constants is the mean of the constants by their shares.
    means = mixed["image"].numpy().reshape(6, -1).mean(axis=1)
    np.testing.assert_allclose(mixed["label"] @ values[:, None].astype("float32"), means[:, None], atol=1e-5)
    assert np.all((mixed["label"].numpy() > 0).sum(axis=1) <= 2) and means[1:5].std() > 0
    assert np.abs(mixed["label"] - batch["label"]).max() > 0.2
    for compiled in (False, True):
        other = tf.function(mixing.apply_batch, jit_compile=compiled)(batch, parameters)
        for name, value in mixed.items():
            np.testing.assert_allclose(other[name], value, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_cutmix_pastes_one_box_of_the_images_proportions(shape):
    batch, boxes = own_values(shape), draw(CutMix(), shape, 6).numpy()
    mixed = CutMix().apply_batch(batch, tf.constant(boxes))["image"].numpy()
    for i, (got, box) in enumerate(zip(mixed, boxes, strict=True)):
        wanted = np.full(shape, i / 10, "float32")
        wanted[tuple(slice(lo, hi) for lo, hi in box)] = ((i - 1) % 6) / 10
        np.testing.assert_array_equal(got, wanted)
    many = draw(CutMix(), (100, 50, 1), 300).numpy()
    whole = np.all((many[..., 0] > 0) & (many[..., 1] < [100, 50]), axis=1)
    lengths = (many[..., 1] - many[..., 0])[whole]
    assert np.all(np.abs(lengths[:, 0] - 2 * lengths[:, 1]) <= 3)


@pytest.mark.parametrize("alpha", [0.02, 0.2, 1.0, 4.0])
def test_shares_are_drawn_from_beta(alpha):
    shares = draw(MixUp(alpha), (4, 4, 1), 1000).numpy()
    assert np.all((shares >= 0) & (shares <= 1))
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(stats.beta(alpha, alpha).var(), rel=0.12)
    if alpha > 0.1:
        assert stats.kstest(shares.astype("float64"), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("mixing", [MixUp(probability=0.25), CutMix(probability=0.25)], ids=repr)
def test_a_record_is_mixed_as_often_as_said(mixing):
    drawn = draw(mixing, (40, 40, 1), 600).numpy()
    changed = drawn < 1 if drawn.ndim == 1 else np.all(drawn[..., 0] < drawn[..., 1], axis=1)
    assert changed.mean() == pytest.approx(0.25, abs=0.06)


def test_an_unknown_label_stays_unknown_where_it_matters():
    image = tf.zeros((3, 4, 4, 1))
    label = tf.constant([[1.0, NAN], [0.0, 1.0], [NAN, 0.0]])
    mixed = MixUp().apply_batch({"image": image, "label": label}, tf.constant([0.75, 0.75, 1.0]))["label"]
    np.testing.assert_allclose(mixed, [[NAN, NAN], [0.25, NAN], [NAN, 0.0]])
    boxes = tf.constant([[[0, 2], [0, 2]], [[0, 0], [0, 4]], [[0, 4], [0, 4]]])
    mixed = CutMix().apply_batch({"image": image, "label": label}, boxes)["label"]
    np.testing.assert_allclose(mixed, [[NAN, NAN], [0.0, 1.0], [NAN, 1.0]])


def test_masks_and_attention_go_along():
    mask = tf.constant(np.random.default_rng(0).integers(0, 2, (4, 8, 8)), tf.float32)
    batch = {"image": mask[..., None], "mask": mask, "attention": mask[:, ::2, ::2]}
    mixed = MixUp().apply_batch(batch, tf.constant([0.25, 0.5, 0.75, 1.0]))
    np.testing.assert_allclose(mixed["mask"], mixed["image"][..., 0])
    np.testing.assert_allclose(mixed["attention"], mixed["mask"][:, ::2, ::2])
    boxes = tf.constant([[[2, 6], [0, 4]]] * 4)
    mixed = CutMix().apply_batch(batch, boxes)
    np.testing.assert_array_equal(mixed["mask"], mixed["image"][..., 0])
    np.testing.assert_array_equal(mixed["attention"], mixed["mask"][:, ::2, ::2])
    assert np.abs(mixed["mask"] - mask).max() == 1


def test_a_batch_is_mixed_alike_each_time_and_by_its_own_records():
    augment = Augmenter([CutMix()], image_shape=(6, 8, 1), seed=1)
    assert augment.soft_labels and not Augmenter([], image_shape=(6, 8, 1)).soft_labels
    batch = own_values((6, 8, 1))

    def epochs(parallel):
        dataset = tf.data.Dataset.range(4)
        dataset = dataset.map(lambda e: augment.augment_batch(batch, e, tf.range(6)), num_parallel_calls=parallel)
        return [{name: value.numpy() for name, value in b.items()} for b in dataset]

    first, again = epochs(1), epochs(8)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])
    assert not np.array_equal(first[0]["label"], first[1]["label"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixUp(0.0), "alpha=0.0"),
        (lambda: CutMix(probability=0.0), "probability=0.0"),
        (
            lambda: MixUp().apply_batch({"image": tf.zeros((1, 2, 2, 1)), "label": tf.constant([1])}, tf.ones(1)),
            "int32",
        ),
        (lambda: CutMix().apply_batch({"image": tf.zeros((1, 2, 2, 1)), "boxes": tf.zeros((1, 1, 4))}, None), "Boxes"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
