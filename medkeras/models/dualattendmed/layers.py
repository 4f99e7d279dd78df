"""Layers of DualAttendMed: the counterfactual attention that it is trained against, and the crop that it looks at."""

from typing import Any

import keras
from keras import ops

from medkeras.layers.attention_crop import attention_crop


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


@keras.saving.register_keras_serializable("medkeras")
class AttentionCrop(keras.layers.Layer):
    """Zooms each image to the box that its attention map chooses; see `medkeras.layers.attention_crop`.

    Args:
        threshold: Share of the map's maximum that the box holds, in [0, 1].
        padding: Rim about it, as a share of the image, in [0, 1).
        peak: Where the maximum is taken, `map` or `image`.

    Input shape:
        Two tensors, `(batch, *sizes, channels)` and `(batch, *cells)`.

    Output shape:
        That of the images.

    Raises:
        ValueError: If the threshold or the padding is out of range.

    Reference:
        Hu et al., arXiv 1901.09891.

    Example:
        >>> tuple(AttentionCrop(0.5)([ops.ones((2, 8, 8, 3)), ops.ones((2, 4, 4))]).shape)
        (2, 8, 8, 3)
    """

    def __init__(self, threshold: float = 0.5, *, padding: float = 0.1, peak: str = "map", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value, holds, rule in (
            ("threshold", threshold, 0 <= threshold <= 1, "in [0, 1]"),
            ("padding", padding, 0 <= padding < 1, "in [0, 1)"),
        ):
            if not holds:
                raise ValueError(f"`{name}` must be {rule}. Received: {name}={value}")
        self.threshold, self.padding, self.peak = threshold, padding, peak

    def call(self, inputs: Any) -> Any:
        """Returns the zoomed images."""
        images, attention = inputs
        return attention_crop(images, attention, threshold=self.threshold, padding=self.padding, peak=self.peak)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape of the images."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"threshold": self.threshold, "padding": self.padding, "peak": self.peak}
