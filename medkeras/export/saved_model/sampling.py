"""Monte Carlo dropout in a TensorFlow graph: the masks follow from a seed alone, and no state moves."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from medkeras import tasks
from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from medkeras.uncertainty.monte_carlo import split_at_dropout, stochastic_layers

MAX_SAMPLES = 1000


def uncertainty_function(model: ImageClassifier) -> Callable[[Any, Any, Any], dict[str, Any]]:
    """Returns the function behind the signature `uncertainty`.

    Each sample is one thinned network, seen by all images: the masks follow from the seed, the sample and the layer,
    not from the place of an image in the batch. What lies before the dropout runs once.

    Args:
        model: A model whose stochastic layers are `keras.layers.Dropout` with a rate above 0.

    Returns:
        From images `(batch, *image_shape)`, the number of samples from 1 to 1000 and a seed, both int32 scalars, to
        `mean` `(batch, classes)`, `entropy` and `mutual_information` in nats, `(batch,)`, or `(batch, labels)` for a
        `multilabel` task, see `medkeras.uncertainty.Uncertainty`.

    Raises:
        ValueError: If the model has no such layer, or a stochastic layer of another kind.

    Reference:
        Gal and Ghahramani, Dropout as a Bayesian Approximation, arXiv 1506.02142.

    Example:
        >>> from medkeras.models import create
        >>> small = {"input_shape": (16, 16, 1), "depth": 1, "saccades": 1}
        >>> model = create("focusnet2d_tiny", num_classes=2, dropout=0.5, **small)
        >>> found = uncertainty_function(model)(ops.ones((3, 16, 16, 1)), 4, 0)
        >>> found["mean"].shape.as_list(), found["entropy"].shape.as_list()
        ([3, 2], [3])
    """
    if not can_sample(model):
        kinds = ", ".join(sorted({type(layer).__name__ for layer in stochastic_layers(model)})) or "no dropout"
        raise InputError(f"Sampling in a graph needs `keras.layers.Dropout`. Received: {model.name} with {kinds}")
    masks = _Masks()
    once, often = _parts(model, stochastic_layers(model), masks)

    def sample(image: Any, samples: Any, seed: Any) -> dict[str, Any]:
        import tensorflow as tf

        samples, seed = (tf.convert_to_tensor(value, tf.int32) for value in (samples, seed))
        rule = f"`samples` must be from 1 to {MAX_SAMPLES}. Received: samples ="
        with tf.control_dependencies([tf.debugging.Assert((samples >= 1) & (samples <= MAX_SAMPLES), [rule, samples])]):
            features = once(image, training=False)

        def add(index: Any, total: Any, surprise: Any) -> tuple[Any, Any, Any]:
            masks.begin(seed, index)
            found = tf.cast(tasks.to_probabilities(often(features, training=False), model.task), tf.float64)
            return index + 1, total + found, surprise + _entropy(found, model.task)

        zeros = tf.zeros((tf.shape(image)[0], model.num_classes), tf.float64)
        start = (0, zeros, _entropy(zeros, model.task))
        _, total, surprise = tf.while_loop(lambda index, *_: index < samples, add, start)
        mean, expected = (values / tf.cast(samples, tf.float64) for values in (total, surprise))
        entropy = _entropy(mean, model.task)
        found = {"mean": mean, "entropy": entropy, "mutual_information": tf.maximum(entropy - expected, 0)}
        return {name: tf.cast(values, tf.float32) for name, values in found.items()}

    return sample


def can_sample(model: ImageClassifier) -> bool:
    """Says whether a model has stochastic layers, all of them `keras.layers.Dropout`.

    Example:
        >>> from medkeras.models import create
        >>> can_sample(create("focusnet2d_tiny", num_classes=2, dropout=0.0))
        False
    """
    layers = stochastic_layers(model)
    return bool(layers) and all(type(layer) is keras.layers.Dropout for layer in layers)


def dropout_mask(shape: tuple[int, ...], *, rate: float, seed: Any, sample: Any, call: int) -> Any:
    """Returns the mask of one dropout in one sample: 0 at the given rate, else 1 / (1 - rate).

    Args:
        shape: Of the mask.
        rate: Share of zeros, in [0, 1).
        seed: int32 scalar.
        sample: Number of the sample, int32 scalar.
        call: Number of the dropout within the model, below 65536.

    Example:
        >>> mask = dropout_mask((1, 100), rate=0.5, seed=1, sample=0, call=0)
        >>> sorted(set(mask.numpy().ravel().tolist()))
        [0.0, 2.0]
    """
    import tensorflow as tf

    key = tf.stack([tf.cast(seed, tf.int32), tf.cast(sample, tf.int32) * 65536 + call])
    # By name: what is chosen automatically differs between devices.
    drawn = tf.random.stateless_uniform(shape, key, alg="philox")
    return tf.cast(drawn >= rate, tf.float32) / (1 - rate)


class _Masks:
    """The masks of one sample, in the order in which the dropouts of a model ask for them."""

    def begin(self, seed: Any, sample: Any) -> None:
        self.seed, self.sample, self.calls = seed, sample, itertools.count()

    def draw(self, shape: tuple[int, ...], rate: float) -> Any:
        return dropout_mask(shape, rate=rate, seed=self.seed, sample=self.sample, call=next(self.calls))


class _GivenDropout(keras.layers.Layer):
    """A dropout whose mask is given, the same for all images of a batch."""

    def __init__(self, dropout: keras.layers.Dropout, masks: _Masks) -> None:
        super().__init__(name=f"{dropout.name}_given", dtype=dropout.dtype_policy)
        self.rate, self.noise_shape, self.masks = dropout.rate, dropout.noise_shape, masks

    def call(self, inputs: Any) -> Any:
        own = [1, *inputs.shape[1:]]
        shared = self.noise_shape or own
        shape = tuple(1 if i == 0 or wanted == 1 else n for i, (n, wanted) in enumerate(zip(own, shared, strict=True)))
        return inputs * ops.cast(self.masks.draw(shape, self.rate), inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def _parts(model: ImageClassifier, layers: Any, masks: _Masks) -> tuple[keras.Model, keras.Model]:
    """Returns the model up to where its dropout begins, and the rest with given masks."""
    once, rest = split_at_dropout(model, layers)
    is_nested = not set(layers) <= set(rest.layers)
    often = keras.models.clone_model(
        rest,
        clone_function=lambda layer: _GivenDropout(layer, masks) if layer in layers else layer,
        **({"recursive": True} if is_nested else {}),
    )
    return keras.Model(model.input, once), often


def _entropy(probabilities: Any, task: str) -> Any:
    import tensorflow as tf

    surprise = -tf.math.xlogy(probabilities, probabilities)
    if tasks.is_multilabel(task):
        return surprise - tf.math.xlogy(1 - probabilities, 1 - probabilities)
    return tf.reduce_sum(surprise, axis=-1)
