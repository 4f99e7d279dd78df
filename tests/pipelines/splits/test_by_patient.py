"""Splits: nobody in two of them, classes in proportion, independent of the order of the records."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest

from pipelines.images.records import Records
from pipelines.splits.by_patient import join_duplicates, manifest, split_records


def make(labels, patients=None, split="", task="multiclass", classes=("a", "b", "c")):
    ids = [f"r{i:04d}" for i in range(len(labels))]
    table = pd.DataFrame({"id": ids, "patient": ids if patients is None else patients, "split": split})
    return Records(
        name="made",
        task=task,
        class_names=classes,
        table=table,
        labels=labels,
        read=lambda i: np.full((2, 2), i),
    )


def random_patients(rng, images, task):
    """One to five images per patient, classes 60 %, 30 % and 10 %, equal within a patient for some only."""
    patient = np.repeat(np.arange(images), rng.integers(1, 6, images))[:images]
    if task == "multilabel":
        labels = (rng.random((images, 3)) < (0.5, 0.2, 0.08)).astype(np.float32)
        labels[rng.random(labels.shape) < 0.1] = np.nan
    else:
        labels = rng.choice(3, images, p=(0.6, 0.3, 0.1)).astype(np.int32)
    return make(labels, [f"p{p:03d}" for p in patient], task=task)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("seed", range(5))
def test_patients_stay_together_and_shares_hold(task, seed):
    records = random_patients(np.random.default_rng(seed), 600, task)
    splits = split_records(records, seed=seed)
    patients = {name: set(part.table["patient"]) for name, part in splits.items()}
    assert not patients["train"] & patients["val"] | patients["train"] & patients["test"]
    assert not patients["val"] & patients["test"]
    assert sorted(i for part in splits.values() for i in part.table["id"]) == sorted(records.table["id"])
    for name, share in zip(("train", "val", "test"), (0.7, 0.1, 0.2), strict=True):
        assert abs(len(splits[name]) / 600 - share) < 0.01
        wanted = share * records.class_counts()
        assert np.all(np.abs(splits[name].class_counts() - wanted) <= np.maximum(0.1 * wanted, 3))


def test_single_images_split_exactly():
    splits = split_records(make(np.repeat([0, 1, 2], [50, 30, 10]).astype(np.int32)))
    assert [part.class_counts().tolist() for part in splits.values()] == [[35, 21, 7], [5, 3, 1], [10, 6, 2]]


def test_a_rare_class_reaches_every_split():
    splits = split_records(make(np.repeat([0, 1, 2], [100, 50, 3]).astype(np.int32)))
    assert [part.class_counts()[2] for part in splits.values()] == [1, 1, 1]


def test_order_of_records_does_not_matter_but_the_seed_does():
    records = random_patients(np.random.default_rng(0), 200, "multiclass")
    mixed = records.select(np.random.default_rng(1).permutation(200))
    first, second = (manifest(split_records(r, seed=3)) for r in (records, mixed))
    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(manifest(split_records(records, seed=4)))


def test_records_follow_their_ids():
    records = random_patients(np.random.default_rng(0), 100, "multiclass")
    for part in split_records(records).values():
        for i, name in enumerate(part.table["id"]):
            assert part.read(i)[0, 0] == int(name[1:]) and part.labels[i] == records.labels[int(name[1:])]


def test_given_splits_are_kept():
    given = np.tile(["train", "train", "val", "test"], 6)
    splits = split_records(make((np.arange(24) // 4 % 3).astype(np.int32), split=given))
    for name, part in splits.items():
        assert set(part.table["split"]) == {name} and len(part) == np.count_nonzero(given == name)


def test_a_missing_val_comes_from_train():
    given = np.repeat(["train", "test"], [80, 40])
    patients = [f"p{i // 2}" for i in range(120)]
    splits = split_records(make((np.arange(120) % 3).astype(np.int32), patients, split=given))
    assert {name: len(part) for name, part in splits.items()} == {"train": 70, "val": 10, "test": 40}
    assert set(splits["test"].table["split"]) == {"test"}
    assert not set(splits["train"].table["patient"]) & set(splits["val"].table["patient"])


def test_metadata_named_group_parts_no_patient():
    records = random_patients(np.random.default_rng(0), 120, "multiclass")
    sites = records.table.assign(group=[f"site {i % 6}" for i in range(120)])
    plain, named = (manifest(split_records(r)) for r in (records, dataclasses.replace(records, table=sites)))
    pd.testing.assert_frame_equal(plain, named)


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_no_patient_and_no_copy_is_parted_whatever_the_data(start):
    """200 random sets of patients, classes and duplicates."""
    for seed in range(start, start + 50):
        rng = np.random.default_rng(seed)
        records = random_patients(rng, int(rng.integers(120, 240)), "multilabel" if seed % 2 else "multiclass")
        ids = records.table["id"].to_numpy()
        pairs = pd.DataFrame(rng.choice(ids, (int(rng.integers(0, 15)), 2)), columns=["a", "b"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of rare labels that a split lacks.
            table = manifest(split_records(join_duplicates(records, pairs), seed=seed)).set_index("id")
        assert sorted(table.index) == sorted(ids)
        assert table.groupby("patient")["split"].nunique().max() == 1
        assert (table["split"][pairs["a"]].to_numpy() == table["split"][pairs["b"]].to_numpy()).all()
        assert (table["patient"][ids].to_numpy() == records.table["patient"].to_numpy()).all()


def test_manifest_joins_labels():
    labels = np.array([[1, 1, 0], [0, 0, 0], [np.nan, 1, 1]] * 4, np.float32)
    table = manifest(split_records(make(labels, task="multilabel")))
    assert list(table.columns) == ["id", "patient", "split", "label"]
    assert dict(zip(table["id"], table["label"], strict=True)) == {
        f"r{i:04d}": ("a|b", "", "b|c")[i % 3] for i in range(12)
    }


def test_a_label_without_positives_is_warned_of():
    labels = np.zeros((12, 2), np.float32)
    labels[:, 0] = np.arange(12) % 2
    with pytest.warns(UserWarning, match="'rare'"):
        split_records(make(labels, task="multilabel", classes=("common", "rare")))


THREE = (np.arange(12) % 3).astype(np.int32)


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        (make(THREE), {"fractions": (0.8, 0.2)}, r"three positive shares.*fractions=\(0.8, 0.2\)"),
        (make(THREE), {"fractions": (0.8, 0.2, 0.0)}, "three positive shares"),
        (make(THREE, split=["train"] * 11 + [""]), {}, "or gives none at all.*split='' for r0011"),
        (make(THREE, split=["train"] * 11 + ["dev"]), {}, "'dev' for r0011"),
        (make(THREE, split="test"), {}, "must give train. Received: test"),
        (make(THREE, list("pq") * 6), {}, "a patient for each of train, val, test. Received: 2 patients"),
        (
            make(np.append(np.zeros(20), [1, 2, 2, 2]).astype(np.int32)),
            {},
            "class 'b' with train 1, val 0, test 0",
        ),
        (make(np.array([0, 0, 1, 1])), {}, "image of every class. Received: made with none for val"),
    ],
)
def test_bad_input(records, options, message):
    with pytest.raises(ValueError, match=message) as error:
        split_records(records, **options)
    assert "\n" not in str(error.value)
