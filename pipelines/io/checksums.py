"""Checksums of a folder: a file that is torn, altered, missing or new is noticed."""

import hashlib
import json
import pathlib

FILE = "checksums.json"


def write_checksums(folder: pathlib.Path) -> None:
    """Writes the SHA-256 of each file of a folder to `checksums.json` in it.

    Raises:
        OSError: If a file cannot be read, or the folder not be written.

    Example:
        >>> import tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("whole")
        >>> write_checksums(folder)
        >>> what_is_wrong(folder)
        >>> _ = (folder / "a.txt").write_text("whol")
        >>> what_is_wrong(folder)
        'a.txt is not as it was written'
    """
    (folder / FILE).write_text(json.dumps(_digests(folder), indent=2) + "\n")


def what_is_wrong(folder: pathlib.Path) -> str | None:
    """Returns what differs between a folder and its `checksums.json`, or None if it is whole.

    Raises:
        OSError: If a file cannot be read.
    """
    try:
        written = json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        return f"{FILE} is missing"
    except ValueError:
        return f"{FILE} is no JSON"
    found = _digests(folder)
    if not isinstance(written, dict):
        return f"{FILE} is no table of files"
    for name in sorted({*written, *found}):
        if name not in found:
            return f"{name} is missing"
        if written.get(name) != found[name]:
            return f"{name} is not as it was written"
    return None


def _digests(folder: pathlib.Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name != FILE:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
