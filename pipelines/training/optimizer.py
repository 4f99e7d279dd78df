"""The optimizer of a run, with weight decay as the published systems apply it."""

from typing import Any

import keras

from medkeras.errors import InputError
from pipelines.training.config import TrainConfig
from pipelines.training.learning_rate import learning_rates
from pipelines.training.weight_averaging import Averaging


class _Decayed(Averaging):
    """Weight decay of an optimizer variable by variable, at the learning rate that the step already has.

    Keras would ask the schedule again for each variable, which takes longer to trace than the update itself.
    """

    def __init__(self, *args: Any, decay: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decay = decay

    def decays(self, variable: Any) -> bool:
        """Says whether a variable decays."""
        # `_use_weight_decay` holds what `exclude_from_weight_decay` was told; Keras has no public way to ask.
        return bool(self.decay) and self._use_weight_decay(variable)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return super().get_config() | {"decay": self.decay}

    # Keras clips what each replica computed, before it adds them up; the norm is that of the sum.
    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        return grads if self._is_shared() else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[tuple[Any, Any]]:
        pairs = super()._all_reduce_sum_gradients(grads_and_vars)
        if not self._is_shared() or not pairs:
            return pairs
        gradients, variables = zip(*pairs, strict=True)
        return list(zip(super()._clip_gradients(list(gradients)), variables, strict=True))

    def _is_shared(self) -> bool:
        return self._distribution_strategy.num_replicas_in_sync > 1


class _DecayInGradient(_Decayed):
    """Adds weight decay to the gradient, so that it passes through momentum and moments, as PyTorch's SGD does."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        if self.decays(variable):
            gradient = gradient + self.decay * keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)


class DecayedSGD(_DecayInGradient, keras.optimizers.SGD):
    """SGD with momentum whose weight decay is part of the gradient.

    Args:
        *args: Those of `keras.optimizers.SGD`.
        decay: Factor of the weights in the gradient, >= 0.
        **kwargs: Those of `keras.optimizers.SGD`.

    Example:
        >>> weight = keras.Variable([1.0])
        >>> DecayedSGD(0.1, decay=0.5).apply([keras.ops.zeros(1)], [weight])
        >>> round(float(weight[0]), 6)
        0.95
    """


class DecayedAdam(_DecayInGradient, keras.optimizers.Adam):
    """Adam whose weight decay is part of the gradient.

    Args:
        *args: Those of `keras.optimizers.Adam`.
        decay: Factor of the weights in the gradient, >= 0.
        **kwargs: Those of `keras.optimizers.Adam`.

    Example:
        >>> weight = keras.Variable([1.0])
        >>> DecayedAdam(0.1, decay=0.5).apply([keras.ops.zeros(1)], [weight])
        >>> round(float(weight[0]), 4)
        0.9
    """


class DecoupledAdam(_Decayed, keras.optimizers.Adam):
    """Adam with weight decay beside the gradient: the arithmetic of `keras.optimizers.AdamW`, traced faster.

    Args:
        *args: Those of `keras.optimizers.Adam`.
        decay: Share of a weight that is taken off per step and unit of learning rate, >= 0.
        **kwargs: Those of `keras.optimizers.Adam`.

    Example:
        >>> weight = keras.Variable([1.0])
        >>> DecoupledAdam(0.1, decay=0.5).apply([keras.ops.zeros(1)], [weight])
        >>> round(float(weight[0]), 6)
        0.95
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        if self.decays(variable):
            rate = keras.ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, variable * self.decay * rate)
        super().update_step(gradient, variable, learning_rate)


def build_optimizer(config: TrainConfig, model: keras.Model, *, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a run.

    With `accumulate`, gradients are summed over as many steps, clipped and applied together. With `ema`, it keeps
    the running means of all weights, trainable or not.

    Args:
        config: The configuration.
        model: What is trained, built.
        steps_per_epoch: Training batches per epoch.

    Raises:
        ValueError: If an epoch has fewer steps than are accumulated.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> config = TrainConfig(data="phantom", model="focusnet2d", run="runs/a", optimizer="sgd")
        >>> build_optimizer(config, model, steps_per_epoch=10).name
        'decayed_sgd'
    """
    rates = learning_rates(config, steps_per_epoch)
    if config.accumulate > steps_per_epoch:
        raise InputError(
            f"`accumulate` must be at most the steps of an epoch, {steps_per_epoch}. "
            f"Received: accumulate={config.accumulate}"
        )
    options = {} if config.clip_norm is None else {"global_clipnorm": config.clip_norm}
    if config.accumulate > 1:
        options["gradient_accumulation_steps"] = config.accumulate
    if config.optimizer == "sgd":
        optimizer = DecayedSGD(
            rates, momentum=config.momentum, decay=config.weight_decay, name="decayed_sgd", **options
        )
    elif config.optimizer == "adam":
        optimizer = DecayedAdam(rates, decay=config.weight_decay, name="decayed_adam", **options)
    else:
        optimizer = DecoupledAdam(rates, decay=config.weight_decay, name="adamw", **options)
    if not config.decay_vectors:
        # Biases, and the scales and shifts of norms: by variable, since names differ from layer to layer.
        optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if is_exempt(v)])
    # Else the first step would make the moments, and TensorFlow would trace it a second time without that.
    optimizer.build(model.trainable_variables)
    if config.ema is not None:
        optimizer.follow(model.weights, decay=config.ema)
    return optimizer


def is_exempt(variable: Any) -> bool:
    """Says whether a weight is a bias or has one axis, as those of norms.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> dense.build((None, 3))
        >>> [is_exempt(v) for v in dense.trainable_variables]
        [False, True]
    """
    return len(variable.shape) <= 1 or variable.name == "bias"
