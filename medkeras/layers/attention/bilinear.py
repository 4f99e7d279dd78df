"""Bilinear attention pooling: one feature vector per attention map."""

from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers.sampling import resize_aligned
from medkeras.layers.steady_max import steady_max

POOLINGS = ("average", "max")
SMALLEST_NORM = 1e-12


@keras.saving.register_keras_serializable("medkeras")
class BilinearAttentionPooling(keras.layers.Layer):
    """Pools features once under each attention map and normalises the result to one unit vector.

    `g[m, c]` is the mean over the map of `attention[m] * features[c]`. Every value becomes its signed square root
    `sign(g) * sqrt(|g| + epsilon)`, and the whole vector is divided by its length. All of this is in float32,
    whatever the policy: the square root of a small half-precision number is mostly rounding.

    Args:
        pooling: `"average"`, or `"max"` for the maximum over the map in place of the mean.
        epsilon: Added under the square root, positive; 1e-6 in CAL, 1e-12 in WS-DAN.

    Input shape:
        `[features, attention]`: `(batch, height, width, channels)` and `(batch, rows, columns, maps)`. Attention of
        another size is resized to the features bilinearly, corners aligned.

    Output shape:
        `(batch, maps * channels)`, float32, all channels of the first map first; of length 1, or all 0 where every
        map is 0.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Hu et al., See Better Before Looking Closer: Weakly Supervised Data Augmentation Network for Fine-Grained
        Visual Classification, arXiv 1901.09891.

    Example:
        >>> vector = BilinearAttentionPooling()([ops.ones((2, 7, 7, 16)), ops.ones((2, 7, 7, 4))])
        >>> tuple(vector.shape)
        (2, 64)
    """

    def __init__(self, *, pooling: str = "average", epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if pooling not in POOLINGS:
            raise InputError(f"`pooling` must be one of {POOLINGS}. Received: pooling={pooling!r}")
        if not epsilon > 0:
            raise InputError(f"`epsilon` must be positive. Received: epsilon={epsilon}")
        self.pooling, self.epsilon = pooling, epsilon

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """Returns one unit vector per image."""
        features, attention = (ops.cast(x, "float32") for x in inputs)
        size = tuple(features.shape[1:-1])
        if tuple(attention.shape[1:-1]) != size:
            attention = resize_aligned(attention, size)
        pooled = ops.reshape(self._pool(features, attention), (-1, attention.shape[-1] * features.shape[-1]))
        rooted = ops.sign(pooled) * ops.sqrt(ops.abs(pooled) + self.epsilon)
        # The bound is on the square: the gradient of a length is NaN where the vector is zero.
        square = ops.sum(rooted * rooted, axis=-1, keepdims=True)
        return rooted * ops.rsqrt(ops.maximum(square, SMALLEST_NORM**2))

    def _pool(self, features: Any, attention: Any) -> Any:
        """Returns `(batch, maps, channels)`."""
        rows, columns, maps = attention.shape[1:]
        if self.pooling == "max":
            seen = (steady_max(features * attention[..., m : m + 1], (1, 2))[:, 0, 0] for m in range(maps))
            return ops.stack(list(seen), axis=1)
        return ops.einsum("bhwm,bhwc->bmc", attention, features) / (rows * columns)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns `(batch, maps * channels)`."""
        features, attention = input_shape
        return (features[0], attention[-1] * features[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"pooling": self.pooling, "epsilon": self.epsilon}
