"""What JSON files hold: each reader declares a type, and the first value that is otherwise is named by its place.

A type is what pydantic checks: a `TypedDict` for a table (other names may stand beside its own), `dict[str, X]`,
`list[X]`, `X | None`. Numbers are never made of text; a whole number is a number, true and false are none.
"""

import functools
from typing import Any, NotRequired

import pydantic
from typing_extensions import TypedDict

from pipelines.io.settings import reason

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
        return reason(error, is_json=True)
    return None


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(kind)
