"""Paths and quiet start-up for all tests."""

import gc
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Programs that run once are not worth optimising: compiling takes a quarter less.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true")

import pytest

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "parity")]


def pytest_collection_finish():
    """What is imported stays for good, and is not searched for garbage again while graphs are traced."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def operations_as_in_a_new_process():
    """A training makes TensorFlow's operations deterministic, and some then have no XLA form; the next test has."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        config.disable_op_determinism()


@pytest.fixture(scope="session")
def real_data():
    """The folder of real images, or a skip that says where it was looked for."""
    path = pathlib.Path(os.environ.get("MEDKERAS_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real images at {path}; set MEDKERAS_DATA")
    return path
