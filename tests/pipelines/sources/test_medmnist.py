import hashlib
import logging

import numpy as np
import pytest

from pipelines.images.decode import common_shape
from pipelines.sources import open_source
from pipelines.sources.medmnist import source as medmnist
from pipelines.sources.medmnist.sets import SETS

RNG = np.random.default_rng(0)


def make(shape=(8, 8), counts=(6, 3, 3), classes=2, columns=1, **extra):
    arrays = {}
    for split, n in zip(("train", "val", "test"), counts, strict=True):
        if n:
            arrays[f"{split}_images"] = RNG.integers(0, 256, (n, *shape), dtype=np.uint8)
            arrays[f"{split}_labels"] = (np.arange(n * columns) % classes).reshape(n, columns).astype(np.uint8)
    return arrays | extra


def save(path, arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("shape", "rank", "stored"),
    [
        ((8, 9), 2, (8, 9, 1)),
        ((8, 9, 3), 2, (8, 9, 3)),
        ((5, 8, 9), 3, (5, 8, 9, 1)),
        ((5, 8, 9, 3), 3, (5, 8, 9, 3)),
    ],
)
def test_images_labels_and_splits_come_back(tmp_path, shape, rank, stored):
    arrays = make(shape)
    records = open_source(save(tmp_path / "a.npz", arrays))
    assert records.rank == rank and records.task == "binary" and records.class_names == ("0", "1")
    assert common_shape(records) == stored
    assert records.table["split"].value_counts().to_dict() == {"train": 6, "val": 3, "test": 3}
    for i, (name, split) in enumerate(zip(records.table["id"], records.table["split"], strict=True)):
        row = int(name.split("_")[1])
        np.testing.assert_array_equal(records.read(i), arrays[f"{split}_images"][row])
        assert records.labels[i] == arrays[f"{split}_labels"][row, 0]
    assert records.read_mask is None and records.table["patient"].equals(records.table["id"])


@pytest.mark.parametrize(
    ("arrays", "options", "task", "names"),
    [
        (make(classes=3), {}, "multiclass", ("0", "1", "2")),
        (make(classes=3), {"task": "ordinal"}, "ordinal", ("0", "1", "2")),
        (make(columns=3), {}, "multilabel", ("0", "1", "2")),
        (make(), {"class_names": ["x", "y"]}, "binary", ("x", "y")),
    ],
)
def test_the_task_is_inferred_from_the_labels(tmp_path, arrays, options, task, names):
    records = open_source(save(tmp_path / "a.npz", arrays), **options)
    assert (records.task, records.class_names) == (task, names)
    assert records.labels.dtype == (np.float32 if task == "multilabel" else np.int32)


def test_the_task_of_a_known_set_comes_from_its_name(tmp_path):
    records = open_source(save(tmp_path / "retinamnist_copy.npz", make(classes=5)))
    assert records.task == "ordinal" and len(records.class_names) == 5


def test_classes_in_the_file_and_flat_labels_are_taken(tmp_path):
    arrays = make() | {"classes": np.array(["no", "yes"]), "train_files": np.array(["x"] * 6)}
    arrays["train_labels"] = arrays["train_labels"][:, 0]
    assert open_source(save(tmp_path / "a.npz", arrays)).class_names == ("no", "yes")


def test_val_and_test_may_be_absent(tmp_path):
    assert set(open_source(save(tmp_path / "a.npz", make(counts=(6, 0, 0)))).table["split"]) == {"train"}


def test_masks_become_boolean(tmp_path):
    masks = {f"{s}_masks": RNG.integers(0, 2, (n, 8, 8)).astype(np.uint8) * 255 for s, n in (("train", 6), ("test", 3))}
    arrays = make(counts=(6, 0, 3)) | masks
    records = open_source(save(tmp_path / "a.npz", arrays))
    np.testing.assert_array_equal(records.read_mask(7), masks["test_masks"][1] == 255)


def test_shared_images_leave_the_earlier_split(tmp_path, caplog):
    arrays = make()
    arrays["train_images"][2] = arrays["val_images"][0]
    arrays["train_images"][4] = arrays["val_images"][1] = arrays["test_images"][1]
    path = save(tmp_path / "a.npz", arrays)
    with caplog.at_level(logging.WARNING, "medkeras"):
        records = open_source(path)
    assert sorted(set(open_source(path, drop_shared=False).table["id"]) - set(records.table["id"])) == [
        "train_2",
        "train_4",
        "val_1",
    ]
    assert "2 of train" in caplog.text and "1 of val" in caplog.text


def test_pneumoniamnist_has_eight_shared_images(real_data, caplog):
    records = open_source(real_data / "pneumoniamnist" / "pneumoniamnist_rebuilt.npz")
    assert records.table["split"].value_counts().to_dict() == {"train": 4698, "val": 524, "test": 624}
    assert records.task == "binary" and records.class_names == ("normal", "pneumonia")
    assert "8 images occur in more than one split; dropped 10 of train" in caplog.text  # Two stand there twice.


def test_busi_and_chest_npz_are_read(real_data):
    busi = open_source(real_data / "busi" / "busi_128.npz", class_names=("normal", "benign", "malignant"))
    assert busi.task == "multiclass" and common_shape(busi) == (128, 128, 1)
    i = int(np.flatnonzero(busi.labels == 2)[0])
    assert busi.read_mask(i).any() and busi.read_mask(i).dtype == bool
    chest = open_source(real_data / "nih_cxr_1000" / "nih_cxr_1000_128.npz")
    assert chest.task == "multilabel" and "Pneumonia" in chest.class_names and chest.labels.shape[1] == 14


def without(arrays, key):
    return {k: v for k, v in arrays.items() if k != key}


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (without(make(), "train_images"), "train_images"),
        (without(make(), "val_labels"), "val_images and no val_labels"),
        (make() | {"test_labels": np.zeros((9, 1), np.uint8)}, "test_labels must be 3 rows"),
        (make() | {"train_images": np.zeros((6, 8, 8), np.float32)}, "must be uint8"),
        (make() | {"val_images": np.zeros((3, 4, 4), np.uint8)}, "one size in all splits"),
        (make() | {"train_masks": np.zeros((6, 4, 4), bool)}, "train_masks must be on the grid"),
        (make() | {"train_labels": np.array(["a"] * 6)}, "rows of numbers"),
        (make() | {"train_labels": np.full((6, 1), 0.5)}, "whole number"),
        (make() | {"train_labels": np.array([None] * 6)}, "object arrays"),
        (make(classes=1), "num_classes=1"),
        ({"other": np.zeros(3)}, "train_images"),
    ],
)
def test_a_bad_npz_is_named_on_one_line(tmp_path, arrays, reason):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=reason) as error:
        open_source(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fraction", [0, 0.5, 0.95])
def test_a_truncated_npz_is_named(tmp_path, fraction):
    data = save(tmp_path / "a.npz", make()).read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ValueError, match=f"Cannot read {path}"):
        open_source(path)


def test_labels_beyond_the_class_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="0 to 1.*Received"):
        open_source(save(tmp_path / "pneumoniamnist.npz", make(classes=3)))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that stands for the official site, and the cache beside it."""
    (tmp_path / "site").mkdir()
    data = save(tmp_path / "site" / "breastmnist.npz", make()).read_bytes()
    known = SETS["breastmnist"]._replace(md5={28: hashlib.md5(data).hexdigest(), 64: "0" * 32})
    monkeypatch.setitem(SETS, "breastmnist", known)
    monkeypatch.setattr(medmnist, "URL", (tmp_path / "site").as_uri())
    monkeypatch.setenv("MEDKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_an_official_set_is_downloaded_once(server):
    records = open_source("medmnist:breastmnist")
    assert records.class_names == ("malignant", "normal, benign") and len(records) == 12
    (server / "site" / "breastmnist.npz").unlink()
    assert len(open_source("medmnist:breastmnist")) == 12


def test_a_wrong_md5_leaves_nothing(server):
    (server / "site" / "breastmnist_64.npz").write_bytes(b"something else")
    with pytest.raises(ValueError, match="MD5"):
        open_source("medmnist:breastmnist_64")
    assert list((server / "cache").iterdir()) == []


def test_without_network_the_error_says_what_to_fetch_and_where_to_put_it(server):
    with pytest.raises(ValueError) as error:
        open_source("medmnist:pathmnist_128")
    text = str(error.value)
    assert "/site/pathmnist_128.npz" in text and str(server / "cache" / "pathmnist_128.npz") in text
    assert "\n" not in text


@pytest.mark.parametrize("name", ["mnist", "breastmnist_99", "organmnist3d_224"])
def test_unknown_sets_and_sizes_list_the_known_ones(name):
    with pytest.raises(ValueError, match="breastmnist|organmnist3d_64"):
        open_source(f"medmnist:{name}")


def test_the_table_of_sets_is_sound():
    assert len(SETS) == 18
    for known in SETS.values():
        assert {28, 64} <= set(known.md5) and all(len(digest) == 32 for digest in known.md5.values())
        assert (len(known.class_names) == 2) == (known.task == "binary")
