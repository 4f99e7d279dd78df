"""Which operators full int8 makes faster on a processor, and which slower: LiteRT files of one operator each.

    python benchmarks/export/litert_operators.py

Each is converted in float32 and in full int8 at the shapes of `vit_tiny` at 224 pixels, and of a convolution of 28 x 28
pixels and 64 channels. One thread; the rounds of both take turns; the processor's time, which other processes disturb
less than the clock.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.table import Table

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 64, 64)).astype("float32")
MATRIX = RNG.normal(size=(192, 768)).astype("float32")


def layer_norm(x: Any) -> Any:
    mean = tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), -1, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-6)


OPERATORS: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "convolution 3 x 3": ((28, 28, 64), lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME")),
    "dense": ((197, 192), lambda x: tf.matmul(tf.reshape(x, (-1, 192)), MATRIX)),
    "product of activations": ((3, 197, 64), lambda x: tf.matmul(x, x, transpose_b=True)),
    "softmax": ((3, 197, 197), tf.nn.softmax),
    "layer normalisation": ((197, 192), layer_norm),
    "GELU": ((197, 768), tf.nn.gelu),
}


def opened(function: Any, images: list[np.ndarray], *, is_int8: bool) -> Interpreter:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    if is_int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in images)
    found = Interpreter(model_content=converter.convert(), num_threads=1)
    found.allocate_tensors()
    found.set_tensor(found.get_input_details()[0]["index"], images[0])
    found.invoke()
    return found


def milliseconds(interpreter: Interpreter, calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        interpreter.invoke()
    return 1000 * (time.process_time() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=20)
    arguments = parser.parse_args()
    table = Table("operator", "float32, ms", "full int8, ms", "times as fast")
    for name, (shape, operator) in OPERATORS.items():
        function = tf.function(operator, input_signature=[tf.TensorSpec((1, *shape))])
        images = [RNG.normal(size=(1, *shape)).astype("float32") for _ in range(4)]
        pair = [opened(function, images, is_int8=is_int8) for is_int8 in (False, True)]
        rounds = np.array([[milliseconds(each, arguments.calls) for each in pair] for _ in range(arguments.rounds)])
        ratio = rounds[:, 0] / rounds[:, 1]
        spread = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
        table.add_row(name, *(f"{value:.3f}" for value in np.median(rounds, axis=0)), spread)
    Console().print(table)


if __name__ == "__main__":
    main()
