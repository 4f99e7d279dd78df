"""Arrays of an npz, read to the last byte so that every checksum is compared."""

import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from medkeras.errors import InputError

# What zipfile, the decompressors and the parser of array headers raise for damaged bytes.
DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    IndexError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(path: str | os.PathLike, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Reads the wanted arrays of an npz; object arrays are not, because loading them can run code.

    Args:
        path: The file, compressed or not.
        wanted: Says of the name of an array whether to read it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no npz, damaged, or larger than the memory, or a wanted array holds objects.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/a.npz"
        >>> np.savez(path, images=np.arange(3), notes=np.zeros(2))
        >>> read_npz(path, lambda name: name == "images")
        {'images': array([0, 1, 2])}
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"No such file: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_arrays(archive, wanted))
    except MemoryError as error:
        raise InputError(f"Cannot read {path}: larger than the memory, or damaged") from error
    except DAMAGED as error:
        reason = "object arrays are not read" if "allow_pickle" in str(error) else "no npz"
        raise InputError(f"Cannot read {path}: {reason}, or damaged") from error


def _arrays(archive: zipfile.ZipFile, wanted: Callable[[str], bool]) -> Iterator[tuple[str, np.ndarray]]:
    for member in archive.namelist():
        name = member.removesuffix(".npy")
        with archive.open(member) as stream:  # All: opening finds a name that is damaged, and so not wanted.
            if wanted(name):
                yield name, np.lib.format.read_array(stream, allow_pickle=False)
                if stream.read(1):  # Only at its end does zipfile compare the checksum.
                    raise InputError("more bytes than the array has")
