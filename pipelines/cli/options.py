"""Options that several commands share, and how their words become values."""

import functools
import inspect
import pathlib
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from medkeras.errors import InputError
from pipelines.io.settings import choices_of, fields_of, words_of
from pipelines.training.config import DATA, OUTPUT, SURENESS, TRAINING, TrainConfig

if TYPE_CHECKING:
    from medkeras.explain import Appearance


def option(panel: str, help: str, *names: str, metavar: str | None = None) -> Any:
    """Returns a typer option in a panel of the help."""
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)


Run = Annotated[pathlib.Path, typer.Argument(metavar="RUN", help="A folder that `medkeras train` made.")]
Inputs = Annotated[list[pathlib.Path], typer.Argument(metavar="INPUT...", help="Image files, folders or .npz files.")]
TwoStage = Annotated[
    str | None,
    typer.Option(help="Look twice, with crops by attention: dualattendmed, ws-dan or cal.", metavar="PROTOCOL"),
]
Uncertainty = Annotated[
    str,
    option(SURENESS, "Sample: mc-dropout, tta (shifts, brightness) or ensemble (of runs); the prediction is the mean."),
]
Samples = Annotated[int, option(SURENESS, "Predictions per image of mc-dropout.")]
Members = Annotated[
    list[pathlib.Path] | None, option(SURENESS, "Run that predicts with this one, of ensemble; repeatable.", "--member")
]
SOURCE_HELP = "phantom[:name], a .npz, a folder of class folders, a .csv, or kind:rest."
Shown = Annotated[int, option(OUTPUT, "Images to draw.", "--samples")]
Opacity = Annotated[float, option(OUTPUT, "Of a map where it is largest, from 0 to 1.")]
Contours = Annotated[
    list[float] | None,
    option(OUTPUT, "Share of a map's maximum at which a line is drawn on it, as 0.5; repeatable.", "--contour"),
]
PixelSpacing = Annotated[
    str | None,
    option(
        OUTPUT,
        "Millimetres from pixel to pixel of the stored image along each axis; by default as its file says, else equal.",
        metavar="[D,]H,W",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Class of the maps, by name or index, or label: each image's own. The most probable by default.",
        metavar="CLASS",
    ),
]
OtherSource = Annotated[
    str | None, option(DATA, "Another source; the run's own by default.", "--data", metavar="SOURCE")
]
Seed = Annotated[int, option(TRAINING, "Seed of all that is random.")]
NONE_GIVEN: Mapping[str, Any] = types.MappingProxyType({})
# The words of `source_options`.
SOURCE_WORDS = {
    "patient_pattern": Annotated[
        str | None, option(DATA, "Regular expression whose group is the patient in a path (folder).")
    ],
    "label_column": Annotated[
        list[str] | None, option(DATA, "Column of labels (.csv); repeat it for several.", "--label-column")
    ],
    "patient_column": Annotated[str | None, option(DATA, "Column of patients (.csv).")],
    "split_column": Annotated[str | None, option(DATA, "Column of splits (.csv).")],
    "source_option": Annotated[
        list[str] | None,
        option(DATA, "Any other option of the source; repeatable.", "--source-option", metavar="KEY=VALUE"),
    ],
}


