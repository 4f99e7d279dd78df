import importlib.util
import pathlib
import shutil
import struct

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, encapsulate_extended, get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing, convert_color_space
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
)

from dicom_files import item, lut, write_dicom
from pipelines.images.decode import to_float
from pipelines.sources.dicom import file as dicom_file
from pipelines.sources.dicom.codecs import codestream_shape
from pipelines.sources.dicom.image import read_dicom, read_dicom_shape
from pipelines.sources.dicom.pixels import stored_pixels
from pipelines.sources.windows import WINDOWS, parse_window

REAL = ("nih_wrapped", "pydicom")


def bundled(name):
    """A file that comes with pydicom."""
    return get_testdata_file(name, download=False)


def by_pydicom(path, index=0):
    """The window of a file as pydicom applies it, scaled to [0, 1]."""
    dataset = pydicom.dcmread(path)
    bits, signed = dataset.BitsStored, dataset.PixelRepresentation
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    low, high = low * slope + intercept, high * slope + intercept
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset, index=index)
    image = (values - low) / (high - low)
    return 1 - image if dataset.PhotometricInterpretation == "MONOCHROME1" else image


# Real files.


def test_every_real_file_is_an_image_of_its_header(real_data):
    files = [path for folder in REAL for path in sorted((real_data / "dicom" / folder).glob("*.dcm"))]
    assert len(files) == 14
    for path in files:
        image, shape = read_dicom(path), read_dicom_shape(path)
        assert image.reshape(shape).shape == shape == read_dicom_shape(path, frame=0)
        assert to_float(image).min() < to_float(image).max()
        assert shape[2] == 3 if "rgb" in path.name or "palette" in path.name else shape[2] == 1


@pytest.mark.parametrize("name", ["MR_small", "examples_overlay", "00005869_001_monochrome1_12bit"])
def test_a_window_of_the_file_as_pydicom_applies_it(real_data, name):
    (path,) = (real_data / "dicom").glob(f"*/{name}.dcm")
    np.testing.assert_allclose(read_dicom(path), by_pydicom(path), atol=2e-6)


def test_one_of_several_windows(real_data):
    path = real_data / "dicom" / "pydicom" / "examples_overlay.dcm"
    np.testing.assert_array_equal(read_dicom(path, window=0), read_dicom(path))
    np.testing.assert_allclose(read_dicom(path, window=1), by_pydicom(path, index=1), atol=2e-6)
    assert np.abs(read_dicom(path, window=1) - read_dicom(path)).max() > 0.1
    with pytest.raises(ValueError, match="overlay.dcm.*among the file's 2 windows. Received: window=2"):
        read_dicom(path, window=2)


@pytest.mark.parametrize("name", ["00005869_001", "00011136_002"])
def test_an_inverted_12_bit_x_ray_is_the_8_bit_one(real_data, name):
    folder = real_data / "dicom" / "nih_wrapped"
    inverted, plain = (read_dicom(folder / f"{name}_monochrome{kind}.dcm") for kind in ("1_12bit", "2_8bit"))
    np.testing.assert_allclose(inverted, plain, atol=0.5 / 4095 + 1e-6)


def test_syntaxes_of_one_picture_are_equal(real_data):
    folder = real_data / "dicom" / "pydicom"
    first = read_dicom(folder / "MR_small.dcm")
    for name in ("MR_small_RLE", "MR_small_bigendian", "MR_small_implicit"):
        np.testing.assert_array_equal(read_dicom(folder / f"{name}.dcm"), first)
    for name in ("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_padded", "MR_small_expb"):
        np.testing.assert_array_equal(read_dicom(bundled(f"{name}.dcm")), first)


@pytest.mark.parametrize("window", ["lung", "brain", (40, 400), [300, 1500], "300, 1500"])
def test_ct_windows_in_hounsfield_units(real_data, window):
    path = real_data / "dicom" / "pydicom" / "CT_small.dcm"
    hounsfield = pydicom.dcmread(path).pixel_array.astype(float) - 1024
    centre, width = {"lung": (-600, 1500), "brain": (40, 80), "300, 1500": (300, 1500)}.get(str(window)) or window
    expected = np.clip((hounsfield - (centre - width / 2)) / width, 0, 1)
    np.testing.assert_allclose(read_dicom(path, window=window), expected, atol=1e-6)


