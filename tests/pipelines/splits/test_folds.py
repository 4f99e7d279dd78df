"""Folds and split files: every record once in test, nobody parted, and files taken as given."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from pipelines.images.records import Records
from pipelines.sources import open_source
from pipelines.splits.by_patient import manifest, split_records
from pipelines.splits.folds import apply_split, fold_records, read_split_file


def make(labels, patients, classes=("a", "b", "c"), task="multiclass"):
    ids = [f"r{i:04d}" for i in range(len(labels))]
    return Records(
        name="made",
        task=task,
        class_names=classes,
        table=pd.DataFrame({"id": ids, "patient": patients, "split": ""}),
        labels=np.asarray(labels),
        read=lambda i: np.zeros((4, 4), np.uint8),
    )


def random_records(seed):
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 60, 240)
    labels = (patients + (rng.random(240) < 0.2)) % 3
    return make(labels, [f"p{p}" for p in patients])


@pytest.mark.parametrize("seed", range(20))
def test_folds_partition_the_records_and_part_no_patient(seed):
    records, folds = random_records(seed), 2 + seed % 4
    tested = []
    for fold in range(folds):
        splits = fold_records(records, folds=folds, fold=fold, seed=seed)
        table = manifest(splits)
        assert sorted(table["id"]) == sorted(records.table["id"])
        assert table.groupby("patient")["split"].nunique().max() == 1
        assert len(splits["val"]) == pytest.approx(24, abs=8)
        tested += splits["test"].table["id"].tolist()
    assert sorted(tested) == sorted(records.table["id"])


def spread(tests, counts):
    """How far the classes of test parts are from their share, in images."""
    return np.mean([np.abs(np.bincount(t, minlength=3) - counts / len(tests)).mean() for t in tests])


def test_folds_are_even_to_less_than_an_image_a_class():
    """scikit-learn's greedy folds are 0.4 images off their share here, ours 0.6, of 16 to 27."""
    ours, theirs = [], []
    for seed in range(5):
        records = random_records(seed)
        counts = np.bincount(records.labels, minlength=3)
        ours.append(spread([fold_records(records, folds=5, fold=k)["test"].labels for k in range(5)], counts))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        parts = splitter.split(records.labels, records.labels, records.table["patient"])
        theirs.append(spread([records.labels[test] for _, test in parts], counts))
    assert np.mean(ours) < 1
    assert np.mean(ours) < np.mean(theirs) + 0.5


def test_labels_of_x_rays_are_shared_out_better_than_by_chance(real_data):
    folder = real_data / "nih_cxr_1000"
    columns = [c for c in pd.read_csv(folder / "labels.csv").columns if c[0].isupper()]
    table = pd.read_csv(folder / "labels.csv")
    labels = [c for c in columns if set(table[c].unique()) <= {0, 1} and table[c].sum() > 5]
    records = make(
        table[labels].to_numpy(np.float32), table["patient_id"].astype(str), classes=tuple(labels), task="multilabel"
    )

    def deviation(splits):
        whole = records.labels.mean(axis=0)
        return np.mean([np.abs(part.labels.mean(axis=0) - whole).mean() for part in splits.values()])

    rng = np.random.default_rng(0)
    patients = records.table["patient"].unique()
    by_chance = []
    for _ in range(20):
        drawn = dict(zip(patients, rng.choice(3, len(patients), p=[0.7, 0.1, 0.2]), strict=True))
        split = records.table["patient"].map(drawn).to_numpy()
        by_chance.append(deviation({k: records.select(np.flatnonzero(split == k)) for k in range(3)}))
    assert deviation(split_records(records)) < 0.5 * np.mean(by_chance)


def test_the_splits_of_a_run_can_be_given_again(tmp_path):
    records = random_records(0)
    splits = split_records(records, seed=5)
    manifest(splits).to_csv(tmp_path / "splits.csv", index=False)
    again = apply_split(records.select(np.arange(240)[::-1]), read_split_file(tmp_path / "splits.csv"))
    pd.testing.assert_frame_equal(manifest(again), manifest(splits))


def test_ids_that_look_like_numbers_stay_what_they_are(tmp_path):
    (tmp_path / "s.csv").write_text("id,split\n007,train\n7,test\n")
    assert read_split_file(tmp_path / "s.csv").to_dict() == {"007": "train", "7": "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,part\na,train\n", "columns id and split.*id, part"),
        ("id,split\na,train\na,test\n", "a twice"),
        ("id,split\na,training\n", "'training' for a"),
        ("", "Cannot read"),
    ],
)
def test_bad_split_files(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split_file(tmp_path / "s.csv")


def test_a_split_file_that_is_missing_or_of_other_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv"):
        read_split_file(tmp_path / "none.csv")
    records = open_source("phantom", images=20)
    ids = records.table["id"]
    with pytest.raises(ValueError, match="Every record is named.*and 1 more"):
        apply_split(records, pd.Series("train", index=ids[2:]))
    with pytest.raises(ValueError, match="Every name is a record's.*stranger"):
        apply_split(records, pd.Series("train", index=[*ids, "stranger"]))
    with pytest.raises(ValueError, match="Received: phantom-binary without val, test"):
        apply_split(records, pd.Series("train", index=ids))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 1, "fold": 0}, "folds=1"),
        ({"folds": 3, "fold": 3}, "fold=3"),
        ({"folds": 3, "fold": -1}, "fold=-1"),
        ({"folds": 2, "fold": 0, "val_fraction": 0.5}, "val_fraction=0.5"),
        ({"folds": 100, "fold": 0}, "a patient for each"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fold_records(random_records(0), **arguments)
