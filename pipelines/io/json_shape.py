"""The shape that JSON must have: the first value that is otherwise is named by its place.

A shape is a type; None for null; a tuple of shapes, any of which will do; `[shape]` for a list of any length; or a
table: `{"name": shape}` must have the name, `{"name?": shape}` may have it, `{str: shape}` is for all other names,
which otherwise may be anything. `{}` is an empty table.
"""

from typing import Any

Shape = Any
NUMBER = (int, float)
MEASURED = (int, float, None)  # NaN is written as null.
MEASURE = {"value": MEASURED, "low?": MEASURED, "high?": MEASURED}

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table", list: "a list"}
_SHOWN = 60  # Characters of a value.


def mismatch(value: Any, shape: Shape, place: str = "") -> str | None:
    """Returns what is otherwise than a shape says, or None.

    Args:
        value: What `json.loads` gave.
        shape: See the module.
        place: Of the value in the file, its names joined by points; empty for the whole.

    Example:
        >>> shape = {"maps": {str: {"threshold": NUMBER}}}
        >>> mismatch({"maps": {"attention": {"threshold": 0.5}}}, shape)
        >>> print(mismatch({"maps": 3}, shape))
        `maps` must be a table. Received: 3
        >>> print(mismatch({"maps": {"attention": {}}}, shape))
        `maps.attention` must have `threshold`. Received: {}
    """
    if isinstance(shape, tuple):
        return _none_fits(value, shape, place)
    if isinstance(shape, dict) and isinstance(value, dict):
        return _other_table(value, shape, place)
    if isinstance(shape, list) and isinstance(value, list):
        found = (mismatch(each, shape[0], f"{place}[{k}]") for k, each in enumerate(value))
        return next(filter(None, found), None)
    return None if _is_of(value, shape) else _wrong(value, f"be {_said(shape)}", place)


def _none_fits(value: Any, shapes: tuple[Shape, ...], place: str) -> str | None:
    found = [mismatch(value, shape, place) for shape in shapes]
    if None in found:
        return None
    # A table or a list that is nearly right is named by what is wrong within.
    kind = type(value) if isinstance(value, (dict, list)) else ()
    inner = [why for why, shape in zip(found, shapes, strict=True) if isinstance(shape, kind)]
    return inner[-1] if inner else _wrong(value, f"be {_said(shapes)}", place)


def _other_table(value: dict[str, Any], shape: dict[Any, Shape], place: str) -> str | None:
    if not shape and value:
        return _wrong(value, "be an empty table", place)
    named = {name.removesuffix("?"): each for name, each in shape.items() if isinstance(name, str)}
    for name in shape:
        if isinstance(name, str) and not name.endswith("?") and name not in value:
            return _wrong(value, f"have `{name}`", place)
    inner = (mismatch(each, named.get(name, shape.get(str, object)), f"{place}.{name}".lstrip("."))
             for name, each in value.items())  # fmt: skip
    return next(filter(None, inner), None)


def _is_of(value: Any, shape: Shape) -> bool:
    if shape is None:
        return value is None
    # True is an int for Python, and no number in JSON.
    return isinstance(shape, type) and isinstance(value, shape) and (shape is not int or not isinstance(value, bool))


def _wrong(value: Any, rule: str, place: str) -> str:
    said = repr(value)
    said = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
    return f"{f'`{place}`' if place else 'it'} must {rule}. Received: {said}"


def _said(shape: Shape) -> str:
    if isinstance(shape, tuple):
        kinds = [each for each in shape if each is not int or float not in shape]
        return " or ".join(map(_said, kinds))
    if shape is None:
        return "null"
    return _WORDS[type(shape) if isinstance(shape, (dict, list)) else shape]