def test_ct_without_a_window_shows_the_usual_range(real_data):
    path = real_data / "dicom" / "pydicom" / "CT_small.dcm"
    hounsfield = pydicom.dcmread(path).pixel_array.astype(float) - 1024
    np.testing.assert_allclose(read_dicom(path), (hounsfield + 1024) / 4095, atol=1e-6)


def test_palette_and_rgb(real_data):
    folder = real_data / "dicom" / "pydicom"
    palette = pydicom.dcmread(folder / "examples_palette.dcm")
    image = read_dicom(folder / "examples_palette.dcm")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, apply_color_lut(palette.pixel_array, palette))
    image = read_dicom(folder / "examples_rgb_color.dcm")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pydicom.dcmread(folder / "examples_rgb_color.dcm").pixel_array)


def test_jpeg_as_another_program_decompressed_it():
    jpeg, plain = read_dicom(bundled("SC_rgb_jpeg.dcm")), read_dicom(bundled("SC_rgb_jpeg_dcmd.dcm"))
    assert np.abs(jpeg.astype(int) - plain).max() <= 1
    jpeg = read_dicom(bundled("SC_rgb_dcmtk_+eb+cy+n2.dcm")).astype(int)
    assert np.abs(jpeg - read_dicom(bundled("SC_ybr_full_422_uncompressed.dcm"))).max() <= 1


def test_lossless_and_12_bit_jpeg():
    plain = read_dicom(bundled("SC_rgb_rle.dcm"))
    np.testing.assert_array_equal(read_dicom(bundled("SC_rgb_jpeg_gdcm.dcm")), plain)
    np.testing.assert_array_equal(read_dicom(bundled("SC_rgb_gdcm_KY.dcm")), plain)
    stored = stored_pixels(pydicom.dcmread(bundled("JPGExtended.dcm")), frame=None, max_pixels=2**20)
    assert stored.pixels[0, 420, 140] == 244 and stored.pixels.max() > 255  # As GDCM and DCMTK decode it.


def test_jpeg_2000_of_another_sign_and_in_reversible_ybr(tmp_path):
    stored = stored_pixels(pydicom.dcmread(bundled("J2K_pixelrep_mismatch.dcm")), frame=None, max_pixels=2**20)
    assert stored.pixels.min() == -2000
    colors = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    stream = imagecodecs.jpeg2k_encode(colors, reversible=True, mct=True, codecformat="j2k")
    path = write_dicom(
        tmp_path / "a.dcm",
        colors,
        syntax=JPEG2000Lossless,
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_RCT",
        PixelData=encapsulate([stream]),
    )
    np.testing.assert_array_equal(read_dicom(path), colors)


def test_compressed_frames_are_counted(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    streams = [imagecodecs.jpegls_encode(frame) for frame in frames]
    data, *offsets = encapsulate_extended(streams)
    options = {"syntax": JPEGLSLossless, "PixelData": data}
    tables = dict(zip(("ExtendedOffsetTable", "ExtendedOffsetTableLengths"), offsets, strict=True))
    for more in ({}, tables):
        path = write_dicom(tmp_path / "a.dcm", frames, **options, **more)
        np.testing.assert_allclose(read_dicom(path), frames / 255, atol=1e-6)
        np.testing.assert_allclose(read_dicom(path, frame=2), frames[2] / 255, atol=1e-6)
    for count in (2, 4):
        path = write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=count, **options)
        with pytest.raises(ValueError, match="a.dcm: .*rames"):
            read_dicom(path)


def test_a_film_is_a_volume_and_one_frame_an_image():
    path = bundled("examples_ybr_color.dcm")
    film = read_dicom(path)
    assert film.shape == read_dicom_shape(path) == (30, 240, 320, 3)
    np.testing.assert_array_equal(read_dicom(path, frame=17), film[17])
    assert read_dicom_shape(path, frame=17) == (240, 320, 3)
    dose = read_dicom(bundled("rtdose.dcm"))
    assert dose.shape == (15, 10, 10) and (dose.min(), dose.max()) == (0, 1)
    for frame in (-1, 15):
        with pytest.raises(ValueError, match=rf"rtdose.dcm: `frame` must be from 0 to 14. Received: frame={frame}"):
            read_dicom(bundled("rtdose.dcm"), frame=frame)


