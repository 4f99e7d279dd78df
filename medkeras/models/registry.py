"""Models by name: each preset is a class and the arguments that make it, as data."""

import dataclasses
import difflib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from medkeras.errors import InputError, perhaps
from medkeras.models.base import ImageClassifier, constructor_arguments


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named configuration of an architecture.

    Attributes:
        architecture: Class of the model, a subclass of `ImageClassifier`; or `"module:Class"`, which is imported when
            it is asked for.
        description: One line for tables and help.
        input_shape: The image shape it is meant for, used where none is asked for.
        options: Constructor arguments beyond `input_shape` and `num_classes`.
    """

    architecture: type[ImageClassifier] | str
    description: str
    input_shape: tuple[int, ...]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def model(self) -> type[ImageClassifier]:
        """The class of the model."""
        if not isinstance(self.architecture, str):
            return self.architecture
        module, _, name = self.architecture.partition(":")
        return getattr(importlib.import_module(module), name)


_PRESETS: dict[str, Preset] = {}


def register(presets: Mapping[str, Preset]) -> None:
    """Adds presets to the registry.

    Raises:
        ValueError: If a name is taken.
    """
    for name, preset in presets.items():
        if name in _PRESETS:
            raise InputError(f"A preset of this name exists already. Received: name={name!r}")
        _PRESETS[name] = preset


def names() -> list[str]:
    """Returns all registered names, sorted.

    Example:
        >>> "focusnet2d" in names()
        True
    """
    return sorted(_PRESETS)


def preset(name: str) -> Preset:
    """Returns the preset of this name.

    Raises:
        ValueError: If there is none; the nearest names are suggested.
    """
    if name not in _PRESETS:
        near = difflib.get_close_matches(name, _PRESETS, n=3) or names()
        raise InputError(f"No model has this name; perhaps {', '.join(near)}. Received: name={name!r}")
    return _PRESETS[name]


def create(name: str, *, input_shape: Sequence[int] | None = None, num_classes: int, **options: Any) -> ImageClassifier:
    """Builds a model by name.

    Args:
        name: One of `names()`.
        input_shape: `(height, width, channels)` or `(depth, height, width, channels)`; the preset's own by default.
        num_classes: Number of classes, or of labels.
        **options: Anything else the architecture's constructor takes; wins over the preset.

    Raises:
        ValueError: If the name is unknown or an argument breaks the architecture's rules.

    Example:
        >>> model = create("focusnet2d", input_shape=(28, 28, 1), num_classes=2)
        >>> model.output_shape
        (None, 2)
    """
    chosen = preset(name)
    model = chosen.model
    known = [argument for argument in constructor_arguments(model) if argument not in ("input_shape", "num_classes")]
    for option, value in options.items():
        if option not in known:
            raise InputError(
                f"The options of {name} are {', '.join(known)}{perhaps(option, known)}. Received: {option}={value!r}"
            )
    arguments = {"name": name.replace("-", "_"), **chosen.options, **options}
    return model(input_shape or chosen.input_shape, num_classes=num_classes, **arguments)


def count_params(name: str, *, num_classes: int) -> int:
    """Returns the number of weights of a model without making them, at its preset's input size.

    Args:
        name: One of `names()`.
        num_classes: Number of classes, or of labels.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> count_params("focusnet2d", num_classes=2)
        240905
    """
    with keras.StatelessScope(initialize_variables=False):
        return create(name, num_classes=num_classes).count_params()
