import inspect

import pytest

from pipelines.sources import KINDS, open_source, opener, parse_source


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        ("phantom", ("phantom", "")),
        ("phantom:multilabel3d", ("phantom", "multilabel3d")),
        ("medmnist:breastmnist_64", ("medmnist", "breastmnist_64")),
        ("folder:some/where:else", ("folder", "some/where:else")),
        ("table:a.csv", ("table", "a.csv")),
    ],
)
def test_kinds_are_named_before_the_colon(source, parsed):
    assert parse_source(source) == parsed


def test_paths_are_told_by_what_they_are(tmp_path):
    for name, kind in (("a.npz", "medmnist"), ("a.CSV", "table"), ("odd:name.csv", "table")):
        (tmp_path / name).touch()
        assert parse_source(tmp_path / name) == (kind, str(tmp_path / name))
    assert parse_source(tmp_path) == ("folder", str(tmp_path))


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(ValueError, match="phantom, medmnist, folder, table.*'web:x'"):
        open_source("web:x")


def test_a_file_of_another_type_is_named(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="a.txt"):
        open_source(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "source", ["no/such/folder", "gone.npz", "gone.csv", "medmnist:gone.npz", "folder:gone", "table:gone.csv"]
)
def test_a_missing_path_is_named(source):
    with pytest.raises(FileNotFoundError, match=source.split(":")[-1]):
        open_source(source)


@pytest.mark.parametrize(
    ("source", "option"), [("phantom", "label_columns"), ("folder:x", "images"), ("phantom", "sise")]
)
def test_an_option_of_another_kind_is_refused(source, option):
    with pytest.raises(ValueError, match=f"takes the options .*Received: {option}="):
        open_source(source, **{option: "x"})


def test_on_error_is_checked():
    with pytest.raises(ValueError, match="on_error='ignore'"):
        open_source("phantom", on_error="ignore")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_signature(kind):
    first, *options = inspect.signature(opener(kind)).parameters.values()
    assert first.kind is first.POSITIONAL_OR_KEYWORD
    assert all(p.kind is p.KEYWORD_ONLY for p in options) and options[0].name == "task"
