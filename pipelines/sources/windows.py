"""CT windows: which part of the Hounsfield scale becomes grey, by name."""

from collections.abc import Sequence

import numpy as np

from medkeras.errors import InputError

WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (50, 400),
    "angiography": (200, 600),
    "bone": (400, 1800),
    "brain": (40, 80),
    "liver": (30, 150),
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "pulmonary-embolism": (100, 700),
    "soft-tissue": (50, 400),
    "spine": (50, 250),
    "stroke": (40, 40),
    "subdural": (80, 200),
    "temporal-bone": (600, 2800),
}
"""Name to centre and width in Hounsfield units.

Reference:
    Murphy, Windowing (CT), Radiopaedia.org, rID 52108. Where a range is given there, as for `subdural`, one
    pair within it is taken.
"""


def parse_window(window: str | Sequence[float]) -> tuple[float, float]:
    """Returns the centre and the width of a window that is given by name or by numbers.

    Args:
        window: A name of `WINDOWS`, `(centre, width)`, or both as the text `"centre,width"`.

    Raises:
        ValueError: If the name is unknown, or there are not two finite numbers with a positive width.

    Example:
        >>> parse_window("lung"), parse_window("40, 400"), parse_window((0.5, 1))
        ((-600.0, 1500.0), (40.0, 400.0), (0.5, 1.0))
    """
    pair = WINDOWS.get(window, window.split(",")) if isinstance(window, str) else window
    try:
        centre, width = (float(number) for number in pair)
    except (TypeError, ValueError):
        centre, width = np.nan, np.nan
    if not (np.isfinite([centre, width]).all() and width > 0):
        raise InputError(
            f"`window` must be one of {', '.join(WINDOWS)}, or a finite centre and a positive width. "
            f"Received: window={window!r}"
        )
    return centre, width


def linear_window(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Maps `centre - width / 2` to 0 and `centre + width / 2` to 1, linearly between, constant outside.

    Returns:
        float32 of the shape of `values`.

    Example:
        >>> linear_window(np.array([-2000, -600, 3000]), -600, 1500)
        array([0. , 0.5, 1. ], dtype=float32)
    """
    scaled = (np.asarray(values, np.float32) - np.float32(centre - width / 2)) / np.float32(width)
    return np.clip(scaled, 0, 1, out=scaled)
