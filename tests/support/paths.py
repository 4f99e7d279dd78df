"""Where things lie in this checkout."""

import pathlib

SUPPORT = pathlib.Path(__file__).parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
PARITY = TESTS / "parity"
