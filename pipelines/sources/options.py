"""What a source takes: its options, each documented once."""

import dataclasses
from collections.abc import Sequence

from medkeras.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What every source takes.

    Attributes:
        task: One of `medkeras.tasks.TASKS`; by default what the source says or its labels suggest.
    """

    task: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions(SourceOptions):
    """What a source of files takes.

    Attributes:
        on_error: `"raise"` refuses a file of another type, a file that is missing or, where headers are read, whose
            header is not sound; `"skip"` keeps it as a record, so that `pipelines.images.decode.find_unreadable`
            reports it.
    """

    on_error: str = "raise"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderOptions(FileOptions):
    """What a folder of class folders takes.

    Attributes:
        patient_pattern: Regular expression with one group, searched in the path below the folder; what the group
            matches is the patient. By default every image is a patient of its own.
    """

    patient_pattern: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableOptions(FileOptions):
    """What a CSV of files takes.

    Attributes:
        path_column: Column of the paths, which are the ids; by default `path`, `image`, `file`, `filename` or
            `image_path`.
        label_columns: One column of class names or whole numbers, by default `label` or `class`; or several
            columns of 0, 1, -1 (uncertain) or blank (not mentioned), one per label.
        patient_column: Column of the patients; by default `patient` or `patient_id` where there is one, else
            every image is a patient of its own.
        split_column: Column of `train`, `val` and `test`; by default `split` where there is one.
        class_names: The classes in order; by default the sorted values, or the names of the label columns. A
            whole number that is no class name counts as its index.
        uncertain: Policy for labels of -1, one of `"ignore"`, `"zeros"`, `"ones"` and `"smooth"`.
        blank: The same for blank labels.
        root: Folder that the paths start from and do not leave, neither by `..` nor by a symbolic link;
            absolute paths below it are fine. By default the folder of the CSV.
    """

    path_column: str | None = None
    label_columns: str | Sequence[str] | None = None
    patient_column: str | None = None
    split_column: str | None = None
    class_names: Sequence[str] | None = None
    uncertain: str = "ignore"
    blank: str = "ignore"
    root: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedFolderOptions(FolderOptions):
    """What class folders take that have lesion masks beside them.

    Attributes:
        masks: Folder of lesion masks with the same layout and names; the suffix may be another. What is not 0
            belongs to the lesion.
    """

    masks: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedTableOptions(TableOptions):
    """What a CSV takes that names lesion masks, too.

    Attributes:
        mask_column: Column of the paths of lesion masks, where there are masks; what is not 0 belongs to the lesion.
    """

    mask_column: str | None = None


def names_of(options: SourceOptions | type[SourceOptions]) -> list[str]:
    """Returns the names of options.

    Example:
        >>> names_of(FolderOptions)
        ['task', 'on_error', 'patient_pattern']
    """
    return [field.name for field in dataclasses.fields(options)]


def given_of(options: SourceOptions, kind: type[SourceOptions]) -> dict:
    """Returns those options that another kind takes too.

    Example:
        >>> given_of(FolderOptions(patient_pattern="(p1)"), FileOptions)
        {'task': None, 'on_error': 'raise'}
    """
    own = set(names_of(options))
    return {name: getattr(options, name) for name in names_of(kind) if name in own}


def check_unused(options: SourceOptions, what: str, others: type[SourceOptions]) -> None:
    """Checks that no option was given which only another kind takes.

    Args:
        options: What was given.
        what: What is opened, for the error, as `Volumes in a folder`.
        others: The kind whose own options are to be left at their defaults.

    Raises:
        ValueError: If one was given.
    """
    shared = names_of(FileOptions)
    for field in dataclasses.fields(others):
        value = getattr(options, field.name, field.default)
        if field.name not in shared and value != field.default:
            raise InputError(f"{what} are opened without `{field.name}`. Received: {field.name}={value!r}")
