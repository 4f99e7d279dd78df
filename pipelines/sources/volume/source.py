"""The volume source: NIfTI and NRRD files on one grid, in a folder of class folders or named by a CSV."""

import dataclasses
import functools
import hashlib
import os
from typing import Any

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.images.names import VOLUME_SUFFIXES, is_volume
from pipelines.images.records import Records
from pipelines.sources.class_folders import class_folders, folder_records, masks_beside
from pipelines.sources.images import PathOf, file_fingerprint, files_below
from pipelines.sources.options import MaskedFolderOptions, MaskedTableOptions, check_unused, given_of
from pipelines.sources.table.csv_text import read_csv
from pipelines.sources.table.paths import paths_of
from pipelines.sources.table.source import open_table
from pipelines.sources.volume.file import read_volume_header
from pipelines.sources.volume.view import VolumeView

DATA_SUFFIXES = {".hdr": (".img", ".img.gz"), ".nhdr": (".raw", ".raw.gz", ".raw.bz2")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(MaskedTableOptions, MaskedFolderOptions, VolumeView):
    """What volumes take: where they are, in a folder or named by a CSV, and how they are looked at."""


def open_volume(rest: str, **options: Any) -> Records:
    """Opens NIfTI and NRRD volumes in class folders, or those that a CSV names.

    Each is turned to the patient's axes, resampled to `spacing`, mapped to [0, 1], and cropped or padded with 0
    to `shape`, in this order. It comes as `(D, H, W)`: from head to feet, from front to back and from the
    patient's right to the left, see `pipelines.sources.volume.grid.to_image`. A label volume takes the values of
    its nearest voxels in space, so it may have a grid of its own; what is not 0 is the lesion.

    Args:
        rest: A folder as for `open_folder`, of `.nii`, `.nii.gz`, `.hdr` and `.img`, `.nrrd` or `.nhdr` files; or
            a CSV as for `open_table`.
        **options: Those of `Options`.

    Raises:
        FileNotFoundError: If the folder, the CSV or a file does not exist.
        ModuleNotFoundError: When a file is read, if nibabel or pynrrd is needed and not installed.
        ValueError: If an option or the folder or CSV is not sound, or an option is for the other of the two.

    Example:
        >>> import nibabel, pathlib, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("ill", "well"):
        ...     (root / name).mkdir()
        ...     scan = nibabel.Nifti1Image(np.ones((20, 24, 8), np.int16), np.diag([1, 1, 4, 1]))
        ...     nibabel.save(scan, root / name / "scan.nii.gz")
        >>> records = open_volume(str(root), spacing=2, shape=(16, 12, 8))
        >>> records.class_names, records.read(0).shape, records.read(0).dtype
        (('ill', 'well'), (16, 12, 8), dtype('float32'))
    """
    given = Options(**options)
    view = VolumeView(**given_of(given, VolumeView))
    if os.path.isdir(rest):
        check_unused(given, "Volumes in a folder", MaskedTableOptions)
        records, path_of, mask_of = _from_folder(rest, given)
    else:
        check_unused(given, "Volumes in a CSV", MaskedFolderOptions)
        records = open_table(rest, **given_of(given, MaskedTableOptions))
        path_of, mask_of = _paths_in_csv(records, rest, given)
    if view.centre == "mask" and mask_of is None:
        raise InputError("`centre` must be volume where there are no label volumes. Received: centre='mask'")
    return _viewed(records, view, path_of, mask_of)


def _from_folder(folder: str, given: Options) -> tuple[Records, PathOf, PathOf | None]:
    kinds, on_error = ", ".join(VOLUME_SUFFIXES), given.on_error
    found = class_folders(folder, _volume_files(folder), is_image=is_volume, kinds=kinds, on_error=on_error)
    path_of = [os.path.join(folder, path) for path in found.files].__getitem__
    mask_of = given.masks and masks_beside(
        given.masks, found.files, is_image=is_volume, on_error=on_error, what="volume"
    )
    return folder_records(folder, found, given), path_of, mask_of


def _volume_files(folder: str) -> list[str]:
    """Returns the files below a folder, without those that hold the voxels of a header beside them."""
    files = files_below(folder)
    suffixes = {}
    for path in files:
        ending = os.path.splitext(path)[1].lower()
        suffixes.setdefault(os.path.dirname(path), set()).update(DATA_SUFFIXES.get(ending, ()))
    return [path for path in files if not path.lower().endswith(tuple(suffixes[os.path.dirname(path)]))]


def _paths_in_csv(records: Records, csv: str, given: Options) -> tuple[PathOf, PathOf | None]:
    """Returns the rules from record index to volume and to label volume; `open_table` has checked the files."""
    table = read_csv(csv)
    ids = pd.Series(records.table["id"].to_numpy(), index=table.index, name="path")
    path_of = functools.partial(paths_of, csv=csv, root=given.root, on_error="skip")
    return path_of(ids), given.mask_column and path_of(table[given.mask_column])


def _viewed(records: Records, view: VolumeView, path_of: PathOf, mask_of: PathOf | None) -> Records:
    """Returns the records with volumes as they are read."""
    centred = view.centre == "mask"
    options = hashlib.blake2b(repr(view).encode(), digest_size=8).hexdigest()

    def fingerprint(i: int) -> str:
        files = list(read_volume_header(path_of(i), orientation=view.orientation).files)
        if centred:
            files += read_volume_header(mask_of(i), orientation=view.orientation).files
        return "-".join([*map(file_fingerprint, files), options])

    def read(i: int) -> np.ndarray:
        return view.read(path_of(i), mask=mask_of(i) if centred else None)

    return dataclasses.replace(
        records,
        rank=3,
        read=read,
        read_mask=mask_of and (lambda i: view.read_mask(mask_of(i), image=path_of(i))),
        read_shape=lambda i: view.shape_of(path_of(i)),
        read_spacing=lambda i: view.spacing_of(path_of(i)),
        fingerprint=fingerprint,
    )
