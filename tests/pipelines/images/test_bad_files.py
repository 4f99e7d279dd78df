"""Image files as they come: odd ones are read rightly, bad ones are named. Pillow is the other decoder."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.images.decode import MAX_PIXELS, find_unreadable, read_image, read_shape, read_values
from pipelines.images.headers import image_format
from pipelines.sources import open_source

NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 4), dtype=np.uint8)
PIXELS = cv2.GaussianBlur(NOISE, (0, 0), 2)
RGBA = Image.fromarray(PIXELS)
RGB = RGBA.convert("RGB")
GREY16 = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200)
FRAMES = {"save_all": True, "append_images": [RGB.rotate(20), RGB.rotate(50)]}


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def written(folder, data, name="a.png"):
    (folder / name).write_bytes(data)
    return folder / name


def png(width, height, *, bits=8, color=0, pixels=b"", extra=()):
    """A PNG of the given header, which need not be true."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)), *extra]
    chunks += [(b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("image", "kind", "options", "channels"),
    [
        (RGB.convert("P"), "PNG", {}, 3),
        (RGB.convert("P"), "PNG", {"transparency": 0}, 3),
        (RGB.convert("P", palette=Image.ADAPTIVE, colors=2), "PNG", {"bits": 1}, 3),
        (RGB.convert("P", palette=Image.ADAPTIVE, colors=16), "PNG", {"bits": 4}, 3),
        (RGB.convert("1"), "PNG", {}, 1),
        (RGB.convert("L"), "PNG", {"transparency": 3}, 1),
        (RGBA.convert("LA"), "PNG", {}, 1),
        (RGBA, "PNG", {}, 3),
        (GREY16, "PNG", {}, 1),
        (RGB, "BMP", {}, 3),
        (RGB.convert("L"), "BMP", {}, 1),
        (RGB.convert("1"), "BMP", {}, 1),
        (RGB.convert("P"), "BMP", {}, 3),
        (RGBA, "BMP", {}, 3),
        (RGB, "GIF", {}, 3),
        (RGB.convert("L"), "GIF", {}, 3),
        (RGB, "WEBP", {}, 3),
        (RGB, "WEBP", {"lossless": True}, 3),
        (RGBA, "WEBP", {"lossless": True, "exact": True}, 3),
        (RGB, "JPEG", {"progressive": True}, 3),
        (RGB, "JPEG", {"restart_marker_blocks": 2}, 3),
        (RGB.convert("L"), "JPEG", {}, 1),
        (RGB, "TIFF", {"compression": "tiff_lzw"}, 3),
        (RGB, "TIFF", {"big_tiff": True}, 3),
        (RGB.convert("P"), "TIFF", {}, 3),
        (RGB.convert("1"), "TIFF", {"compression": "group4"}, 1),
        (GREY16, "TIFF", {}, 1),
    ],
)
def test_every_kind_of_file_is_read_as_another_decoder_reads_it(tmp_path, image, kind, options, channels):
    data = encoded(image, kind, **options)
    path = written(tmp_path, data)  # Called .png, whatever it is.
    found = read_image(path)
    oracle = Image.open(io.BytesIO(data))
    if channels == 3:
        expected = np.asarray(oracle.convert("RGBA"))[..., :3]
    else:
        expected = np.asarray(oracle)
        expected = expected[..., 0] if expected.ndim == 3 else expected
        expected = expected * np.uint8(255) if expected.dtype == bool else expected
    assert found.dtype == (np.uint16 if image is GREY16 else np.uint8)
    np.testing.assert_array_equal(found, expected)
    assert read_shape(path) == (24, 36, channels)
    assert image_format(data).upper() == kind


def test_16_bits_with_alpha_keep_their_16_bits(tmp_path):
    image = NOISE.astype(np.uint16) * 257 + 3
    assert cv2.imwrite(str(tmp_path / "a.png"), image)
    found = read_image(tmp_path / "a.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, image[..., 2::-1])


@pytest.mark.parametrize("color", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_one_pixel_is_an_image(tmp_path, kind, color):
    path = written(tmp_path, encoded(Image.new("RGB", (1, 1), (200, 200, 200)).convert(color), kind))
    found = read_image(path)
    assert found.shape[:2] == (1, 1) and abs(int(found.max()) - 200) <= 2
    assert read_shape(path)[:2] == (1, 1)


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_of_adobe_becomes_rgb(tmp_path, transform):
    """Adobe stores full ink as 0; transform 2 is YCCK."""
    data = bytearray(encoded(RGB.convert("CMYK"), "JPEG", quality=95))
    data[data.find(b"Adobe") + 11] = transform
    found = read_image(written(tmp_path, data, "a.jpg"))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(found - expected).max() <= 2
    assert read_shape(tmp_path / "a.jpg") == (24, 36, 3)
    if transform == 0:
        assert np.abs(found.astype(int) - PIXELS[..., :3]).mean() < 3


def test_cmyk_of_unknown_sign_is_refused(tmp_path):
    data = encoded(RGB.convert("CMYK"), "JPEG")
    at = data.find(b"\xff\xee")
    data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    with pytest.raises(ValueError, match="CMYK JPEG without the Adobe marker"):
        read_image(written(tmp_path, data, "a.jpg"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_not_one_image(tmp_path, kind):
    path = written(tmp_path, encoded(RGB, kind, **FRAMES))
    with pytest.raises(ValueError, match=r"(animated|several pages).* is not one image"):
        read_image(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.3, 0.7, 0.95, 0.999])
def test_truncated_files_of_every_format_are_named(tmp_path, kind, fraction):
    data = encoded(RGB, kind)
    path = written(tmp_path, data[: int(len(data) * fraction)])
    with pytest.raises(ValueError, match=f"Cannot read {path}: ") as error:
        read_image(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "zero bytes"),
        (b"%PDF-1.7 is no image, whatever its name", "not an image of PNG, JPEG, BMP, GIF, TIFF, WebP"),
        (b"P6 2 2 255 " + bytes(12), "not an image"),
        (png(0, 4), "no size in its header"),
        (png(4, 4, color=9), "damaged PNG"),
        (png(4, 4, pixels=bytes(7)), "damaged PNG"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, reason):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=f"Cannot read {path}: .*{reason}"):
        read_image(path)


def test_a_name_that_no_file_can_have_is_named():
    with pytest.raises(ValueError, match="Cannot read a\0b.png"):
        read_image("a\0b.png")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP", "TIFF", "JPEG"])
def test_the_header_is_asked_before_anything_is_decoded(tmp_path, monkeypatch, kind, sign):
    """At the limit an image is read; one pixel more and the decoder never sees it."""
    path = written(tmp_path, encoded(RGB, kind))
    pixels = 24 * 36
    if sign > 0:
        assert read_image(path, max_pixels=pixels).shape == (24, 36, 3)
        return
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=f"36 x 24 pixels are more .* Received: max_pixels={pixels - 1}"):
        read_image(path, max_pixels=pixels - 1)


def test_a_decompression_bomb_is_refused_by_default(tmp_path):
    path = written(tmp_path, png(40_000, 40_000, bits=1, pixels=bytes(5001)))
    with pytest.raises(ValueError, match=f"40000 x 40000 pixels.*{MAX_PIXELS}"):
        read_image(path)
    assert read_shape(path) == (40_000, 40_000, 1)
    with pytest.raises(ValueError, match="max_pixels"):
        read_image(path, max_pixels=0)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d, at: d[:at] + b"\xff\x17" + d[at + 2 :], "marker 0x17 among the pixels"),
        (lambda d, at: d[:at] + d[at + 2 :], "restart markers out of order"),
        (lambda d, at: d[: at + 1] + b"\xd5" + d[at + 2 :], "restart markers out of order"),
    ],
)
def test_a_jpeg_of_broken_structure_is_refused(tmp_path, damage, reason):
    data = encoded(RGB, "JPEG", restart_marker_blocks=2)
    with pytest.raises(ValueError, match=reason):
        read_image(written(tmp_path, damage(data, data.find(b"\xff\xd0"))))


