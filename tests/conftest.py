"""Paths and quiet start-up for all tests."""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS))


@pytest.fixture(scope="session")
def real_data():
    """The folder of real images, or a skip that says where it was looked for."""
    path = pathlib.Path(os.environ.get("MEDKERAS_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real images at {path}; set MEDKERAS_DATA")
    return path
