"""The published way of splitting: by image, class by class."""

import fractions
import math
import random
from collections.abc import Sequence

from medkeras.errors import InputError

SEED = 123


def published_split(labels: Sequence[str], *, train: str | float, test: str | float, seed: int = SEED) -> list[str]:
    """Splits images as HEMF and CAME were split, class by class in alphabetical order.

    Each class is shuffled; the first ceil(train n) are train, the last floor(test n) are test, the rest val. Images
    of one patient or lesion are parted: for comparison with published figures only.

    Args:
        labels: The class of each image, in the published order.
        train: Share of train, in (0, 1).
        test: Share of test, in (0, 1), below 1 - train.
        seed: Of Python's `random`.

    Returns:
        `train`, `val` or `test` of each image.

    Raises:
        ValueError: If a share is out of its range.

    Reference:
        The published scripts of HEMF, doi 10.7717/peerj-cs.3181: `random.seed(123)` once for a data set.

    Example:
        >>> published_split(["nevus"] * 5, train=0.6, test=0.3).count("train")
        3
    """
    first, last = (fractions.Fraction(str(share)) for share in (train, test))
    if not (0 < first and 0 < last and first + last < 1):
        raise InputError(f"`train` and `test` are shares that leave one for val. Received: train={train}, test={test}")
    numbers = random.Random(seed)  # noqa: S311  a published order, no secret.
    split = [""] * len(labels)
    for name in sorted(set(labels)):
        places = [i for i, label in enumerate(labels) if label == name]
        numbers.shuffle(places)
        for i, place in enumerate(places):
            is_train = i < math.ceil(first * len(places))
            is_test = i >= len(places) - math.floor(last * len(places))
            split[place] = "train" if is_train else "test" if is_test else "val"
    return split
