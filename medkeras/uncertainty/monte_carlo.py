"""Monte Carlo dropout: the same image seen by many thinned copies of a network."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.layers import AlwaysOn
from medkeras.models import ImageClassifier
from medkeras.uncertainty.measures import Uncertainty, summarize
from medkeras.uncertainty.sampling import sampled, task_of


class MonteCarloDropout:
    """Samples a model's predictions with its dropout on and everything else, BatchNorm too, in inference mode.

    All samples of a batch are one compiled call. What lies before the first stochastic layer runs once, if all of
    them lie behind it, as where dropout is in the head; else the whole model runs for each sample. The model itself,
    its weights and its moving statistics stay as they are.

    Args:
        model: A model of this package, or any functional Keras model with dropout layers of its own.
        samples: Predictions per image, at least 1; 50 or more for a steady entropy.
        task: Needed for other models only: one of `medkeras.tasks.TASKS`.
        from_logits: Whether the model gives logits, as those of this package do.

    Raises:
        ValueError: If the model has no stochastic layer, or an argument is out of range.

    Reference:
        Gal and Ghahramani, Dropout as a Bayesian Approximation, arXiv 1506.02142.

    Example:
        >>> from medkeras.models import create
        >>> sampled = MonteCarloDropout(create("focusnet2d_tiny", num_classes=2, dropout=0.5), samples=8)
        >>> found = sampled.predict(np.ones((3, 28, 28, 1), "float32"), seed=1)
        >>> found.mean.shape, found.entropy.shape
        ((3, 2), (3,))
    """

    def __init__(
        self, model: keras.Model, *, samples: int = 50, task: str | None = None, from_logits: bool = True
    ) -> None:
        if samples < 1:
            raise InputError(f"`samples` must be at least 1. Received: samples={samples}")
        self.samples, self.from_logits = samples, from_logits
        self.layers = stochastic_layers(model)
        if not self.layers:
            raise InputError(
                "Monte Carlo dropout needs a model with a dropout layer; build it with a rate above 0. "
                f"Received: model={model.name!r}"
            )
        self.task = task_of(model, task, by="Monte Carlo dropout")
        self.model = _sampler(model, self.layers, samples)

    def predict(self, images: Any, *, seed: int = 0, batch_size: int = 32) -> Uncertainty:
        """Returns what the samples agree and disagree on.

        Args:
            images: `(n, *image_shape)`, float in [0, 1].
            seed: The same seed, images and batch size give the same samples.
            batch_size: Images per call.

        Raises:
            ValueError: If the outputs are no probabilities, or logits are NaN.
        """
        return summarize(self.sample(images, seed=seed, batch_size=batch_size), task=self.task)

    def sample(self, images: Any, *, seed: int = 0, batch_size: int = 32) -> np.ndarray:
        """Returns the probabilities of each sample, float32 `(samples, n, classes)`; see `predict`."""
        with _seeded(self.layers, seed):
            return sampled(self.model, images, task=self.task, from_logits=self.from_logits, batch_size=batch_size)


def stochastic_layers(model: keras.Model) -> tuple[keras.layers.Layer, ...]:
    """Returns the layers that Monte Carlo sampling turns on: those that a model declares, else its dropout layers.

    Dropout at rate 0, and dropout within a layer of another kind, are not among them.

    Example:
        >>> inputs = keras.Input((4,))
        >>> model = keras.Model(inputs, keras.layers.Dropout(0.2, name="drop")(inputs))
        >>> [layer.name for layer in stochastic_layers(model)]
        ['drop']
    """
    found = model.stochastic if isinstance(model, ImageClassifier) else _dropouts(model)
    return tuple(layer for layer in found if getattr(layer, "rate", 1) > 0)


def _dropouts(model: keras.Model) -> list[keras.layers.Layer]:
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _dropouts(layer)
        elif isinstance(layer, (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)):
            found.append(layer)
    return found


def _sampler(model: keras.Model, layers: Sequence[keras.layers.Layer], samples: int) -> keras.Model:
    """Returns a model from images to `(batch, samples, outputs)`."""
    once, rest = split_at_dropout(model, layers)
    is_nested = not set(layers) <= set(rest.layers)
    often = keras.models.clone_model(
        rest,
        clone_function=lambda layer: AlwaysOn(layer) if layer in layers else layer,
        **({"recursive": True} if is_nested else {}),
    )
    outputs = often(ops.repeat(once, samples, axis=0))
    return keras.Model(model.input, ops.reshape(outputs, (-1, samples, *outputs.shape[1:])))


def split_at_dropout(model: keras.Model, layers: Sequence[keras.layers.Layer]) -> tuple[Any, keras.Model]:
    """Returns the tensor behind which all stochastic layers lie, and the model from there on.

    Args:
        model: A functional model.
        layers: Its stochastic layers, see `stochastic_layers`; where they lie on several ways, or in a model inside,
            the tensor is the model's input.

    Example:
        >>> inputs = keras.Input((4,))
        >>> drop = keras.layers.Dropout(0.2)
        >>> model = keras.Model(inputs, keras.layers.Dense(2)(drop(keras.layers.Dense(3)(inputs))))
        >>> tensor, rest = split_at_dropout(model, [drop])
        >>> tensor.shape, rest.output_shape
        ((None, 3), (None, 2))
    """
    for layer in layers:
        try:
            rest = keras.Model(layer.input, model.output)
        except (ValueError, AttributeError):  # In a model inside, or not the only way to the output.
            continue
        if set(layers) <= set(rest.layers):
            return layer.input, rest
    return model.input, keras.Model(model.input, model.output)


@contextlib.contextmanager
def _seeded(layers: Sequence[keras.layers.Layer], seed: int) -> Iterator[None]:
    """Starts the layers' random numbers from a seed, and leaves them where they were."""
    states = [layer.seed_generator.state for layer in layers]
    before = [ops.convert_to_numpy(state) for state in states]
    for i, state in enumerate(states):
        state.assign(np.array([seed, i << 16], state.dtype))
    try:
        yield
    finally:
        for state, value in zip(states, before, strict=True):
            state.assign(value)
