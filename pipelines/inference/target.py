"""The class or label that a run's maps are of: one by its name or its index, or each image's own."""

import numpy as np

from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines.images.records import Records
from pipelines.io.box_tables import file_name

OWN = "label"  # The word for the label of each image; a class of this name goes before it.


def find_target(model: ImageClassifier, target: str | int | None, *, labelled: bool = True) -> str | int | None:
    """Returns the index of the class that is meant, `label` for that of each image, or None for the most probable.

    Args:
        model: Its classes can be meant.
        target: The name of a class or label, or its index from 0, which can be text; or `label`. A name goes before
            an index.
        labelled: Whether the images have labels.

    Raises:
        ValueError: If it is none of these, or if images have no label, or may have several.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2, class_names=["healthy", "lesion"])
        >>> [find_target(model, target) for target in ("lesion", "1", 0, "label", None)]
        [1, 1, 0, 'label', None]
        >>> find_target(model, "cyst")
        Traceback (most recent call last):
        ...
        medkeras.InputError: `target` is one of healthy, lesion, its index, or `label`. Received: target='cyst'
    """
    names = model.class_names
    if target is None:
        return None
    if target in names:
        return names.index(target)
    if str(target).isdecimal() and int(target) < len(names):
        return int(target)
    if target != OWN:
        raise InputError(f"`target` is one of {', '.join(names)}, its index, or `{OWN}`. Received: target={target!r}")
    if is_multilabel(model.task):
        raise InputError(f"An image may have several labels; name one of {', '.join(names)}. Received: {target=}")
    if not labelled:
        raise InputError(f"Image files come without labels; name one of {', '.join(names)}. Received: {target=}")
    return OWN


def target_name(model: ImageClassifier, target: str | int | None) -> str | None:
    """Returns the name of the class that `find_target` found, `label`, or None for the most probable."""
    return target if target in (None, OWN) else model.class_names[target]


def of_target(name: str | None) -> str:
    """Returns how the name of a folder ends that holds maps of a class, see `target_name`.

    Example:
        >>> of_target("mass/benign"), of_target(None)
        ('_of_mass_benign', '')
    """
    return "" if name is None else f"_of_{file_name(name.replace('/', '_'))}"


def targets_of(records: Records, target: str | int | None) -> np.ndarray | None:
    """Returns the class that the map of each record is of, int32, or None for the most probable.

    Args:
        records: With labels, where they are asked for.
        target: From `find_target`.

    Example:
        >>> from pipelines.sources import open_source
        >>> records = open_source("phantom", images=4)
        >>> targets_of(records, 1).tolist(), targets_of(records, "label").tolist() == records.labels.tolist()
        ([1, 1, 1, 1], True)
    """
    if target is None:
        return None
    return records.labels if target == OWN else np.full(len(records), target, np.int32)
