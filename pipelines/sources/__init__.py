"""Sources: how images arrive. One file per kind; each gives `Records` and knows nothing of the others.

To add a kind, write one file with a function `open_<kind>(rest, *, task=None, <options>) -> Records` and add
one line to `KINDS`. Opening a source imports its own kind alone.
"""

import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any

from medkeras.errors import InputError
from pipelines.images.records import Records

# Of each kind the function that opens it; its module is imported when it is asked for.
KINDS = {
    "phantom": "pipelines.sources.phantom:open_phantom",
    "medmnist": "pipelines.sources.medmnist.source:open_medmnist",
    "folder": "pipelines.sources.folder:open_folder",
    "table": "pipelines.sources.table.source:open_table",
    "dicom": "pipelines.sources.dicom.source:open_dicom",
    "volume": "pipelines.sources.volume.source:open_volume",
    "tfds": "pipelines.sources.tfds.source:open_tfds",
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
        **options: Options of the kind, see the function of the kind in `KINDS`.

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
    function, known = opener(kind), options_of(source)
    for name, value in options.items():
        if name not in known:
            listed = ", ".join(n for n in known if n not in ("task", "on_error"))
            raise InputError(f"A {kind} source takes the options {listed}. Received: {name}={value!r}")
    if "on_error" in known:
        options["on_error"] = on_error
    return function(rest, task=task, **options)


def opener(kind: str) -> Callable[..., Records]:
    """Returns the function that opens a kind of source.

    Example:
        >>> opener("folder").__name__
        'open_folder'
    """
    module, _, name = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def options_of(source: str | os.PathLike) -> list[str]:
    """Returns the names of the options that a source takes.

    Example:
        >>> options_of("phantom")
        ['task', 'images', 'size', 'seed', 'unknown']
    """
    parameters = inspect.signature(opener(parse_source(source)[0])).parameters
    return [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]


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
