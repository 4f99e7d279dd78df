"""Two devices take the steps of one: losses, weights, norms, running means; and draw other random numbers."""

import os
import subprocess
import sys

import pytest

from paths import ROOT


@pytest.mark.process
def test_two_devices_take_the_steps_of_one():
    done = subprocess.run(
        [sys.executable, "tests/support/two_devices.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
