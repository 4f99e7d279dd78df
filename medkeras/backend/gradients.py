"""Gradients with respect to an input, and compiled programs around a model, on whatever backend Keras runs.

Keras has no public function for either, so this is the one place that asks the backend itself.
"""

import contextvars
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras

from medkeras.errors import InputError


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
        raise InputError(
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
        with keras.StatelessScope(state_mapping=_WEIGHTS.get()):
            value = function(x)
        return keras.ops.sum(value), value

    (_, value), gradient = jax.value_and_grad(summed, has_aux=True)(inputs)
    return value, gradient


_GRADIENTS = {"tensorflow": _tensorflow_gradient, "jax": _jax_gradient}

# The weights of the JAX program that is being traced, which an inner scope would hide.
_WEIGHTS: contextvars.ContextVar[Sequence[tuple[Any, Any]]] = contextvars.ContextVar("weights", default=())


def compiled(model: keras.Model, key: Hashable, build: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """Returns a function around a model as a program that the model keeps, compiled once it has been worth it.

    Tracing costs as much as some eight calls, so the first four run as they are. Then it is traced once, whatever
    the number of rows, on TensorFlow, and once for each power of two on JAX. It reads the model's weights as they are
    when it is called.

    Args:
        model: Whose variables the function reads.
        key: Names the program among those of this model; the same key must stand for the same function.
        build: Makes the function, the first time. That takes arrays whose first axis is the batch, and gives a tensor
            or a nest of tensors with that axis.

    Example:
        >>> image = keras.Input((2,))
        >>> model = keras.Model(image, keras.layers.Dense(1, kernel_initializer="ones")(image))
        >>> program = compiled(model, "twice", lambda: lambda x: 2 * model(x, training=False))
        >>> keras.ops.convert_to_numpy(program([[1.0, 2.0], [0.0, 3.0], [1.0, 1.0]])).tolist()
        [[6.0], [6.0], [4.0]]
        >>> compiled(model, "twice", lambda: lambda x: 2 * model(x, training=False)) is program
        True
    """
    # Past Keras, which would track what is kept as a part of the model.
    programs = model.__dict__.setdefault("_programs", {})
    if key not in programs:
        programs[key] = _Program(model, build())
    return programs[key]


class _Program:
    """A function of tensors that is compiled when it is called for the fifth time."""

    def __init__(self, model: keras.Model, function: Callable[..., Any]) -> None:
        self.model, self.function, self.left = model, function, TRIALS

    def __call__(self, *arrays: Any) -> Any:
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
        if self.left == 0 and (compiler := _COMPILERS.get(keras.backend.backend())):
            self.function = compiler(self.model, self.function, tensors)
        self.left -= 1
        return self.function(*tensors)


def _tensorflow_program(model: keras.Model, function: Callable[..., Any], tensors: list[Any]) -> Callable[..., Any]:
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in tensors]
    # The concrete function: TensorFlow warns where the same code is traced for several models.
    return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()


def _jax_program(model: keras.Model, function: Callable[..., Any], tensors: list[Any]) -> Callable[..., Any]:
    import jax

    def pure(weights: list[Any], *tensors: Any) -> Any:
        mapping = list(zip(model.variables, weights, strict=True))
        token = _WEIGHTS.set(mapping)
        try:
            with keras.StatelessScope(state_mapping=mapping):
                return function(*tensors)
        finally:
            _WEIGHTS.reset(token)

    program = jax.jit(pure)

    def call(*tensors: Any) -> Any:
        rows = len(tensors[0])
        # A few sizes of batch instead of any: each is compiled by itself.
        index = [min(i, rows - 1) for i in range(1 << (rows - 1).bit_length())]
        values = program([v.value for v in model.variables], *(keras.ops.take(t, index, axis=0) for t in tensors))
        return keras.tree.map_structure(lambda value: value[:rows], values)

    return call


TRIALS = 4
_COMPILERS = {"tensorflow": _tensorflow_program, "jax": _jax_program}
