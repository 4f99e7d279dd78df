"""A layer that runs as in training, whatever the rest of the model does."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("medkeras")
class AlwaysOn(keras.layers.Layer):
    """Runs a layer, such as a dropout, in training mode while all others stay in inference mode.

    Calling a whole model with `training=True` to sample its dropout would also let BatchNorm normalise by the batch
    and move its statistics, and drop whole residual branches.

    Args:
        layer: The layer; it is shared, not copied.
        **kwargs: As of `keras.layers.Layer`.

    Input shape:
        That of the layer.

    Output shape:
        That of the layer.

    Reference:
        Gal and Ghahramani, Dropout as a Bayesian Approximation, arXiv 1506.02142.

    Example:
        >>> ones = keras.ops.ones((1, 1000))
        >>> float(keras.ops.mean(AlwaysOn(keras.layers.Dropout(0.5, seed=0))(ones, training=False) > 0)) < 0.6
        True
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**({"name": f"{layer.name}_on", "dtype": layer.dtype_policy} | kwargs))
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        """Builds the layer, unless it is."""
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the layer in training mode."""
        return self.layer(inputs, training=True)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the layer's."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AlwaysOn":
        """Builds the layer that `get_config` described, around a new one."""
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)
