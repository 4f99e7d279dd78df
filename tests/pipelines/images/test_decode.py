import pathlib
import threading

import cv2
import numpy as np
import pandas as pd
import pytest

from pipelines.images.decode import (
    common_shape,
    find_unreadable,
    fit,
    fit_stored,
    read_image,
    read_shape,
    stored_shapes,
    to_float,
)
from pipelines.images.headers import read_header
from pipelines.images.records import Records

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def write(path, image, *options):
    if image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    assert cv2.imwrite(str(path), image, list(options))
    return path


def records_of(images, ids=None):
    ids = ids or [f"r{i}" for i in range(len(images))]
    table = pd.DataFrame({"id": ids, "patient": ids, "split": ""})
    return Records(
        name="test",
        task="binary",
        class_names=("a", "b"),
        table=table,
        labels=np.arange(len(images), dtype=np.int32) % 2,
        read=lambda i: images[i],
        rank=2 if images[0].ndim == 2 or images[0].shape[-1] == 3 else 3,
    )


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("image", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_files_come_back_as_stored(tmp_path, suffix, image):
    path = write(tmp_path / f"a{suffix}", image)
    np.testing.assert_array_equal(read_image(path), image)
    assert read_shape(path) == (20, 30, 1 if image.ndim == 2 else 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_kept(tmp_path, suffix):
    image = GREY.astype(np.uint16) * 257
    path = write(tmp_path / f"a{suffix}", image)
    assert read_image(path).dtype == np.uint16
    np.testing.assert_array_equal(read_image(path), image)
    np.testing.assert_allclose(to_float(image), GREY / 255, atol=1e-6)


def test_alpha_is_dropped(tmp_path):
    path = write(tmp_path / "a.png", np.dstack([RGB, GREY]))
    np.testing.assert_array_equal(read_image(path), RGB)
    assert read_shape(path) == (20, 30, 3)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("image", [GREY, RGB], ids=["grey", "rgb"])
def test_jpeg_header_tells_the_decoded_shape(tmp_path, image, progressive):
    path = write(tmp_path / "a.jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    decoded = read_image(path)
    assert read_header(path.read_bytes()).shape == read_shape(path) == (*decoded.shape[:2], 1 if image.ndim == 2 else 3)


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.7, 0.95, 0.999])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_a_truncated_file_is_named_on_one_line(tmp_path, suffix, fraction):
    data = write(tmp_path / f"whole{suffix}", np.tile(RGB, (4, 4, 1))).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ValueError) as error:
        read_image(path)
    assert str(error.value).startswith(f"Cannot read {path}: ") and "\n" not in str(error.value)


def test_a_thumbnail_does_not_hide_a_truncated_jpeg(tmp_path):
    small = write(tmp_path / "small.jpg", GREY).read_bytes()
    large = write(tmp_path / "large.jpg", np.tile(RGB, (4, 4, 1))).read_bytes()
    application = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    whole = large[:2] + application + large[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert read_image(path).shape == (80, 120, 3) and read_shape(path) == (80, 120, 3)
    path.write_bytes(whole[:-200])
    with pytest.raises(ValueError, match="truncated JPEG"):
        read_image(path)


def test_a_flipped_bit_in_a_png_is_found(tmp_path):
    path = write(tmp_path / "a.png", RGB)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged PNG, wrong checksum"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "zero bytes"), (b"not an image" * 9, "not an image"), (b"\xff\xd8\xff", "truncated JPEG")],
)
def test_other_bad_files_are_named(tmp_path, content, reason):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (read_image, read_shape):
        with pytest.raises(ValueError, match=f"Cannot read {path}: {reason}"):
            read(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.png: no such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=f"Cannot read {tmp_path}"):
        read_image(tmp_path)


def test_a_tiff_of_several_pages_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    assert cv2.imwritemulti(str(path), [GREY, GREY])
    with pytest.raises(ValueError, match="several pages"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool, np.float32, np.float64])
