import dataclasses
import importlib.util
import inspect
import subprocess
import sys

import cv2
import numpy as np
import pytest

from pipelines.sources import KINDS, open_source, options_of, parse_source
from pipelines.sources.unlabelled import OF_VOLUMES
from pipelines.sources.volume.view import VolumeView


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


def test_an_option_that_is_nearly_one_is_suggested():
    with pytest.raises(ValueError, match="; perhaps `unknown`. Received: unknwon=0.1"):
        open_source("phantom", unknwon=0.1)


def test_on_error_is_checked():
    with pytest.raises(ValueError, match="on_error='ignore'"):
        open_source("phantom", on_error="ignore")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_opener_and_says_what_it_takes(kind):
    """Each option stands in the `Options` of the kind, with its documentation, and may be left out."""
    reader = importlib.import_module(KINDS[kind])
    first, rest = inspect.signature(getattr(reader, f"open_{kind}")).parameters.values()
    assert first.kind is first.POSITIONAL_OR_KEYWORD and rest.kind is rest.VAR_KEYWORD
    assert "task" in options_of(f"{kind}:x")
    documented = " ".join(inspect.getdoc(parent) or "" for parent in reader.Options.__mro__)
    assert all(f"{name}:" in documented for name in options_of(f"{kind}:x"))
    reader.Options()


PRINT_ROOMS = """
import sys
from pipelines.sources import open_source
assert open_source(sys.argv[1]).read(0).shape == (8, 8)
print(*sorted(name for name in sys.modules if name.startswith("pipelines.")))
"""


def test_a_folder_of_png_brings_in_its_own_reader_alone(tmp_path):
    for name in ("ill", "well"):
        (tmp_path / name).mkdir()
        assert cv2.imwrite(str(tmp_path / name / "a.png"), np.zeros((8, 8), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", PRINT_ROOMS, str(tmp_path)], capture_output=True, text=True, check=True
    )
    files = {name for name in done.stdout.split() if importlib.util.find_spec(name).submodule_search_locations is None}
    assert files == {
        "pipelines.images.decode",
        "pipelines.images.defects",
        "pipelines.images.headers",
        "pipelines.images.names",
        "pipelines.images.records",
        "pipelines.images.tiff",
        "pipelines.load",
        "pipelines.sources.class_folders",
        "pipelines.sources.folder",
        "pipelines.sources.images",
        "pipelines.sources.options",
    }


def test_a_prediction_has_nothing_of_augmentation_and_no_reader_of_another_kind(tmp_path):
    code = "import sys, pipelines.sources.unlabelled\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unwanted = ("pipelines.augment", "pipelines.sources.dicom", "pipelines.sources.volume", "pipelines.sources.tfds")
    assert [name for name in done.stdout.split() if name.startswith(unwanted)] == []
    assert "pipelines.sources.unlabelled" in done.stdout.split()


def test_what_is_read_of_unlabelled_volumes_is_what_their_source_takes():
    assert set(OF_VOLUMES) == {field.name for field in dataclasses.fields(VolumeView)}
