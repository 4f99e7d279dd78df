"""Official checkpoints: files of each kind, and what is refused."""

import pathlib

import numpy as np
import pytest
from safetensors.numpy import save_file

import medkeras
import seeded_weights  # noqa: E402
from paths import PARITY


@pytest.fixture(scope="module")
def model():
    return medkeras.models.create(
        "focusnet2d", input_shape=(28, 28, 3), num_classes=5, compat="repaired", normalization="none"
    )


@pytest.fixture
def arrays():
    return seeded_weights.state_dict(PARITY / "keys" / "focusnet2d.tsv", 1)


def test_a_safetensors_file_gives_what_its_arrays_give(model, arrays, tmp_path):
    image = np.ones((1, 28, 28, 3), "float32")
    loaded = medkeras.checkpoints.load(model, arrays)
    expected = np.asarray(model(image))
    medkeras.checkpoints.load(model, seeded_weights.state_dict(PARITY / "keys" / "focusnet2d.tsv", 2))
    assert not np.allclose(model(image), expected)
    save_file(arrays, tmp_path / "official.safetensors")
    assert medkeras.checkpoints.load(model, tmp_path / "official.safetensors") == loaded
    assert sorted(loaded) == sorted(arrays)
    np.testing.assert_array_equal(model(image), expected)


def damaged(arrays, kind):
    if kind == "missing":
        del arrays["classifier.2.bias"]
    elif kind == "unknown":
        arrays["classifier.9.bias"] = np.zeros(5, "float32")
    elif kind == "classes":
        arrays["classifier.2.weight"] = np.zeros((7, 128), "float32")
    elif kind == "rank":
        arrays["mpk_block.M.0.weight"] = np.zeros((24, 3), "float32")
    elif kind == "grid":
        arrays["saccade_fc.1.weight"] = np.zeros((32, 1175), "float32")
    elif kind == "nan":
        arrays["pc_gru.norm.bias"] = np.full(64, np.nan, "float32")
    return arrays


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("missing", "lacks 1 tensors, the first being classifier.2.bias"),
        ("unknown", "no place for 1 tensors, the first being classifier.9.bias"),
        ("classes", r"classifier.2.weight \(7, 128\)"),
        ("rank", r"mpk_block.M.0.weight \(24, 3\)"),
        ("grid", r"saccade_fc.1.weight \(32, 1175\)"),
        ("nan", "finite numbers. Received: pc_gru.norm.bias"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(model, arrays, kind, text):
    before = model.get_weights()
    with pytest.raises(ValueError, match=text):
        medkeras.checkpoints.load(model, damaged(arrays, kind))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_without_official_layout_says_so():
    model = medkeras.models.create("focusnet2d_tiny", num_classes=2)
    with pytest.raises(ValueError, match="no official checkpoint layout"):
        medkeras.checkpoints.load(model, {})


def test_files_that_are_no_checkpoints(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        medkeras.checkpoints.load(model, tmp_path / "gone.safetensors")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"\x10\x00\x00")
    with pytest.raises(ValueError, match="torn.safetensors"):
        medkeras.checkpoints.load(model, torn)
    other = tmp_path / "weights.h5"
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="must end in one of .safetensors"):
        medkeras.checkpoints.load(model, other)


def test_torch_files(model, arrays, tmp_path):
    torch = pytest.importorskip("torch", reason="the extra [torch] is not installed")
    image = np.ones((1, 28, 28, 3), "float32")
    medkeras.checkpoints.load(model, arrays)
    expected = np.asarray(model(image))
    state = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    torch.save({"state_dict": state}, tmp_path / "official.pth")
    medkeras.checkpoints.load(model, tmp_path / "official.pth")
    np.testing.assert_array_equal(model(image), expected)

    torch.save({"state_dict": pathlib.Path("/")}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="code.pth"):
        medkeras.checkpoints.load(model, tmp_path / "code.pth")
