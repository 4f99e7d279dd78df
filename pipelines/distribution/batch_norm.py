"""BatchNorm on several replicas of a TensorFlow training: normalised by the batch of each, or by that of all together.

In Keras the moving statistics of each replica are its own, and those of the first one are saved: what is validated on
the others is not the model that is saved, and a training that goes on is not the one that ended. Here they are means.

To normalise the whole batch as one device does, Keras has an option too, but takes the variance as E[x²] - E[x]², which
in float32 loses what the mean is larger than the deviation, and it does not know of norms that leave out constant
channels. Here the sums are taken of the distance to one value of the batch, which cancels nothing and is zero
everywhere where a channel is constant.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from medkeras.layers import SteadyBatchNorm

Moments = Callable[[Any, Any], tuple[Any, Any]]


def synchronise_norms(model: keras.Model) -> int:
    """Makes the BatchNorms of a model normalise by the batch of all replicas together; returns how many there are.

    Else each replica normalises by its own part of the batch. Saved models and inference stay as they are.

    Args:
        model: A built model.

    Raises:
        RuntimeError: If this version of Keras computes the moments of a batch elsewhere.

    Example:
        >>> synchronise_norms(keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()]))
        1
    """
    norms = _norms(model)
    for norm in norms:
        if not hasattr(norm, "_moments"):
            raise RuntimeError(f"Synchronised norms need another version of Keras. Received: keras {keras.__version__}")
        norm._moments = functools.partial(_moments, norm._moments)
        if isinstance(norm, SteadyBatchNorm):
            norm.constant_channels = functools.partial(_constant_channels, norm.constant_channels)
    return len(norms)


def average_statistics(model: keras.Model) -> int:
    """Makes the moving statistics of BatchNorms the means of those of all replicas; returns how many norms there are.

    Args:
        model: A built model, whose norms each normalise by the batch of their replica.

    Example:
        >>> average_statistics(keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()]))
        1
    """
    norms = _norms(model)
    for statistic in (part for norm in norms for part in (norm.moving_mean, norm.moving_variance)):
        statistic.assign = functools.partial(_assign_mean, statistic, statistic.assign)
    return len(norms)


def _norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def _assign_mean(statistic: keras.Variable, assign: Callable[[Any], Any], value: Any) -> Any:
    """Assigns a value in a step on several replicas: the mean of what they would assign."""
    # In a part of the step that is a pure function the statistic is a tensor; it is assigned once more after it.
    if _replicas() == 1 or not isinstance(statistic.value, tf.Variable):
        return assign(value)
    return assign(_sum(tf.convert_to_tensor(value)) / _replicas())


def _moments(alone: Moments, inputs: Any, mask: Any) -> tuple[Any, Any]:
    """Returns mean and variance of each channel over all replicas."""
    if _replicas() == 1:
        return alone(inputs, mask)
    values = tf.cast(inputs, tf.float32) if inputs.dtype in (tf.float16, tf.bfloat16) else inputs
    axes, value = _axes(values), _first_of_all(values)
    apart = values - value
    count = tf.ones_like(apart)
    sums = tf.stack([tf.reduce_sum(part, axes, keepdims=True) for part in (apart, apart * apart, count)])
    total, square, count = tf.unstack(_sum(sums))
    mean, square = total / count, square / count
    variance = tf.maximum(square - mean * mean, 0.0)
    return tuple(tf.cast(tf.squeeze(moment, axes), inputs.dtype) for moment in (value + mean, variance))


def _constant_channels(alone: Callable[[Any], Any], inputs: Any) -> Any:
    """Returns whether each channel has one value in the batch of all replicas, with the axes of the inputs."""
    if _replicas() == 1:
        return alone(inputs)
    differs = tf.reduce_any(inputs != _first_of_all(inputs), _axes(inputs), keepdims=True)
    return _sum(tf.cast(differs, tf.float32)) == 0.0


def _first_of_all(values: Any) -> Any:
    """Returns the value of each channel at the first place of the first replica; no gradient flows into it."""
    first = tf.stop_gradient(values[tuple(slice(0, 1) for _ in _axes(values))])
    is_mine = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
    return _sum(tf.where(is_mine, first, tf.zeros_like(first)))


def _sum(values: Any) -> Any:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _axes(values: Any) -> list[int]:
    return list(range(len(values.shape) - 1))


def _replicas() -> int:
    """Returns how many replicas compute together here: one outside of a step, as where a model is built."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync
