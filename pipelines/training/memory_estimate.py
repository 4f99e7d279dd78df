"""How much memory a training will take, estimated before its first step."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from medkeras.errors import InputError

# Operations whose result is their input, or no tensor of the image's size.
FREE = {"Const", "Placeholder", "ReadVariableOp", "Identity", "Reshape", "ExpandDims", "Squeeze", "Shape", "NoOp"}
CGROUP = pathlib.Path("/sys/fs/cgroup")  # Of the second version, as containers have it.
RUNTIME = 600 * 2**20  # Bytes that Python, Keras and TensorFlow take by themselves.


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """What a training step keeps in memory at once, in bytes.

    Attributes:
        weights: All weights of the model.
        gradients: One for each trainable weight.
        optimizer: Moments, sums of gradients, running means.
        activations: What the layers compute and the backward pass needs.

    Example:
        >>> print(MemoryEstimate(weights=2**29, gradients=2**29, optimizer=2**30, activations=2**31))
        4.6 GB (weights 0.5, gradients 0.5, optimizer 1.0, activations 2.0, runtime 0.6)
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def step(self) -> int:
        """What a step takes beside what is there before it."""
        return self.gradients + self.activations

    @property
    def total(self) -> int:
        """All of it, with what the runtime takes."""
        return self.weights + self.gradients + self.optimizer + self.activations + RUNTIME

    def __str__(self) -> str:
        parts = {**dataclasses.asdict(self), "runtime": RUNTIME}
        said = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in parts.items())
        return f"{self.total / 2**30:.1f} GB ({said})"


def estimate_memory(
    model: keras.Model, *, batch_size: int, optimizer: keras.optimizers.Optimizer | None = None, passes: int = 1
) -> MemoryEstimate:
    """Estimates what a step of training takes, from the sizes of all tensors in the model's graph.

    It is an estimate: libraries take room to work in, and some tensors are freed before the backward pass. What
    gradient checkpointing saves is not taken off.

    Args:
        model: A functional model.
        batch_size: Images per step.
        optimizer: Built on the model's weights, or None to leave it out.
        passes: How often a step goes through the model.

    Raises:
        ValueError: If the model is not functional.

    Example:
        >>> model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(5)])
        >>> found = estimate_memory(model, batch_size=8)
        >>> found.weights, found.gradients, found.optimizer, found.activations
        (220, 220, 0, 160)
    """
    if _operations(model) is None:
        raise InputError(f"Memory is estimated from the graph of a functional model. Received: {model.name}")
    known: dict[Any, int] = {}
    return MemoryEstimate(
        weights=_bytes_of(model.variables),
        gradients=_bytes_of(model.trainable_variables),
        optimizer=_bytes_of(optimizer.variables) if optimizer else 0,
        activations=passes * sum(_results(model, batch_size, known)),
    )


def free_memory() -> int | None:
    """Returns the bytes that this process may still take, None where the system does not say (other than Linux).

    Where a container has a limit, that counts.
    """
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    (available,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return available
    return available if limit == "max" else min(available, int(limit) - used)


def _operations(layer: Any) -> list[Any] | None:
    """Returns the operations of a graph, None for other layers."""
    return layer.layers if isinstance(layer, keras.Sequential) else getattr(layer, "operations", None)


def _results(model: keras.Model, batch_size: int, known: dict[Any, int]) -> Iterator[int]:
    """Gives the bytes of the result of every operation of a graph, and of those within layers of layers."""
    for operation in _operations(model):
        if _operations(operation) is not None:
            yield from _results(operation, batch_size, known)
        elif getattr(operation, "_layers", ()):
            yield _traced(operation, batch_size, known)
        elif not isinstance(operation, (keras.layers.InputLayer, keras.layers.Reshape, keras.layers.Flatten)):
            yield sum(_size(tensor, batch_size) for tensor in keras.tree.flatten(operation.output))


def _traced(layer: keras.layers.Layer, batch_size: int, known: dict[Any, int]) -> int:
    """Returns the bytes that a layer of several layers computes; those that are alike are traced once."""
    call = layer._inbound_nodes[0].arguments  # Keras has no public way to ask how a layer was called.
    words = keras.tree.flatten((call.args, call.kwargs))
    tensors = [word for word in words if isinstance(word, keras.KerasTensor)]
    key = (type(layer), tuple(tuple(t.shape) for t in tensors), layer.count_params())
    if key in known:
        return known[key]

    def run(values: list[tf.Tensor]) -> Any:
        rest = iter(values)
        given = [next(rest) if isinstance(word, keras.KerasTensor) else word for word in words]
        args, kwargs = keras.tree.pack_sequence_as((call.args, call.kwargs), given)
        return layer(*args, **kwargs)

    specs = [tf.TensorSpec((batch_size, *tensor.shape[1:]), tensor.dtype) for tensor in tensors]
    graph = tf.function(run).get_concrete_function(specs).graph
    results = [tensor for op in graph.get_operations() if op.type not in FREE for tensor in op.outputs]
    known[key] = sum(_size(tensor, batch_size) for tensor in results if tensor.shape.rank is not None)
    return known[key]


def _size(tensor: Any, batch_size: int) -> int:
    shape = [batch_size if size is None else size for size in tensor.shape]
    kind = tf.as_dtype(tensor.dtype)
    return 0 if kind in (tf.resource, tf.variant) else math.prod(shape) * kind.size


def _bytes_of(variables: list[Any]) -> int:
    return sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables)
