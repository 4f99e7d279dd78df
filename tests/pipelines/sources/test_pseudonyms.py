import hashlib
import subprocess
import sys

import numpy as np
import pytest

from pipelines.sources import pseudonyms
from pipelines.sources.pseudonyms import Pseudonyms

SALT = "a salt of this test"


def hmac_sha256(key, message):
    """RFC 2104 by hand."""
    block = key.ljust(64, b"\0") if len(key) <= 64 else hashlib.sha256(key).digest().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).hexdigest()


@pytest.mark.parametrize("salt", [SALT, "x" * 200, "Salz für Müller, 16"])
def test_codes_are_the_hmac_of_the_identifier(salt):
    for identifier in ("", "4711", "1.2.840.113619.2.1", "Müller^Jörg"):
        assert Pseudonyms(salt)(identifier) == hmac_sha256(salt.encode(), identifier.encode())[:16]


def test_codes_tell_identifiers_apart_and_nothing_else():
    codes = [Pseudonyms(SALT)(str(i)) for i in range(20_000)]
    assert len(set(codes)) == 20_000 and all(len(code) == 16 for code in codes)
    assert Pseudonyms(SALT)(" 17 ") == Pseudonyms(SALT)("17") == codes[17]
    # Close numbers are as far apart as any: half of the 64 bits differ.
    bits = np.array([[int(c) for c in f"{int(code, 16):064b}"] for code in codes[:2000]])
    assert abs((bits[1:] != bits[:-1]).mean() - 0.5) < 0.01


def test_another_salt_gives_other_codes():
    assert Pseudonyms(SALT)("17") != Pseudonyms(SALT + "!")("17")


@pytest.mark.process
def test_without_a_salt_codes_hold_for_one_process():
    assert Pseudonyms()("17") == Pseudonyms()("17")
    code = f"import runpy; print(runpy.run_path({pseudonyms.__file__!r})['Pseudonyms']()('17'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert len(other) == 16 and other != Pseudonyms()("17")


def test_the_salt_is_not_shown():
    assert SALT not in repr(Pseudonyms(SALT))
    with pytest.raises(ValueError, match="at least 16 characters. Received: 9 characters") as error:
        Pseudonyms("too short")
    assert "too short" not in str(error.value)
    with pytest.raises(ValueError, match="Received: int"):
        Pseudonyms(1234567890123456789)
