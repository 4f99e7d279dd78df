"""Sources: how images arrive. One file or sub-room per kind; each gives `Records` and knows nothing of the others.

To add a kind, write a module with a dataclass `Options` (see `pipelines.sources.options`) and a function
`open_<kind>(rest, **options) -> Records`, and add one line to `KINDS`. A reader is imported when it is asked for.
"""

import importlib
import os
from types import ModuleType
from typing import Any

from medkeras.errors import InputError, perhaps
from pipelines.images.records import Records
from pipelines.sources.options import names_of

KINDS = {
    "phantom": "pipelines.sources.phantom",
    "medmnist": "pipelines.sources.medmnist.source",
    "folder": "pipelines.sources.folder",
    "table": "pipelines.sources.table.source",
    "dicom": "pipelines.sources.dicom.source",
    "volume": "pipelines.sources.volume.source",
    "tfds": "pipelines.sources.tfds.source",
}
SUFFIXES = {".npz": "medmnist", ".csv": "table"}


def open_source(
    source: str | os.PathLike, *, task: str | None = None, on_error: str = "raise", **options: Any
) -> Records:
    """Opens a source of labelled images by its name.

    Args:
        source: `phantom[:name]`, a path to an `.npz` of the MedMNIST layout, a folder of class folders, a
            path to a `.csv`, or `kind:rest` with a kind of `KINDS`, as `medmnist:pneumoniamnist`.
        task: One of `medkeras.tasks.TASKS`; by default what the source says or its labels suggest.
        on_error: `"raise"` stops at the first file that is missing or no image; `"skip"` keeps it as a
            record, so that `pipelines.images.decode.find_unreadable` reports it with all others.
        **options: Options of the kind, see the `Options` of its module in `KINDS`.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the kind, the file type or an option is unknown, or the source is not sound.

    Example:
        >>> records = open_source("phantom:multiclass", images=20)
        >>> len(records), records.class_names
        (20, ('healthy', 'bright', 'dark', 'ring', 'speckled'))
    """
    if on_error not in ("raise", "skip"):
        raise InputError(f"`on_error` must be raise or skip. Received: on_error={on_error!r}")
    kind, rest = parse_source(source)
    known = options_of(source)
    for name, value in options.items():
        if name not in known:
            own = [n for n in known if n not in ("task", "on_error")]
            raise InputError(
                f"A {kind} source takes the options {', '.join(own)}{perhaps(name, own)}. Received: {name}={value!r}"
            )
    if "on_error" in known:
        options["on_error"] = on_error
    return getattr(_reader(kind), f"open_{kind}")(rest, task=task, **options)


def options_of(source: str | os.PathLike) -> list[str]:
    """Returns the names of the options that a source takes.

    Example:
        >>> options_of("phantom")
        ['task', 'images', 'size', 'seed', 'unknown']
    """
    return names_of(_reader(parse_source(source)[0]).Options)


def _reader(kind: str) -> ModuleType:
    return importlib.import_module(KINDS[kind])


def parse_source(source: str | os.PathLike) -> tuple[str, str]:
    """Returns the kind of a source and what is left of its name.

    Args:
        source: As for `open_source`.

    Raises:
        FileNotFoundError: If `source` reads as a path and does not exist.
        ValueError: If the kind or the file type is unknown.

    Example:
        >>> parse_source("phantom:binary3d"), parse_source("phantom")
        (('phantom', 'binary3d'), ('phantom', ''))
    """
    source = os.fspath(source)
    kind, colon, rest = source.partition(":")
    if kind in KINDS and (colon or kind == "phantom"):
        return kind, rest
    if os.path.isdir(source):
        return "folder", source
    suffix = os.path.splitext(source)[1].lower()
    if os.path.exists(source):
        if suffix not in SUFFIXES:
            raise InputError(f"A source file is one of {', '.join(SUFFIXES)}. Received: {source}")
        return SUFFIXES[suffix], source
    if colon and kind.isidentifier():
        raise InputError(f"A source kind is one of {', '.join(KINDS)}. Received: {source!r}")
    raise FileNotFoundError(
        f"A source is phantom[:name], a .npz, a folder, a .csv or kind:rest. No such path: {source}"
    )
