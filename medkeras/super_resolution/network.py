"""What the networks of an upscaler share: levels of halved edges, official tensors, and their configuration."""

from collections.abc import Sequence
from typing import Any

import keras

from medkeras.errors import InputError
from medkeras.models.base import constructor_arguments
from medkeras.super_resolution import convert


class Network(keras.Model):
    """A functional model of several levels whose layers bear the names of the official checkpoint.

    A subclass builds its graph in `__init__` and keeps each of its arguments as the attribute of that name.
    """

    @property
    def factor(self) -> int:
        """By how much the innermost level is smaller than the input."""
        return 2 ** (len(self.widths) - 1)

    def official_tensors(self) -> list[Any]:
        """Lists, for each variable, the official tensors that it is made of: see `medkeras.checkpoints.load`."""
        return convert.official_tensors(self)

    def is_unused(self, name: str) -> bool:
        """Says whether a tensor of the official checkpoint has no effect: none is known."""
        return False

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        values = {name: getattr(self, name) for name in constructor_arguments(type(self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Network":
        """Builds the model that `get_config` described."""
        return cls(**config)


def check_widths(widths: Sequence[int], depth: int, groups: int) -> None:
    """Holds the levels to their rule.

    Raises:
        ValueError: If there is no level, `depth` is below 1, or `groups` does not divide every width.
    """
    if not len(widths) or depth < 1 or groups < 1 or any(w < 1 or w % groups for w in widths):
        raise InputError(
            "`widths` must be one or more multiples of `groups`, `depth` at least 1. "
            f"Received: widths={tuple(widths)}, groups={groups}, depth={depth}"
        )
