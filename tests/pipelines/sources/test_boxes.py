"""Boxes in a CSV, COCO JSON or Pascal VOC XML as lesion masks."""

import json

import cv2
import numpy as np
import pytest

from pipelines.sources import open_source
from pipelines.sources.table.boxes import box_masks


def boxes(folder, *lines, header="file,x,y,width,height"):
    path = folder / "boxes.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def test_a_pixel_belongs_to_a_box_that_holds_its_centre(tmp_path):
    rng = np.random.default_rng(0)
    size = (17, 23)
    for _ in range(50):
        left, top = rng.uniform(0, 15), rng.uniform(0, 10)
        width, height = rng.uniform(1, size[1] - left), rng.uniform(1, size[0] - top)
        mask = box_masks(boxes(tmp_path, f"a.png,{left},{top},{width},{height}"), ["a.png"])(0, size)
        y, x = np.mgrid[: size[0], : size[1]] + 0.5
        inside = (left <= x) & (x < left + width) & (top <= y) & (y < top + height)
        np.testing.assert_array_equal(mask, inside)
    thin = box_masks(boxes(tmp_path, "a.png,3.6,4.1,0.2,0.3"), ["a.png"])(0, size)
    assert np.argwhere(thin).tolist() == [[4, 3]]


def test_a_table_with_boxes_has_masks_and_other_images_none(tmp_path):
    (tmp_path / "scans").mkdir()
    for name in "ab":
        assert cv2.imwrite(str(tmp_path / "scans" / f"{name}.png"), np.zeros((8, 10), np.uint8))
    table = tmp_path / "table.csv"
    table.write_text("path,label\nscans/a.png,ill\nscans/b.png,well\n")
    lines = ["a.png,0,0,2,3", "a.png,8,7,2,1", "elsewhere.png,0,0,999,999"]
    header = "Image Index,left,top,w,h"
    columns = ("left", "top", "w", "h")
    records = open_source(table, boxes=boxes(tmp_path, *lines, header=header), box_columns=columns)
    expected = np.zeros((8, 10), bool)
    expected[:3, :2] = expected[7:, 8:] = True
    np.testing.assert_array_equal(records.read_mask(0), expected)
    assert not records.read_mask(1).any()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,1,1,0,2", "four numbers, and a size. Received: row 2"),
        ("a.png,-1,1,1,2", "four numbers, and a size. Received: row 2"),
        ("a.png,1,one,1,2", "four numbers, and a size. Received: row 2"),
        ("c.png,1,1,1,2", "of images of the table.*first c.png"),
    ],
)
def test_what_is_no_box_is_refused_with_its_row(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        box_masks(boxes(tmp_path, line), ["a.png", "b.png"])


def test_wrong_columns_and_boxes_that_leave_the_image(tmp_path):
    path = boxes(tmp_path, "a.png,1,1,8,2")
    with pytest.raises(ValueError, match="within its image of .4, 6.. Received: row 2 of boxes.csv"):
        box_masks(path, ["a.png"])(0, (4, 6))
    with pytest.raises(ValueError, match="No column w in .*box_columns='w'"):
        box_masks(path, ["a.png"], columns=("x", "y", "w", "h"))
    with pytest.raises(ValueError, match="`box_columns` are those of x, y, width, height. Received: x, y"):
        box_masks(path, ["a.png"], columns=("x", "y"))
    with pytest.raises(ValueError, match="each of a name of its own"):
        box_masks(path, ["one/a.png", "two/a.png"])
    with pytest.raises(ValueError, match="masks or boxes. Received: mask_column='m', boxes='b.csv'"):
        open_source(tmp_path / "boxes.csv", mask_column="m", boxes="b.csv")


SIZE = (8, 10)
ONE_BOX = np.zeros(SIZE, bool)
ONE_BOX[1:4, 2:7] = True


def coco(folder, **changes):
    stored = {
        "images": [{"id": 7, "file_name": "scans/a.png"}, {"id": 9, "file_name": "scans/b.png"}],
        "annotations": [{"image_id": 7, "bbox": [2, 1, 5, 3]}],
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(stored | changes))
    return str(path)


def voc(folder, box="<xmin>3</xmin><ymin>2</ymin><xmax>7</xmax><ymax>4</ymax>"):
    (folder / "voc").mkdir()
    text = (
        f"<annotation><filename>a.png</filename><object><name>cyst</name><bndbox>{box}</bndbox></object></annotation>"
    )
    (folder / "voc" / "a.xml").write_text(text)
    (folder / "voc" / "b.xml").write_text("<annotation><filename>b.png</filename></annotation>")
    return str(folder / "voc")


@pytest.mark.parametrize("make", [coco, voc])
def test_coco_and_pascal_voc_say_the_same_box(tmp_path, make):
    """COCO counts pixels from 0 and gives a size, VOC counts from 1 and its last pixels belong to the box."""
    mask = box_masks(make(tmp_path), ["scans/a.png", "scans/b.png"])
    np.testing.assert_array_equal(mask(0, SIZE), ONE_BOX)
    assert not mask(1, SIZE).any()


def test_two_corners_are_a_format_by_name(tmp_path):
    path = boxes(tmp_path, "a.png,2,1,7,4", header="file,x0,y0,x1,y1")
    np.testing.assert_array_equal(box_masks(path, ["a.png"], box_format="xyxy")(0, SIZE), ONE_BOX)
    other = boxes(tmp_path, "a.png,2,1,7,4", header="file,l,t,r,b")
    mask = box_masks(other, ["a.png"], box_format="xyxy", columns=("l", "t", "r", "b"))
    np.testing.assert_array_equal(mask(0, SIZE), ONE_BOX)
    with pytest.raises(ValueError, match="one of xywh, xyxy. Received: box_format='yolo'"):
        box_masks(path, ["a.png"], box_format="yolo")
    with pytest.raises(ValueError, match="four numbers, and a size. Received: row 2"):
        box_masks(boxes(tmp_path, "a.png,7,1,2,4", header="file,x0,y0,x1,y1"), ["a.png"], box_format="xyxy")


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: coco(folder, annotations=[{"image_id": 8, "bbox": [1, 1, 1, 1]}]),
        lambda folder: coco(folder, annotations=[{"image_id": 7, "bbox": [1, 1, 1]}]),
        lambda folder: coco(folder, annotations=[{"image_id": 7}]),
        lambda folder: coco(folder, images=3),
        lambda folder: voc(folder, "<xmin>3</xmin>"),
        lambda folder: voc(folder, "<xmin>"),
    ],
)
def test_what_is_neither_coco_nor_voc_is_named(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(ValueError, match=f"Cannot read {path}: no boxes as COCO or Pascal VOC have them"):
        box_masks(path, ["a.png"])
    with pytest.raises(FileNotFoundError, match="gone.json"):
        box_masks(str(tmp_path / "gone.json"), ["a.png"])


def test_a_folder_without_boxes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Boxes must be of images of the table.*first none"):
        box_masks(str(tmp_path), ["a.png"])
