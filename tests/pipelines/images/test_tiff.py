"""TIFF of all kinds, written tag by tag: read as they are stored, or refused; never scrambled or inverted."""

import struct

import numpy as np
import pytest

from pipelines.images.decode import read_image, read_shape, read_values
from pipelines.images.tiff import tiff_pages

RNG = np.random.default_rng(0)
WHITE, BLACK, RGB, YCBCR = 0, 1, 2, 6
SHORT, LONG = 3, 4
SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(image, color, *, extra=None, planes=1, order="<"):
    """The bytes of an uncompressed TIFF of one strip a plane."""
    height, width, samples = image.shape
    image = image.astype(image.dtype.newbyteorder(order))
    parts = [image] if planes == 1 else list(np.moveaxis(image, -1, 0))
    tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [image.dtype.itemsize * 8] * samples),
        259: (SHORT, [1]),
        262: (SHORT, [color]),
        273: (LONG, [0] * len(parts)),
        277: (SHORT, [samples]),
        278: (LONG, [height]),
        279: (LONG, [part.nbytes for part in parts]),
        284: (SHORT, [planes]),
        338: (SHORT, [extra]),
        339: (SHORT, [SAMPLE_FORMATS[image.dtype.kind]] * samples),
    }
    if extra is None:
        del tags[338]
    values = {
        tag: struct.pack(f"{order}{len(v)}{'H' if kind == SHORT else 'I'}", *v) for tag, (kind, v) in tags.items()
    }
    at = 8 + 2 + 12 * len(tags) + 4
    places = {}
    for tag, value in values.items():
        if len(value) > 4:
            places[tag], at = at, at + len(value)
    strips = [at + sum(part.nbytes for part in parts[:i]) for i in range(len(parts))]
    values[273] = struct.pack(f"{order}{len(strips)}I", *strips)
    entries = b"".join(
        struct.pack(order + "HHI", tag, kind, len(v))
        + (struct.pack(order + "I", places[tag]) if tag in places else values[tag].ljust(4, b"\0"))
        for tag, (kind, v) in tags.items()
    )
    magic = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    outside = b"".join(values[tag] for tag in places)
    return (
        magic
        + struct.pack(order + "H", len(tags))
        + entries
        + bytes(4)
        + outside
        + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    )


def noise(kind, samples):
    if np.dtype(kind).kind == "f":
        return RNG.random((5, 7, samples)).astype(kind)
    return RNG.integers(0, np.iinfo(kind).max + 1, (5, 7, samples)).astype(kind)


def read(folder, *arguments, **options):
    (folder / "a.tif").write_bytes(tiff(*arguments, **options))
    return read_image(folder / "a.tif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize(("samples", "color"), [(1, BLACK), (3, RGB)])
def test_what_is_stored_comes_back(tmp_path, order, kind, samples, color):
    image = noise(kind, samples)
    found = read(tmp_path, image, color, order=order)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, image[..., 0] if samples == 1 else image)
    assert read_shape(tmp_path / "a.tif") == image.shape


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_an_image_whose_zero_is_white_is_no_negative(tmp_path, kind):
    image = noise(kind, 1)
    found = read(tmp_path, image, WHITE)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, np.iinfo(kind).max - image[..., 0])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", [0, 1])
def test_alpha_that_is_part_of_the_colours_is_dropped(tmp_path, kind, extra):
    image = noise(kind, 4)
    np.testing.assert_array_equal(read(tmp_path, image, RGB, extra=extra), image[..., :3])


def test_alpha_beside_the_colours_must_be_opaque_in_8_bits(tmp_path):
    """OpenCV multiplies the colours by it, and what is lost by that does not come back."""
    image = noise(np.uint8, 4)
    with pytest.raises(ValueError, match="a.tif: a transparent TIFF is not read"):
        read(tmp_path, image, RGB, extra=2)
    image[..., 3] = 255
    np.testing.assert_array_equal(read(tmp_path, image, RGB, extra=2), image[..., :3])
    deep = noise(np.uint16, 4)
    np.testing.assert_array_equal(read(tmp_path, deep, RGB, extra=2), deep[..., :3])


def test_planes_of_8_bits_are_read_and_deeper_ones_refused(tmp_path):
    image = noise(np.uint8, 3)
    np.testing.assert_array_equal(read(tmp_path, image, RGB, planes=2), image)
    for kind in (np.uint16, np.float32):
        with pytest.raises(ValueError, match="a.tif: .*PlanarConfiguration=2"):
            read(tmp_path, noise(kind, 3), RGB, planes=2)


@pytest.mark.parametrize(
    ("image", "color", "reason"),
    [
        (noise(np.uint16, 2), BLACK, "SamplesPerPixel=2"),
        (noise(np.uint16, 3), YCBCR, "PhotometricInterpretation=6"),
        (noise(np.uint8, 5), RGB, "of a kind that is not read"),
        (noise(np.float32, 1), WHITE, "zero is white"),
        (noise(np.int16, 1), BLACK, "uint8, uint16, bool or float"),
        (noise(np.uint32, 1), BLACK, "uint8, uint16, bool or float"),
    ],
)
def test_kinds_that_would_be_read_wrongly_are_refused(tmp_path, image, color, reason):
    with pytest.raises(ValueError, match=f"Cannot read .*a.tif: .*{reason}"):
        read(tmp_path, image, color)


def test_label_masks_may_have_any_type(tmp_path):
    image = noise(np.uint32, 1)
    (tmp_path / "a.tif").write_bytes(tiff(image, BLACK))
    np.testing.assert_array_equal(read_values(tmp_path / "a.tif"), image[..., 0])


def test_pages_in_a_circle_are_counted_once():
    data = bytearray(tiff(noise(np.uint8, 1), BLACK))
    count = struct.unpack_from("<H", data, 8)[0]
    struct.pack_into("<I", data, 10 + 12 * count, 8)  # The next page is the first.
    assert len(list(tiff_pages(bytes(data)))) == 1
