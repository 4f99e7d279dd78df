"""XLA on several replicas: each compiles its own pass over the network, and what they share stays outside.

Keras compiles the step of all replicas together, in which sums over devices have no compiled form. Here the forward
pass, the loss and the gradients are one program per replica, a pure function of the batch and of the values of all
variables. What it would have assigned, the optimizer and the metrics follow in the replica's own context.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def compile_replicas(model: keras.Model) -> keras.Model:
    """Has each replica compile its part of a training step by XLA, and returns the model.

    Losses, weights, statistics and logs are those of a step without XLA, but for rounding and for the random numbers
    that XLA draws. Evaluation and prediction are not compiled.

    Args:
        model: Built and compiled within the scope of its strategy. Norms that look at the batch of all replicas
            within the forward pass cannot be part of it.

    Raises:
        RuntimeError: If this version of Keras does not have the methods of a training step.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> sorted(compile_replicas(model).train_on_batch(keras.ops.ones((4, 2)), keras.ops.ones(4), return_dict=True))
        ['loss']
    """
    if not all(hasattr(model, name) for name in ("_compute_loss", "_loss_tracker")):
        raise RuntimeError(f"XLA on replicas needs another version of Keras. Received: keras {keras.__version__}")
    model.jit_compile = False
    compiled = tf.function(functools.partial(_pass, model), jit_compile=True, autograph=False)
    model.train_step = functools.partial(_step, model, compiled)
    return model


def _step(model: keras.Model, compiled: Callable[..., Any], data: Any) -> dict[str, Any]:
    """Takes a training step in the context of a replica, as Keras does; returns the logs."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    variables = _variables(model)
    scale = model.optimizer.scale_loss(keras.ops.ones(()))
    values = [tf.identity(variable.value) for variable in variables]
    loss, y_pred, gradients, changed = compiled(x, y, sample_weight, values, scale)
    for variable, value in zip(variables, changed, strict=True):
        if value is not None:
            variable.assign(value)
    # Keras divides a loss by the number of replicas, since their gradients are added up; what it logs is not divided.
    rows = tf.shape(keras.tree.flatten(x)[0])[0]
    model._loss_tracker.update_state(loss * model.distribute_strategy.num_replicas_in_sync, sample_weight=rows)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _pass(model: keras.Model, x: Any, y: Any, sample_weight: Any, values: list[Any], scale: Any) -> tuple[Any, ...]:
    """Returns loss, outputs, gradients of the scaled loss, and the new value of each variable, None if it stays."""
    variables = _variables(model)
    with keras.StatelessScope(zip(variables, values, strict=True), collect_losses=True) as scope:
        before = [scope.get_current_value(variable) for variable in variables]
        weights = [scope.get_current_value(variable) for variable in model.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            y_pred = model(x, training=True)
            loss = model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
            scaled = loss * tf.cast(scale, loss.dtype)
        gradients = tape.gradient(scaled, weights)
    after = [scope.get_current_value(variable) for variable in variables]
    return loss, y_pred, gradients, [None if new is old else new for old, new in zip(before, after, strict=True)]


def _variables(model: keras.Model) -> list[keras.Variable]:
    """Returns all that a pass may read or assign; a loss may log its terms."""
    return [*model.variables, *model.metrics_variables]
