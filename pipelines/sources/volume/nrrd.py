"""The header of an NRRD file, with the voxels in the same file or in one beside it."""

import os
from typing import Any

import numpy as np

from medkeras.errors import InputError
from pipelines.sources.volume.data import Layout

MAX_HEADER = 1 << 22  # Bytes; segmentations list all their regions in it.
TYPES = {
    "signed char, int8, int8_t": "i1",
    "uchar, unsigned char, uint8, uint8_t": "u1",
    "short, short int, signed short, signed short int, int16, int16_t": "i2",
    "ushort, unsigned short, unsigned short int, uint16, uint16_t": "u2",
    "int, signed int, int32, int32_t": "i4",
    "uint, unsigned int, uint32, uint32_t": "u4",
    "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t": "i8",
    "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t": "u8",
    "float": "f4",
    "double": "f8",
}
CODES = {name: code for names, code in TYPES.items() for name in names.split(", ")}
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
BYTE_ORDERS = {"little": "<", "big": ">"}
SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001}
COLOR_KINDS = {"rgb-color": 3, "3-color": 3, "rgba-color": 4, "4-color": 4}
SPACE_KINDS, FRAME_KINDS = ("space", "domain"), ("list", "time", "domain", "space", "none", "???")


def nrrd_layout(path: str) -> Layout:
    """Reads an NRRD header.

    The orientation is known for the spaces RAS, LAS and LPS. Of the axes that are not of space, one may be a
    colour (`RGB-color`, `RGBA-color`) and one of frames (`list`, `time`); vectors and matrices are not read.

    Args:
        path: The `.nrrd` or `.nhdr`.

    Raises:
        FileNotFoundError: If its data file is missing.
        ModuleNotFoundError: If pynrrd is not installed.
        ValueError: If this is no NRRD header, it is not sound, or the data file lies in another folder.

    Reference:
        Kindlmann, Definition of NRRD file format, teem.sourceforge.net/nrrd/format.html.
    """
    header, length = _parse(path)
    sizes = _sizes(header)
    directions = _directions(header, len(sizes))
    kinds = [str(kind).lower() for kind in header.get("kinds", [])] or ["domain"] * len(sizes)
    if len(kinds) != len(sizes):
        raise InputError(f"an NRRD has one kind per axis. Received: {len(kinds)} kinds, {len(sizes)} axes")
    spatial = _spatial(kinds, directions)
    color, frames = _other_axes(kinds, sizes, spatial)
    dtype, encoding = _coding(header)
    if color is not None and dtype.str[1:] not in ("u1", "u2"):
        raise InputError(f"colours are uint8 or uint16. Received: {dtype}")
    data_path, start, skip = _place(header, path, length, dtype.itemsize * int(np.prod(sizes, dtype=object)), encoding)
    return Layout(
        sizes=sizes,
        dtype=dtype,
        spatial=spatial,
        color=color,
        frames=frames,
        affine=_affine(header, directions, spatial),
        spacing=_spacings(header, directions, spatial),
        data_path=data_path,
        start=start,
        skip=skip,
        encoding=encoding,
    )


def _parse(path: str) -> tuple[dict[str, Any], int]:
    """Returns the fields of the header, and its length in bytes."""
    try:
        import nrrd
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("NRRD needs pynrrd: pip install 'medkeras[volume]'") from error
    lines, length = [], 0
    with open(path, "rb") as file:
        while line := file.readline(MAX_HEADER - length):
            length += len(line)
            lines.append(line)
            if not line.strip():
                break
    if length >= MAX_HEADER:
        raise InputError(f"its header is longer than {MAX_HEADER} bytes, or damaged")
    try:
        fields = nrrd.read_header(lines)
    except (nrrd.NRRDError, ValueError, TypeError, LookupError, ArithmeticError, StopIteration) as error:
        raise InputError(f"damaged NRRD header: {' '.join(str(error).split())[:200]}") from error
    missing = [name for name in ("dimension", "type", "encoding", "sizes") if name not in fields]
    if missing:
        raise InputError(f"damaged NRRD header: no {', '.join(missing)}")
    return fields, length


def _field(header: dict[str, Any], name: str, default: Any = None) -> Any:
    """Returns a field whose name may be written with or without a space."""
    return header.get(name, header.get(name.replace(" ", ""), default))


def _sizes(header: dict[str, Any]) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in np.atleast_1d(header["sizes"]))
    if len(sizes) != header["dimension"] or min(sizes) < 1:
        raise InputError(f"an NRRD has `dimension` sizes, all positive. Received: {header['dimension']}, {sizes}")
    return sizes


def _directions(header: dict[str, Any], axes: int) -> np.ndarray | None:
    """Returns the step of each axis in space, `(axes, 3)`, NaN for the others; None if there are none."""
    given = header.get("space directions")
    if given is None:
        return None
    rows = [np.full(3, np.nan) if row is None else np.asarray(row, np.float64) for row in given]
    if len(rows) != axes or any(row.shape != (3,) for row in rows):
        raise InputError("an NRRD of space has one direction of three numbers, or none, per axis")
    return np.stack(rows)


