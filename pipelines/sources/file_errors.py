"""Errors of a file's content that name the file."""

import contextlib
import os
from collections.abc import Iterator

from medkeras.errors import InputError


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Puts the file into every error that is raised for its content.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: For any other OSError or ValueError.

    Example:
        >>> with naming("scan.nii"):
        ...     raise InputError("no header")
        Traceback (most recent call last):
        ...
        medkeras.InputError: Cannot read scan.nii: no header
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Cannot read {path}: no such file{f': {error}' if not error.errno else ''}") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"Cannot read {path}: {error}") from error
