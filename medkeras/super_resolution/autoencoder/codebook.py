"""The codebook of a vector-quantised autoencoder."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError


@keras.saving.register_keras_serializable("medkeras")
class Codebook(keras.layers.Layer):
    """Replaces each place of a map by the nearest vector of a learned table; among equals, by the first.

    The search goes row by row, so that it takes `width * size` numbers, not `places * size`. Gradients pass
    unchanged, as if nothing had been replaced.

    Args:
        size: Vectors of the table, at least 1.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: If `size` is below 1.

    Reference:
        van den Oord et al., Neural Discrete Representation Learning, arXiv 1711.00937.

    Example:
        >>> book = Codebook(2)
        >>> book.build((None, None, None, 1))
        >>> book.set_weights([ops.convert_to_numpy([[0.0], [1.0]])])
        >>> ops.convert_to_numpy(book(ops.reshape(ops.array([0.2, 0.9, 7.0]), (1, 1, 3, 1)))).ravel().tolist()
        [0.0, 1.0, 1.0]
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size < 1:
            raise InputError(f"`size` must be at least 1. Received: size={size}")
        self.size = size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the table."""
        limit = 1 / self.size
        self.embedding = self.add_weight(
            shape=(self.size, input_shape[-1]),
            initializer=keras.initializers.RandomUniform(-limit, limit),
            name="embedding",
        )

    def call(self, inputs: Any) -> Any:
        """Replaces each place by its nearest vector."""
        nearest = ops.cast(ops.take(self.embedding, self.indices(inputs), axis=0), inputs.dtype)
        return nearest + (inputs - ops.stop_gradient(inputs))

    def indices(self, inputs: Any) -> Any:
        """Returns which vector is nearest at each place, int32 `(batch, height, width)`."""
        rows = ops.map(self._search, ops.moveaxis(ops.cast(inputs, "float32"), 1, 0))
        return ops.moveaxis(rows, 0, 1)

    def _search(self, places: Any) -> Any:
        """Searches for places `(..., channels)`."""
        table = ops.cast(self.embedding, "float32")
        # Differences, channel by channel: the product form loses the small distances beside the large squares.
        squares = [ops.square(places[..., i, None] - table[:, i]) for i in range(places.shape[-1])]
        return ops.cast(ops.argmin(sum(squares), axis=-1), "int32")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"size": self.size}
