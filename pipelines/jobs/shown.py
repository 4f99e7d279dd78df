"""What is shown of a record: the image as the model sees it, the lesion that experts drew, and names of classes."""

from collections.abc import Sequence

import numpy as np

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


def listed(names: str) -> str:
    """Returns labels that are joined by `|` as text.

    Example:
        >>> listed("edema|effusion"), listed("")
        ('edema, effusion', 'none')
    """
    return names.replace("|", ", ") or "none"
