"""Leaks: what stands in two splits is found, named and stops the job."""

import numpy as np
import pandas as pd
import pytest

import pipelines
from pipelines.images.records import Records
from pipelines.sources import open_source
from pipelines.splits.by_patient import GROUP, join_duplicates, split_records
from pipelines.splits.duplicates import find_duplicates
from pipelines.splits.leakage import LeakError, check_leaks, described, find_leaks

NONE = pd.DataFrame(columns=["a", "b", "kind", "distance"])
SPLIT = ["train"] * 12 + ["val"] * 4 + ["test"] * 4


def textures(n, seed=0):
    """Images of one layout, each with its own smooth texture."""
    import cv2

    noise = np.random.default_rng(seed).random((n, 48, 48), np.float32)
    return [(cv2.GaussianBlur(image, (0, 0), 3) * 1500 % 256).astype(np.uint8) for image in noise]


def make(images, patients=None, split=SPLIT, labels=None):
    ids = [f"r{i:02d}.png" for i in range(len(images))]
    return Records(
        name="made",
        task="binary",
        class_names=("well", "ill"),
        table=pd.DataFrame({"id": ids, "patient": patients or ids, "split": split}),
        labels=np.arange(len(images)) % 2 if labels is None else np.array(labels),
        read=lambda i: images[i],
    )


def test_clean_splits_have_no_leak():
    data = pipelines.load(make(textures(20)), batch_size=4)
    assert len(data.leaks) == 0 and list(data.leaks) == [
        "kind", "split_a", "id_a", "label_a", "split_b", "id_b", "label_b", "distance",
    ]  # fmt: skip


def leaking():
    images, patients = textures(20), [f"p{i}" for i in range(20)]
    images[13] = images[2]  # The same pixels in train and val.
    images[17] = images[5][:, ::-1]  # Mirrored, in train and test.
    images[7] = images[6]  # Within train: no leak.
    patients[18] = patients[12]  # One patient in val and test.
    return make(images, patients)


def test_patients_pixels_and_copies_are_found():
    with pytest.raises(LeakError) as error:
        pipelines.load(leaking())
    leaks = error.value.leaks
    found = {tuple(row) for row in leaks[["kind", "split_a", "id_a", "split_b", "id_b"]].to_numpy()}
    assert found == {
        ("patient", "val", "r12.png", "test", "r18.png"),
        ("identical", "train", "r02.png", "val", "r13.png"),
        ("near", "train", "r05.png", "test", "r17.png"),
    }
    for word in ("1 patient between val and test", "1 identical between train and val", "leakage='warn'"):
        assert word in str(error.value)


def test_warning_and_looking_away():
    with pytest.warns(UserWarning, match="1 near between train and test"):
        data = pipelines.load(leaking(), leakage="warn", batch_size=4)
    assert len(data.leaks) == 3
    assert len(pipelines.load(leaking(), leakage="off", batch_size=4).leaks) == 0


def test_grouped_duplicates_cannot_leak():
    """Without given splits, copies of images of different patients are kept together."""
    images = textures(30)
    for i in range(0, 30, 3):
        images[i + 1] = images[i][::-1]
    records = make(images, split=[""] * 30, labels=[i // 3 % 2 for i in range(30)])
    with pytest.raises(LeakError):
        pipelines.load(records, fractions=(0.5, 0.2, 0.3))
    for seed in range(3):
        data = pipelines.load(records, fractions=(0.5, 0.2, 0.3), group_duplicates=True, seed=seed)
        assert len(data.leaks) == 0
        where = data.info.manifest.set_index("id")["split"]
        assert all(where[f"r{i:02d}.png"] == where[f"r{i + 1:02d}.png"] for i in range(0, 30, 3))
        assert list(data.info.manifest["patient"]) == list(data.info.manifest["id"])


def test_groups_join_patients_through_others():
    records = make(textures(5), patients=["a", "a", "b", "c", "d"], split=[""] * 5)
    pairs = pd.DataFrame(
        [["r01.png", "r02.png", "near", 0.1], ["r02.png", "r03.png", "identical", 0.0]],
        columns=["a", "b", "kind", "distance"],
    )
    assert join_duplicates(records, pairs).table[GROUP].tolist() == ["a", "a", "a", "a", "d"]
    assert join_duplicates(records, NONE).table[GROUP].tolist() == ["a", "a", "b", "c", "d"]


def test_a_split_before_a_train_image_comes_second():
    records = make(textures(3), split=[""] * 3)
    splits = {"test": records.select([0]), "train": records.select([1, 2])}
    pairs = pd.DataFrame([["r00.png", "r01.png", "near", 0.2]], columns=["a", "b", "kind", "distance"])
    (row,) = find_leaks(splits, pairs).to_numpy().tolist()
    assert row == ["near", "train", "r01.png", "ill", "test", "r00.png", "well", 0.2]


def test_an_unknown_policy():
    with pytest.raises(ValueError, match="leakage='ignore'"):
        check_leaks({}, None, policy="ignore")


def test_pneumonia_x_rays_share_eight_images_between_train_and_val(real_data):
    records = open_source(str(real_data / "pneumoniamnist" / "pneumoniamnist_rebuilt.npz"), drop_shared=False)
    splits = split_records(records)
    leaks = find_leaks(splits, find_duplicates(records))
    identical = leaks[leaks["kind"] == "identical"]
    assert set(zip(identical["split_a"], identical["split_b"], strict=True)) == {("train", "val")}
    assert identical["id_b"].nunique() == 8
    assert len(leaks) - len(identical) < 20  # 28 pixels: of 17 million pairs, few are called alike.


@pytest.fixture(scope="module")
def busi(real_data, tmp_path_factory):
    """BUSI with its recorded duplicate groups, and what is found among its images."""
    index = pd.read_csv(real_data / "busi" / "index.csv")
    index["path"] = index["class"] + "/" + index["file"]
    table = tmp_path_factory.mktemp("busi") / "busi.csv"
    index[["path", "label"]].to_csv(table, index=False)
    records = open_source(str(table), root=str(real_data / "busi" / "images"))
    return index, records, find_duplicates(records)


def test_recorded_duplicates_of_breast_ultrasound_are_found(busi):
    index, records, pairs = busi
    groups = index[index["dup_group_size"] > 1].groupby("dup_group")["path"]
    recorded = {frozenset((a, b)) for _, g in groups for a in g for b in g if a < b}
    found = {frozenset(pair) for pair in zip(pairs["a"], pairs["b"], strict=True)}
    assert len(recorded) == 233
    assert len(recorded & found) / len(recorded) >= 0.95
    assert len(found - recorded) <= 20
    group = join_duplicates(records, pairs).table.set_index("id")[GROUP]
    assert all(group[list(pair)].nunique() == 1 for pair in recorded)


def test_contradictory_labels_of_breast_ultrasound_are_named(busi):
    index, records, pairs = busi
    table = described({"train": records}, pairs)
    apart = table[table["label_a"] != table["label_b"]]
    named = set(apart["id_a"]) | set(apart["id_b"])
    recorded = index.loc[index["dup_label_conflict"] == 1, ["path", "dup_group"]]
    # Of each group with a contradiction, images of different labels are named.
    assert recorded[recorded["path"].isin(named)]["dup_group"].nunique() == 8
