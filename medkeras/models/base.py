"""The contract that every architecture keeps."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from medkeras import tasks
from medkeras.backend.replica_seeds import draw_apart
from medkeras.errors import InputError
from medkeras.models.explain_points import ExplainPoint

NORMALIZATIONS = {
    "none": None,
    "half": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class ImageClassifier(keras.Model):
    """A functional Keras model that maps [0, 1] images to logits and says how to explain itself.

    A subclass builds its graph in `__init__`, hands it to this class, and keeps each of its own arguments as the
    attribute of that name, or returns it from `get_config`; so a `.keras` file of it loads with `safe_mode=True`.

    Args:
        inputs: The symbolic image, from `image_input`.
        logits: The symbolic output, `(batch, num_classes)`.
        image_shape: `(height, width, channels)` or `(depth, height, width, channels)`.
        num_classes: Number of classes, or of labels for a `multilabel` task.
        task: One of `medkeras.tasks.TASKS`; by default the single-label task that fits `num_classes`.
        class_names: One name per class; by default `"0", "1", ...`.
        normalization: What the first layer does, see `image_input`.
        explain_points: Named tensors with the rule that folds each back to the image grid.
        stochastic: The dropout layers that Monte Carlo sampling turns on.
        name: Name of the model.

    Attributes:
        image_shape, num_classes, task, class_names, normalization: As given.
        explain_points: `{name: ExplainPoint}`.
        stochastic: Tuple of layers.

    Raises:
        ValueError: If the task does not fit the classes, or the names are not `num_classes` distinct strings.
    """

    def __init__(
        self,
        *,
        inputs: Any,
        logits: Any,
        image_shape: Sequence[int],
        num_classes: int,
        task: str | None,
        class_names: Sequence[str] | None,
        normalization: Any,
        explain_points: Mapping[str, ExplainPoint],
        stochastic: Sequence[keras.layers.Layer] = (),
        name: str | None = None,
    ) -> None:
        super().__init__(inputs=inputs, outputs=logits, name=name)
        self.image_shape = tuple(int(n) for n in image_shape)
        self.num_classes = num_classes
        self.task = tasks.check_task(task or tasks.default_task(num_classes), num_classes)
        self.class_names = _check_class_names(class_names, num_classes)
        self.normalization = normalization
        self._explain_points = dict(explain_points)
        self._stochastic = tuple(stochastic)
        draw_apart(self)

    @property
    def explain_points(self) -> dict[str, ExplainPoint]:
        """Named tensors of the graph, each with its rule."""
        return dict(self._explain_points)

    @property
    def stochastic(self) -> tuple[keras.layers.Layer, ...]:
        """The dropout layers that Monte Carlo sampling turns on, BatchNorm staying frozen."""
        return self._stochastic

    def tensors(self, *names: str) -> keras.Model:
        """Returns a model from the same image to the named explain points, weights shared.

        Args:
            *names: Keys of `explain_points`; `"logits"` is the output itself.

        Raises:
            ValueError: If a name is not declared.
        """
        known = {name: point.tensor for name, point in self._explain_points.items()} | {"logits": self.output}
        for name in names:
            if name not in known:
                raise InputError(f"An explain point of `{self.name}` is one of {sorted(known)}. Received: {name!r}")
        return keras.Model(self.input, {name: known[name] for name in names})

    def official_tensors(self) -> dict[str, Any]:
        """Maps each tensor of the official checkpoint to our variable: see `medkeras.checkpoints.load`.

        Raises:
            ValueError: If the architecture, as configured, has no official checkpoint layout.
        """
        raise InputError(f"`{self.name}` has no official checkpoint layout in this configuration.")

    def is_unused(self, name: str) -> bool:
        """Says whether a tensor that official checkpoints hold, or may hold, has no effect and is passed over.

        Args:
            name: Name of the tensor in the official checkpoint.
        """
        return False

    @property
    def mean_pixel(self) -> tuple[float, ...]:
        """The value in [0, 1] of each channel that the model's own normalisation turns to 0."""
        is_name = isinstance(self.normalization, str)
        statistics = NORMALIZATIONS[self.normalization] if is_name else self.normalization
        mean = np.atleast_1d(0.0 if statistics is None else statistics[0])
        channels = self.image_shape[-1]
        # A grey image that is shown in three colours has the mean of their means.
        mean = mean if len(mean) in (1, channels) else mean.mean(keepdims=True)
        return tuple(np.broadcast_to(mean, channels).tolist())

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, each from the attribute of its name."""
        config = {"input_shape": list(self.image_shape)}
        for name in constructor_arguments(type(self)):
            if name != "input_shape" and hasattr(self, name):
                value = getattr(self, name)
                config[name] = list(value) if isinstance(value, tuple) and name != "normalization" else value
        return config

    def check_arguments(self, *rules: tuple[str, bool, str]) -> None:
        """Refuses the first argument that breaks its rule.

        Args:
            *rules: Name of the argument, which is kept as the attribute of that name; whether it holds; what it must.

        Raises:
            ValueError: If a rule does not hold.
        """
        for name, holds, rule in rules:
            if not holds:
                raise InputError(f"`{name}` must {rule}. Received: {name}={getattr(self, name)!r}")

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ImageClassifier":
        """Builds the model that `get_config` described."""
        return cls(**config)


def constructor_arguments(model: type[ImageClassifier]) -> list[str]:
    """Returns the names of a constructor's arguments, those that it hands on to its base by `**` among them.

    Example:
        >>> from medkeras.models import ViT
        >>> constructor_arguments(ViT)[:6], constructor_arguments(ViT)[-1]
        (['input_shape', 'num_classes', 'task', 'class_names', 'normalization', 'name'], 'dropout')
    """
    taken = list(inspect.signature(model.__init__).parameters.values())[1:]
    names = [parameter.name for parameter in taken if parameter.kind is not parameter.VAR_KEYWORD]
    if len(names) == len(taken):
        return names
    base = constructor_arguments(model.__mro__[model.__mro__.index(_owner(model)) + 1])
    return base + [name for name in names if name not in base]


def _owner(model: type) -> type:
    return next(each for each in model.__mro__ if "__init__" in vars(each))


def image_input(input_shape: Sequence[int], normalization: Any, *, rgb: bool = False) -> tuple[Any, Any]:
    """Returns the symbolic image in [0, 1] and the same image after the model's own normalisation.

    Args:
        input_shape: `(height, width, channels)` or `(depth, height, width, channels)`, all known.
        normalization: `"imagenet"`, `"half"` (mean and std 0.5), `"none"`, or `(mean, std)` with one value or
            one per channel each.
        rgb: Repeats a grey image to three equal channels before it is normalised, as backbones trained on
            colour images expect.

    Raises:
        ValueError: If the shape is not of rank 3 or 4 with positive sizes, or the normalisation is unknown or
            does not fit the channels.
    """
    shape = tuple(input_shape)
    if len(shape) not in (3, 4) or any(n is None or n < 1 for n in shape):
        raise InputError(
            "`input_shape` must be (height, width, channels) or (depth, height, width, channels), all positive. "
            f"Received: input_shape={shape}"
        )
    image = x = keras.Input(shape, name="image")
    if rgb and shape[-1] == 1:
        x = keras.layers.Concatenate(name="rgb")([image] * 3)
    return image, normalize(x, normalization)


def normalize(x: Any, normalization: Any, *, name: str = "normalization") -> Any:
    """Returns the symbolic image after a normalisation.

    Args:
        x: The symbolic image in [0, 1].
        normalization: As for `image_input`.
        name: Name of the layer, if one is needed.

    Raises:
        ValueError: If the normalisation is unknown or does not fit the channels.
    """
    statistics = _mean_and_std(normalization, x.shape[-1])
    if statistics is None:
        return x
    mean, std = statistics
    scale, offset = [1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, name=name)(x)


def _mean_and_std(normalization: Any, channels: int) -> tuple[list[float], list[float]] | None:
    rule = f"`normalization` must be one of {', '.join(NORMALIZATIONS)} or (mean, std) with 1 or {channels} values"
    if isinstance(normalization, str):
        if normalization not in NORMALIZATIONS:
            raise InputError(f"{rule}. Received: normalization={normalization!r}")
        statistics = NORMALIZATIONS[normalization]
        if statistics is None:
            return None
    else:
        statistics = normalization
    try:
        mean, std = ([float(v) for v in (part if isinstance(part, Sequence) else [part])] for part in statistics)
    except (TypeError, ValueError) as error:
        raise InputError(f"{rule}. Received: normalization={normalization!r}") from error
    if any(len(part) not in (1, channels) for part in (mean, std)) or min(std) <= 0:
        raise InputError(f"{rule}, std positive. Received: normalization={normalization!r}")
    return mean * (channels // len(mean)), std * (channels // len(std))


def _check_class_names(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    names = tuple(str(n) for n in (names if names is not None else range(num_classes)))
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise InputError(f"`class_names` must be {num_classes} distinct names. Received: class_names={names}")
    return names
