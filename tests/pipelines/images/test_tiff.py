"""TIFF of all kinds, written tag by tag: read as they are stored, or refused; never scrambled or inverted."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.images.decode import read_image, read_shape, read_values

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


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_alpha_beside_the_colours_leaves_them_as_they_are(tmp_path, kind):
    """OpenCV multiplies colours of 8 bits by it."""
    image = noise(kind, 4)
    np.testing.assert_array_equal(read(tmp_path, image, RGB, extra=2), image[..., :3])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_alpha_beside_grey_is_dropped(tmp_path, kind):
    image = noise(kind, 2)
    np.testing.assert_array_equal(read(tmp_path, image, BLACK, extra=2), image[..., 0])
    assert read_shape(tmp_path / "a.tif") == (5, 7, 1)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_planes_are_read(tmp_path, kind):
    """OpenCV scrambles those of more than 8 bits."""
    image = noise(kind, 3)
    np.testing.assert_array_equal(read(tmp_path, image, RGB, planes=2), image)


@pytest.mark.parametrize(
    ("image", "color", "reason"),
    [
        (noise(np.uint16, 5), BLACK, "SamplesPerPixel=5"),
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


def test_pages_in_a_circle_are_counted_once(tmp_path):
    image = noise(np.uint8, 1)
    data = bytearray(tiff(image, BLACK))
    count = struct.unpack_from("<H", data, 8)[0]
    struct.pack_into("<I", data, 10 + 12 * count, 8)  # The next page is the first.
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image[..., 0])


SMOOTH = cv2.GaussianBlur(RNG.integers(0, 256, (40, 56, 4), dtype=np.uint8), (0, 0), 3)
COLOURS = Image.fromarray(SMOOTH[..., :3])


PLAIN = ("raw", "packbits", "tiff_deflate", "tiff_lzw")
CODINGS = [(mode, one) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr") for one in PLAIN]
CODINGS += [("1", "group3"), ("1", "group4"), ("L", "jpeg"), ("RGB", "jpeg"), ("YCbCr", "jpeg")]


@pytest.mark.parametrize(("mode", "compression"), CODINGS)
def test_every_coding_is_read_as_pillow_reads_it(tmp_path, mode, compression):
    path = tmp_path / "a.tif"
    COLOURS.convert(mode).save(path, compression=compression)
    oracle = Image.open(path)
    grey = mode in ("1", "L", "LA")
    expected = np.asarray(oracle.convert("L" if grey else "RGB")).astype(int)
    found = read_image(path)
    assert found.dtype == np.uint8 and read_shape(path) == (40, 56, 1 if grey else 3)
    np.testing.assert_allclose(found, expected, atol=2 if compression == "jpeg" or mode in ("CMYK", "YCbCr") else 0)


def test_lab_is_refused(tmp_path):
    """What OpenCV makes of CIE Lab without colour is not grey: better no image than other colours."""
    lab = np.zeros((8, 256, 3), np.uint8)
    lab[..., 0] = np.arange(256)
    Image.fromarray(lab, "LAB").save(tmp_path / "a.tif")
    assert np.ptp(cv2.imread(str(tmp_path / "a.tif")).astype(int), axis=-1).max() > 20
    with pytest.raises(ValueError, match="a.tif: .*PhotometricInterpretation=8"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_fewer_bits_fill_the_range(tmp_path, bits):
    levels = RNG.integers(0, 2**bits, (4, 16)).astype(np.uint8)
    packed = np.packbits((levels[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(4, -1), axis=1)
    data = bytearray(tiff(np.zeros((4, packed.shape[1], 1), np.uint8), BLACK))
    data[-packed.size :] = packed.tobytes()
    for tag, value in ((256, 16), (258, bits)):
        at = data.find(struct.pack("<H", tag), 8)
        struct.pack_into("<H", data, at + 8, value)
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), levels * (255 // (2**bits - 1)))
