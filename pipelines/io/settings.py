"""Settings: frozen records that are checked when they are made, and whose fields are options of the command line.

A field is declared once, by `option`: its type and bounds check it, its help stands in `medkeras <command> --help`.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pydantic
import pydantic.dataclasses

from medkeras.errors import InputError, perhaps

Record = TypeVar("Record", bound=type)
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
WORDS = {"int": "a whole number", "float": "a number", "finite": "a number", "bool": "true or false", "string": "text"}
WORDS |= {"tuple": "a list", "list": "a list", "mapping": "a table", "dict": "a table", "none": "null"}
BRANCH = re.compile(r"int|str|float|bool|(tuple|list|dict)\[.*\]")
SHOWN = 60  # Characters of a value.


@dataclasses.dataclass(frozen=True)
class Words:
    """How a field is written on a command line.

    Attributes:
        panel: Of the help; None is the first one.
        names: Of the option, where it is not called as the field.
        metavar: What stands for its value in the help.
    """

    panel: str | None = None
    names: tuple[str, ...] = ()
    metavar: str | None = None


def option(
    default: Any = ..., help: str = "", *names: str, panel: str | None = None, metavar: str | None = None, **rules: Any
) -> Any:
    """Declares a field of settings.

    Args:
        default: Its value where none is given; without one, it must be.
        help: What it is, for the help of the command line and for whoever reads the class.
        *names: See `Words`.
        panel: See `Words`.
        metavar: See `Words`.
        **rules: Bounds and whatever else `pydantic.Field` takes.
    """
    words = {"words": Words(panel, names, metavar)}
    if callable(default):
        rules["default_factory"] = default
    else:
        rules["default"] = default
    return pydantic.Field(description=help, json_schema_extra=words, **rules)


def settings(record: Record) -> Record:
    """Makes a class of annotated fields a frozen dataclass whose values are checked: numbers are never made of text.

    Example:
        >>> @settings
        ... class Schedule:
        ...     epochs: int = option(20, "Passes over the images.", ge=1)
        >>> Schedule(epochs=3).epochs
        3
        >>> Schedule(epochs=0)
        Traceback (most recent call last):
        ...
        medkeras.InputError: `epochs` must be >= 1. Received: epochs=0
        >>> Schedule(epoch=3)
        Traceback (most recent call last):
        ...
        medkeras.InputError: There is no `epoch`; perhaps `epochs`. Received: epoch=3
    """
    rules = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    made = pydantic.dataclasses.dataclass(record, frozen=True, kw_only=True, config=rules)
    checked = made.__init__

    def __init__(self: Any, **values: Any) -> None:
        try:
            checked(self, **values)
        except pydantic.ValidationError as error:
            raise InputError(reason(error, type(self))) from None

    made.__init__ = __init__
    return made


def read(record: type, values: Any, place: object, **known: Any) -> Any:
    """Makes settings of what a file holds; lists stand for tuples.

    Args:
        record: A class made by `settings`.
        values: What was read.
        place: The file, for the error.
        **known: Fields that the file does not hold.

    Raises:
        ValueError: If a name or a value is wrong; file, name, rule and value are named.

    Example:
        >>> @settings
        ... class Schedule:
        ...     epochs: int = option(20, "Passes over the images.", ge=1)
        >>> read(Schedule, {"epochs": "many"}, "config.yaml")
        Traceback (most recent call last):
        ...
        medkeras.InputError: Cannot read config.yaml: `epochs` must be a whole number >= 1. Received: epochs='many'
    """
    if not isinstance(values, Mapping):
        raise InputError(f"Cannot read {place}: it must hold settings. Received: {type(values).__name__}")
    values = {str(name): tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if twice := [name for name in values if name in known]:
        raise InputError(f"Cannot read {place}: `{twice[0]}` is not of a file. Received: {_short(values[twice[0]])}")
    try:
        return record(**known, **values)
    except InputError as error:
        raise InputError(f"Cannot read {place}: {error}") from error


def fields_of(record: type) -> dict[str, pydantic.fields.FieldInfo]:
    """Returns the fields of settings with their defaults, help and `Words`."""
    return record.__pydantic_fields__


def words_of(field: pydantic.fields.FieldInfo) -> Words:
    """Returns how a field is written on a command line."""
    return (field.json_schema_extra or {}).get("words", Words())


def reason(
    error: pydantic.ValidationError,
    record: type | None = None,
    *,
    is_json: bool = False,
    takes_null: Callable[[Sequence[str | int]], bool] = lambda place: False,
) -> str:
    """Returns what is wrong in one sentence, and what was received.

    Args:
        error: What pydantic found; of several, the first is told.
        record: The settings whose fields are meant.
        is_json: Whether a value of a JSON file is meant, which is named by its place alone.
        takes_null: Says of a place whether null may stand there, which pydantic does not tell.
    """
    found = error.errors()
    first = found[0]
    if is_json:  # A file of another version lacks names; that is told before what stands in their place.
        level = first["loc"][:-1]
        lacks = (each for each in found if each["type"] == "missing" and each["loc"][:-1] == level)
        first = next(lacks, first)
    place = place_of(first)
    if place != first["loc"]:
        # Of a union, the branch that fits down to a value within says what is wrong there.
        first = next((each for each in found if place_of(each)[:-1] == place), first)
        place = place_of(first)
    alike = [each for each in found if place_of(each) == place]
    name = _path(place)
    said = _short(first["input"])
    received = f"Received: {said}" if is_json else f"Received: {name}={said}"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _known(record)
        return f"There is no `{name}`{perhaps(name, known) or '; there are ' + ', '.join(known)}. {received}"
    if first["type"].startswith("missing"):
        *above, last = first["loc"]
        if isinstance(last, int):
            return f"`{_path(above)}` is too short. Received: {_path(above)}={said}"
        return f"{f'`{_path(above)}`' if above else 'it'} must have `{last}`" + (f". {received}" if is_json else "")
    rules = list(dict.fromkeys(_rule(each, record) for each in alike)) + ["null"] * takes_null(place)
    return f"{f'`{name}`' if name else 'it'} must be {' or '.join(rules)}. {received}"


def _path(parts: Sequence[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def place_of(error: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Returns where an error is, without pydantic's names of the branches of a union."""
    return tuple(part for part in error["loc"] if not BRANCH.fullmatch(str(part)))