# The grey scale, on files made here.


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (None, lambda x: np.clip((x - 99.5) / 49 + 0.5, 0, 1)),
        ("LINEAR_EXACT", lambda x: np.clip((x - 100) / 50 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 100) / 50))),
    ],
)
def test_window_functions(tmp_path, function, expected):
    stored = np.arange(-100, 300, dtype=np.int16).reshape(20, 20)
    options = {"WindowCenter": 100, "WindowWidth": 50, "RescaleSlope": "0.5", "RescaleIntercept": "20"}
    path = write_dicom(tmp_path / "a.dcm", stored, **options, **({"VOILUTFunction": function} if function else {}))
    image = read_dicom(path)
    np.testing.assert_allclose(image, expected(stored * 0.5 + 20), atol=1e-6)
    np.testing.assert_allclose(image, by_pydicom(path), atol=1e-6)


def test_the_narrowest_window_is_a_threshold(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", WindowCenter=5, WindowWidth=1)
    assert read_dicom(path).ravel().tolist() == [0.0] * 5 + [1.0] * 7
    dataset = pydicom.dcmread(path)
    assert (apply_windowing(dataset.pixel_array, dataset) > 0).ravel().tolist() == [False] * 5 + [True] * 7


def test_without_a_window(tmp_path):
    wide = np.array([[7, 107], [57, 32]], np.uint16)
    np.testing.assert_allclose(read_dicom(write_dicom(tmp_path / "a.dcm", wide)), [[0, 1], [0.5, 0.25]], atol=1e-6)
    narrow = np.array([[0, 51], [102, 153]], np.uint8)
    np.testing.assert_allclose(read_dicom(write_dicom(tmp_path / "b.dcm", narrow)), narrow / 255, atol=1e-6)
    rescaled = write_dicom(tmp_path / "c.dcm", narrow, RescaleSlope=-2, RescaleIntercept=9)
    np.testing.assert_allclose(read_dicom(rescaled), 1 - narrow / 255, atol=1e-6)
    flat = write_dicom(tmp_path / "d.dcm", np.full((2, 2), 9, np.uint16))
    np.testing.assert_array_equal(read_dicom(flat), np.zeros((2, 2)))
    bits = write_dicom(tmp_path / "e.dcm", np.array([[0b01]], np.uint8), BitsAllocated=1, BitsStored=1, Columns=8)
    np.testing.assert_array_equal(read_dicom(bits), [[1, 0, 0, 0, 0, 0, 0, 0]])


def test_monochrome1_is_inverted_after_its_window(tmp_path):
    options = {"WindowCenter": 6, "WindowWidth": 8}
    plain = read_dicom(write_dicom(tmp_path / "a.dcm", **options))
    inverted = read_dicom(write_dicom(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1", **options))
    np.testing.assert_allclose(inverted, 1 - plain, atol=1e-7)


def test_a_modality_table(tmp_path):
    stored = np.array([[-9, -2, -1, 0, 1, 900]], np.int16)
    tables = lut(-2, 12, [500, 1000, 1500, 2000])
    path = write_dicom(tmp_path / "a.dcm", stored, ModalityLUTSequence=tables, WindowCenter=1000.5, WindowWidth=2001)
    np.testing.assert_allclose(read_dicom(path), [[0.25, 0.25, 0.5, 0.75, 1, 1]], atol=1e-6)


@pytest.mark.parametrize("vr", ["OW", "US"])
def test_a_voi_table_comes_before_a_window(tmp_path, vr):
    """With more entries than its 8-bit output could count."""
    entries = np.arange(4096)[::-1] // 16
    stored = np.array([[0, 100, 1000, 4095, 5000]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, VOILUTSequence=lut(0, 8, entries, vr), WindowCenter=1, WindowWidth=1)
    np.testing.assert_allclose(read_dicom(path), [[1, 249 / 255, 193 / 255, 0, 0]], atol=1e-6)
    rescaled = write_dicom(
        tmp_path / "b.dcm",
        stored,
        VOILUTSequence=lut(-50, 8, entries, vr),
        RescaleSlope=1,
        RescaleIntercept=-50,
    )
    np.testing.assert_array_equal(read_dicom(rescaled), read_dicom(path))


def test_tables_in_big_endian(tmp_path):
    stored = np.array([[0, 1, 2]], np.uint16)
    tables = item(LUTDescriptor=[3, 0, 16])
    tables[0].add_new("LUTData", "OW", np.array([0, 256, 65535], ">u2").tobytes())
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=ExplicitVRBigEndian, VOILUTSequence=tables)
    np.testing.assert_allclose(read_dicom(path), [[0, 256 / 65535, 1]], atol=1e-6)


def test_padding_is_black_and_no_part_of_the_range(tmp_path):
    stored = np.array([[-2000, 10, 20], [30, -2000, 60]], np.int16)
    path = write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000)
    np.testing.assert_allclose(read_dicom(path), [[0, 0, 0.2], [0.4, 0, 1]], atol=1e-6)
    inverted = write_dicom(
        tmp_path / "b.dcm",
        stored,
        PhotometricInterpretation="MONOCHROME1",
        PixelPaddingValue=-2100,
        PixelPaddingRangeLimit=-1900,
    )
    np.testing.assert_allclose(read_dicom(inverted), [[0, 1, 0.8], [0.6, 0, 0]], atol=1e-6)
    beyond = np.array([[63536, 2096, 4095]], np.uint16)  # Of the padding, 12 bits would leave 2096.
    path = write_dicom(
        tmp_path / "c.dcm", beyond, BitsStored=12, PixelPaddingValue=63536, WindowCenter=2048, WindowWidth=4096
    )
    np.testing.assert_allclose(read_dicom(path), [[0, 2096 / 4095, 1]], atol=1e-6)
    all_padding = write_dicom(tmp_path / "d.dcm", np.full((2, 2), 5, np.uint16), PixelPaddingValue=5)
    np.testing.assert_array_equal(read_dicom(all_padding), np.zeros((2, 2)))


def test_unused_bits_count_for_nothing(tmp_path):
    signed = np.array([[-2048, -1, 0, 2047]], np.int16)
    with_overlay = (signed & 0x0FFF) | 0x5000
    window = {"WindowCenter": 0, "WindowWidth": 4096, "BitsStored": 12}
    expected = read_dicom(write_dicom(tmp_path / "a.dcm", signed, **window))
    assert expected[0, 0] == 0 and expected[0, 3] == 1
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian):
        path = write_dicom(tmp_path / "b.dcm", with_overlay.astype(np.int16), syntax=syntax, **window)
        np.testing.assert_array_equal(read_dicom(path), expected)


def test_frames_of_an_enhanced_file_have_scales_of_their_own(tmp_path):
    def frame(slope, centre):
        group = item(
            PixelValueTransformationSequence=item(RescaleSlope=slope, RescaleIntercept=-10, RescaleType="US"),
            FrameVOILUTSequence=item(WindowCenter=centre, WindowWidth=20, VOILUTFunction="LINEAR_EXACT"),
        )
        return group[0]

    stored = np.array([[[5, 10]], [[5, 10]]], np.uint16)
    groups = pydicom.Sequence([frame(1, 0), frame(2, 10)])
    path = write_dicom(tmp_path / "a.dcm", stored, Modality="CT", PerFrameFunctionalGroupsSequence=groups)
    expected = [[[0.25, 0.5]], [[0, 0.5]]]
    np.testing.assert_allclose(read_dicom(path), expected, atol=1e-6)
    np.testing.assert_allclose(read_dicom(path, frame=1), expected[1], atol=1e-6)
    shared = item(PixelValueTransformationSequence=item(RescaleSlope=3, RescaleIntercept=0))
    path = write_dicom(tmp_path / "b.dcm", stored, SharedFunctionalGroupsSequence=shared)
    np.testing.assert_allclose(read_dicom(path, window=(15, 30)), [[[0.5, 1]]] * 2, atol=1e-6)


def test_floating_point_pixels(tmp_path):
    values = np.array([[-1.5, 0.5], [2.5, 0.5]], np.float32)
    options = {"BitsAllocated": 32, "FloatPixelData": values.tobytes()}
    without = ("PixelData", "BitsStored", "HighBit", "PixelRepresentation")
    path = write_dicom(tmp_path / "a.dcm", values, without=without, **options)
    np.testing.assert_allclose(read_dicom(path), [[0, 0.5], [1, 0.5]], atol=1e-6)
    values[0, 0] = np.nan
    options["FloatPixelData"] = values.tobytes()
    with pytest.raises(ValueError, match="finite. Received: 1"):
        read_dicom(write_dicom(tmp_path / "a.dcm", values, without=without, **options))


def test_a_named_window_is_for_hounsfield_units(tmp_path):
    rescale = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}
    read_dicom(write_dicom(tmp_path / "a.dcm", **rescale), window="bone")
    for elements in ({}, {"Modality": "CT"}, rescale | {"RescaleType": "OD"}, rescale | {"Modality": "MR"}):
        path = write_dicom(tmp_path / "a.dcm", **elements)
        with pytest.raises(ValueError, match="a.dcm: a named window is for CT in Hounsfield units"):
            read_dicom(path, window="bone")
        read_dicom(path, window=WINDOWS["bone"])


