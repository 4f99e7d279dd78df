"""The gradient of a function with respect to its input, on whatever backend Keras runs.

Keras has no public function for this, so this is the one place that asks the backend itself.
"""

from collections.abc import Callable
from typing import Any

import keras


def input_gradient(function: Callable[[Any], Any], inputs: Any) -> tuple[Any, Any]:
    """Returns what a function gives, and the gradient of its sum with respect to its input.

    With one value per image, each image's gradient is that of its own value.

    Args:
        function: A differentiable function of one tensor, written in Keras; it returns one tensor.
        inputs: Float array or tensor.

    Returns:
        The function's value, and the gradient, of the shape of `inputs`; zero where the value does not depend
        on the input.

    Raises:
        ValueError: If Keras runs on another backend than TensorFlow or JAX.

    Example:
        >>> value, gradient = input_gradient(lambda x: keras.ops.sum(x**2, axis=-1), [[1.0, 2.0], [0.0, 3.0]])
        >>> keras.ops.convert_to_numpy(value).tolist()
        [5.0, 9.0]
        >>> keras.ops.convert_to_numpy(gradient).tolist()
        [[2.0, 4.0], [0.0, 6.0]]
    """
    inputs = keras.ops.convert_to_tensor(inputs)
    backend = keras.backend.backend()
    if backend not in _GRADIENTS:
        raise ValueError(
            f"Input gradients need one of the backends {', '.join(_GRADIENTS)}. Received: backend={backend!r}"
        )
    return _GRADIENTS[backend](function, inputs)


def _tensorflow_gradient(function: Callable[[Any], Any], inputs: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        value = function(inputs)
    return value, tape.gradient(value, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _jax_gradient(function: Callable[[Any], Any], inputs: Any) -> tuple[Any, Any]:
    import jax

    def summed(x: Any) -> tuple[Any, Any]:
        # Layers must not keep what they compute here, a loss for instance: it would be a dead tracer.
        with keras.StatelessScope():
            value = function(x)
        return keras.ops.sum(value), value

    (_, value), gradient = jax.value_and_grad(summed, has_aux=True)(inputs)
    return value, gradient


_GRADIENTS = {"tensorflow": _tensorflow_gradient, "jax": _jax_gradient}
