"""Drop path: a residual branch that is left out at random while training."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError


@keras.saving.register_keras_serializable("medkeras")
class DropPath(keras.layers.Layer):
    """Drops the branch of whole images with probability `rate` in training, and divides the others by `1 - rate`.

    It stands on a residual branch, before the sum, so that a dropped image passes by the skip connection alone.
    It is no `Dropout`: Monte Carlo sampling leaves it off.

    Args:
        rate: Probability in [0, 1).
        seed: Integer seed of the draws; None for a random one.

    Input shape:
        `(batch, ...)`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: If `rate` is outside [0, 1).

    Reference:
        Huang et al., Deep Networks with Stochastic Depth, arXiv 1603.09382.

    Example:
        >>> float(ops.sum(DropPath(0.5)(ops.ones((1, 2, 2, 3)))))
        12.0
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise InputError(f"`rate` must be in [0, 1). Received: rate={rate}")
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Drops images of the batch while training."""
        if not training or not self.rate:
            return inputs
        shape = (ops.shape(inputs)[0], *[1] * (len(inputs.shape) - 1))
        kept = keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(kept, inputs.dtype) / (1 - self.rate)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"rate": self.rate, "seed": self.seed}
