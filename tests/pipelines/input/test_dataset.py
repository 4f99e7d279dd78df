"""The tf.data pipelines: what they yield, and that a killed training can go on with the same batches."""

import dataclasses
import itertools
from typing import ClassVar

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipelines.augment import AUGMENTATIONS, Flip, MixUp, Noise, Warp
from pipelines.images.records import Records
from pipelines.input.cache import decoded_bytes, images_from_memory, images_from_source, mask_records
from pipelines.input.dataset import InputPipeline

STANDARD = AUGMENTATIONS["standard"]


def make(n=22, shape=(6, 6), dtype=np.uint8, multilabel=False):
    """Images whose pixels tell their index."""
    ids = [f"r{i:02d}" for i in range(n)]
    labels = np.arange(n, dtype=np.int32) % 2
    if multilabel:
        labels = np.where(np.arange(n)[:, None] % 3 == [0, 1, 2], [1, np.nan, 0], 0).astype(np.float32)

    def read(i):
        return np.full(shape, i / 100, dtype) if dtype == np.float32 else np.full(shape, i, dtype)

    return Records(
        name="made",
        task="multilabel" if multilabel else "binary",
        class_names=("a", "b", "c") if multilabel else ("a", "b"),
        table=pd.DataFrame({"id": ids, "patient": ids, "split": ""}),
        labels=labels,
        read=read,
        rank=2 if len(shape) == 2 else 3,
    )


def numbers(batches):
    """Batches of images of `make` as lists of record numbers."""
    return [np.rint(images.reshape(len(images), -1)[:, 0] * 255).astype(int).tolist() for images, _ in batches]


def take(dataset, n):
    return list(dataset.take(n).as_numpy_iterator())


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for (images, labels), (other_images, other_labels) in zip(batches, others, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_fixed_order_yields_everything_once():
    pipeline = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=8, augmentations=STANDARD)
    for _ in range(2):
        batches = list(pipeline.batches().as_numpy_iterator())
        assert [len(labels) for _, labels in batches] == [8, 8, 6]
        assert sum(numbers(batches), []) == list(range(22))
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), make().labels)


@pytest.mark.parametrize("shape", [(6, 6), (4, 6, 6)])
def test_shapes_and_types_are_static(shape):
    pipeline = InputPipeline(make(shape=shape), image_shape=(*shape, 1), batch_size=8, augmentations=STANDARD)
    for dataset, batch in ((pipeline.stream(), 8), (pipeline.epoch(), 8), (pipeline.batches(), None)):
        images, labels = dataset.element_spec
        assert images == tf.TensorSpec((batch, *shape, 1), tf.float32) and labels == tf.TensorSpec((batch,), tf.int32)
    images, _ = next(iter(pipeline.stream()))
    assert images.shape == (8, *shape, 1) and 0 <= images.numpy().min() <= images.numpy().max() <= 1


def test_unknown_labels_arrive_as_nan():
    records = make(multilabel=True)
    (_, labels), *_ = InputPipeline(records, image_shape=(6, 6, 1), batch_size=22).batches().as_numpy_iterator()
    assert labels.dtype == np.float32 and np.isnan(labels).any()
    np.testing.assert_array_equal(labels, records.labels)


def test_an_epoch_of_the_stream_is_a_permutation_without_the_remainder():
    pipeline = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4, seed=5)
    assert pipeline.steps_per_epoch == 5
    batches = numbers(take(pipeline.stream(), 15))
    epochs = [sum(batches[i : i + 5], []) for i in (0, 5, 10)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert set(sum(epochs, [])) == set(range(22))


@pytest.mark.parametrize("storage", [images_from_memory, images_from_source])
def test_stream_goes_on_where_a_killed_training_stood(storage):
    images = storage(make(), (6, 6, 1))
    pipeline = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4, seed=5, augmentations=STANDARD, images=images)
    whole = take(pipeline.stream(), 25)
    assert_equal(take(pipeline.stream(3), 10), whole[15:])
    assert_equal(take(pipeline.stream(2, start_step=3), 12), whole[13:])
    again = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4, seed=5, augmentations=STANDARD)
    assert_equal(take(again.stream(3), 10), whole[15:])
    other = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4, seed=6)
    assert numbers(take(other.stream(), 5)) != numbers(whole[:5])


def test_fit_with_initial_epoch_sees_the_batches_of_an_uninterrupted_fit():
    pipeline = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4, augmentations=STANDARD)

    class Recorder(keras.Model):
        """Notes a checksum of every training batch that `fit` brings."""

        def __init__(self):
            super().__init__()
            self.scale = self.add_weight(shape=(), initializer="ones")
            self.seen = []

        def call(self, images):
            return self.scale * keras.ops.mean(images, axis=(1, 2))

        def train_step(self, data):
            self.seen.append(float(tf.reduce_sum(data[0])))
            return {"loss": tf.constant(0.0)}

    def run(start, end):
        model = Recorder()
        model.compile(run_eagerly=True)
        steps = pipeline.steps_per_epoch
        model.fit(pipeline.stream(start), epochs=end, initial_epoch=start, steps_per_epoch=steps, verbose=0)
        return model.seen

    whole = run(0, 4)
    assert len(set(whole)) == 4 * pipeline.steps_per_epoch
    assert run(0, 2) + run(2, 4) == whole


def test_a_finite_epoch_changes_with_each_iteration_and_repeats_with_the_seed():
    def epochs(seed):
        # One augmentation: each iteration of a dataset compiles them again.
        options = {"batch_size": 4, "seed": seed, "augmentations": [Noise(std=0.02)]}
        dataset = InputPipeline(make(), image_shape=(6, 6, 1), **options).epoch()
        assert dataset.cardinality() == 5
        return [list(dataset.as_numpy_iterator()) for _ in range(3)]

    first, second, third = epochs(0)
    assert not np.array_equal(first[0][0], second[0][0]) and not np.array_equal(second[0][0], third[0][0])
    for epoch, again in zip((first, second, third), epochs(0), strict=True):
        assert_equal(epoch, again)
    assert not np.array_equal(first[0][0], epochs(1)[0][0][0])


def test_small_sets_shrink_the_batch():
    pipeline = InputPipeline(make(3), image_shape=(6, 6, 1), batch_size=8)
    assert (pipeline.batch_size, pipeline.steps_per_epoch) == (3, 1)
    assert sorted(numbers(take(pipeline.stream(), 1))[0]) == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 3])
def test_parallel_calls_do_not_change_the_batches(workers, monkeypatch):
    pipeline = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4, augmentations=STANDARD)
    usual = take(pipeline.stream(), 8)
    monkeypatch.setattr(tf.data, "AUTOTUNE", workers)
    assert_equal(take(pipeline.stream(), 8), usual)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("image_shape", [(6, 6, 1), (4, 5, 3)])
def test_memory_and_source_agree_to_the_bit(dtype, image_shape):
    rng = np.random.default_rng(0)
    pixels = rng.random((5, 6, 6), np.float32)
    pixels = pixels if dtype == np.float32 else (pixels * np.iinfo(dtype).max).astype(dtype)
    records = make(5)
    object.__setattr__(records, "read", lambda i: pixels[i])
    kept, streamed, unchecked = (
        take(InputPipeline(records, image_shape=image_shape, images=images).batches(), 1)
        for images in (
            images_from_memory(records, image_shape),
            images_from_source(records, image_shape),
            images_from_source(records, image_shape, check=False),
        )
    )
    assert_equal(kept, streamed)
    assert_equal(kept, unchecked)
    if image_shape == (6, 6, 1):
        scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
        np.testing.assert_allclose(kept[0][0][..., 0], pixels / scale, atol=1e-7)


def test_images_of_several_types_can_be_mixed():
    reads = [
        np.full((6, 6), 51, np.uint8),
        np.full((6, 6), 13107, np.uint16),
        np.full((6, 6), 0.2, np.float32),
    ]
    records = make(3)
    object.__setattr__(records, "read", lambda i: reads[i])
    (images, _), *_ = InputPipeline(records, image_shape=(6, 6, 1)).batches().as_numpy_iterator()
    np.testing.assert_allclose(images, 0.2, atol=1e-6)


