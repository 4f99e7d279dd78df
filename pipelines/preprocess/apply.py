"""Steps in turn: on one image, and on all images and masks of records."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from medkeras.errors import InputError
from pipelines.images.records import Records
from pipelines.preprocess.names import name_of, parse
from pipelines.preprocess.step import Step


def apply(image: np.ndarray, steps: Sequence[str | Step], *, rank: int = 2) -> np.ndarray:
    """Returns a stored image after some steps, in their order.

    Args:
        image: `(H, W)` or `(H, W, C)` for rank 2, `(D, H, W)` or `(D, H, W, C)` for rank 3; uint8, uint16, bool
            or float in [0, 1].
        steps: What `pipelines.preprocess.parse` takes.
        rank: 2 for an image, 3 for a volume.

    Raises:
        ValueError: If a step is unknown or does not take such an image.

    Example:
        >>> apply(np.array([[10, 20, 30]], np.uint8), ["percentile:low=0,high=100", "square"])
        array([[  0,   0,   0],
               [  0, 128, 255],
               [  0,   0,   0]], dtype=uint8)
    """
    for step in map(parse, steps):
        image = step(image, rank=rank)
    return image


def preprocess(records: Records, steps: Sequence[str | Step]) -> Records:
    """Returns records whose images, and masks with them, come through some steps in their order.

    Nothing is read before it is asked for. What the source knows of stored shapes is kept unless a step may
    change the size; fingerprints are extended by the names of the steps.

    Args:
        records: The images.
        steps: What `pipelines.preprocess.parse` takes.

    Raises:
        ValueError: If a step is unknown or does not take images of this rank; from `read` and `read_mask`, if
            it does not take that one image, which is named.

    Example:
        >>> from pipelines.sources import open_source
        >>> records = preprocess(open_source("phantom", images=4), ["clahe:tiles=2", "square"])
        >>> records.read(0).shape
        (64, 64)
    """
    steps = [parse(step) for step in steps]
    for step in steps:
        step.check_rank(records.rank)
    if not steps:
        return records
    ids, suffix = records.table["id"], "".join(f"+{name_of(step)}" for step in steps)
    last = max((i + 1 for i, step in enumerate(steps) if step.moves), default=0)

    def read(i: int) -> np.ndarray:
        image = records.read(i)
        try:
            return apply(image, steps, rank=records.rank)
        except ValueError as error:
            raise InputError(f"Cannot preprocess {ids[i]}: {error}") from error

    def read_mask(i: int) -> np.ndarray:
        mask = records.read_mask(i)
        image = records.read(i) if last else None
        try:
            for n, step in enumerate(steps[:last], start=1):
                mask = step.on_mask(mask, image)
                image = step(image, rank=records.rank) if n < last else image
        except ValueError as error:
            raise InputError(f"Cannot preprocess {ids[i]}: {error}") from error
        return mask

    return dataclasses.replace(
        records,
        read=read,
        read_mask=records.read_mask and read_mask,
        read_shape=None if last else records.read_shape,
        fingerprint=records.fingerprint and (lambda i: records.fingerprint(i) + suffix),
    )
