"""`medkeras data`: what it prints and draws agrees with the records."""

import cv2
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pipelines.images.contact_sheet import contact_sheet
from pipelines.images.records import Records
from pipelines.jobs.data import inspect
from pipelines.sources import open_source


def make(reads, labels, **options):
    ids = [f"r{i:02d}" for i in range(len(reads))]
    table = pd.DataFrame({"id": ids, "patient": ids, "split": ""})
    labels = np.asarray(labels, np.int32)
    return Records(
        name="made",
        task="binary",
        class_names=("a", "b"),
        table=table,
        labels=labels,
        read=lambda i: reads[i],
        **options,
    )


def printed(*args, **options):
    console = Console(record=True, width=120, quiet=False, file=open("/dev/null", "w"))
    inspect(*args, console=console, **options)
    return console.export_text()


def row(text, name):
    line = next(line for line in text.splitlines() if line.strip("│┃ ").startswith(name))
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def test_counts_of_every_split():
    labels = np.repeat([0, 1], [60, 40])
    text = printed(make([np.zeros((5, 4), np.uint8)] * 100, labels))
    assert row(text, "a") == ["a", "42", "6", "12", "60", "60.0%"]
    assert row(text, "b") == ["b", "28", "4", "8", "40", "40.0%"]
    assert row(text, "shapes") == ["shapes", "5x4x1"] and row(text, "task") == ["task", "binary"]


def test_unknown_labels_are_counted():
    records = open_source("phantom:multilabel", images=60, unknown=0.2)
    text = printed(records)
    for i, name in enumerate(records.class_names):
        assert row(text, name)[-1] == f"{np.isnan(records.labels[:, i]).mean():.1%}"


def test_trouble_is_shown_and_does_not_stop_it():
    reads = [np.zeros((4, 4), np.float32)] * 18 + [np.zeros((6, 4), np.float32), np.full((4, 4), np.nan)]
    text = printed(make(reads, [0] * 19 + [1]))
    assert "unreadable: r19: " in text and "NaN" in text
    assert "cannot be split: Every split needs an image of every class" in text
    assert "4x4x1 (18 images)" in text and "6x4x1 (1 images)" in text


@pytest.mark.parametrize("name", ["phantom:multiclass", "phantom:binary3d", "phantom:multilabel"])
def test_contact_sheet_shows_each_class_with_its_lesions(name):
    records = open_source(name, images=40, size=16)
    figure = contact_sheet(records, per_class=3)
    rows = np.array(figure.axes).reshape(len(records.class_names), 3)
    ids = list(records.table["id"])
    for label, axes in enumerate(rows):
        for cell in axes:
            index = ids.index(cell.get_xlabel().split(",")[0])
            carried = records.labels[index]
            assert carried[label] == 1 if carried.ndim else carried == label
            assert bool(cell.collections) == records.read_mask(index).any()


def test_a_slice_with_the_lesion_is_chosen():
    volume, mask = np.zeros((8, 6, 6), np.float32), np.zeros((8, 6, 6), bool)
    mask[6, 2:4, 2:4] = True
    records = make([volume] * 2, [0, 1], rank=3, read_mask=lambda i: mask if i else np.zeros_like(mask))
    labels = [axes.get_xlabel() for axes in contact_sheet(records, per_class=1).axes]
    assert labels == ["r00, slice 4", "r01, slice 6"]


def test_outline_lies_on_the_lesion():
    mask = np.zeros((10, 12), bool)
    mask[3:6, 7:12] = True
    records = make([np.zeros((10, 12), np.uint8)] * 2, [0, 1], read_mask=lambda i: mask)
    (outline,) = contact_sheet(records, per_class=1).axes[0].collections
    points = np.concatenate([path.vertices for path in outline.get_paths()])
    np.testing.assert_allclose(points.min(axis=0), (6.5, 2.5))
    np.testing.assert_allclose(points.max(axis=0), (11.5, 5.5))


def test_the_file_is_a_picture_written_whole(tmp_path):
    out = tmp_path / "new" / "sheet.png"
    inspect("phantom", out, images=20, per_class=2, console=Console(quiet=True))
    picture = cv2.imread(str(out))
    assert picture.shape[0] > 300 and picture.std() > 10
    assert [p.name for p in out.parent.iterdir()] == ["sheet.png"]


def test_colour_images_stay_coloured():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    axes = contact_sheet(make([red, red], [0, 1]), per_class=1).axes[0]
    assert axes.images[0].get_array().shape == (4, 4, 3) and axes.images[0].get_array()[0, 0].tolist() == [
        1,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "sheet.pdf"}, "out=sheet.pdf"),
        ({"out": "sheet.png", "per_class": 0}, "per_class=0"),
    ],
)
def test_bad_input(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        inspect("phantom", images=12, console=Console(quiet=True), **options)
    assert not list(tmp_path.iterdir())


def test_nothing_readable():
    bad = make([np.full((2, 2), np.nan)] * 2, [0, 1])
    with pytest.raises(ValueError, match="No image of made can be read"):
        inspect(bad, console=Console(quiet=True))
    with pytest.raises(ValueError, match="Image r0"):
        contact_sheet(bad)