def test_to_float_fills_the_unit_interval(dtype):
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    image = to_float(np.array([0, top], dtype))
    assert image.dtype == np.float32 and image.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.array([0, np.nan]), "1 values NaN"),
        (np.array([0, np.inf], np.float32), "finite"),
        (np.array([0, 255.0]), "0 to 255"),
        (np.array([-0.5, 1]), "-0.5 to 1"),
        (np.array([0, 1], np.int16), "int16"),
    ],
)
def test_to_float_refuses(image, reason):
    with pytest.raises(ValueError, match=reason):
        to_float(image)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ((20, 30), (20, 30, 1)),
        ((20, 30), (8, 50, 3)),
        ((20, 30, 3), (40, 10, 1)),
        ((20, 30, 3), (7, 7, 3)),
        ((6, 8, 10), (9, 4, 10, 1)),
        ((6, 8, 10, 3), (6, 16, 5, 1)),
        ((6, 8, 10), (3, 3, 3, 3)),
    ],
)
def test_fit_gives_exactly_the_shape(stored, wanted):
    image = fit(RNG.integers(0, 256, stored, dtype=np.uint8), wanted)
    assert image.shape == wanted and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1 and image.flags.c_contiguous


def test_fit_of_the_stored_shape_is_to_float():
    np.testing.assert_array_equal(fit(RGB, RGB.shape), to_float(RGB))


def area_means(image, shape):
    pairs = [length for n in shape for length in (n // 2, 2)]
    return image.reshape(pairs).mean(axis=tuple(range(1, 2 * len(shape), 2)))


@pytest.mark.parametrize("shape", [(12, 8), (6, 12, 8)])
def test_shrinking_by_two_averages(shape):
    volume = RNG.random(shape)
    means = area_means(volume, shape)
    np.testing.assert_allclose(fit(volume, (*means.shape, 1))[..., 0], means, atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(12, 8), (6, 12, 8)])
def test_integers_stay_and_are_rounded_once(kind, shape):
    image = RNG.integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
    means = area_means(image.astype(np.float64), shape)
    small = fit_stored(image, (*means.shape, 1))
    assert small.dtype == kind
    np.testing.assert_allclose(small[..., 0], means, atol=0.51)  # 0.01 for floats of 24 bits.
    np.testing.assert_array_equal(fit(image, small.shape), to_float(small))
    same = fit_stored(image, (*shape, 1))
    np.testing.assert_array_equal(same[..., 0], image)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ((40, 50), (28, 28)),
        ((40, 50), (80, 77)),
        ((90, 20), (28, 28)),
        ((6, 8, 10), (9, 4, 10)),
        ((9, 9, 9), (5, 12, 7)),
    ],
)
def test_integers_are_half_a_level_from_what_floats_give(kind, stored, wanted):
    image = RNG.integers(0, np.iinfo(kind).max + 1, stored).astype(kind)
    exact = fit(image / np.float64(np.iinfo(kind).max), (*wanted, 1)) * np.float64(np.iinfo(kind).max)
    np.testing.assert_allclose(fit_stored(image, (*wanted, 1)), exact, atol=0.51)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("wanted", [(5, 7, 1), (40, 70, 3), (5, 70, 1), (3, 30, 9, 1)])
def test_a_flat_image_stays_flat_to_the_ends_of_the_range(kind, value, wanted):
    value *= np.iinfo(kind).max
    image = np.full((20,) * (len(wanted) - 1) + (3,), value, kind)
    assert (fit_stored(image, wanted) == value).all()


@pytest.mark.parametrize("kind", [bool, np.float32, np.float64])
def test_what_is_no_integer_becomes_float32(kind):
    assert fit_stored(RNG.random((4, 5)).astype(kind), (3, 8, 1)).dtype == np.float32


@pytest.mark.parametrize("rank", [2, 3])
def test_growing_keeps_a_linear_ramp(rank):
    ramp = np.broadcast_to(np.linspace(0, 1, 8), (8,) * rank)
    grown = fit(ramp, (16,) * rank + (1,))[..., 0]
    centres = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7) / 7
    np.testing.assert_allclose(grown, np.broadcast_to(centres, grown.shape), atol=1e-6)


def test_volumes_and_images_are_resized_alike():
    image = RNG.random((20, 30)).astype(np.float32)
    volume = fit(np.stack([image] * 4), (4, 13, 41, 1))
    np.testing.assert_allclose(volume[2], fit(image, (13, 41, 1)), atol=1e-5)


def test_grey_is_luma_and_rgb_is_repetition():
    luma = RGB @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(fit_stored(RGB, (20, 30, 1))[..., 0], luma, atol=0.501)
    np.testing.assert_array_equal(fit_stored(RGB, (20, 30, 1))[..., 0], cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY))
    np.testing.assert_allclose(fit(RGB / 255, (20, 30, 1))[..., 0], luma / 255, atol=1e-6)
    volume = np.stack([RGB, RGB[::-1]])
    np.testing.assert_array_equal(fit_stored(volume, (2, 20, 30, 1))[1], fit_stored(RGB[::-1], (20, 30, 1)))
    np.testing.assert_array_equal(fit(GREY, (20, 30, 3)), np.repeat(to_float(GREY)[..., None], 3, -1))


@pytest.mark.parametrize(("stored", "wanted"), [((4, 4), (4, 4, 4, 1)), ((4, 4, 3), (4, 4, 2)), ((4, 4), (4, 4))])
def test_fit_refuses(stored, wanted):
    with pytest.raises(ValueError, match="Received"):
        fit(np.zeros(stored, np.uint8), wanted)


def test_common_shape_takes_what_all_share():
    records = records_of([GREY, GREY])
    assert stored_shapes(records) == [(20, 30, 1)] * 2
    assert common_shape(records) == (20, 30, 1)
    assert common_shape(records, channels=3) == (20, 30, 3)
    assert common_shape(records, image_size=(8, 9)) == (8, 9, 1)
    assert common_shape(records_of([np.zeros((4, 5, 6), np.uint8)])) == (4, 5, 6, 1)


def test_common_shape_names_two_images_that_differ():
    records = records_of([GREY, GREY, GREY.T], ids=["a.png", "b.png", "c.png"])
    with pytest.raises(ValueError, match="pass image_size. Received: a.png with 20x30 and c.png with 30x20"):
        common_shape(records)
    assert common_shape(records, image_size=16) == (16, 16, 1)
    mixed = records_of([GREY, RGB])
    with pytest.raises(ValueError, match="pass channels. Received: r0 with 1 and r1 with 3"):
        common_shape(mixed)
    assert common_shape(mixed, channels=1) == (20, 30, 1)


def test_nothing_is_read_when_size_and_channels_are_given():
    def read(index):
        raise AssertionError(index)

    records = records_of([GREY])
    object.__setattr__(records, "read", read)
    assert common_shape(records, image_size=8, channels=3) == (8, 8, 3)


@pytest.mark.parametrize("options", [{"image_size": 0}, {"image_size": (8, 8, 8)}, {"channels": 0}])
def test_common_shape_refuses(options):
    with pytest.raises(ValueError, match="Received"):
        common_shape(records_of([GREY]), **options)


def test_find_unreadable_lists_every_bad_record(tmp_path):
    paths = [pathlib.Path(tmp_path / name) for name in ("good.png", "cut.png", "gone.png")]
    write(paths[0], GREY)
    paths[1].write_bytes(paths[0].read_bytes()[:-20])
    records = records_of([GREY] * 4, ids=["good", "cut", "gone", "nan"])
    object.__setattr__(records, "read", lambda i: read_image(paths[i]) if i < 3 else np.full((2, 2), np.nan))
    rejected = find_unreadable(records)
    assert rejected["id"].tolist() == ["cut", "gone", "nan"]
    for reason, expected in zip(rejected["reason"], ["truncated PNG", "no such file", "NaN"], strict=True):
        assert expected in reason


def test_find_unreadable_keeps_the_order_and_reads_in_several_threads(monkeypatch):
    """The first record is done last: it waits for the second."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    second_was_read = threading.Event()

    def read(index):
        if index == 1:
            second_was_read.set()
        assert index or second_was_read.wait(timeout=60)
        raise OSError(f"bad {index}")

    records = records_of([GREY] * 5)
    object.__setattr__(records, "read", read)
    rejected = find_unreadable(records)
    assert rejected["id"].tolist() == [f"r{i}" for i in range(5)]
    assert rejected["reason"].tolist() == [f"bad {i}" for i in range(5)]


def test_selected_records_keep_their_shapes_and_masks():
    records = records_of([GREY, GREY.T])
    object.__setattr__(records, "read_shape", lambda i: (i, i, 1))
    object.__setattr__(records, "read_mask", lambda i: np.full((2, 2), i == 1))
    chosen = records.select([1, 0]).select([0, 1])
    assert stored_shapes(chosen) == [(1, 1, 1), (0, 0, 1)]
    assert chosen.read_mask(0).all() and not chosen.read_mask(1).any()
    assert chosen.read(0).shape == (30, 20)
