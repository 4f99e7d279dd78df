"""What all networks from keras-hub share."""

from collections.abc import Sequence
from typing import Any

from medkeras.errors import InputError


def keras_hub() -> Any:
    """Returns the package, imported now.

    Raises:
        ModuleNotFoundError: If it is not installed; the message says how to.
    """
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Backbones need keras-hub: pip install 'medkeras[backbones]'") from error
    return keras_hub


def check_taps(taps: Sequence[int], stages: int) -> list[int]:
    """Returns the stages whose maps are wanted.

    Raises:
        ValueError: If they are not ascending stages of the network.

    Example:
        >>> check_taps((2, 3), 4)
        [2, 3]
    """
    wanted = list(taps)
    if not wanted or wanted != sorted(set(wanted)) or not 1 <= wanted[0] <= wanted[-1] <= stages:
        raise InputError(f"`taps` must be ascending stages from 1 to {stages}. Received: taps={taps}")
    return wanted