def _known(record: type | None) -> Sequence[str]:
    fields = getattr(record, "__pydantic_fields__", None) or getattr(record, "model_fields", {})
    return list(fields)


def _rule(error: Mapping[str, Any], record: type | None) -> str:
    kind = error["type"].split("_")[0]
    if error["type"] == "literal_error":
        return f"one of {_choices(error, record)}"
    bounds = _bounds(error, record)
    if error["type"].endswith(("_type", "_parsing", "_float")) or not bounds:
        return " ".join(filter(None, (WORDS.get(kind, error["msg"]), bounds)))
    return bounds


def _choices(error: Mapping[str, Any], record: type | None) -> str:
    field = getattr(record, "__pydantic_fields__", {}).get(error["loc"][0])
    choices = choices_of(field.annotation) if field is not None else ()
    return ", ".join(map(str, choices)) or error["ctx"]["expected"]


def choices_of(annotation: Any) -> tuple[Any, ...]:
    """Returns what a literal type allows; nothing for another type.

    Example:
        >>> choices_of(typing.Literal["a", "b"] | None)
        ('a', 'b')
    """
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return tuple(choice for part in typing.get_args(annotation) for choice in choices_of(part))
    return ()


def _bounds(error: Mapping[str, Any], record: type | None) -> str:
    field = getattr(record, "__pydantic_fields__", {}).get(error["loc"][0]) if len(error["loc"]) == 1 else None
    held = field.metadata if field is not None else []
    said = [f"{sign} {getattr(rule, name)}" for name, sign in BOUNDS.items() for rule in held if hasattr(rule, name)]
    return " and ".join(said)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