@pytest.mark.parametrize(("dtype", "size"), [(np.uint8, 1), (np.uint16, 2), (np.float32, 4), (np.float64, 4)])
def test_decoded_bytes(dtype, size):
    assert decoded_bytes(make(10, dtype=dtype), (4, 4, 3)) == 10 * 48 * size


@pytest.mark.parametrize("storage", [images_from_memory, images_from_source])
def test_a_bad_image_is_named_before_training(storage):
    def read(i):
        return np.full((6, 6), np.nan if i == 3 else 0.5, np.float32)

    records = make(5)
    object.__setattr__(records, "read", read)
    with pytest.raises(ValueError, match="r03.*NaN") as error:
        storage(records, (6, 6, 1))
    assert "\n" not in str(error.value)


def test_classes_are_shown_as_often_as_wanted_each_time_another_way():
    records = make(22)
    object.__setattr__(records, "labels", np.array([1] + [0] * 21, np.int32))
    pipeline = InputPipeline(
        records, image_shape=(6, 6, 1), batch_size=6, augmentations=[Noise(0.1)], class_counts=[6, 6]
    )
    batches = take(pipeline.stream(), 2)
    labels = np.concatenate([labels for _, labels in batches])
    assert pipeline.steps_per_epoch == 2 and np.bincount(labels).tolist() == [6, 6]
    copies = np.concatenate([images for images, _ in batches])[labels == 1]
    assert len(np.unique(copies.reshape(6, -1), axis=0)) == 6


def test_mixing_augmentations_give_shares_of_classes():
    pipeline = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4, augmentations=[MixUp(0.5)])
    images, labels = take(pipeline.stream(), 1)[0]
    assert labels.dtype == np.float32 and labels.shape == (4, 2)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert take(pipeline.batches(), 1)[0][1].dtype == np.int32


def test_masks_move_with_their_images():
    """Images that are their own masks stay so through a warp."""
    rng = np.random.default_rng(0)
    masks = np.kron(rng.random((22, 3, 3)) < 0.5, np.ones((8, 8), bool))
    records = make(22)
    object.__setattr__(records, "read", lambda i: masks[i].astype(np.uint8) * 255)
    object.__setattr__(records, "read_mask", lambda i: masks[i])
    shape = (24, 24, 1)
    pipeline = InputPipeline(
        records,
        image_shape=shape,
        batch_size=11,
        augmentations=[Flip(("width",)), Warp(rotation=20.0)],
        masks=images_from_memory(mask_records(records), shape),
    )
    for images, targets in take(pipeline.stream(), 2):
        assert targets["mask"].shape == (11, 24, 24) and set(np.unique(targets["mask"])) == {0, 1}
        assert targets["label"].shape == (11,)
        assert (np.abs(images[..., 0] - targets["mask"]) <= 0.5).mean() > 0.99
    plain = take(pipeline.batches(), 1)[0]
    np.testing.assert_array_equal(plain[0][..., 0], plain[1]["mask"])


def test_masks_can_be_had_where_there_are_any():
    with pytest.raises(ValueError, match="Received: made without masks"):
        mask_records(make())


def test_a_stored_attention_map_reaches_the_augmentation():
    class Store:
        def lookup(self, indices):
            return tf.cast(indices[:, None, None], tf.float32) * tf.ones((1, 2, 2))

    @dataclasses.dataclass(frozen=True)
    class ShowAttention:
        compiled: ClassVar[bool] = True

        def draw(self, key, image_shape):
            return tf.zeros(())

        def apply_batch(self, batch, parameters):
            return batch | {"image": batch["image"] * 0 + batch["attention"][:, :1, :1, None] / 255}

    pipeline = InputPipeline(
        make(), image_shape=(6, 6, 1), batch_size=4, augmentations=[ShowAttention()], attention=Store()
    )
    plain = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4)
    assert numbers(take(pipeline.stream(), 5)) == numbers(take(plain.stream(), 5))


def test_two_streams_are_independent():
    pipeline = InputPipeline(make(), image_shape=(6, 6, 1), batch_size=4)
    both = itertools.islice(zip(pipeline.stream(), pipeline.stream(), strict=True), 7)
    for (images, _), (others, _) in both:
        np.testing.assert_array_equal(images, others)