def takes_source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the words of `source_options`; its argument of that name gets what they say.

    Example:
        >>> @takes_source_options
        ... def show(source_options: Mapping[str, Any], seed: Seed = 0) -> None:
        ...     print(source_options, seed)
        >>> list(inspect.signature(show).parameters)[-2:]
        ['source_option', 'seed']
        >>> show(split_column="part", seed=1)
        {'split_column': 'part'} 1
    """

    @functools.wraps(command)
    def wrapped(**words: Any) -> None:
        chosen = source_options(**{name: words.pop(name, None) for name in SOURCE_WORDS})
        command(**words, source_options=chosen)

    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "source_options":
            parameters += [parameter.replace(name=k, default=None, annotation=v) for k, v in SOURCE_WORDS.items()]
        else:
            parameters.append(parameter)
    wrapped.__signature__ = inspect.Signature(parameters)
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def source_options(
    patient_pattern: str | None,
    label_column: Sequence[str] | None,
    patient_column: str | None,
    split_column: str | None,
    source_option: Sequence[str] | None,
) -> dict[str, Any]:
    """Returns the options of a source that were given.

    Example:
        >>> source_options(None, ["finding"], None, None, ["images=60"])
        {'label_columns': ['finding'], 'images': 60}
    """
    named = {
        "patient_pattern": patient_pattern,
        "label_columns": list(label_column or []) or None,
        "patient_column": patient_column,
        "split_column": split_column,
    }
    return {k: v for k, v in named.items() if v is not None} | key_values(source_option, "--source-option")


def key_values(pairs: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Parses `key=value` words, the values as YAML.

    Raises:
        ValueError: If a word has no key or its value is no YAML.

    Example:
        >>> key_values(["ratio=0.5", "names=[a, b]"], "--model-option")
        {'ratio': 0.5, 'names': ['a', 'b']}
    """
    values = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        try:
            values[key.replace("-", "_")] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"The value of {option} must be YAML. Received: {pair}") from error
        if not (key.replace("-", "_").isidentifier() and equals):
            raise InputError(f"{option} must be KEY=VALUE. Received: {pair}")
    return values


def image_size(text: str | None) -> int | tuple[int, ...] | None:
    """Parses `128`, `96x128` or `32x64x64`.

    Raises:
        ValueError: If the text is anything else.

    Example:
        >>> image_size("128"), image_size("96x128")
        (128, (96, 128))
    """
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){0,2}", text):
        raise InputError(f"--image-size must be N, HxW or DxHxW, in pixels. Received: {text}")
    sizes = tuple(int(n) for n in text.split("x"))
    return sizes[0] if len(sizes) == 1 else sizes


def appearance(opacity: float, contours: Sequence[float] | None, pixel_spacing: str | None) -> "Appearance":
    """Returns how maps are drawn.

    Raises:
        ValueError: If a value is out of its range, or the spacing is no numbers.

    Example:
        >>> appearance(0.5, [0.5], "3,0.7,0.7")
        Appearance(opacity=0.5, contours=(0.5,), spacing=(3.0, 0.7, 0.7))
    """
    from medkeras.explain import Appearance

    try:
        spacing = None if pixel_spacing is None else tuple(float(part) for part in pixel_spacing.split(","))
    except ValueError as error:
        raise InputError(f"--pixel-spacing must be numbers, as 3,0.7,0.7. Received: {pixel_spacing}") from error
    return Appearance(opacity=opacity, contours=tuple(contours or ()), spacing=spacing)


def fractions(text: str) -> tuple[float, ...]:
    """Parses `0.7,0.1,0.2`.

    Raises:
        ValueError: If the text is not three numbers.

    Example:
        >>> fractions("0.7,0.1,0.2")
        (0.7, 0.1, 0.2)
    """
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--fractions must be three numbers, as 0.7,0.1,0.2. Received: {text}") from error
    return first, second, third


def steps(words: Sequence[str] | None) -> tuple[str, ...] | None:
    """Returns preprocessing steps, none of them for the word `none`.

    Example:
        >>> steps(["none"]), steps(["clahe", "square"]), steps(None)
        ((), ('clahe', 'square'), None)
    """
    if words is None:
        return None
    return () if list(words) == ["none"] else tuple(words)


# Words of the command line that make up one field of settings.
PARTS = {
    "source_options": tuple(SOURCE_WORDS),
    "model_options": ("model_option",),
    "training_options": ("training_option",),
}
# How the words of a field are read, where they are no value of its type.
READ: dict[str, Callable[[Any], Any]] = {
    "image_size": image_size,
    "fractions": fractions,
    "preprocess": lambda words: tuple(words or ()),
    # A repeatable option that was not given is an empty list here.
    "train_preprocess": lambda words: steps(words or None),
    "pretrained": lambda word: None if word == "none" else word,
}


