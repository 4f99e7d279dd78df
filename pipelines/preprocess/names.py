"""Steps by name: the text that a command line, a config and a model card hold, and the step that it stands for."""

import dataclasses
import typing
from typing import Any

from medkeras.errors import InputError, perhaps
from pipelines.preprocess.contrast import Clahe, Percentile
from pipelines.preprocess.cropping import CentreCrop
from pipelines.preprocess.fundus import FundusCrop, FundusNormalize
from pipelines.preprocess.padding import Square
from pipelines.preprocess.step import Step

PREPROCESSING: dict[str, type[Step]] = {
    step.name: step for step in (FundusCrop, FundusNormalize, Clahe, Percentile, Square, CentreCrop)
}


def parse(step: str | Step) -> Step:
    """Returns the step that a text stands for.

    Args:
        step: A key of `PREPROCESSING`, with options behind a colon where they are not the defaults, as
            `"clahe:clip=3.0,tiles=4"`; or a step, which is returned.

    Raises:
        ValueError: If the step, an option or its value is unknown.

    Example:
        >>> parse("clahe:tiles=4")
        Clahe(clip=2.0, tiles=4)
    """
    if type(step) in PREPROCESSING.values():
        return step
    if not isinstance(step, str):
        raise InputError(f"A preprocessing step is a name or one of its types. Received: {step!r}")
    name, colon, options = step.partition(":")
    if name not in PREPROCESSING:
        raise InputError(f"A preprocessing step is one of {', '.join(PREPROCESSING)}. Received: {step!r}")
    kind = PREPROCESSING[name]
    values: dict[str, Any] = {}
    for option in options.split(",") if colon else ():
        key, value = _option(kind, option, step)
        if key in values:
            raise InputError(f"An option of {name} stands once. Received: {key} again in {step!r}")
        values[key] = value
    return kind(**values)


def _option(kind: type[Step], option: str, step: str) -> tuple[str, Any]:
    types = {field.name: typing.get_type_hints(kind)[field.name] for field in dataclasses.fields(kind)}
    key, _, value = option.partition("=")
    if key not in types:
        raise InputError(f"{kind.name} takes the options {', '.join(types)}{perhaps(key, types)}. Received: {step!r}")
    try:
        return key, types[key](value)
    except ValueError as error:
        raise InputError(f"`{key}` of {kind.name} is of type {types[key].__name__}. Received: {step!r}") from error


def name_of(step: Step) -> str:
    """Returns the text of a step with all its options, so that `parse(name_of(step)) == step`.

    Defaults are written out: a text means the same when a default changes.

    Raises:
        ValueError: If the step's type is not in `PREPROCESSING`.

    Example:
        >>> name_of(Clahe(clip=3.0))
        'clahe:clip=3.0,tiles=8'
    """
    if PREPROCESSING.get(getattr(step, "name", None)) is not type(step):
        raise InputError(f"A step to be named has a type of PREPROCESSING. Received: {step!r}")
    options = ",".join(f"{key}={value}" for key, value in dataclasses.asdict(step).items())
    return f"{step.name}:{options}" if options else step.name
