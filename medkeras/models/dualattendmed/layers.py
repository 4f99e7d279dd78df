"""The counterfactual attention that DualAttendMed is trained against."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("medkeras")
class CounterfactualAttention(keras.layers.Layer):
    """Returns attention that knows nothing of the image: random in training, even in inference.

    Args:
        seed: Seed of the random attention; by default a new one for each layer, from Keras' global seed.

    Input shape:
        Any; only its shape counts.

    Output shape:
        Same as the input: uniform in [0, 2) in training, else all ones.

    Reference:
        Rao et al., Counterfactual Attention Learning for Fine-Grained Visual Categorization and
        Re-identification, arXiv 2108.08728.

    Example:
        >>> ops.convert_to_numpy(CounterfactualAttention()(ops.zeros((1, 1, 2, 1)))).tolist()
        [[[[1.0], [1.0]]]]
    """

    def __init__(self, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns random or even attention of the shape of `inputs`."""
        if not training:
            return ops.ones_like(inputs)
        return keras.random.uniform(ops.shape(inputs), 0, 2, dtype=inputs.dtype, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"seed": self.seed}
