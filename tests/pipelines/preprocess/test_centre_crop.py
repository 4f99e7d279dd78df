"""The middle of an image, and training images that are not cut to it."""

import dataclasses

import cv2
import numpy as np
import pytest

import pipelines
from pipelines.preprocess import CentreCrop, parse
from pipelines.sources import open_source


@pytest.mark.parametrize(
    ("size", "share", "kept"), [(256, 0.875, slice(16, 240)), (9, 0.5, slice(2, 6)), (3, 0.1, slice(1, 2))]
)
def test_it_is_the_slice_in_the_middle(size, share, kept):
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (size, size, 3), np.uint8), rng.random((size, size)) < 0.5
    np.testing.assert_array_equal(CentreCrop(share=share)(image), image[kept, kept])
    np.testing.assert_array_equal(CentreCrop(share=share).on_mask(mask, image), mask[kept, kept])


def test_each_side_or_a_square_or_a_cube():
    image, volume = np.arange(6 * 10).reshape(6, 10).astype(np.uint8), np.zeros((4, 8, 6, 1), np.uint8)
    np.testing.assert_array_equal(CentreCrop(share=0.5)(image), image[1:4, 2:7])
    np.testing.assert_array_equal(CentreCrop(share=0.5, form="square")(image), image[1:4, 3:6])
    assert CentreCrop(share=0.5)(volume, rank=3).shape == (2, 4, 3, 1)
    assert CentreCrop(share=1, form="square")(volume, rank=3).shape == (4, 4, 4, 1)


def test_resizing_the_middle_is_the_middle_of_the_resized():
    """Resize to 256 and cut out 224, as published, or the other way round."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.random((512, 512)).astype("float32"), (0, 0), 6)
    published = cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)[16:240, 16:240]
    ours = cv2.resize(CentreCrop(share=0.875)(image), (224, 224), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(ours, published, atol=1e-6)


@pytest.mark.parametrize("text", ["centre-crop:share=0", "centre-crop:share=1.1", "centre-crop:form=round"])
def test_bad_options(text):
    with pytest.raises(ValueError, match="Received"):
        parse(text)


def framed(count=30):
    """Images with a bright frame, which a middle of half the side does not show; masks are the frame."""
    records = open_source("phantom", images=count, size=16)
    inside = np.zeros((16, 16), bool)
    inside[4:12, 4:12] = True

    def read(i):
        return np.where(inside, np.uint8(20 + i), np.uint8(255))

    return dataclasses.replace(records, read=read, read_mask=lambda i: ~inside, fingerprint=lambda i: f"{i}")


@pytest.mark.parametrize("is_cached", [False, True])
def test_training_images_have_steps_of_their_own(is_cached, tmp_path):
    options = {"image_size": 8, "batch_size": 4, "augment": "none", "leakage": "off", "masks": True}
    cache = {"cache": tmp_path / "cache"} if is_cached else {}
    data = pipelines.load(framed(), preprocess=["centre-crop:share=0.5"], train_preprocess=(), **options, **cache)
    for images, labels in data.train.take(2):
        assert np.all(images.numpy()[:, 0] == 1) and np.all(labels["mask"].numpy()[:, 0] == 1)
        assert np.all(images.numpy()[:, 4, 4] < 0.3)
    for split in ("val", "test"):
        records = data.records[split]
        images, labels = next(iter(data.batches(split)))
        np.testing.assert_allclose(images[0, ..., 0] * 255, records.read(0), atol=1e-3)
        assert images.numpy().max() < 0.3 and labels["mask"].numpy().max() == 0
    whole = pipelines.load(framed(), preprocess=["centre-crop:share=0.5"], **options, **cache)
    assert next(iter(whole.train))[0].numpy().max() < 0.3
    # The splits are the same, and the records of training are those that evaluation would see.
    assert data.info.manifest.equals(whole.info.manifest)
    np.testing.assert_array_equal(data.records["train"].read(0), whole.records["train"].read(0))