# Colour, on files made here.


def test_planes_and_other_bit_depths(tmp_path):
    colors = np.random.default_rng(0).integers(0, 4096, (4, 6, 3)).astype(np.uint16)
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}
    path = write_dicom(tmp_path / "a.dcm", colors, BitsStored=12, **rgb)
    np.testing.assert_allclose(read_dicom(path), colors / 4095, atol=1e-7)
    planes = np.moveaxis(colors, -1, 0).astype(np.uint8).tobytes()
    path = write_dicom(
        tmp_path / "b.dcm", colors.astype(np.uint8), **rgb | {"PlanarConfiguration": 1, "PixelData": planes}
    )
    np.testing.assert_array_equal(read_dicom(path), colors.astype(np.uint8))


@pytest.mark.parametrize("subsampled", [False, True])
def test_ybr(tmp_path, subsampled):
    ybr = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]  # Two pixels share their colour.
    data = ybr.tobytes()
    if subsampled:
        data = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1).tobytes()
    path = write_dicom(
        tmp_path / "a.dcm",
        ybr,
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL_422" if subsampled else "YBR_FULL",
        PixelData=data,
    )
    np.testing.assert_array_equal(read_dicom(path), convert_color_space(ybr, "YBR_FULL", "RGB"))


def palette(depth, entries, first=0, **elements):
    names = {f"{c}PaletteColorLookupTable": entries[i] for i, c in enumerate(("Red", "Green", "Blue"))}
    dtype = np.uint8 if elements.pop("packed", False) else "<u2"
    data = {f"{name}Data": np.asarray(values, dtype).tobytes() for name, values in names.items()}
    return data | {f"{name}Descriptor": [len(entries[0]), first, depth] for name in names} | elements


