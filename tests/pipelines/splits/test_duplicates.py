"""Duplicates: changed copies are found, other images are not."""

import cv2
import numpy as np
import pandas as pd
import pytest

from pipelines.images.records import Records
from pipelines.sources import open_source
from pipelines.splits.by_patient import GROUP, join_duplicates
from pipelines.splits.duplicates import MOST, find_duplicates


def make(images, rank=2):
    ids = [f"r{i:03d}.png" for i in range(len(images))]
    return Records(
        name="made",
        task="binary",
        class_names=("well", "ill"),
        table=pd.DataFrame({"id": ids, "patient": ids, "split": ""}),
        labels=np.arange(len(images)) % 2,
        read=lambda i: images[i],
        rank=rank,
    )


def textures(count, side=96, seed=0):
    """Images of one layout, bright in the middle, each with its own smooth texture."""
    noise = np.random.default_rng(seed).random((count, side, side), np.float32)
    window = np.hanning(side + 2)[1:-1, None] * np.hanning(side + 2)[1:-1]
    smooth = [cv2.normalize(cv2.GaussianBlur(image, (0, 0), side / 24), None, 0, 1, cv2.NORM_MINMAX) for image in noise]
    return [(255 * (0.5 * image + 0.5 * window)).astype(np.uint8) for image in smooth]


def places(pairs):
    return [(int(a[1:4]), int(b[1:4]), kind) for a, b, kind in pairs[["a", "b", "kind"]].to_numpy()]


def scaled(factor):
    return lambda image: cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def compressed(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_UNCHANGED)


CHANGES = {
    "left-right": np.fliplr,
    "up-down": np.flipud,
    "both": lambda image: image[::-1, ::-1],
    "quarter": np.rot90,
    "three quarters": lambda image: np.rot90(image, 3),
    "transposed": np.transpose,
    "transposed and half": lambda image: np.rot90(image, 2).T,
    "half": scaled(0.5),
    "three quarters of the size": scaled(0.75),
    "twice": scaled(2),
    "stretched": lambda image: cv2.resize(image, None, fx=1.5, fy=0.8),
    "jpeg": compressed,
    "darker": lambda image: (image * 0.6).astype(np.uint8),
    "brighter": lambda image: np.minimum(image * 0.8 + 50, 255).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
    "cropped": lambda image: image[3:-1, 2:-4],
    "16 bits": lambda image: image.astype(np.uint16) * 200,
    "mirrored, half and compressed": lambda image: compressed(scaled(0.5)(np.fliplr(image))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change):
    images = textures(24)
    images.insert(20, np.ascontiguousarray(CHANGES[change](images[3])))
    pairs = find_duplicates(make(images))
    assert places(pairs) == [(3, 20, "near")]
    assert 0 <= pairs["distance"].item() < 0.3


def test_identical_pixels_and_what_they_are_copies_of():
    images = textures(24)
    images[9] = np.repeat(images[2][..., None], 3, -1)  # Grey that is stored as RGB.
    images[15] = images[2][:, ::-1]
    pairs = find_duplicates(make(images))
    assert places(pairs) == [(2, 9, "identical"), (2, 15, "near"), (9, 15, "near")]
    assert pairs["distance"][0] == 0 < pairs["distance"][1] + 1e-6


def test_blank_images_are_identical_to_equal_ones_only():
    images = textures(14)
    for i, blank in (
        (1, np.zeros((96, 96))),
        (4, np.full((96, 96), 7)),
        (6, np.zeros((96, 96))),
        (8, np.zeros((9, 9))),
    ):
        images[i] = blank.astype(np.uint8)
    assert places(find_duplicates(make(images))) == [(1, 6, "identical")]


def test_many_blank_images_make_no_flood():
    count = MOST + 10
    pairs = find_duplicates(make([np.zeros((8, 8), np.uint8)] * count))
    assert len(pairs) == sum(count - 1 - i for i in range(MOST))
    assert len(set(pairs["a"]) | set(pairs["b"])) == count


def test_few_images():
    assert len(find_duplicates(make(textures(1)))) == 0
    one, other = textures(2)
    assert places(find_duplicates(make([one, other, one[::-1]]))) == [(0, 2, "near")]


def test_copies_of_one_image_are_found_where_they_are_the_most():
    """What all images have in common is then the image itself."""
    others, image = textures(12), textures(1, seed=1)[0]
    copies = [scaled(0.6 + 0.02 * k)(image) for k in range(60)]
    records = make([*others, *copies])
    group = join_duplicates(records, find_duplicates(records)).table[GROUP]
    assert group[12:].nunique() == 1 and group.nunique() == 13


def test_the_order_of_records_does_not_matter():
    images = textures(30)
    images[7], images[21], images[22] = images[3][::-1], scaled(0.7)(images[11]), images[12]
    records = make(images)
    mixed = records.select(np.random.default_rng(0).permutation(30))
    tables = [find_duplicates(r) for r in (records, mixed)]
    found = [{frozenset((a, b)): (kind, round(d, 6)) for a, b, kind, d in t.to_numpy()} for t in tables]
    assert found[0] == found[1] and len(found[0]) == 3


def test_volumes():
    source = open_source("phantom:binary3d", images=20, size=24)
    images = [source.read(i) for i in range(20)]
    for i, copy in ((11, images[1][::-1]), (12, images[2][:, ::-1]), (13, images[3][:, :, ::-1]), (14, images[4])):
        images[i] = copy
    found = places(find_duplicates(make(images, rank=3)))
    assert found == [(1, 11, "near"), (2, 12, "near"), (3, 13, "near"), (4, 14, "identical")]


def test_a_threshold_decides():
    images = textures(20)
    images[5] = images[4][2:-3, 1:-4]
    distance = find_duplicates(make(images))["distance"].item()
    assert len(find_duplicates(make(images), threshold=1 - distance + 1e-3)) == 0
    assert places(find_duplicates(make(images), threshold=1 - distance - 1e-3)) == [(4, 5, "near")]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5])
def test_a_threshold_out_of_range(threshold):
    with pytest.raises(ValueError, match=f"threshold={threshold}"):
        find_duplicates(make(textures(2)), threshold=threshold)


def test_an_image_that_cannot_be_used_is_named():
    images = textures(3)
    images[1] = np.full((8, 8), np.nan)
    with pytest.raises(ValueError, match="r001.png.*finite"):
        find_duplicates(make(images))


def test_x_rays_of_other_patients_are_no_copies_but_copies_are(real_data):
    table = pd.read_csv(real_data / "nih_cxr_1000" / "labels.csv").drop_duplicates("patient_id").head(300)
    folder = real_data / "nih_cxr_1000" / "images"
    images = [cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE) for name in table["file"]]
    assert places(find_duplicates(make(images))) == []
    changes = ["left-right", "half", "twice", "jpeg", "darker", "gamma", "quarter", "mirrored, half and compressed"]
    copies = [np.ascontiguousarray(CHANGES[change](images[10 * k])) for k, change in enumerate(changes)]
    assert places(find_duplicates(make(images + copies))) == [(10 * k, 300 + k, "near") for k in range(len(copies))]
