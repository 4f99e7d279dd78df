"""What every layer must keep, as one call: configuration, weights, eager = graph = XLA, precision, saving."""

import json

import keras
import numpy as np
import tensorflow as tf


def arrays(tree):
    """Returns the numpy arrays of an output, in a fixed order."""
    return [keras.ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(tree)]


def assert_close(actual, expected, tolerance):
    for a, b in zip(arrays(actual), arrays(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, np.abs(b).max()), rtol=0)


def run_layer_test(make, inputs, *, weights, tolerance=1e-5, half_tolerance=0.05):
    """Holds a layer to the contract.

    Args:
        make: Function that builds the layer; takes `dtype`.
        inputs: One array or a list of arrays, batch of at least two.
        weights: Expected number of (trainable, non-trainable) weights.
        tolerance: Between eager, graph, XLA and the saved layer, relative to the largest output.
        half_tolerance: Between float32 and bfloat16.
    """
    layer = make(dtype="float32")
    expected = layer(inputs)
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == weights
    _check_shapes(layer, inputs, expected)
    _check_config(layer, inputs, expected)
    _check_compiled(layer, inputs, expected, tolerance)
    _check_rows_independent(layer, inputs, expected, tolerance)
    _check_gradients(layer, inputs)
    _check_precision(make, layer, inputs, expected, half_tolerance)


def _check_shapes(layer, inputs, outputs):
    shapes = keras.tree.map_structure(lambda x: tuple(x.shape), inputs)
    symbolic = layer.compute_output_shape(shapes)
    for declared, actual in zip(
        keras.tree.flatten(keras.tree.map_shape_structure(lambda s: str(tuple(s)), symbolic)),
        [str(a.shape) for a in arrays(outputs)],
        strict=True,
    ):
        assert declared == actual


def _check_config(layer, inputs, outputs):
    config = json.loads(json.dumps(layer.get_config()))
    twin = type(layer).from_config(config)
    twin(inputs)
    assert json.loads(json.dumps(twin.get_config())) == config
    twin.set_weights(layer.get_weights())
    assert_close(twin(inputs), outputs, 1e-6)


def _check_compiled(layer, inputs, outputs, tolerance):
    tensors = keras.tree.map_structure(tf.constant, inputs)
    for jit in (False, True):
        compiled = tf.function(lambda *x: layer(list(x) if isinstance(inputs, list) else x[0]), jit_compile=jit)
        arguments = tensors if isinstance(inputs, list) else [tensors]
        assert_close(compiled(*arguments), outputs, tolerance)
        compiled(*arguments)
        assert compiled.experimental_get_tracing_count() == 1, "a second call of the same shape traced again"


def _check_rows_independent(layer, inputs, outputs, tolerance):
    alone = layer(keras.tree.map_structure(lambda x: x[1:2], inputs))
    assert_close(alone, keras.tree.map_structure(lambda y: y[1:2], outputs), tolerance)


def _check_gradients(layer, inputs):
    variables = layer.trainable_weights
    if not variables:
        return
    with tf.GradientTape() as tape:
        outputs = layer(inputs)
        loss = sum(tf.reduce_sum(tf.cast(y, "float32") ** 2) for y in keras.tree.flatten(outputs))
    for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True):
        if gradient is not None:
            assert np.isfinite(gradient.numpy()).all(), f"gradient of {variable.path}"


def _check_precision(make, layer, inputs, outputs, tolerance):
    for policy in ("mixed_bfloat16", "mixed_float16"):
        half = make(dtype=policy)
        half(inputs)
        half.set_weights(layer.get_weights())
        values = tf.function(half)(inputs)
        for a in arrays(keras.tree.map_structure(lambda v: keras.ops.cast(v, "float32"), values)):
            assert np.isfinite(a).all()
        assert_close(keras.tree.map_structure(lambda v: keras.ops.cast(v, "float32"), values), outputs, tolerance)
