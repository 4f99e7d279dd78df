"""What JSON files hold: each reader declares a type, and the first value that is otherwise is named by its place.

A type is what pydantic checks: a `TypedDict` for a table (other names may stand beside its own), `dict[str, X]`,
`list[X]`, `X | None`. Numbers are never made of text; a whole number is a number, true and false are none.
"""

import copy
import functools
from collections.abc import Sequence
from typing import Any, NotRequired

import pydantic
from typing_extensions import TypedDict

from pipelines.io.settings import place_of, reason

Measured = float | None  # NaN is written as null.


class Measure(TypedDict):
    """A measure, perhaps with its interval."""

    value: Measured
    low: NotRequired[Measured]
    high: NotRequired[Measured]


def mismatch(value: Any, kind: Any) -> str | None:
    """Returns what is otherwise than a type says, or None.

    Args:
        value: What `json.loads` gave.
        kind: See the module.

    Example:
        >>> class Map(TypedDict):
        ...     threshold: float
        >>> mismatch({"attention": {"threshold": 0.5}}, dict[str, Map])
        >>> mismatch({"attention": 3}, dict[str, Map])
        '`attention` must be a table. Received: 3'
        >>> mismatch({"attention": {}}, dict[str, Map])
        '`attention` must have `threshold`. Received: {}'
    """
    try:
        _adapter(kind).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        return reason(error, is_json=True, takes_null=lambda place: _takes_null(value, kind, place))
    return None


def _takes_null(value: Any, kind: Any, place: Sequence[str | int]) -> bool:
    """Says whether null is right at a place of a value, by trying it."""
    if not place:
        return False
    changed = above = copy.deepcopy(value)
    for part in place[:-1]:
        above = above[part]
    above[place[-1]] = None
    try:
        _adapter(kind).validate_python(changed, strict=True)
    except pydantic.ValidationError as error:
        return all(place_of(each)[: len(place)] != tuple(place) for each in error.errors())
    return True


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(kind)
