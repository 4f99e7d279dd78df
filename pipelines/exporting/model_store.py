"""The model store: numbered versions that appear whole, by a rename, and are never written again."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator

from medkeras.errors import InputError
from pipelines.io.output import check_folder

CHECKSUMS = "checksums.sha256"


def open_store(to: str | os.PathLike, name: str) -> pathlib.Path:
    """Returns the folder of a model in a store, which need not exist but could be written.

    Args:
        to: The store.
        name: Name of the model.

    Raises:
        ValueError: If the name is no plain folder name.
        OSError: If the store is a file or cannot be written, see `pipelines.io.output.check_folder`.

    Example:
        >>> open_store("saved_models", "../chest")
        Traceback (most recent call last):
        ...
        medkeras.InputError: `name` must be a plain folder name. Received: name='../chest'
    """
    if not name or name != pathlib.Path(name).name or name.startswith("."):
        raise InputError(f"`name` must be a plain folder name. Received: name={name!r}")
    return check_folder(pathlib.Path(to) / name)


def next_version(store: pathlib.Path) -> int:
    """Returns the number after the highest version of any format of a model.

    Example:
        >>> next_version(pathlib.Path("no-such-model"))
        1
    """
    places = (*store.glob("*"), *store.glob("*/*"))
    return 1 + max((int(place.name) for place in places if place.name.isdecimal()), default=0)


@contextlib.contextmanager
def published(version: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to write to, and renames it to a version if the block succeeds.

    Until then its name begins with a dot, which a server that looks for numbers passes over.

    Args:
        version: The folder of the version.

    Raises:
        ValueError: If the version exists by then: another export was faster.
        OSError: If the store cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> version = pathlib.Path(tempfile.mkdtemp()) / "1"
        >>> with published(version) as folder:
        ...     _ = (folder / "model").write_text("whole")
        >>> [path.name for path in version.iterdir()]
        ['model']
    """
    made = [place for place in version.parents if not place.exists()]
    version.parent.mkdir(parents=True, exist_ok=True)
    temporary = version.with_name(f".{version.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir()
        yield temporary
        _sync(temporary)
        try:
            temporary.rename(version)
        except OSError as error:
            if not version.exists():
                raise
            raise InputError(f"A version is never written again. Received: {version}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for place in made:
            with contextlib.suppress(OSError):  # It holds something by now.
                place.rmdir()


def write_checksums(folder: pathlib.Path, *, beside: str = ".") -> pathlib.Path:
    """Writes the SHA-256 of every file of a version, as `sha256sum -c` reads it from within that folder.

    Args:
        folder: The version.
        beside: The folder in it that gets the list.

    Example:
        >>> import tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "a").write_text("x")
        >>> write_checksums(folder).read_text().split()[1]
        'a'
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}" for path in files]
    found = folder / beside / CHECKSUMS
    found.write_text("\n".join(lines) + "\n")
    return found


def check_files(folder: pathlib.Path, checksums: pathlib.Path, *, needed: str | None = None) -> None:
    """Checks that the files of a version are as they were written.

    Args:
        folder: The version.
        checksums: The list that `write_checksums` wrote of it.
        needed: A file that must be on the list.

    Raises:
        ValueError: If a file is missing or another one, or the list is none or lacks the file.

    Example:
        >>> import tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "a").write_text("x")
        >>> check_files(folder, write_checksums(folder), needed="a")
    """
    listed = dict(reversed(line.split("  ", 1)) for line in checksums.read_text().splitlines() if "  " in line)
    if not listed or (needed is not None and needed not in listed):
        raise InputError(f"A list of checksums has every file of its version. Received: {checksums} without {needed}")
    for name, digest in listed.items():
        found = _digest(folder / name) if (folder / name).is_file() else "no such file"
        if found != digest:
            raise InputError(f"{folder / name} must have the SHA-256 {digest}. Received: {found}")


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(folder: pathlib.Path) -> None:
    for file in (path for path in folder.rglob("*") if path.is_file()):
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
