"""What is shown of a record: the image as the model sees it, the lesion that experts drew, and names of classes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from medkeras.explain import Appearance
from medkeras.models import ImageClassifier
from pipelines.images.decode import fit
from pipelines.images.records import Records


def as_seen(
    records: Records, rows: Sequence[int] | np.ndarray, model: ImageClassifier
) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    """Returns images brought to a model's shape, and the spacing of each there, see `proportioned`.

    Returns:
        `(rows, *model.image_shape)` in [0, 1], and one number per axis for each row.
    """
    images, spacings, grid = [], [], model.image_shape[:-1]
    for row in map(int, rows):
        stored = records.read(row)
        images.append(fit(stored, model.image_shape))
        spacings.append(proportioned(Appearance(), records, row, stored.shape[: records.rank], grid).spacing)
    return np.stack(images), spacings


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


def listed(names: str) -> str:
    """Returns labels that are joined by `|` as text.

    Example:
        >>> listed("edema|effusion"), listed("")
        ('edema, effusion', 'none')
    """
    return names.replace("|", ", ") or "none"
