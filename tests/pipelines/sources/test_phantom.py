import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pipelines.sources import open_source
from pipelines.sources.phantom import LESIONS, NAMES


@pytest.mark.parametrize("name", NAMES)
def test_images_masks_and_labels_agree(name):
    records = open_source(f"phantom:{name}", images=40)
    shape = (32, 32, 32) if name.endswith("3d") else (64, 64)
    assert len(records) == 40 and records.rank == len(shape) and records.name == f"phantom-{name}"
    for i in range(0, 40, 5):
        image, mask = records.read(i), records.read_mask(i)
        assert image.shape == mask.shape == shape and image.dtype == np.uint8 and mask.dtype == bool
        assert records.read_shape(i) == (*shape, 1)
        assert image.std() > 20 and np.ptp(image.astype(int)) > 100
        assert mask.any() == (np.max(records.labels[i]) > 0)
        assert mask.mean() < 0.25
    assert (records.class_counts() > 0).all()


def test_an_image_depends_on_seed_and_index_alone():
    records, again = open_source("phantom", images=20), open_source("phantom", images=50)
    order = [7, 3, 7, 0]
    for i in order:
        np.testing.assert_array_equal(records.read(i), again.read(i))
    other = open_source("phantom", images=20, seed=1)
    assert not np.array_equal(records.read(0), other.read(0))
    assert not np.array_equal(records.read(0), records.read(1))


def test_the_whole_dataset_is_the_same_twice():
    first, second = (open_source("phantom:multilabel", images=30, unknown=0.3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.table.equals(second.table)


@pytest.mark.parametrize("name", ["binary", "multiclass3d", "multilabel"])
def test_patients_have_two_or_three_views_and_one_label(name):
    records = open_source(f"phantom:{name}", images=101)
    views = records.table.groupby("patient", sort=False)["view"].agg(list)
    assert all(v in ([0, 1], [0, 1, 2]) for v in views[:-1])
    assert {2, 3} <= {len(v) for v in views}
    for _, rows in records.table.groupby("patient").groups.items():
        assert (records.labels[rows] == records.labels[rows[0]]).all()


def test_views_of_a_patient_show_the_same_body():
    records = open_source("phantom", images=60)
    same, other = [], []
    images = np.stack([cv2.GaussianBlur(records.read(i), (0, 0), 3).ravel() for i in range(60)]).astype(float)
    patient = records.table["patient"].to_numpy()
    for i in range(59):
        r = np.corrcoef(images[i], images[i + 1])[0, 1]
        (same if patient[i] == patient[i + 1] else other).append(r)
    assert np.mean(same) > np.mean(other)


@pytest.mark.parametrize("name", ["multiclass", "multiclass3d"])
def test_a_lesion_looks_as_its_class_says(name):
    records = open_source(f"phantom:{name}", images=150)
    contrast, roughness = {c: [] for c in LESIONS}, {c: [] for c in LESIONS}
    for i in np.flatnonzero(records.labels):
        image, mask, kind = (
            records.read(i).astype(float),
            records.read_mask(i),
            LESIONS[records.labels[i] - 1],
        )
        body = image[image > 60].mean()
        contrast[kind].append((image[mask].mean() - body) / body)
        roughness[kind].append(image[mask].std() / body)
    mean, rough = ({c: np.mean(v) for c, v in part.items()} for part in (contrast, roughness))
    assert mean["bright"] > 0.3 and mean["dark"] < -0.2
    assert mean["dark"] < min(mean["ring"], mean["speckled"]) and mean["bright"] > max(mean["ring"], mean["speckled"])
    assert rough["speckled"] > rough["bright"]


def test_a_linear_model_on_pixels_does_not_solve_it():
    records = open_source("phantom", images=300)
    images = np.stack([cv2.resize(records.read(i), (32, 32)).ravel() for i in range(300)]) / 255
    model = LogisticRegression(C=0.1, max_iter=300).fit(images[:200], records.labels[:200])
    assert roc_auc_score(records.labels[200:], model.decision_function(images[200:])) < 0.8


def test_unknown_labels_are_nan_at_the_asked_rate():
    records = open_source("phantom:multilabel", images=500, unknown=0.1)
    assert 0.07 < np.isnan(records.labels).mean() < 0.13
    known = open_source("phantom:multilabel", images=500).labels
    hidden = np.isnan(records.labels)
    np.testing.assert_array_equal(records.labels[~hidden], known[~hidden])
    assert not np.isnan(known).any()


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classes_are_balanced(task):
    counts = open_source(f"phantom:{task}").class_counts()
    assert counts.max() < 1.3 * counts.min()


def test_size_is_honoured():
    records = open_source("phantom:binary3d", images=3, size=16)
    assert records.read(0).shape == records.read_mask(2).shape == (16, 16, 16)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spheres", {}),
        ("binary", {"images": 0}),
        ("binary", {"size": 8}),
        ("binary", {"seed": -1}),
        ("binary", {"unknown": 0.1}),
        ("multilabel", {"unknown": 1.0}),
        ("multilabel", {"task": "binary"}),
        ("binary", {"task": "multilabel"}),
    ],
)
def test_bad_options_are_named(name, options):
    with pytest.raises(ValueError, match="Received: "):
        open_source(f"phantom:{name}", **options)
