"""What is shown of a record: the image as the model sees it, the lesion that experts drew, and names of classes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from medkeras.explain import Appearance
from medkeras.models import ImageClassifier
from pipelines.decode import fit
from pipelines.records import Records


def as_seen(records: Records, rows: Sequence[int] | np.ndarray, model: ImageClassifier) -> np.ndarray:
    """Returns images brought to a model's shape, `(rows, *model.image_shape)` in [0, 1]."""
    return np.stack([fit(records.read(int(i)), model.image_shape) for i in rows])


def expert_mask(records: Records, row: int, model: ImageClassifier) -> np.ndarray | None:
    """Returns the mask of an image's lesions on the model's grid, boolean, or None where the source has no masks."""
    if records.read_mask is None:
        return None
    return fit(records.read_mask(row), (*model.image_shape[:-1], 1))[..., 0] > 0.5


def proportioned(
    appearance: Appearance, records: Records, row: int, stored: Sequence[int], grid: Sequence[int]
) -> Appearance:
    """Returns an appearance with the spacing of an image on a model's grid, so that its proportions are true.

    Args:
        appearance: Its spacing, if it has one, is that of the stored image, whatever the file says.
        records: Of the image; where neither says it, the pixels of the stored image are as wide as they are high.
        row: Of the image.
        stored: Pixels per axis of the stored image.
        grid: Pixels per axis of the model.

    Raises:
        ValueError: If the given spacing is not one number per axis.

    Example:
        >>> from pipelines.sources import open_source
        >>> proportioned(Appearance(), open_source("phantom", images=4), 0, (64, 64), (32, 16)).spacing
        (2.0, 4.0)
    """
    if appearance.spacing is None and records.read_spacing is not None:
        appearance = dataclasses.replace(appearance, spacing=records.read_spacing(row))
    sides = zip(appearance.spacing_of(len(grid)), stored, grid, strict=True)
    return dataclasses.replace(appearance, spacing=tuple(d * old / new for d, old, new in sides))


def seen_spacing(records: Records, row: int, model: ImageClassifier) -> tuple[float, ...]:
    """Returns the spacing of an image of records on a model's grid, see `proportioned`."""
    stored = records.read_shape(row) if records.read_shape else records.read(row).shape
    return proportioned(Appearance(), records, row, stored[: records.rank], model.image_shape[:-1]).spacing


def listed(names: str) -> str:
    """Returns labels that are joined by `|` as text.

    Example:
        >>> listed("edema|effusion"), listed("")
        ('edema, effusion', 'none')
    """
    return names.replace("|", ", ") or "none"
