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

if TYPE_CHECKING:
    from medkeras.explain import Appearance

UsageError = typer.BadParameter.__base__  # Of the words of a command, before anything heavy is imported.
DATA, TRAINING, DEVICES, OUTPUT, SURENESS = "Data", "Training", "Devices", "Output", "How sure"


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
Source = Annotated[str, option(DATA, SOURCE_HELP, "--data", metavar="SOURCE")]
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
Task = Annotated[str | None, option(DATA, "binary, multiclass, multilabel or ordinal; by default as labels say.")]
ImageSize = Annotated[
    str | None, option(DATA, "Pixels per side, N, HxW or DxHxW; by default the images' own.", metavar="SIZE")
]
Channels = Annotated[int | None, option(DATA, "1 for grey, 3 for colour; by default the images' own.")]
Preprocess = Annotated[
    list[str] | None,
    option(DATA, "A step on the stored images, as clahe or clahe:clip=3; repeatable, in order.", metavar="STEP"),
]
TrainPreprocess = Annotated[
    list[str] | None,
    option(DATA, "A step of the training images in place of those of --preprocess; none for no step.", metavar="STEP"),
]
Folds = Annotated[int | None, option(DATA, "Cross-validation in so many parts.")]
Fold = Annotated[int, option(DATA, "Which part is the test split, from 0.")]
SplitFile = Annotated[
    pathlib.Path | None, option(DATA, "A .csv of id and split of every image, as splits.csv of a run.")
]
GroupDuplicates = Annotated[
    bool, option(DATA, "Keep images that look the same in one split.", "--group-duplicates/--no-group-duplicates")
]
Leakage = Annotated[str, option(DATA, "stop, warn or off: when splits share a patient, an image or its copy.")]
Cache = Annotated[pathlib.Path | None, option(DATA, "Folder that keeps decoded images for all trainings.")]
DataService = Annotated[
    str | None,
    option(DATA, "tf.data service that makes the batches; needs --cache.", metavar="GRPC://HOST:PORT"),
]
OnError = Annotated[str, option(DATA, "raise stops at a bad image, skip lists it in rejected.csv.")]
Seed = Annotated[int, option(TRAINING, "Seed of all that is random.")]
Fractions = Annotated[str, option(DATA, "Shares of train, val and test where the source gives none.", metavar="T,V,T")]
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
        UsageError: If a word has no key or its value is no YAML.

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
            raise UsageError(f"The value of {option} must be YAML. Received: {pair}") from error
        if not (key.replace("-", "_").isidentifier() and equals):
            raise UsageError(f"{option} must be KEY=VALUE. Received: {pair}")
    return values


def image_size(text: str | None) -> int | tuple[int, ...] | None:
    """Parses `128`, `96x128` or `32x64x64`.

    Raises:
        UsageError: If the text is anything else.

    Example:
        >>> image_size("128"), image_size("96x128")
        (128, (96, 128))
    """
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){0,2}", text):
        raise UsageError(f"--image-size must be N, HxW or DxHxW, in pixels. Received: {text}")
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
        raise UsageError(f"--pixel-spacing must be numbers, as 3,0.7,0.7. Received: {pixel_spacing}") from error
    return Appearance(opacity=opacity, contours=tuple(contours or ()), spacing=spacing)


def fractions(text: str) -> tuple[float, ...]:
    """Parses `0.7,0.1,0.2`.

    Raises:
        UsageError: If the text is not three numbers.

    Example:
        >>> fractions("0.7,0.1,0.2")
        (0.7, 0.1, 0.2)
    """
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--fractions must be three numbers, as 0.7,0.1,0.2. Received: {text}") from error
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


# Words of the command line that make up one field of a configuration.
PARTS = {
    "source_options": tuple(SOURCE_WORDS),
    "model_options": ("model_option",),
    "training_options": ("training_option",),
}


def train_fields(words: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a configuration, from all words of `medkeras train`, defaults among them.

    Raises:
        UsageError: If a word cannot be parsed.
    """
    parts = {part for names in PARTS.values() for part in names}
    paths = ("run", "split_file", "cache")
    return {
        **{name: value for name, value in words.items() if name not in parts | {"recipe"}},
        **{name: None if words[name] is None else str(words[name]) for name in paths},
        "image_size": image_size(words["image_size"]),
        "preprocess": tuple(words["preprocess"] or ()),
        # A repeatable option that was not given is an empty list here.
        "train_preprocess": steps(words["train_preprocess"] or None),
        "fractions": fractions(words["fractions"]),
        "source_options": source_options(**{name: words[name] for name in PARTS["source_options"]}),
        "model_options": key_values(words["model_option"], "--model-option"),
        "training_options": key_values(words["training_option"], "--training-option"),
        "pretrained": None if words["pretrained"] == "none" else words["pretrained"],
    }


def given(context: typer.Context) -> set[str]:
    """Returns the fields of a configuration that the user gave on the command line."""
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