def test_palettes(tmp_path):
    entries = np.random.default_rng(0).integers(0, 256, (3, 300))
    stored = np.array([[0, 7, 260], [299, 305, 400]], np.uint16)
    for options in ({}, {"packed": True}):
        elements = palette(8, entries, 5, PhotometricInterpretation="PALETTE COLOR", **options)
        image = read_dicom(write_dicom(tmp_path / "a.dcm", stored, **elements))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, entries[:, np.clip(stored.astype(int) - 5, 0, 299)].transpose(1, 2, 0))


def test_a_segmented_palette(tmp_path):
    ramp = np.array([0, 2, 10, 20, 1, 8, 100])  # Discrete 10, 20; then 8 steps to 100.
    names = ("Red", "Green", "Blue")
    elements = {f"Segmented{c}PaletteColorLookupTableData": ramp.astype("<u2").tobytes() for c in names}
    elements |= {f"{c}PaletteColorLookupTableDescriptor": [10, 0, 16] for c in names}
    stored = np.arange(10, dtype=np.uint8).reshape(2, 5)
    image = read_dicom(write_dicom(tmp_path / "a.dcm", stored, PhotometricInterpretation="PALETTE COLOR", **elements))
    assert image[..., 0].ravel().tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


# Bad files.


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"without": ("PixelData",)}, "no pixel data"),
        *[({"without": (name,)}, f"{name} is missing") for name in ("Rows", "BitsStored", "PixelRepresentation")],
        ({"without": ("PhotometricInterpretation",)}, "PhotometricInterpretation must be"),
        ({"PhotometricInterpretation": "CMYK"}, "Received: 'CMYK'"),
        ({"PhotometricInterpretation": "RGB"}, "SamplesPerPixel of RGB is 3. Received: 1"),
        ({"SamplesPerPixel": 3, "Columns": 1, "PlanarConfiguration": 0}, "SamplesPerPixel of MONOCHROME2 is 1"),
        ({"BitsStored": 17, "HighBit": 16}, "BitsStored must be a whole number from 1 to 16"),
        ({"BitsStored": 12, "HighBit": 15}, "HighBit must be a whole number from 11 to 11. Received: .15"),
        ({"BitsAllocated": 12}, "BitsAllocated must be 1, 8"),
        ({"Rows": 0}, "Rows must be a whole number from 1"),
        ({"Rows": 4}, "ask for 32 bytes of pixels. Received: 24"),
        ({"Rows": 1}, "ask for 8 bytes of pixels. Received: 24"),
        ({"NumberOfFrames": 2}, "ask for 48 bytes"),
        ({"NumberOfFrames": -1}, "NumberOfFrames must be"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "WindowWidth must be >= 1 with LINEAR"),
        ({"WindowCenter": 1, "WindowWidth": -5, "VOILUTFunction": "SIGMOID"}, "WindowWidth must be > 0"),
        ({"WindowCenter": 1, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "Received: 'CUBIC'"),
        ({"WindowCenter": [1, 2], "WindowWidth": 5}, "WindowCenter and WindowWidth come in pairs"),
        ({"WindowCenter": 1}, "WindowCenter and WindowWidth come in pairs"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope must not be 0"),
        ({"RescaleSlope": 2}, "RescaleSlope and RescaleIntercept come together"),
        ({"VOILUTSequence": lut(0, 8, [1, 2, 300])}, "LUTData must have entries of 8 bits. Received: 1 to 300"),
        ({"VOILUTSequence": lut(0, 4, [1])}, "8 to 16 bits per entry. Received: 4"),
        ({"VOILUTSequence": item(LUTDescriptor=[4, 0, 8])}, "LUTData must have 4 entries. Received: 0"),
        ({"without": ("PixelData",), "FloatPixelData": b"1234"}, "ask for 24 bytes of pixels. Received: 4"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "LookupTableDescriptor must be three numbers"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(tmp_path, elements, reason):
    path = write_dicom(tmp_path / "bad.dcm", **elements)
    with pytest.raises(ValueError, match=reason) as error:
        read_dicom(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_no_dicom_at_all(tmp_path, real_data):
    with pytest.raises(FileNotFoundError, match="none.dcm: no such file"):
        read_dicom(tmp_path / "none.dcm")
    with pytest.raises(ValueError, match="directory"):
        read_dicom(tmp_path)
    whole = (real_data / "dicom" / "pydicom" / "CT_small.dcm").read_bytes()
    for content in (b"", b"text", b"\0" * 128 + b"DICM", whole[:100], whole[:300], whole[:-300]):
        (tmp_path / "bad.dcm").write_bytes(content)
        with pytest.raises(ValueError, match="bad.dcm: "):
            read_dicom(tmp_path / "bad.dcm")


def test_a_window_of_no_sense(tmp_path):
    path = write_dicom(tmp_path / "a.dcm")
    for window in ("lungs", "1", (1, 0), (1, -2), (np.nan, 1), (1, 2, 3), 1.5):
        with pytest.raises(ValueError, match="`window` must be one of abdomen.*Received: window="):
            read_dicom(path, window=window)
    with pytest.raises(ValueError, match="window=0 of none"):
        read_dicom(path, window=0)
    with pytest.raises(ValueError, match="a window is for grey images. Received: RGB"):
        read_dicom(bundled("SC_rgb_rle.dcm"), window=(1, 2))
    assert all(parse_window(name) == parse_window(pair) for name, pair in WINDOWS.items())


def test_a_limit_before_decoding(tmp_path):
    path = bundled("SC_rgb_rle_2frame.dcm")
    assert read_dicom(path, max_pixels=20_000).shape == (2, 100, 100, 3)
    assert read_dicom(path, max_pixels=10_000, frame=1).shape == (100, 100, 3)
    with pytest.raises(ValueError, match=r"at most 19999 pixels \(max_pixels\). Received: 2 x 100 x 100"):
        read_dicom(path, max_pixels=19_999)
    huge = write_dicom(tmp_path / "a.dcm", Rows=65535, Columns=65535)
    with pytest.raises(ValueError, match="at most 268435456 pixels"):
        read_dicom(huge)


def test_a_compressed_stream_of_another_size_is_not_decoded(tmp_path):
    data = pathlib.Path(bundled("SC_rgb_jpeg.dcm")).read_bytes()
    at = data.index(b"\xff\xc0") + 5
    (tmp_path / "bomb.dcm").write_bytes(data[:at] + struct.pack(">HH", 60000, 60000) + data[at + 4 :])
    with pytest.raises(ValueError, match=r"bomb.dcm.*\(60000, 60000, 3\). Received: \(256, 256, 3\)"):
        read_dicom(tmp_path / "bomb.dcm")


def test_streams_tell_their_shape():
    for name, shape in (("MR_small_jp2klossless", (64, 64, 1)), ("GDCMJ2K_TextGBR", (400, 400, 3))):
        data = pydicom.dcmread(bundled(f"{name}.dcm")).PixelData
        assert codestream_shape(get_frame(data, 0, number_of_frames=1)) == shape
    for stream in (b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xda" + b"\0" * 20, b"\xff\x4f\xff\x51"):
        assert codestream_shape(stream) is None


def test_a_deflated_file_and_one_that_would_fill_the_memory(tmp_path, monkeypatch):
    assert read_dicom(bundled("image_dfl.dcm")).shape == (512, 512)
    path = write_dicom(tmp_path / "a.dcm", np.zeros((2000, 2000), np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 40_000
    monkeypatch.setattr(dicom_file, "MAX_INFLATED", 2**21)
    with pytest.raises(ValueError, match="a.dcm: a deflated file"):
        read_dicom(path)
    path.write_bytes(path.read_bytes()[:-2000])
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a.dcm: damaged DICOM"):
        read_dicom(path)


def test_the_extra_is_named_where_a_package_is_missing(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "imagecodecs" else real(name, *a))
    with pytest.raises(ModuleNotFoundError, match=r"JPEG Baseline.*pip install 'medkeras\[dicom\]'"):
        read_dicom(bundled("SC_rgb_jpeg.dcm"))
    assert read_dicom(bundled("SC_rgb_rle.dcm")).shape == (100, 100, 3)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    dicom_file._pydicom.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'medkeras\[dicom\]'"):
        read_dicom(bundled("SC_rgb_rle.dcm"))
    dicom_file._pydicom.cache_clear()


def test_damaged_files_never_name_the_patient(tmp_path, real_data):
    """And end in an image or in an error that names the file, whatever was damaged."""
    files = sorted((real_data / "dicom" / "pydicom").glob("*.dcm"))
    files += [bundled(f"{name}.dcm") for name in ("MR_small_jpeg_ls_lossless", "MR_small_jp2klossless", "JPGExtended")]
    rng, path, outcomes = np.random.default_rng(0), tmp_path / "damaged.dcm", []
    for _ in range(250):
        shutil.copyfile(files[rng.integers(len(files))], path)
        data = bytearray(path.read_bytes())
        for at in rng.integers(128, 1500 if rng.random() < 0.7 else len(data), 6):
            data[at % len(data)] = rng.integers(256)
        path.write_bytes(data if rng.random() < 0.8 else data[: rng.integers(len(data))])
        try:
            image = to_float(read_dicom(path))
            outcomes.append(image.size > 0)
        except ValueError as error:
            assert str(path) in str(error)
            assert not any(name in str(error) for name in ("Sssss", "CompressedSamples", "Lestrade", "021234567"))
            outcomes.append(False)
    assert len(outcomes) == 250 and 30 < sum(outcomes) < 220
