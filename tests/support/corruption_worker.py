"""Reads the files named on standard input and says of each how it ended: run by `test_corruption.py`.

A process of its own, so that a crash of a native decoder ends it and not the tests.
"""

import hashlib
import json
import resource
import sys

import numpy as np

from pipelines.images.decode import read_image
from pipelines.sources import open_source

MAX_PIXELS = 4_000_000
MEMORY = 2**30  # Beyond what the imports took.


def images(path):
    return [read_image(path, max_pixels=MAX_PIXELS)]


def records(path):
    opened = open_source(path)
    return [opened.read(i) for i in range(len(opened))]


def dicom(path):
    from pipelines.sources.dicom.image import read_dicom

    return [read_dicom(path, max_pixels=MAX_PIXELS)]


def volume(path):
    from pipelines.sources.volume.file import read_volume

    found = read_volume(path)
    return [found.array.astype(np.float64), np.asarray(found.affine)]


READERS = {"images": images, "records": records, "dicom": dicom, "volume": volume}


def check(array):
    assert isinstance(array, np.ndarray), type(array)
    assert array.ndim in (2, 3, 4) and 0 < array.size <= 4 * MAX_PIXELS, array.shape
    assert array.dtype in (np.uint8, np.uint16) or array.dtype.kind == "f", array.dtype
    assert np.isfinite(array).all()


def outcome(reader, path):
    """`read` with a digest of what was read, `refused` with the reason, or `failed` with what went wrong."""
    try:
        arrays = READERS[reader](path)
        for array in arrays:
            check(array)
    except (ValueError, OSError) as error:
        text = str(error)
        return ("refused" if path in text and "\n" not in text else "failed"), f"{type(error).__name__}: {text}"
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    return "read", digest.hexdigest()


def main():
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for line in sys.stdin:
        print(json.dumps(outcome(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
