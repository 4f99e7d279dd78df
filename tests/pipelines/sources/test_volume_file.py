import bz2
import gzip
import shutil
import sys

import nibabel
import nrrd
import numpy as np
import pytest

from pipelines.sources.volume.file import read_volume, read_volume_header
from pipelines.sources.volume.grid import Volume

AFFINE = np.array([[-2.0, 0.1, 0, 30], [0.1, 1.5, 0.2, -20], [0, 0.2, 3, 10], [0, 0, 0, 1]])
LPS_TO_RAS = np.diag([-1, -1, 1, 1])
REAL_AXES = {
    "encoding": "raw",
    "space": "left-posterior-superior",
    "space directions": [[1, 0, 0], [0, 2, 0], [0, 0, 3]],
    "space origin": [5, 6, 7],
}


def values(shape=(4, 5, 6), kind="int16", seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(kind).kind == "f":
        return rng.normal(size=shape).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, kind, endpoint=True)


def save(path, array, affine=AFFINE, kind=nibabel.Nifti1Image, **fields):
    image = kind(array, affine, dtype=array.dtype)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


def patched(path, changes):
    """Changes bytes of a file: offset to what stands there then."""
    data = bytearray(path.read_bytes())
    for offset, new in changes.items():
        data[offset : offset + len(new)] = new
    path.write_bytes(data)
    return path


def write_nrrd(path, array, header=REAL_AXES, **fields):
    nrrd.write(str(path), array, header | {name.replace("_", " "): value for name, value in fields.items()})
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float32", "float64"])
def test_nifti_of_every_type(tmp_path, kind, suffix):
    array = values(kind=kind)
    image = nibabel.Nifti1Pair if suffix == ".hdr" else nibabel.Nifti1Image
    volume = read_volume(save(tmp_path / f"a{suffix}", array, kind=image))
    np.testing.assert_array_equal(volume.array, array.astype(np.float32) if kind == "float64" else array)
    assert volume.array.dtype == (np.float32 if kind == "float64" else array.dtype)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_of_both_versions_and_byte_orders(tmp_path, kind, order):
    array = values()
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    kind(array, AFFINE, header).to_filename(tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


def test_the_content_decides(tmp_path):
    array = values()
    packed = shutil.copy(save(tmp_path / "a.nii.gz", array), tmp_path / "packed.nii")
    plain = shutil.copy(save(tmp_path / "a.nii", array), tmp_path / "plain.nii.gz")
    other = shutil.copy(write_nrrd(tmp_path / "a.nrrd", array), tmp_path / "other.nii")
    for path in (packed, plain, other):
        np.testing.assert_array_equal(read_volume(path).array, array)


@pytest.mark.parametrize(
    ("slope", "intercept", "wanted"),
    [(2.5, -1000, (2.5, -1000)), (0, 7, (1, 0)), (np.nan, 3, (1, 0)), (1, 5, (1, 5)), (-1, 0, (-1, 0))],
)
def test_slope_and_intercept(tmp_path, slope, intercept, wanted):
    array = values()
    path = patched(save(tmp_path / "a.nii", array), {112: np.float32([slope, intercept]).tobytes()})
    scaled = read_volume(path).array
    np.testing.assert_allclose(scaled, array.astype(np.float64) * wanted[0] + wanted[1], rtol=1e-6)
    assert scaled.dtype == (array.dtype if wanted == (1, 0) else np.float32)
    np.testing.assert_allclose(scaled, nibabel.load(path).get_fdata(), rtol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("unknown", 1), ("meter", 1000), ("micron", 0.001)])
