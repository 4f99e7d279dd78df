"""The volume source: NIfTI and NRRD files on one grid, in a folder of class folders or named by a CSV."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.tasks import default_task
from pipelines.images.names import VOLUME_SUFFIXES, is_volume
from pipelines.images.records import Records
from pipelines.sources.class_folders import class_folders, patients_in
from pipelines.sources.images import file_fingerprint, file_records, files_below
from pipelines.sources.table.csv_text import read_csv
from pipelines.sources.table.paths import paths_of
from pipelines.sources.table.source import open_table
from pipelines.sources.volume.file import read_volume_header
from pipelines.sources.volume.grey import PERCENTILES, Window
from pipelines.sources.volume.grid import MAX_VOXELS
from pipelines.sources.volume.view import VolumeView

DATA_SUFFIXES = {".hdr": (".img", ".img.gz"), ".nhdr": (".raw", ".raw.gz", ".raw.bz2")}
PathOf = Callable[[int], str]


def open_volume(
    rest: str,
    *,
    task: str | None = None,
    spacing: float | Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
    centre: str = "volume",
    window: Window = None,
    percentiles: Sequence[float] = PERCENTILES,
    frame: int | None = None,
    orientation: str | None = None,
    patient_pattern: str | None = None,
    masks: str | None = None,
    path_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    patient_column: str | None = None,
    split_column: str | None = None,
    mask_column: str | None = None,
    class_names: Sequence[str] | None = None,
    uncertain: str = "ignore",
    blank: str = "ignore",
    root: str | None = None,
    max_voxels: int = MAX_VOXELS,
    on_error: str = "raise",
) -> Records:
    """Opens NIfTI and NRRD volumes in class folders, or those that a CSV names.

    Each is turned to the patient's axes, resampled to `spacing`, mapped to [0, 1], and cropped or padded with 0
    to `shape`, in this order. It comes as `(D, H, W)`: from head to feet, from front to back and from the
    patient's right to the left, see `pipelines.sources.volume.grid.to_image`. A label volume takes the values of
    its nearest voxels in space, so it may have a grid of its own; what is not 0 is the lesion.

    Args:
        rest: A folder as for `open_folder`, of `.nii`, `.nii.gz`, `.hdr` and `.img`, `.nrrd` or `.nhdr` files; or
            a CSV as for `open_table`.
        task: One of `medkeras.tasks.TASKS`; by default what the labels suggest.
        spacing: Millimetres from voxel to voxel, one number or `(D, H, W)`; by default each volume keeps its own.
        shape: `(D, H, W)` in voxels; by default each volume keeps its own.
        centre: Middle of `shape`: `"volume"`, or `"mask"` for the middle of the lesion's bounding box, where
            there is one. The latter looks at the label volume: an image to be tested has none.
        window: What becomes grey: a name as `lung`, for CT in Hounsfield units, or centre and width.
        percentiles: Without a window, the percentiles of each volume's own values that become 0 and 1.
        frame: Of files with several frames, the one to take, from 0.
        orientation: Where the axes of a file lead that does not say it, as `RAS` or `LPS`; by default such a
            file is refused, for its left and right are unknown.
        patient_pattern: For a folder, as for `open_folder`.
        masks: For a folder, the folder of label volumes with the same layout and names.
        path_column: For a CSV, as for `open_table`, and so all down to `root`.
        label_columns: See `path_column`.
        patient_column: See `path_column`.
        split_column: See `path_column`.
        mask_column: See `path_column`; paths of label volumes.
        class_names: See `path_column`.
        uncertain: See `path_column`.
        blank: See `path_column`.
        root: See `path_column`.
        max_voxels: Largest number of voxels of a volume, as stored and as resampled.
        on_error: `"raise"` refuses files of other types and missing masks; `"skip"` keeps such a file as a
            record, so that `pipelines.images.decode.find_unreadable` reports it.

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
    view = VolumeView(
        spacing=spacing,
        shape=shape,
        centre=centre,
        window=window,
        percentiles=percentiles,
        frame=frame,
        orientation=orientation,
        max_voxels=max_voxels,
    )
    table_options = {
        "path_column": path_column,
        "label_columns": label_columns,
        "patient_column": patient_column,
        "split_column": split_column,
        "mask_column": mask_column,
        "class_names": class_names,
        "uncertain": uncertain,
        "blank": blank,
        "root": root,
    }
    if os.path.isdir(rest):
        _check_unused("a folder", table_options)
        records, path_of, mask_of = _from_folder(rest, task, patient_pattern, masks, on_error)
    else:
        _check_unused("a CSV", {"patient_pattern": patient_pattern, "masks": masks})
        records = open_table(rest, task=task, on_error=on_error, **table_options)
        path_of, mask_of = _paths_in_csv(records, rest, mask_column, root)
    if centre == "mask" and mask_of is None:
        raise InputError("`centre` must be volume where there are no label volumes. Received: centre='mask'")
    return _viewed(records, view, path_of, mask_of)


