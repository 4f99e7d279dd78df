"""Two devices take the steps of one: losses, weights, norms, running means; and draw other random numbers."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.process
def test_two_devices_take_the_steps_of_one():
    done = subprocess.run(
        [sys.executable, "tests/two_devices.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
