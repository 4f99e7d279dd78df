"""The files that the rows of a table name: each exists, and none lies outside of the root."""

import os
from collections.abc import Callable

import pandas as pd

from medkeras.errors import InputError


class PathsBelow:
    """Finds files below one folder, listing each folder once.

    Args:
        root: The folder that paths start from and do not leave, also not by `..` or a symbolic link.

    Raises:
        FileNotFoundError: If there is no such folder.
    """

    def __init__(self, root: str) -> None:
        if not os.path.isdir(root):
            raise FileNotFoundError(f"No such folder: root={root}")
        self.root = os.path.realpath(root)
        self._folders: dict[str, tuple[str, bool, dict[str, bool]]] = {}

    def find(self, name: str) -> tuple[str, bool, bool]:
        """Returns the real path that a name leads to, whether that lies below the root, and whether it exists."""
        folder, slash, base = name.replace(os.sep, "/").rpartition("/")
        folder += slash
        if folder not in self._folders:
            real = os.path.join(os.path.realpath(os.path.join(self.root, folder)), "")
            self._folders[folder] = real, self._holds(real), _listed(real)
        real, below, links = self._folders[folder]
        path = real + base
        if links.get(base):
            path = os.path.realpath(path)
            below = self._holds(path)
        return path, below, base in links

    def _holds(self, path: str) -> bool:
        return path.startswith(os.path.join(self.root, ""))


def _listed(folder: str) -> dict[str, bool]:
    """Returns the names in a folder, each with whether it is a symbolic link; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_symlink() for entry in entries}
    except OSError:
        return {}


def paths_of(
    names: pd.Series, csv: str, root: str | None, *, on_error: str, distinct: bool = False
) -> Callable[[int], str]:
    """Returns the rule from position to file for a column of paths.

    Args:
        names: The paths, from `root` or absolute, indexed by the rows of the CSV.
        csv: The CSV, for the errors.
        root: Folder that the paths start from and do not leave; by default that of the CSV.
        on_error: `"raise"` refuses a file that is missing or lies outside of the root; with `"skip"` the rule
            raises `ValueError` for one that lies outside.
        distinct: Whether no file may stand in two rows.

    Raises:
        FileNotFoundError: If `root` or a file is missing.
        ValueError: If a path leaves the root, or a file stands in two rows; the row is given.
    """
    below = PathsBelow(os.path.dirname(os.path.abspath(csv)) if root is None else root)
    paths, outside, row_of = [], {}, {}
    for position, (row, name) in enumerate(names.items()):
        path, inside, exists = below.find(name)
        if not inside:
            outside[position] = (
                f"A path leads below {below.root}; for files elsewhere, pass root. "
                f"Received: {name} in row {row} of {csv}"
            )
        if on_error == "raise" and position in outside:
            raise InputError(outside[position])
        if on_error == "raise" and not exists:
            raise FileNotFoundError(f"Cannot read {path}: no such file, row {row} of {csv}")
        if distinct and row_of.setdefault(path, row) != row:
            raise InputError(f"An image stands in one row. Received: {name} again in row {row} of {csv}")
        paths.append(path)

    def path_of(position: int) -> str:
        if position in outside:
            raise InputError(outside[position])
        return paths[position]

    return path_of
