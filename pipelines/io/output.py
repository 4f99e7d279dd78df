"""Where a job writes: checked before anything is computed, and cleared of what the same job wrote there earlier."""

import os
import pathlib
from collections.abc import Iterable

from pipelines.io.run_folder import RunFolder


def check_folder(out: str | os.PathLike) -> pathlib.Path:
    """Returns a folder to write to, if it is one or can be made.

    Raises:
        NotADirectoryError: If it, or a folder above it, is a file.
        PermissionError: If nothing can be written there.

    Example:
        >>> import tempfile
        >>> check_folder(pathlib.Path(tempfile.mkdtemp()) / "maps").name
        'maps'
        >>> check_folder(__file__)
        Traceback (most recent call last):
        ...
        NotADirectoryError: Results go to a folder. Received: out=..., which is a file
    """
    path = pathlib.Path(out)
    there = next((place for place in (path, *path.absolute().parents) if os.path.lexists(place)), path)
    if os.path.lexists(there) and not there.is_dir():
        which = "which" if there == path else os.fspath(there)
        raise NotADirectoryError(f"Results go to a folder. Received: out={path}, {which} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"Results go to a folder that can be written. Received: out={path}")
    return path


def check_file(out: str | os.PathLike) -> pathlib.Path:
    """Returns a file to write, if its folder is one or can be made.

    Raises:
        IsADirectoryError: If it is a folder.
        NotADirectoryError: If a folder above it is a file.
        PermissionError: If nothing can be written there.
    """
    path = pathlib.Path(out)
    if path.is_dir():
        raise IsADirectoryError(f"Results go to a file. Received: out={path}, which is a folder")
    check_folder(path.parent)
    return path


def clear_earlier(folder: pathlib.Path, job: str, names: Iterable[str]) -> None:
    """Removes what an earlier call of a job wrote to a folder, and nothing else; notes what this call may write.

    The names stand in `written_by_<job>.json`, so that pictures of an older model do not stay beside new ones.

    Args:
        folder: Where the job writes.
        job: Its name.
        names: Of the files that this call may write there, without folders.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If the note of the earlier call is damaged.

    Example:
        >>> import tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> clear_earlier(folder, "explain", ["1.png"])
        >>> for name in ("1.png", "mine.png"):
        ...     (folder / name).touch()
        >>> clear_earlier(folder, "explain", [])
        >>> (folder / "1.png").exists(), (folder / "mine.png").exists()
        (False, True)
    """
    notes, record = RunFolder(folder), f"written_by_{job}.json"
    earlier = notes.read_json(record, list[str]) if (notes / record).is_file() else []
    for name in earlier:
        # A name with a folder was not written by us.
        if name == pathlib.PurePath(name).name and (folder / name).is_file():
            (folder / name).unlink()
    notes.write_json(record, sorted(names))