def takes_settings(
    record: type, *, optional: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for each field of settings; its argument `fields` gets what was said.

    Args:
        record: Made by `pipelines.io.settings.settings`.
        optional: Fields that need not be given although they have no default.

    Example:
        >>> from pipelines.training.config import CalibrationOptions
        >>> @takes_settings(CalibrationOptions)
        ... def show(context: typer.Context, fields: Mapping[str, Any]) -> None:
        ...     print(fields)
        >>> list(inspect.signature(show).parameters)
        ['context', 'calibration', 'coverage', 'risk']
        >>> show(None, calibration="none", coverage=0.9, risk=0.1)
        {'calibration': 'none', 'coverage': 0.9, 'risk': 0.1}
    """
    fields = fields_of(record)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapped(context: typer.Context, **words: Any) -> None:
            command(context, {name: _field(name, words) for name in fields})

        parameters = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
        # Those of the first panel come first.
        for name in sorted(fields, key=lambda name: words_of(fields[name]).panel is not None):
            parameters += _parameters(name, record, is_optional=name in optional)
        wrapped.__signature__ = inspect.Signature(parameters)
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapped

    return decorate


def field_option(name: str, record: type = TrainConfig) -> Any:
    """Returns a field of settings as the annotation of a command's parameter."""
    return _parameters(name, record, is_optional=False)[0].annotation


def _parameters(name: str, record: type, *, is_optional: bool) -> list[inspect.Parameter]:
    field = fields_of(record)[name]
    words, kind, default = words_of(field), field.annotation, field.get_default(call_default_factory=True)
    if name == "source_options":
        return [_parameter(part, annotation, None) for part, annotation in SOURCE_WORDS.items()]
    if name in PARTS:
        (part,) = PARTS[name]
        return [
            _parameter(part, Annotated[list[str] | None, option(words.panel, field.description, metavar="KEY=VALUE")])
        ]
    if field.is_required():
        default = None if is_optional else inspect.Parameter.empty
    if name in ("preprocess", "train_preprocess"):
        kind, default = list[str] | None, None
    elif name in READ or choices_of(kind):
        kind, default = str | None, ",".join(map(str, default)) if isinstance(default, tuple) else default
    elif is_optional:
        kind = kind | None
    help = option(words.panel, field.description, *words.names, metavar=words.metavar)
    return [_parameter(name, Annotated[kind, help], default)]


def _parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _field(name: str, words: Mapping[str, Any]) -> Any:
    """Returns the value of a field of settings from the words of a command."""
    if name == "source_options":
        return source_options(**{part: words[part] for part in SOURCE_WORDS})
    if name in PARTS:
        (part,) = PARTS[name]
        return key_values(words[part], f"--{part.replace('_', '-')}")
    return READ[name](words[name]) if name in READ else words[name]


def given(context: typer.Context) -> set[str]:
    """Returns the fields of settings that the user gave on the command line."""
    words = {name for name in context.params if context.get_parameter_source(name).name != "DEFAULT"}
    return words | {field for field, parts in PARTS.items() if words & set(parts)}


def over_recipe(recipe: str, fields: dict[str, Any], *, given: set[str]) -> dict[str, Any]:
    """Returns the fields of a recipe, with what the user gave in their place; options of each kind are joined.

    With another model or way of training than the recipe's, its options for that one are left out.

    Args:
        recipe: As for `pipelines.recipes.load`.
        fields: All fields of a configuration, as the command line has them.
        given: Names of those that the user gave.

    Raises:
        FileNotFoundError: If the data are not prepared.
        ValueError: If the recipe is unknown, or the data were prepared by another.
    """
    from pipelines.recipes import load

    trained = load(recipe).training(fields["data"])
    for name in ("model", "training"):
        if name in given and fields[name] != trained.get(name, fields[name]):
            trained.pop(f"{name}_options", None)
    own = {name: fields[name] for name in given & fields.keys() if name != "data"}
    joined = {name: trained.get(name, {}) | own[name] for name in PARTS.keys() & own.keys()}
    return fields | {k: tuple(v) if isinstance(v, list) else v for k, v in trained.items()} | own | joined


Task, Preprocess, OnError = (field_option(name) for name in ("task", "preprocess", "on_error"))
