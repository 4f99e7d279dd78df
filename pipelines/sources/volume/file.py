"""One volume file to one array and its place in the patient: NIfTI and NRRD."""

import dataclasses
import os
import zlib

from medkeras.errors import InputError
from pipelines.sources.file_errors import naming
from pipelines.sources.volume.data import Layout, read_values
from pipelines.sources.volume.grid import MAX_VOXELS, Grid, Volume, check_size, orientation_affine
from pipelines.sources.volume.nifti import nifti_layout
from pipelines.sources.volume.nrrd import nrrd_layout

HEAD = 1 << 16  # Bytes, of which a NIfTI header needs 540 when they are decompressed.


@dataclasses.dataclass(frozen=True)
class VolumeHeader:
    """What is known of a volume before its voxels are read.

    Attributes:
        grid: Where its voxels lie.
        channels: 1, or 3 for colours.
        files: The file, and that of its voxels if it is another.
    """

    grid: Grid
    channels: int
    files: tuple[str, ...]


def read_volume(
    path: str | os.PathLike,
    *,
    frame: int | None = None,
    orientation: str | None = None,
    max_voxels: int = MAX_VOXELS,
) -> Volume:
    """Reads a volume as it is stored, scaled by its slope and intercept, with its place in the patient.

    What a file is, its content says and not its name. A file must have exactly the bytes that its header
    declares. A checksum exists only in compressed files; damage to the voxels of others has no sign.

    Args:
        path: NIfTI-1 or NIfTI-2 (`.nii`, `.nii.gz`, or `.hdr` with its `.img`) or NRRD (`.nrrd`, or `.nhdr` with
            its data file beside or below it; raw, gzip or bzip2).
        frame: Which frame of a series, from 0; may be left out where there is one.
        orientation: Where the axes lead, as `RAS` or `LPS`, for a file that does not say it. A file that says it
            is believed.
        max_voxels: Largest number of voxels of a frame; the header is asked before anything is read.

    Returns:
        The array, `(I, J, K)` of integers as stored or of float32, or `(I, J, K, 3)` of uint8 or uint16 for
        colours, whose alpha is dropped; and the affine from voxel index to millimetres (RAS).

    Raises:
        FileNotFoundError: If there is no such file, or not that of its voxels.
        ModuleNotFoundError: If nibabel or pynrrd is needed and not installed.
        ValueError: If the file is damaged, truncated, of another kind or larger than `max_voxels`, holds NaN or
            infinity, has a singular affine or no spacing, has several frames and `frame` is left out, or does
            not say its orientation and `orientation` is left out.

    Example:
        >>> import nibabel, numpy, tempfile
        >>> path = tempfile.mkdtemp() + "/a.nii.gz"
        >>> nibabel.save(nibabel.Nifti1Image(numpy.zeros((4, 5, 6), "int16"), numpy.diag([-2, 2, 3, 1])), path)
        >>> volume = read_volume(path)
        >>> volume.array.shape, volume.array.dtype, volume.grid.spacing
        ((4, 5, 6), dtype('int16'), (2.0, 2.0, 3.0))
    """
    with naming(path):
        layout = _layout(os.fspath(path))
        grid = _grid(layout, orientation)
        check_size(grid.shape, max_voxels)
        return Volume(read_values(layout, frame=frame), grid.affine)


def read_volume_header(path: str | os.PathLike, *, orientation: str | None = None) -> VolumeHeader:
    """Reads what the header says.

    Args:
        path: As for `read_volume`.
        orientation: As for `read_volume`.

    Raises:
        FileNotFoundError: As by `read_volume`.
        ModuleNotFoundError: As by `read_volume`.
        ValueError: If the header is not sound.

    Example:
        >>> import nibabel, numpy, tempfile
        >>> path = tempfile.mkdtemp() + "/a.nii"
        >>> nibabel.save(nibabel.Nifti1Image(numpy.zeros((4, 5, 6), "int16"), numpy.eye(4)), path)
        >>> read_volume_header(path).grid.shape
        (4, 5, 6)
    """
    with naming(path):
        layout = _layout(os.fspath(path))
        files = tuple(dict.fromkeys((os.fspath(path), layout.data_path)))
        return VolumeHeader(_grid(layout, orientation), layout.channels, files)


def _layout(path: str) -> Layout:
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        raise InputError("the file has zero bytes")
    if head.startswith(b"NRRD"):
        return nrrd_layout(path)
    compressed = head.startswith(b"\x1f\x8b")
    if compressed:
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD)
        except zlib.error as error:
            raise InputError(f"damaged gzip: {error}") from error
    return nifti_layout(path, head, compressed=compressed)


def _grid(layout: Layout, orientation: str | None) -> Grid:
    affine = layout.affine
    if affine is None:
        if orientation is None:
            raise InputError("it does not say its orientation; pass orientation, where its axes lead, as RAS or LPS")
        if len(layout.spacing) != 3 or not min(layout.spacing) > 0:
            raise InputError(f"a spacing must be positive. Received: {list(layout.spacing) or 'none'}")
        affine = orientation_affine(orientation, layout.spacing)
    return Grid(layout.shape, affine)