def _check_unused(kind: str, options: dict) -> None:
    for name, given in options.items():
        if given not in (None, "ignore"):
            raise InputError(f"Volumes in {kind} are opened without `{name}`. Received: {name}={given!r}")


def _from_folder(
    folder: str, task: str | None, patient_pattern: str | None, masks: str | None, on_error: str
) -> tuple[Records, PathOf, PathOf | None]:
    kinds = ", ".join(VOLUME_SUFFIXES)
    found = class_folders(folder, _volume_files(folder), is_image=is_volume, kinds=kinds, on_error=on_error)
    patients = patients_in(found.files, patient_pattern)
    path_of = [os.path.join(folder, path) for path in found.files].__getitem__
    records = file_records(
        name=os.path.basename(os.path.abspath(folder)),
        task=task or default_task(len(found.class_names)),
        class_names=found.class_names,
        table=pd.DataFrame({"id": found.files, "patient": patients, "split": found.splits}),
        labels=found.labels,
        path_of=path_of,
    )
    return records, path_of, masks and _masks(masks, found.files, on_error)


def _volume_files(folder: str) -> list[str]:
    """Returns the files below a folder, without those that hold the voxels of a header beside them."""
    files = files_below(folder)
    suffixes = {}
    for path in files:
        ending = os.path.splitext(path)[1].lower()
        suffixes.setdefault(os.path.dirname(path), set()).update(DATA_SUFFIXES.get(ending, ()))
    return [path for path in files if not path.lower().endswith(tuple(suffixes[os.path.dirname(path)]))]


def _masks(masks: str, files: list[str], on_error: str) -> PathOf:
    """Returns the rule from record index to label volume."""
    if not os.path.isdir(masks):
        raise FileNotFoundError(f"No such folder of masks: {masks}")
    found = {_stem(path): path for path in _volume_files(masks) if is_volume(path)}
    missing = next((path for path in files if _stem(path) not in found), None)
    if missing and on_error == "raise":
        raise FileNotFoundError(f"Every volume needs a mask of its name in {masks}. Received: {missing} without")
    return lambda i: os.path.join(masks, found.get(_stem(files[i]), files[i]))


def _stem(path: str) -> str:
    suffix = max((s for s in VOLUME_SUFFIXES if path.lower().endswith(s)), key=len, default="")
    return path[: len(path) - len(suffix)]


def _paths_in_csv(
    records: Records, csv: str, mask_column: str | None, root: str | None
) -> tuple[PathOf, PathOf | None]:
    """Returns the rules from record index to volume and to label volume; `open_table` has checked the files."""
    table = read_csv(csv)
    ids = pd.Series(records.table["id"].to_numpy(), index=table.index, name="path")
    path_of = paths_of(ids, csv, root, on_error="skip")
    return path_of, mask_column and paths_of(table[mask_column], csv, root, on_error="skip")


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
