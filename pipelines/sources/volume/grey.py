"""From the values of a scan, Hounsfield units say, to [0, 1]."""

from collections.abc import Sequence

import numpy as np

from medkeras.errors import InputError
from pipelines.sources.windows import linear_window, parse_window

PERCENTILES = (0.5, 99.5)
Window = str | Sequence[float] | None


def grey_range(
    array: np.ndarray, *, window: Window = None, percentiles: Sequence[float] = PERCENTILES
) -> tuple[float, float]:
    """Returns the centre and the width of what becomes grey.

    Args:
        array: Values of the whole scan.
        window: A name of `pipelines.sources.windows.WINDOWS`, for CT in Hounsfield units; or centre and width in
            the units of the values, as `(40, 400)` or `"40,400"`.
        percentiles: Where there is no window: the percentiles of the values that become 0 and 1, so that every
            scan has a range of its own.

    Returns:
        Centre and width; a width of 0 for a scan of one value.

    Raises:
        ValueError: If the window is unknown, or the percentiles are not two ascending numbers in [0, 100].

    Example:
        >>> grey_range(np.arange(101), percentiles=(10, 90)), grey_range(np.arange(101), window="lung")
        ((50.0, 80.0), (-600.0, 1500.0))
    """
    if window is not None:
        return parse_window(window)
    check_percentiles(percentiles)
    low, high = np.percentile(array, percentiles).tolist()
    if low == high:  # A small object in an empty field.
        low, high = float(array.min()), float(array.max())
    return low + (high - low) / 2, high - low


def check_percentiles(percentiles: Sequence[float]) -> None:
    """Checks that percentiles are two ascending numbers in [0, 100].

    Raises:
        ValueError: If they are not.
    """
    try:
        low, high = (float(one) for one in percentiles)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not 0 <= low < high <= 100:
        raise InputError(
            f"`percentiles` must be two ascending numbers in [0, 100]. Received: percentiles={percentiles!r}"
        )


def to_grey(array: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Maps a range of values to [0, 1], linearly, and all outside to 0 or 1; zeros if the range is empty.

    Returns:
        float32.

    Example:
        >>> to_grey(np.array([0, 50, 200]), 50, 100)
        array([0. , 0.5, 1. ], dtype=float32)
    """
    return linear_window(array, centre, width) if width > 0 else np.zeros(array.shape, np.float32)
