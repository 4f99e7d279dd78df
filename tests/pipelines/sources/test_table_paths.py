"""The paths of a table: below the root and nowhere else, each file once."""

import os

import cv2
import numpy as np
import pytest

from pipelines.images.decode import find_unreadable
from pipelines.sources import open_source


@pytest.fixture
def root(tmp_path):
    """A data folder with two images, and one image beside it."""
    for name in ("data/a.png", "data/sub/b.png", "secret.png", "data-old/c.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    return tmp_path / "data"


def opened(folder, *paths, **options):
    lines = [f"{path},{i % 2}" for i, path in enumerate(paths)]
    (folder / "t.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return open_source(folder / "t.csv", **options)


def test_absolute_paths_and_detours_below_the_root_are_fine(root):
    records = opened(root, "sub/../a.png", root / "sub" / "b.png")
    assert records.table["id"].tolist() == ["sub/../a.png", str(root / "sub" / "b.png")]
    assert all(records.read(i).shape == (4, 4) for i in range(2))


@pytest.mark.parametrize("way", ["dots", "absolute", "sibling", "link to a file", "link to a folder"])
def test_a_path_that_leaves_the_root_is_refused_with_its_row(root, way):
    os.symlink(root.parent / "secret.png", root / "link.png")
    os.symlink(root.parent, root / "up")
    path = {
        "dots": "sub/../../secret.png",
        "absolute": root.parent / "secret.png",
        "sibling": "../data-old/c.png",
        "link to a file": "link.png",
        "link to a folder": "up/secret.png",
    }[way]
    with pytest.raises(ValueError, match="below .*pass root. Received: .* in row 3 of") as error:
        opened(root, "a.png", path, "sub/b.png")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    records = opened(root, "a.png", path, "sub/b.png", on_error="skip")
    assert find_unreadable(records)["id"].tolist() == [str(path)]
    for function in (records.read, records.read_shape, records.fingerprint):
        with pytest.raises(ValueError, match="pass root"):
            function(1)


def test_a_wider_root_lets_them_in(root):
    records = opened(root, "data/a.png", "secret.png", root=str(root.parent))
    assert records.read(1).shape == (4, 4)
    assert opened(root, root / "a.png", root.parent / "secret.png", root="/").read(1).shape == (4, 4)


def test_links_within_the_root_are_fine(root):
    os.symlink(root / "sub", root / "alias")
    os.symlink(root / "a.png", root / "link.png")
    assert opened(root, "link.png", "alias/b.png").read(1).shape == (4, 4)
    os.symlink(root, root.parent / "entry")
    assert opened(root, "a.png", "sub/b.png", root=str(root.parent / "entry")).read(0).shape == (4, 4)


@pytest.mark.parametrize("again", ["a.png", "./a.png", "sub/../a.png", "link.png"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_one_file_in_two_rows_is_refused(root, again, on_error):
    os.symlink(root / "a.png", root / "link.png")
    with pytest.raises(ValueError, match="stands in one row. Received: .* again in row 4 of"):
        opened(root, "a.png", "sub/b.png", again, on_error=on_error)


def test_masks_keep_to_the_root_too(root):
    (root / "t.csv").write_text("path,label,mask\na.png,x,../secret.png\nsub/b.png,y,a.png\n")
    with pytest.raises(ValueError, match="pass root. Received: ../secret.png in row 2"):
        open_source(root / "t.csv", mask_column="mask")
    records = open_source(root / "t.csv", mask_column="mask", on_error="skip")
    assert not records.read_mask(1).any()
    with pytest.raises(ValueError, match="pass root"):
        records.read_mask(0)


@pytest.mark.parametrize("name", ["sub", "sub/..", "..", ".", "x" * 300 + ".png"])
def test_what_is_no_file_is_reported(root, name):
    records = opened(root, "a.png", name, "sub/b.png", on_error="skip")
    assert find_unreadable(records)["id"].tolist() == [name]
