"""`pipelines.load`: from a source to tf.data, and one clear line for every bad input."""

import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import pipelines
from pipelines.augment import Flip
from pipelines.images.records import Records


def make(reads, labels=None, split="", classes=("a", "b")):
    ids = [f"r{i:02d}" for i in range(len(reads))]
    return Records(
        name="made",
        task="binary",
        class_names=classes,
        table=pd.DataFrame({"id": ids, "patient": ids, "split": split}),
        labels=np.arange(len(reads), dtype=np.int32) % 2 if labels is None else np.asarray(labels, np.int32),
        read=lambda i: reads[i],
    )


def good(n=24, side=8):
    return [np.full((side, side), i, np.uint8) for i in range(n)]


@pytest.fixture(scope="module")
def phantom():
    return pipelines.load("phantom", images=60, image_size=16, batch_size=8, seed=1)


def test_the_datasets_have_the_promised_shape(phantom):
    info = phantom.info
    assert (info.task, info.image_shape, info.num_classes) == ("binary", (16, 16, 1), 2)
    for dataset in (phantom.train, phantom.val, phantom.test, phantom.train_stream(2)):
        images, labels = next(iter(dataset))
        assert images.shape[1:] == info.image_shape and images.dtype == tf.float32 and labels.dtype == tf.int32
    assert phantom.train.cardinality() == phantom.steps_per_epoch == info.counts["train"] // 8


def test_info_agrees_with_the_records(phantom):
    info, table = phantom.info, phantom.info.manifest
    assert sum(info.counts.values()) == len(table) == 60
    assert not table.groupby("patient")["split"].nunique().gt(1).any()
    for name, records in phantom.records.items():
        assert list(table.loc[table["split"] == name, "id"]) == list(records.table["id"])
        assert info.class_counts[name] == np.bincount(records.labels, minlength=2).tolist()
    assert len(phantom.rejected) == 0 and list(phantom.rejected.columns) == ["id", "reason"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_arrays_are_the_images_in_record_order_unaugmented(split):
    data = pipelines.load(make(good()), seed=3)
    images, labels = data.arrays(split)
    wanted = [int(name[1:]) for name in data.records[split].table["id"]]
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, wanted, atol=1e-4)
    np.testing.assert_array_equal(labels, data.records[split].labels)


def test_arrays_hold_the_masks_too():
    data = pipelines.load("phantom", images=70, image_size=16, batch_size=4, masks=True)
    images, labels = data.arrays("val")
    np.testing.assert_array_equal(labels["label"], data.records["val"].labels)
    assert labels["mask"].shape == images.shape[:-1] and set(np.unique(labels["mask"])) == {0, 1}
    assert not labels["mask"][labels["label"] == 0].any()


def test_plain_keras_trains_on_it(phantom):
    model = keras.Sequential([keras.Input(phantom.info.image_shape), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(phantom.train, validation_data=phantom.val, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and len(history["val_loss"]) == 2


@pytest.mark.parametrize("name", ["phantom:binary3d", "phantom:multilabel", "phantom:multiclass"])
def test_every_kind_of_phantom(name):
    data = pipelines.load(name, images=70, batch_size=4, image_size=16)
    images, labels = next(iter(data.train))
    assert images.shape == (4, *data.info.image_shape) and len(images.shape) == (5 if "3d" in name else 4)
    assert labels.shape == ((4, 4) if "multilabel" in name else (4,))


def test_options_reach_the_pipeline():
    data = pipelines.load(make(good()), task="ordinal", channels=3, image_size=(4, 6), augment=[Flip()], batch_size=2)
    assert data.info.task == "ordinal" and data.info.image_shape == (4, 6, 3)
    assert next(iter(data.train))[0].shape == (2, 4, 6, 3)


def test_beyond_the_memory_limit_the_same_images_come():
    kept, streamed = (pipelines.load("phantom", images=40, memory_limit=m).train for m in (2**30, 0))
    for (images, labels), (others, other_labels) in zip(kept, streamed, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, other_labels)


def test_bad_images_are_skipped_and_listed():
    reads = [image.astype(np.float32) / 255 for image in good()]
    reads[5] = np.full((8, 8), np.nan, np.float32)
    data = pipelines.load(make(reads), on_error="skip")
    assert list(data.rejected["id"]) == ["r05"] and "NaN" in data.rejected["reason"][0]
    assert sum(data.info.counts.values()) == 23 and "r05" not in set(data.info.manifest["id"])


def with_nan():
    reads = [image.astype(np.float32) / 255 for image in good()]
    reads[5][2, 2] = np.nan
    return make(reads)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (make([*good(23), np.zeros((4, 4), np.uint8)]), {}, "pass image_size.*r23 with 4x4"),
        (make([*good(23), np.zeros((8, 8, 3), np.uint8)]), {}, "pass channels.*r23"),
        (with_nan(), {}, "r05.*NaN"),
        (with_nan(), {"memory_limit": 0}, "r05.*NaN"),
        (make([np.full((8, 8), np.nan)] * 4), {"on_error": "skip"}, "No image of made"),
        (make(good(), labels=[1] + [0] * 23), {}, "class 'b' with train 1, val 0, test 0"),
        (
            make(good(), split=["train"] * 20 + ["test"] * 4, labels=[0, 1] * 10 + [1] * 4),
            {},
            "class 'a'.*test 0",
        ),
        (make(good()), {"batch_size": 0}, "batch_size=0"),
        (make(good()), {"augment": "wild"}, "augment='wild'"),
        (make(good()), {"on_error": "ignore"}, "on_error='ignore'"),
        (make(good()), {"task": "multilabel"}, "task='multilabel'"),
        (make(good()), {"images": 3}, "take no options. Received: images"),
        (make(good()), {"fractions": (1, 1, 1)}, "fractions"),
        ("phantom", {"colour": 3}, "colour=3"),
    ],
)
def test_bad_input(source, options, message):
    with pytest.raises(ValueError, match=message) as error:
        pipelines.load(source, **options)
    assert "\n" not in str(error.value)


def test_a_missing_source():
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        pipelines.load("nowhere.npz")


@pytest.mark.process
def test_the_package_is_light_and_its_load_is_a_function():
    code = (
        "import sys, pipelines; from pipelines.load import Splits; import pipelines.load\n"
        "print(callable(pipelines.load), 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "False", "False"]


def test_pneumonia_x_rays(real_data):
    data = pipelines.load(str(real_data / "pneumoniamnist" / "pneumoniamnist_rebuilt.npz"), leakage="off")
    assert (data.info.counts["val"], data.info.counts["test"]) == (524, 624)
    assert data.info.class_counts["test"] == [234, 390]
    images, labels = data.arrays("test")
    with np.load(real_data / "pneumoniamnist" / "pneumoniamnist_rebuilt.npz") as file:
        stored = {
            (row.tobytes(), int(label))
            for row, label in zip(file["test_images"], file["test_labels"].ravel(), strict=True)
        }
    pixels = np.rint(images[..., 0] * 255).astype(np.uint8)
    assert {(row.tobytes(), int(label)) for row, label in zip(pixels, labels, strict=True)} == stored
