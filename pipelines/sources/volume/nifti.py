"""The header of a NIfTI file: NIfTI-1 and NIfTI-2, in one file or as a pair."""

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from medkeras.errors import InputError
from pipelines.sources.volume.data import Layout

if TYPE_CHECKING:
    from nibabel import Nifti1Header

HEADER_SIZES = {348: 1, 540: 2}  # Bytes to version.
MAGIC = {1: slice(344, 348), 2: slice(4, 12)}
SINGLE, PAIR = (b"n+1\0", b"n+2\0\r\n\x1a\n"), (b"ni1\0", b"ni2\0\r\n\x1a\n")
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
COLORS = {("R", "G", "B"): 3, ("R", "G", "B", "A"): 4}


def nifti_layout(path: str, head: bytes, *, compressed: bool) -> Layout:
    """Reads a NIfTI header.

    The orientation is that of the sform, else of the qform, else unknown. A slope of 0 or NaN is none, as the
    standard has it.

    Args:
        path: The file, for a pair the `.hdr`.
        head: Its first 540 bytes or more, decompressed.
        compressed: Whether the file is compressed by gzip.

    Raises:
        FileNotFoundError: If the data file of a pair is missing.
        ModuleNotFoundError: If nibabel is not installed.
        ValueError: If this is no NIfTI header, or it is not sound.

    Reference:
        Cox et al., A (sort of) new image data format standard: NIfTI-1, Human Brain Mapping 2004.
    """
    header, single = _parse(head)
    sizes = tuple(int(n) for n in header["dim"][1 : 1 + int(header["dim"][0])])
    if not 1 <= len(sizes) <= 7 or len(sizes) != header["dim"][0] or min(sizes) < 1:
        raise InputError(f"a NIfTI has 1 to 7 axes of one voxel or more. Received: dim={header['dim'].tolist()}")
    sizes = _spatial_first(sizes)
    dtype, channels = _type(header)
    slope, intercept = _scaling(header)
    colored = 0 if channels is None else 1
    affine = _affine(header)
    data_path, compressed = (path, compressed) if single else _data_of_pair(path)
    return Layout(
        sizes=(channels, *sizes) if colored else sizes,
        dtype=dtype,
        spatial=(colored, colored + 1, colored + 2),
        color=0 if colored else None,
        frames=colored + 3 if len(sizes) == 4 else None,
        affine=affine,
        spacing=tuple((header["pixdim"][1:4].astype(np.float64) * _unit(header)).tolist()),
        slope=slope,
        intercept=intercept,
        data_path=data_path,
        skip=_offset(header, len(head), single=single),
        encoding="gzip" if compressed else "raw",
    )


def _parse(head: bytes) -> tuple["Nifti1Header", bool]:
    """Returns the header, and whether the voxels are in the same file."""
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("NIfTI needs nibabel: pip install 'medkeras[volume]'") from error
    for order, sign in (("little", "<"), ("big", ">")):
        size = int.from_bytes(head[:4], order)
        version = HEADER_SIZES.get(size)
        if version and len(head) >= size:
            magic = head[MAGIC[version]]
            if magic not in (*SINGLE, *PAIR):
                raise InputError("no NIfTI: its magic number is missing, as in ANALYZE 7.5, which has no orientation")
            kind = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
            # Unchecked: the check would mend the header in silence.
            return kind(head[:size], endianness=sign, check=False), magic in SINGLE
    raise InputError("neither NIfTI nor NRRD, or truncated")


def _spatial_first(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Returns three sizes, or four with the frames."""
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if len(sizes) > 4:
        raise InputError(f"a NIfTI of more than four axes is not read. Received: {' x '.join(map(str, sizes))}")
    return sizes + (1,) * (3 - len(sizes))


def _type(header: "Nifti1Header") -> tuple[np.dtype, int | None]:
    """Returns the type of a number, and the number of channels of a colour."""
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise InputError(f"unknown NIfTI datatype. Received: datatype={int(header['datatype'])}") from error
    if dtype.names in COLORS:
        return np.dtype(np.uint8), COLORS[dtype.names]
    if dtype.kind not in "iuf":
        raise InputError(f"voxels are whole or real numbers or RGB. Received: {dtype}")
    return np.dtype(dtype.str), None


def _scaling(header: "Nifti1Header") -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope) or _type(header)[1]:
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise InputError(f"scl_slope and scl_inter must be finite. Received: {slope} and {intercept}")
    return slope, intercept


def _affine(header: "Nifti1Header") -> np.ndarray | None:
    if not (header["sform_code"] > 0 or header["qform_code"] > 0):
        return None
    from nibabel.spatialimages import HeaderDataError

    try:
        affine = header.get_best_affine()
    except (HeaderDataError, ValueError, ArithmeticError) as error:
        raise InputError(f"its qform is not sound: {error}") from error
    affine[:3] *= _unit(header)
    return affine


def _unit(header: "Nifti1Header") -> float:
    """Returns the millimetres of the header's unit of length, which is mm where it does not say."""
    try:
        return MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    except KeyError as error:
        raise InputError(f"unknown NIfTI unit. Received: xyzt_units={int(header['xyzt_units'])}") from error


def _offset(header: "Nifti1Header", available: int, *, single: bool) -> int:
    offset = float(header["vox_offset"])
    least = header.sizeof_hdr + 4 if single else 0
    if not (math.isfinite(offset) and offset >= least):
        raise InputError(f"vox_offset must be >= {least}. Received: vox_offset={offset:g}")
    return int(offset)


def _data_of_pair(path: str) -> tuple[str, bool]:
    """Returns the file of the voxels beside a `.hdr`, and whether it is compressed."""
    stem = path.removesuffix(".gz").removesuffix(".hdr")
    found = next((stem + suffix for suffix in (".img", ".img.gz") if os.path.isfile(stem + suffix)), None)
    if found is None:
        raise FileNotFoundError(f"{stem}.img, the voxels of a NIfTI pair")
    with open(found, "rb") as file:
        return found, file.read(2) == b"\x1f\x8b"
