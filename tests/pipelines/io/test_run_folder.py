"""The run folder: what is damaged is named in one line."""

import pytest

from pipelines.io.run_folder import RunFolder


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"Cannot read .*metrics.json: ") as error:
        RunFolder(tmp_path).read_json("metrics.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"a: [", b"", b"\xff\xfe", b"- a"])
def test_a_damaged_configuration_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"Cannot read .*config.yaml: ") as error:
        RunFolder(tmp_path).read_config()
    assert "\n" not in str(error.value)


def test_what_is_written_is_read(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config({"data": "phantom", "folds": None})
    folder.write_json("metrics.json", {"auc": float("nan"), "n": 3})
    assert folder.read_config() == {"data": "phantom", "folds": None}
    assert folder.read_json("metrics.json") == {"auc": None, "n": 3}
