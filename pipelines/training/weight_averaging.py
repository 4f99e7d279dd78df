"""Running means of the weights: what is validated and saved is steadier than what is trained."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

LAG = 9  # The first updates weigh as in a mean of nearly all of them, so that the start is soon forgotten.


class Averaging:
    """An optimizer that, asked by `follow`, keeps running means of weights; comes before a Keras optimizer.

    After update n, counted from 0, `mean = d * mean + (1 - d) * weight` with `d = min(decay, n / (n + 9))`: the first
    update makes the mean the weight. With accumulated gradients, an update is what several steps make together.

    Reference:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 30, 1992;
        the rising decay is that of `tf.train.ExponentialMovingAverage` with `num_updates`.

    Example:
        >>> class AveragedSGD(Averaging, keras.optimizers.SGD):
        ...     pass
        >>> weight, optimizer = keras.Variable([1.0]), AveragedSGD(1.0)
        >>> optimizer.build([weight])
        >>> optimizer.follow([weight], decay=0.9)
        >>> for _ in range(2):
        ...     optimizer.apply([ops.ones(1)], [weight])
        >>> round(float(weight[0]), 4), round(float(optimizer.means[0][0]), 4)  # 0.1 * 0 + 0.9 * -1
        (-1.0, -0.9)
    """

    means: Sequence[Any] = ()

    def follow(self, variables: Sequence[Any], *, decay: float) -> None:
        """Starts to keep the means of variables, those of them that are real numbers.

        Args:
            variables: Weights, trainable or not.
            decay: What remains of a mean in an update, in (0, 1).
        """
        self.followed = [v for v in variables if keras.backend.is_float_dtype(v.dtype)]
        self.means = [self.add_variable_from_reference(v, name="mean") for v in self.followed]
        self.mean_decay = decay

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Applies gradients, and moves the means if that was an update."""
        before = ops.add(self.iterations, 0)  # A copy: a variable would change.
        super().apply(grads, trainable_variables)
        if not self.means:
            return
        n = ops.cast(before, "float32")
        decay = ops.minimum(self.mean_decay, n / (n + LAG))
        rate = ops.where(self.iterations > before, 1.0 - decay, 0.0)
        for variable, mean in zip(self.followed, self.means, strict=True):
            self.assign_add(mean, ops.cast(rate, mean.dtype) * ops.subtract(variable, mean))


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Within the block, a compiled model has the means of its weights, where its optimizer keeps any.

    Its own weights come back bit for bit.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not getattr(optimizer, "means", ()):
        yield
        return
    own = [np.copy(ops.convert_to_numpy(variable)) for variable in optimizer.followed]
    for variable, mean in zip(optimizer.followed, optimizer.means, strict=True):
        variable.assign(mean)
    try:
        yield
    finally:
        for variable, value in zip(optimizer.followed, own, strict=True):
            variable.assign(value)


class ValidateAveraged(keras.callbacks.Callback):
    """Has `fit` validate the means of the weights, where the optimizer keeps any."""

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the model the means."""
        self.block = averaged_weights(self.model)
        self.block.__enter__()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the model its own weights again."""
        self.block.__exit__(None, None, None)