def cut(kind):
    return encoded(RGB, kind)[:-1]


def without_a_restart():
    data = encoded(RGB, "JPEG", restart_marker_blocks=2)
    at = data.find(b"\xff\xd0")
    return data[:at] + data[at + 2 :]


@pytest.mark.parametrize("data", [cut("PNG"), cut("GIF"), without_a_restart()], ids=["png", "gif", "jpeg"])
def test_pillow_does_not_see_what_is_checked_here(tmp_path, data):
    """The reason for checks of our own: to Pillow these are whole images."""
    Image.open(io.BytesIO(data)).verify()
    assert np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).shape == (24, 36, 3)
    with pytest.raises(ValueError, match="truncated|damaged"):
        read_image(written(tmp_path, data))


def test_garbage_in_the_middle_of_a_jpeg_is_nearly_always_found(tmp_path, real_data):
    """512 bytes, as a lost disk sector: the chance to miss them is (255/256)^512 = 13 %, if they are random."""
    data = (real_data / "idrid_seg20" / "images" / "IDRiD_01.jpg").read_bytes()
    assert read_image(written(tmp_path, data)).shape == (712, 1072, 3)
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        at = int(rng.integers(len(data) // 2, len(data) - 600))
        path = written(tmp_path, data[:at] + rng.bytes(512) + data[at + 512 :])
        try:
            read_image(path)
        except ValueError as error:
            found += "damaged JPEG" in str(error)
    assert found >= 28  # 35 expected; fewer by chance once in 600 times.


@pytest.mark.parametrize("values", [np.nan, 2.0, -1.0])
def test_floats_that_are_no_image_are_refused_with_the_file(tmp_path, values):
    path = tmp_path / "a.tif"
    assert cv2.imwrite(str(path), np.full((4, 4), values, np.float32))
    with pytest.raises(ValueError, match=f"Cannot read {path}: A float image"):
        read_image(path)
    np.testing.assert_array_equal(read_values(path), np.full((4, 4), values, np.float32))


BAD = {
    "animated.gif": encoded(RGB, "GIF", **FRAMES),
    "bomb.png": png(40_000, 40_000),
    "cut.jpg": encoded(RGB, "JPEG")[:-30],
    "empty.png": b"",
    "text.bmp": b"BMI 23.4 kg/m2, " * 9,
}


@pytest.fixture
def mixed(tmp_path):
    for name, data in BAD.items():
        (tmp_path / "ill").mkdir(exist_ok=True)
        written(tmp_path / "ill", data, name)
    (tmp_path / "well").mkdir()
    written(tmp_path / "ill", encoded(RGB, "PNG"), "good.jpg")
    written(tmp_path / "well", encoded(RGB, "WEBP"), "good.webp")
    names = [f"ill/{name},ill" for name in [*BAD, "good.jpg"]] + ["well/good.webp,well", "well/gone.png,well"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *names]) + "\n")
    return tmp_path


def test_skip_reports_every_bad_file_of_a_folder_and_no_other(mixed):
    (mixed / "t.csv").unlink()
    rejected = find_unreadable(open_source(mixed, on_error="skip"))
    assert rejected["id"].tolist() == [f"ill/{name}" for name in BAD]
    for name, reason in zip(BAD, rejected["reason"], strict=True):
        assert name in reason and "\n" not in reason


def test_skip_reports_every_bad_file_of_a_table_and_no_other(mixed):
    with pytest.raises(FileNotFoundError, match="gone.png: no such file, row 9"):
        open_source(mixed / "t.csv")
    rejected = find_unreadable(open_source(mixed / "t.csv", on_error="skip"))
    assert rejected["id"].tolist() == [f"ill/{name}" for name in BAD] + ["well/gone.png"]


@pytest.mark.parametrize("source", ["", "t.csv"])
def test_sources_take_the_limit(mixed, source):
    options = {"on_error": "skip", "max_pixels": 24 * 36 - 1}
    records = open_source(mixed / source, **options)
    assert len(find_unreadable(records)) == len(records)
    with pytest.raises(ValueError, match="max_pixels=863"):
        records.read(records.table["id"].tolist().index("ill/good.jpg"))
