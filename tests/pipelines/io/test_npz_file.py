"""An npz is read whole and right, or refused; code in it never runs."""

import struct
import zipfile

import numpy as np
import pytest

from pipelines.io.npz_file import read_npz

IMAGES = np.arange(4000, dtype=np.uint16).reshape(10, 20, 20)


def everything(name):
    return True


@pytest.fixture(params=[np.savez, np.savez_compressed])
def path(tmp_path, request):
    request.param(tmp_path / "a.npz", images=IMAGES, labels=np.arange(10), names=np.array(["b", "ä"]))
    return tmp_path / "a.npz"


def damage(path, change):
    data = bytearray(path.read_bytes())
    changed = change(data)
    path.write_bytes(data if changed is None else changed)


def test_wanted_arrays_come_back(path):
    found = read_npz(path, lambda name: name != "labels")
    assert list(found) == ["images", "names"] and found["names"].tolist() == ["b", "ä"]
    np.testing.assert_array_equal(found["images"], IMAGES)


def test_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{}, 1], dtype=object))
    with pytest.raises(ValueError, match="a.npz: object arrays are not read"):
        read_npz(tmp_path / "a.npz", everything)
    assert read_npz(tmp_path / "a.npz", lambda name: name == "labels") == {}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.npz"):
        read_npz(tmp_path / "gone.npz", everything)


@pytest.mark.parametrize("fraction", [0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(path, fraction):
    damage(path, lambda data: data[: int(len(data) * fraction)])
    with pytest.raises(ValueError, match="a.npz: no npz, or damaged"):
        read_npz(path, everything)


def test_a_changed_pixel_is_found(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES)
    damage(tmp_path / "a.npz", lambda data: data.__setitem__(1000, data[1000] ^ 1))
    with pytest.raises(ValueError, match="damaged"):
        read_npz(tmp_path / "a.npz", everything)


def test_a_changed_name_in_the_directory_hides_no_array(path):
    def rename(data):
        at = data.rfind(b"images.npy")
        data[at : at + 6] = b"imagez"

    damage(path, rename)
    with pytest.raises(ValueError, match="damaged"):
        read_npz(path, lambda name: name == "images")


def test_a_length_that_hides_the_checksum_is_found(tmp_path):
    """A directory that announces more bytes than there are: numpy would stop before the checksum is compared."""
    np.savez(tmp_path / "a.npz", images=IMAGES)

    def lengthen(data):
        at = data.find(b"PK\x01\x02")
        size = struct.unpack_from("<I", data, at + 24)[0]
        struct.pack_into("<I", data, at + 24, size + 1)
        data[1000] ^= 1

    damage(tmp_path / "a.npz", lengthen)
    with pytest.raises(ValueError, match="damaged"):
        read_npz(tmp_path / "a.npz", everything)


@pytest.mark.parametrize("header", [b"{'descr': '|u1', 'shape': (9", b"{'descr': '|u1'}", b"__import__('os')", b"\xff"])
def test_a_header_that_is_none_is_refused(tmp_path, header):
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(9)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", body)
    with pytest.raises(ValueError, match="a.npz: no npz, or damaged"):
        read_npz(tmp_path / "a.npz", everything)


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000000000,)}"
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(9)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", body)
    with pytest.raises(ValueError, match="a.npz: larger than the memory, or damaged"):
        read_npz(tmp_path / "a.npz", everything)