def _spatial(kinds: list[str], directions: np.ndarray | None) -> tuple[int, int, int]:
    if directions is None:
        spatial = [axis for axis, kind in enumerate(kinds) if kind in SPACE_KINDS]
    else:
        spatial = np.flatnonzero(~np.isnan(directions).all(axis=1)).tolist()
    if len(spatial) != 3:
        raise InputError(f"an NRRD volume has three axes of space. Received: {len(spatial)}, of kinds {kinds}")
    return tuple(spatial)


def _other_axes(kinds: list[str], sizes: tuple[int, ...], spatial: tuple[int, ...]) -> tuple[int | None, int | None]:
    """Returns the axis of colours and the axis of frames."""
    found = {"color": None, "frames": None}
    for axis, kind in enumerate(kinds):
        if axis in spatial or sizes[axis] == 1:
            continue
        role = "color" if COLOR_KINDS.get(kind) == sizes[axis] else "frames" if kind in FRAME_KINDS else None
        if role is None or found[role] is not None:
            raise InputError(f"an NRRD axis of kind {kind} and size {sizes[axis]} is not read")
        found[role] = axis
    if found["frames"] is not None and found["frames"] != len(sizes) - 1:
        raise InputError(f"frames are the last axis of an NRRD. Received: axis {found['frames']} of {len(sizes)}")
    return found["color"], found["frames"]


def _coding(header: dict[str, Any]) -> tuple[np.dtype, str]:
    kind, encoding = header["type"].lower(), header["encoding"].lower()
    if kind not in CODES:
        raise InputError(f"an NRRD holds whole or real numbers. Received: type={kind}")
    if encoding not in ENCODINGS:
        raise InputError(f"an NRRD is coded as {', '.join(ENCODINGS)}. Received: encoding={encoding}")
    order = str(header.get("endian", "")).lower()
    if order not in BYTE_ORDERS and not CODES[kind].endswith("1"):
        raise InputError(f"an NRRD of {kind} says its endian, little or big. Received: endian={order!r}")
    return np.dtype(BYTE_ORDERS.get(order, "=") + CODES[kind]), ENCODINGS[encoding]


def _affine(header: dict[str, Any], directions: np.ndarray | None, spatial: tuple[int, ...]) -> np.ndarray | None:
    signs = SIGNS.get(str(header.get("space", "")).lower())
    if signs is None or directions is None:
        return None
    origin = np.asarray(header.get("space origin", np.zeros(3)), np.float64)
    if origin.shape != (3,):
        raise InputError(f"a space origin is three numbers. Received: {origin.tolist()}")
    affine = np.eye(4)
    affine[:3, :3] = directions[list(spatial)].T * _units(header, "space units")
    affine[:3, 3] = origin * _units(header, "space units")
    affine[:3] *= np.reshape(signs, (3, 1))
    return affine


def _spacings(header: dict[str, Any], directions: np.ndarray | None, spatial: tuple[int, ...]) -> tuple[float, ...]:
    """Returns the spacing in mm, or nothing where it is not given."""
    if directions is not None:
        return tuple((np.linalg.norm(directions[list(spatial)], axis=1) * _units(header, "space units")).tolist())
    given = header.get("spacings")
    if given is None:
        return ()
    if len(given) <= max(spatial):
        raise InputError(f"an NRRD has one spacing per axis. Received: {len(given)}")
    return tuple((np.asarray(given, np.float64)[list(spatial)] * _units(header, "units")).tolist())


def _units(header: dict[str, Any], field: str) -> float:
    """Returns the millimetres of the unit of length, which is mm where the header does not say."""
    units = {unit.lower() for unit in header.get(field, [])} - {"", "none", "???"} or {"mm"}
    if len(units) > 1 or not units <= set(MILLIMETRES):
        raise InputError(f"{field} must be one of {', '.join(MILLIMETRES)} for all axes. Received: {sorted(units)}")
    return MILLIMETRES[units.pop()]


def _place(header: dict[str, Any], path: str, length: int, size: int, encoding: str) -> tuple[str, int, int]:
    """Returns the data file, the bytes before what is coded, and the bytes to skip in what is decoded."""
    name, lines, skip = _field(header, "data file"), _field(header, "line skip", 0), _field(header, "byte skip", 0)
    if lines < 0 or skip < -1 or (skip == -1 and encoding != "raw"):
        raise InputError(f"an NRRD skips no less than 0 lines and bytes. Received: {lines} lines, {skip} bytes")
    data_path, start = (path, length) if name is None else (_beside(path, name), 0)
    if skip == -1:
        return data_path, -size, 0
    if lines:
        with open(data_path, "rb") as file:
            file.seek(start)
            start += sum(len(file.readline()) for _ in range(min(lines, MAX_HEADER)))
    return data_path, start, skip


def _beside(path: str, name: str) -> str:
    """Returns the path of a data file, which lies with its header: a header from elsewhere must not open any file."""
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"an NRRD with several data files is not read. Received: data file {name}")
    relative = os.path.normpath(name)
    if os.path.isabs(name) or relative.split(os.sep)[0] == os.pardir:
        raise InputError(f"the data file of an NRRD lies beside or below its header. Received: data file {name}")
    data_path = os.path.join(os.path.dirname(path), relative)
    if not os.path.isfile(data_path):
        raise FileNotFoundError(f"{data_path}, the voxels of an NRRD")
    return data_path
