import cv2
import numpy as np
import pytest

from pipelines.images.decode import common_shape, find_unreadable
from pipelines.sources import open_source


def make(root, *names, value=7, shape=(8, 8)):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full(shape, value, np.uint8))
    return root


def test_class_folders_without_splits(tmp_path):
    make(tmp_path, "b/2.png", "b/10.JPG", "a/x.Tiff", "c/deep/er/1.bmp")
    (tmp_path / "README.md").write_text("beside the classes")
    (tmp_path / "a" / ".DS_Store").write_text("hidden")
    make(tmp_path, ".cache/z.png")
    records = open_source(tmp_path)
    assert records.name == tmp_path.name and records.task == "multiclass" and records.class_names == ("a", "b", "c")
    assert records.table["id"].tolist() == ["a/x.Tiff", "b/10.JPG", "b/2.png", "c/deep/er/1.bmp"]
    assert records.labels.tolist() == [0, 1, 1, 2]
    assert set(records.table["split"]) == {""} and records.table["patient"].equals(records.table["id"])
    assert all(records.read(i).shape == (8, 8) for i in range(4))


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Train", "VALID", "Test"), ("train", "validation", "test")]
)
def test_class_folders_below_splits(tmp_path, names):
    make(tmp_path, *[f"{split}/{c}/{split}.png" for split in names for c in "ab"])
    records = open_source(tmp_path)
    assert records.class_names == ("a", "b")
    splits = dict(zip(records.table["id"].str.split("/").str[0], records.table["split"], strict=True))
    assert splits == dict(zip(names, ("train", "val", "test"), strict=True))


def test_patients_come_from_the_path(tmp_path):
    make(tmp_path, "a/p1_1.png", "a/p1_2.png", "b/p23_1.png")
    assert open_source(tmp_path, patient_pattern=r"/(p\d+)_").table["patient"].tolist() == ["p1", "p1", "p23"]


def test_masks_of_another_suffix(tmp_path):
    make(tmp_path / "images", "a/1.jpg", "b/2.jpg")
    make(tmp_path / "masks", "a/1.png", value=0)
    make(tmp_path / "masks", "b/2.png", value=1)
    records = open_source(tmp_path / "images", masks=str(tmp_path / "masks"))
    assert records.read_mask(0).dtype == bool and not records.read_mask(0).any() and records.read_mask(1).all()
    make(tmp_path / "masks", "b/2.png", shape=(4, 8))
    with pytest.raises(ValueError, match="size of its image"):
        records.read_mask(1)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_a_mask_may_number_its_lesions(tmp_path, kind):
    """Whole numbers of 32 bits, or floats above 1, are no image but a mask."""
    make(tmp_path / "images", "a/1.png", "b/2.png", shape=(4, 4))
    numbers = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [700, 700, 0, 0]], kind)
    for name in ("a/1.tif", "b/2.tif"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / "masks" / name), numbers)
    records = open_source(tmp_path / "images", masks=str(tmp_path / "masks"))
    np.testing.assert_array_equal(records.read_mask(0), numbers > 0)


def test_skip_keeps_bad_files_for_the_report(tmp_path):
    make(tmp_path, "a/1.png", "b/2.png", "b/3.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "b" / "2.png").write_bytes(b"")
    with pytest.raises(ValueError, match="a/notes.txt"):
        open_source(tmp_path)
    records = open_source(tmp_path, on_error="skip")
    rejected = find_unreadable(records)
    assert rejected["id"].tolist() == ["a/notes.txt", "b/2.png"]
    assert "zero bytes" in rejected["reason"][1] and str(tmp_path) in rejected["reason"][1]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "holds .png"),
        (("a/1.png",), "at least two classes"),
        (("a/1.png", "b/1.png", "stray.png"), "folder of its class.*stray.png"),
        (("train/a/1.png", "train/b/1.png", "train/stray.png"), "stray.png"),
        (("train/a/1.png", "train/b/1.png", "test/c/1.png"), r"in train.*\['c'\]"),
        (("val/a/1.png", "test/b/1.png"), "has a train folder"),
        (("train/a/1.png", "train/b/1.png", "other/a/1.png"), "other"),
    ],
)
def test_a_bad_folder_is_named(tmp_path, names, reason):
    make(tmp_path, *names)
    with pytest.raises(ValueError, match=reason) as error:
        open_source(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("pattern", ["(", "a", "(a)(b)", "/(q[0-9])_"])
def test_a_bad_patient_pattern_is_named(tmp_path, pattern):
    make(tmp_path, "a/p1_1.png", "b/p2_1.png")
    with pytest.raises(ValueError, match="patient_pattern.*Received"):
        open_source(tmp_path, patient_pattern=pattern)


def test_missing_masks_are_named(tmp_path):
    make(tmp_path / "images", "a/1.png", "b/2.png")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_source(tmp_path / "images", masks=str(tmp_path / "nowhere"))
    make(tmp_path / "masks", "a/1.png")
    with pytest.raises(FileNotFoundError, match="b/2.png"):
        open_source(tmp_path / "images", masks=str(tmp_path / "masks"))


def test_busi(real_data):
    folder = real_data / "busi"
    records = open_source(folder / "images", masks=str(folder / "masks"), patient_pattern=r"_(\d+)\.png")
    assert records.class_names == ("benign", "malignant", "normal")
    assert records.class_counts().tolist() == [437, 210, 133]
    with pytest.raises(ValueError, match="pass image_size. Received: benign/benign_001.png with 268x320"):
        common_shape(records)
    for i in (0, 500, 779):
        assert records.read(i).shape == records.read_mask(i).shape == records.read_shape(i)[:2]
        assert records.read_mask(i).any() == (records.labels[i] != 2)