def test_units_become_millimetres(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(values(), np.diag([0.5, 0.25, 0.5, 1]))
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").grid.spacing, np.array([0.5, 0.25, 0.5]) * factor)


def test_the_qform_where_there_is_no_sform(tmp_path):
    image = nibabel.Nifti1Image(values(), None)
    image.set_qform(np.diag([-2, 1.5, 3, 1]), code=1)
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").affine, np.diag([-2, 1.5, 3, 1]), atol=1e-6)


def test_an_unknown_orientation_must_be_given(tmp_path):
    image = nibabel.Nifti1Image(values(), None)
    image.header.set_zooms((2, 3, 4))
    image.to_filename(tmp_path / "a.nii")
    write_nrrd(tmp_path / "a.nrrd", values(), {"spacings": [2.0, 3.0, 4.0]})
    for path in (tmp_path / "a.nii", tmp_path / "a.nrrd"):
        with pytest.raises(ValueError, match=f"{path}.*pass orientation"):
            read_volume(path)
        volume = read_volume(path, orientation="LAS")
        np.testing.assert_allclose(volume.affine, np.diag([-2, 3, 4, 1]))
    told = save(tmp_path / "told.nii", values())
    np.testing.assert_allclose(read_volume(told, orientation="LAS").affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_frames(tmp_path, suffix):
    array = values((4, 5, 6, 3))
    path = save(tmp_path / f"a{suffix}", array)
    for frame in range(3):
        np.testing.assert_array_equal(read_volume(path, frame=frame).array, array[..., frame])
    with pytest.raises(ValueError, match=f"{path}: it has 3 frames; pass frame"):
        read_volume(path)
    for frame in (3, -1):
        with pytest.raises(ValueError, match=f"Received: frame={frame}"):
            read_volume(path, frame=frame)
    single = save(tmp_path / "single.nii", array[..., :1])
    np.testing.assert_array_equal(read_volume(single).array, array[..., 0])
    np.testing.assert_array_equal(read_volume(single, frame=0).array, array[..., 0])
    flat = save(tmp_path / "flat.nii", array[..., 0, 0])
    assert read_volume(flat).array.shape == (4, 5, 1)


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_nifti_in_colour(tmp_path, names):
    colors = values((4, 5, 6, len(names)), "uint8")
    array = colors.view([(name, "u1") for name in names])[..., 0]
    nibabel.Nifti1Image(array, AFFINE).to_filename(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, colors[..., :3])
    assert read_volume_header(tmp_path / "a.nii.gz").channels == 3


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
@pytest.mark.parametrize("kind", ["uint8", "int16", ">i2", "uint16", "int32", "int64", "float32", "float64"])
def test_nrrd_of_every_type(tmp_path, kind, suffix, encoding):
    array = values(kind=np.dtype(kind).newbyteorder("=")).astype(kind)
    volume = read_volume(write_nrrd(tmp_path / f"a{suffix}", array, encoding=encoding))
    np.testing.assert_array_equal(volume.array, array.astype(np.float32) if kind == "float64" else array)
    wanted = [[-1, 0, 0, -5], [0, -2, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, wanted)


@pytest.mark.parametrize(
    ("space", "to_ras"),
    [("right-anterior-superior", np.eye(4)), ("LAS", np.diag([-1, 1, 1, 1])), ("left-posterior-superior", LPS_TO_RAS)],
)
def test_nrrd_spaces(tmp_path, space, to_ras):
    fields = {"space": space, "space_directions": AFFINE[:3, :3].T, "space_origin": AFFINE[:3, 3]}
    volume = read_volume(write_nrrd(tmp_path / "a.nrrd", values(), **fields, space_units=["cm"] * 3))
    np.testing.assert_allclose(volume.affine, to_ras @ np.diag([10, 10, 10, 1]) @ AFFINE)


def test_nrrd_in_colour_and_of_frames(tmp_path):
    directions = np.vstack([np.full(3, np.nan), np.diag([1.0, 2, 3])])
    colors = values((3, 4, 5, 6), "uint8")
    kinds = ["RGB-color", "domain", "domain", "domain"]
    path = write_nrrd(tmp_path / "a.nrrd", colors, space_directions=directions, kinds=kinds)
    np.testing.assert_array_equal(read_volume(path).array, np.moveaxis(colors, 0, -1))
    series = np.moveaxis(colors, 0, -1)
    fields = {"space_directions": np.roll(directions, -1, axis=0), "kinds": [*kinds[1:], "list"]}
    path = write_nrrd(tmp_path / "b.nrrd", series, **fields, encoding="gzip")
    np.testing.assert_array_equal(read_volume(path, frame=2).array, series[..., 2])
    path = write_nrrd(tmp_path / "c.nrrd", colors, space_directions=directions, kinds=["vector", *kinds[1:]])
    with pytest.raises(ValueError, match="kind vector"):
        read_volume(path)
    path = write_nrrd(tmp_path / "d.nrrd", colors.astype(np.float32), space_directions=directions, kinds=kinds)
    with pytest.raises(ValueError, match="uint8 or uint16"):
        read_volume(path)


def test_nrrd_skips(tmp_path):
    array = values()
    text = write_nrrd(tmp_path / "a.nhdr", array).read_text()
    raw = (tmp_path / "a.raw").read_bytes()
    for name, skip, data in (
        ("lines", "line skip: 2\n", b"one\ntwo\n" + raw),
        ("bytes", "byte skip: 5\n", b"12345" + raw),
        ("end", "byte skip: -1\n", b"any length" + raw),
    ):
        (tmp_path / f"{name}.nhdr").write_text(text.replace("a.raw", "b.raw").rstrip() + f"\n{skip}")
        (tmp_path / "b.raw").write_bytes(data)
        np.testing.assert_array_equal(read_volume(tmp_path / f"{name}.nhdr").array, array)


@pytest.mark.parametrize(
    "name", ["../secret.raw", "/etc/hostname", "a/../../secret.raw", "LIST", "slice%02d.raw 1 9 1"]
)
def test_a_data_file_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "secret.raw").write_bytes(values().tobytes())
    (tmp_path / "in").mkdir()
    path = write_nrrd(tmp_path / "in" / "a.nhdr", values())
    path.write_text(path.read_text().replace("a.raw", name))
    with pytest.raises(ValueError, match=f"{path}.*Received: data file"):
        read_volume(path)


def nifti_with(offset, new):
    return lambda folder: patched(save(folder / "a.nii", values()), {offset: np.asarray(new).tobytes()})


def nrrd_with(old, new):
    return lambda folder: _replaced(write_nrrd(folder / "a.nrrd", values()), old, new)


def _replaced(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


def _written(folder, data, name="a.nii"):
    (folder / name).write_bytes(data)
    return folder / name


def _long(folder, pack, extra=b"\0"):
    return _written(folder, pack(save(folder / "b.nii", values()).read_bytes() + extra))


def _flawed_gzip(folder):
    path = save(folder / "a.nii.gz", values())
    data = path.read_bytes()
    return _written(folder, data[:-8] + bytes([data[-8] ^ 1]) + data[-7:], "a.nii.gz")


BAD = {
    "empty": (lambda folder: _written(folder, b""), "zero bytes"),
    "text": (lambda folder: _written(folder, b"a text" * 100), "neither NIfTI nor NRRD"),
    "short": (lambda folder: _written(folder, b"\x5c\x01"), "neither NIfTI nor NRRD"),
    "gzip of text": (lambda folder: _written(folder, gzip.compress(b"a text" * 100)), "neither NIfTI nor NRRD"),
    "gzip damaged": (lambda folder: _written(folder, b"\x1f\x8b" + b"x" * 99), "damaged gzip"),
    "checksum": (_flawed_gzip, "incorrect data check"),
    "too long": (lambda folder: _long(folder, bytes), "go on"),
    "bomb": (lambda folder: _long(folder, gzip.compress, bytes(10**7)), "go on"),
    "magic": (nifti_with(344, np.uint8([0] * 4)), "ANALYZE"),
    "datatype": (nifti_with(70, np.int16(12345)), "datatype=12345"),
    "complex": (nifti_with(70, np.int16(32)), "complex"),
    "no axes": (nifti_with(40, np.int16(0)), "1 to 7 axes"),
    "many axes": (nifti_with(40, np.int16(9)), "1 to 7 axes"),
    "negative size": (nifti_with(42, np.int16(-4)), "one voxel or more"),
    "zero size": (nifti_with(44, np.int16(0)), "one voxel or more"),
    "five axes": (nifti_with(40, np.int16([5, 4, 5, 1, 2, 3])), "more than four axes"),
    "huge": (nifti_with(42, np.int16([30000, 30000, 30000])), "30000 x 30000 x 30000 voxels.*max_voxels"),
    "larger than declared": (nifti_with(42, np.int16([40])), "truncated"),
    "offset": (nifti_with(108, np.float32(0)), "vox_offset"),
    "offset NaN": (nifti_with(108, np.float32(np.nan)), "vox_offset"),
    "offset beyond": (nifti_with(108, np.float32(1e30)), "truncated|large|Invalid"),
    "slope": (nifti_with(112, np.float32([np.inf, 0])), "scl_slope"),
    "intercept": (nifti_with(112, np.float32([1, np.nan])), "scl_inter"),
    "overflow": (nifti_with(112, np.float32([3e38, 0])), "finite"),
    "unit": (nifti_with(123, np.uint8(7)), "xyzt_units=7"),
    "singular": (nifti_with(280, np.float32([2, 2, 0, 0, 2, 2, 0, 0, 0, 0, 3, 0])), "singular"),
    "no spacing": (nifti_with(280, np.float32([0] * 12)), "mm long"),
    "affine NaN": (nifti_with(284, np.float32(np.nan)), "finite"),
    "affine infinite": (nifti_with(292, np.float32(np.inf)), "finite"),
    "NaN": (lambda folder: save(folder / "a.nii", np.float32([[[1, np.nan]]])), "Received: 1 that are NaN"),
    "infinity": (lambda folder: save(folder / "a.nii", np.float64([[[1, 1e39]]])), "Received: 1 that are NaN"),
    "folder": (lambda folder: folder, "directory"),
    "NRRD version": (nrrd_with(b"NRRD0005", b"NRRD0009"), "damaged NRRD header"),
    "NRRD line": (nrrd_with(b"sizes: 4 5 6", b"sizes 4 5 6"), "damaged NRRD header"),
    "NRRD sizes": (nrrd_with(b"sizes: 4 5 6", b"sizes: 4 5"), "`dimension` sizes"),
    "NRRD zero": (nrrd_with(b"sizes: 4 5 6", b"sizes: 4 0 6"), "`dimension` sizes"),
    "NRRD huge": (nrrd_with(b"sizes: 4 5 6", b"sizes: 9999999 9999999 9999999"), "max_voxels"),
    "NRRD short": (nrrd_with(b"sizes: 4 5 6", b"sizes: 4 5 7"), "truncated"),
    "NRRD long": (nrrd_with(b"sizes: 4 5 6", b"sizes: 4 5 5"), "go on"),
    "NRRD type": (nrrd_with(b"type: int16", b"type: block"), "type=block"),
    "NRRD no type": (nrrd_with(b"type: int16\n", b""), "no type"),
    "NRRD encoding": (nrrd_with(b"encoding: raw", b"encoding: hex"), "encoding=hex"),
    "NRRD endian": (nrrd_with(b"endian: little", b"endian: middle"), "endian='middle'"),
    "NRRD singular": (nrrd_with(b"(0,2,0)", b"(1,0,0)"), "singular"),
    "NRRD no spacing": (nrrd_with(b"(0,2,0)", b"(0,0,0)"), "mm long"),
    "NRRD direction": (nrrd_with(b"(0,2,0)", b"none"), "three axes of space"),
    "NRRD origin": (nrrd_with(b"(5,6,7)", b"(5,6)"), "space origin"),
    "NRRD NaN": (nrrd_with(b"(5,6,7)", b"(5,nan,7)"), "finite"),
    "NRRD skip": (nrrd_with(b"encoding", b"byte skip: -7\nencoding"), "skips no less"),
    "NRRD endless": (nrrd_with(b"type", b"#" + b"x" * 2**22 + b"\ntype"), "header is longer"),
    "NRRD packed": (nrrd_with(b"encoding: raw", b"encoding: gzip"), "[Nn]ot a gzipped file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_the_reason(tmp_path, name):
    make, reason = BAD[name]
    path = make(tmp_path)
    with pytest.raises(ValueError, match=reason) as error:
        read_volume(path)
    assert str(error.value).startswith(f"Cannot read {path}: ") and "\n" not in str(error.value)


def test_missing_files_are_named(tmp_path):
    save(tmp_path / "pair.hdr", values(), kind=nibabel.Nifti1Pair)
    write_nrrd(tmp_path / "pair.nhdr", values())
    for name in ("pair.img", "pair.raw"):
        (tmp_path / name).unlink()
    for path, missing in (("none.nii", "none.nii"), ("pair.hdr", "pair.img"), ("pair.nhdr", "pair.raw")):
        with pytest.raises(FileNotFoundError, match=f"Cannot read .*{path}.*no such file") as error:
            read_volume(tmp_path / path)
        assert missing in str(error.value)


@pytest.mark.parametrize(("package", "suffix"), [("nibabel", "nii"), ("nrrd", "nrrd")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, package, suffix):
    path = (save if suffix == "nii" else write_nrrd)(tmp_path / f"a.{suffix}", values())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'medkeras\[volume\]'"):
        read_volume(path)


def test_max_voxels_is_asked_of_one_frame(tmp_path):
    path = save(tmp_path / "a.nii.gz", values((4, 5, 6, 7)))
    assert read_volume(path, frame=0, max_voxels=120).array.shape == (4, 5, 6)
    with pytest.raises(ValueError, match="4 x 5 x 6 voxels.*Received: max_voxels=119"):
        read_volume(path, frame=0, max_voxels=119)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", "gzip.nrrd", "bzip2.nrrd"])
def test_a_file_cut_anywhere_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if "nrrd" in suffix:
        write_nrrd(path, values(), encoding=suffix.partition(".")[0] or "raw")
    else:
        save(path, values())
    whole = path.read_bytes()
    for length in np.random.default_rng(0).integers(0, len(whole), 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"Cannot read {path}"):
            read_volume(path)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd"])
def test_flipped_bytes_give_a_sound_volume_or_an_error(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    whole = (write_nrrd if suffix == "nrrd" else save)(path, values()).read_bytes()
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(250):
        data = bytearray(whole)
        for offset in rng.integers(0, min(len(whole), 400), rng.integers(1, 4)):
            data[offset] = rng.integers(256)
        path.write_bytes(data)
        try:
            volume = read_volume(path, max_voxels=10**6)
        except (ValueError, FileNotFoundError) as error:
            assert str(error).startswith(f"Cannot read {path}")
            outcomes.append("refused")
        else:
            assert isinstance(volume, Volume) and np.isfinite(volume.array).all() and np.isfinite(volume.affine).all()
            outcomes.append("read")
    assert "refused" in outcomes and len(outcomes) == 250


def test_real_files_agree_with_nibabel_and_pynrrd(real_data):
    folder = real_data / "volumes"
    for path in (*folder.glob("nibabel/*.nii*"), *folder.glob("niivue/CT_pitch*")):
        image = nibabel.load(path)
        frame = 1 if len(image.shape) == 4 else None
        volume = read_volume(path, frame=frame)
        wanted = np.asarray(image.dataobj[..., 1] if frame else image.dataobj)
        np.testing.assert_allclose(volume.array, wanted, rtol=1e-6)
        np.testing.assert_allclose(volume.affine, image.affine)
    for path in folder.glob("pyradiomics/*.nrrd"):
        wanted, header = nrrd.read(str(path))
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, wanted)
        ras = LPS_TO_RAS if header["space"] == "left-posterior-superior" else np.eye(4)
        np.testing.assert_allclose(volume.affine[:3, :3], (ras[:3, :3] @ header["space directions"].T))


def test_bzip2_data_beside_a_header(tmp_path):
    array = values()
    path = write_nrrd(tmp_path / "a.nhdr", array, encoding="bzip2")
    data = next(tmp_path.glob("a.raw*"))
    assert bz2.decompress(data.read_bytes()) == array.tobytes(order="F")
    assert read_volume_header(path).files == (str(path), str(data))
