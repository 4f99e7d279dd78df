"""What was downloaded: a folder, an archive, or a folder of archives, as one list of files."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from medkeras.errors import InputError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES)
PART = re.compile(r"\.(zip|tar|tgz|gz|7z|rar)\.\d{2,3}$|\.z\d{2}$|\.part\d+\.rar$", re.IGNORECASE)
UNREAD = (".7z", ".rar")
READ_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
MAX_TABLE = 1 << 28  # Bytes of a file that is read whole.


@dataclasses.dataclass(frozen=True)
class Member:
    """A file of a download.

    Attributes:
        path: Below the download, with `/`; what is in an archive counts as lying beside it.
        size: Bytes.
        container: Which folder or archive holds it.
        position: Where it stands in there.
    """

    path: str
    size: int
    container: int
    position: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix, in small letters."""
        return os.path.splitext(self.name)[0].casefold()

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders above it, from the top."""
        return tuple(self.path.split("/")[:-1])


class Download:
    """The files of a download, in the order in which they are stored.

    Archives (zip, tar) are read where they are; those that lie in a folder count as unpacked there. What cannot be
    taken (a path that leads out of an archive, a link, an encrypted file, a second file of one path) is in
    `rejected`. Hidden files are passed over, as everywhere.

    Args:
        path: A folder or an archive.

    Raises:
        FileNotFoundError: If there is no such path.
        ValueError: If it is neither, or an archive is damaged, of a kind that is not read, or one of several parts.

    Example:
        >>> import tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        ...     archive.writestr("images/a.png", b"12")
        ...     archive.writestr("../b.png", b"12")
        >>> download = Download(folder)
        >>> [member.path for member in download.members], download.rejected
        (['images/a.png'], [('images.zip: ../b.png', 'leads out of its archive')])
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = pathlib.Path(path)
        self.members: list[Member] = []
        self.rejected: list[tuple[str, str]] = []
        self.hidden = 0
        self._containers: list[_Folder | _Zip | _Tar] = []
        if self.path.is_dir():
            archives = self._add(_Folder(self.path), "")
            for archive in archives:
                self._add(_archive(self.path / archive), archive)
        elif self.path.is_file():
            self._add(_archive(self.path), self.path.name)
        else:
            raise FileNotFoundError(f"No such folder or archive: {self.path}")

    def read(self, member: Member) -> bytes:
        """Returns the bytes of a small file, such as a table.

        Raises:
            ValueError: If it is too large or cannot be read.
        """
        if member.size > MAX_TABLE:
            raise InputError(f"Cannot read {member.path}: {member.size} bytes are more than {MAX_TABLE}")
        with self._reading(member.container), self._containers[member.container].open(member.position) as file:
            return file.read()

    def text(self, member: Member) -> str:
        """Returns a text file.

        Raises:
            ValueError: If it is no UTF-8.
        """
        try:
            return self.read(member).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"Cannot read {member.path}: it is no UTF-8 text") from error

    def each(self, members: Iterable[Member]) -> Iterator[tuple[Member, Callable[[], IO[bytes]], str | None]]:
        """Yields members, how to open each while it is its turn, and its own file where it has one.

        They come in stored order, so that a compressed archive is read once.
        """
        for member in sorted(members, key=lambda member: (member.container, member.position)):
            container = self._containers[member.container]
            with self._reading(member.container):
                own = container.file_of(member.position) if isinstance(container, _Folder) else None
                yield member, functools.partial(container.open, member.position), own

    def path_of(self, member: Member) -> pathlib.Path:
        """Returns the folder or archive that holds a file."""
        return self._containers[member.container].path

    def _add(self, container: "_Folder | _Zip | _Tar", place: str) -> list[str]:
        """Takes the files of a container and returns the archives among them."""
        number, archives = len(self._containers), []
        self._containers.append(container)
        seen = {member.path for member in self.members}
        above = place.rpartition("/")[0]
        with self._reading(number):
            entries = list(container.entries())
        for position, (name, size, reason) in enumerate(entries):
            named = f"{place}: {name}" if place else name
            path = f"{above}/{name}" if above else name
            reason = reason or _reason(name, is_in_archive=bool(place))
            if any(part.startswith(".") and part != ".." or part == "__MACOSX" for part in name.split("/")):
                self.hidden += 1
            elif reason:
                self.rejected.append((named, reason))
            elif not place and name.lower().endswith(ARCHIVE_SUFFIXES):
                archives.append(name)
            elif path in seen:
                self.rejected.append((named, "a second file of this path"))
            else:
                seen.add(path)
                self.members.append(Member(path, size, number, position))
        return archives

    @contextlib.contextmanager
    def _reading(self, container: int) -> Iterator[None]:
        try:
            yield
        except READ_ERRORS as error:
            raise InputError(f"Cannot read {self._containers[container].path}: damaged ({error})") from error


def _reason(name: str, *, is_in_archive: bool) -> str | None:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return "leads out of its archive"
    if name.lower().endswith(UNREAD):
        return "an archive of a kind that is not read; unpack it first"
    if is_in_archive and name.lower().endswith(ARCHIVE_SUFFIXES):
        return "an archive within an archive; unpack it first"
    return None


def _archive(path: pathlib.Path) -> "_Zip | _Tar":
    name = path.name.lower()
    if not name.endswith(ARCHIVE_SUFFIXES):
        raise InputError(f"A download is a folder or one of {', '.join(ARCHIVE_SUFFIXES)}. Received: {path}")
    try:
        return _Zip(path) if name.endswith(".zip") else _Tar(path)
    except READ_ERRORS as error:
        raise InputError(f"Cannot read {path}: no whole archive ({error})") from error


class _Folder:
    """The files below a folder, hidden ones too: they are counted."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.files = sorted(
            os.path.relpath(os.path.join(parent, name), path).replace(os.sep, "/")
            for parent, _, files in os.walk(path)
            for name in files
        )

    def entries(self) -> Iterator[tuple[str, int, str | None]]:
        for name in self.files:
            if PART.search(name):
                raise InputError(
                    f"An archive of several parts must be joined first, as by `cat parts > whole.zip`. "
                    f"Received: {self.path / name}"
                )
            try:
                yield name, os.stat(self.path / name).st_size, None
            except OSError:
                yield name, 0, "a link that leads nowhere"

    def file_of(self, position: int) -> str:
        return os.path.realpath(self.path / self.files[position])

    def open(self, position: int) -> IO[bytes]:
        return open(self.file_of(position), "rb")


class _Zip:
    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.archive = path, zipfile.ZipFile(path)
        self.infos = [info for info in self.archive.infolist() if not info.is_dir()]

    def entries(self) -> Iterator[tuple[str, int, str | None]]:
        for info in self.infos:
            is_link = info.external_attr >> 16 & 0o170000 == 0o120000
            reason = "a link, no file" if is_link else "encrypted" if info.flag_bits & 1 else None
            yield info.filename.replace("\\", "/"), info.file_size, reason

    def open(self, position: int) -> IO[bytes]:
        return self.archive.open(self.infos[position])


class _Tar:
    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.archive = path, tarfile.open(path)  # noqa: SIM115  open as long as the download is used.
        self.infos = [info for info in self.archive.getmembers() if not info.isdir()]

    def entries(self) -> Iterator[tuple[str, int, str | None]]:
        for info in self.infos:
            name = info.name.removeprefix("./")
            yield name, info.size, None if info.isreg() else "a link or device, no file"

    def open(self, position: int) -> IO[bytes]:
        return self.archive.extractfile(self.infos[position])
