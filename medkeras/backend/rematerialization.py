"""Activations that the backward pass computes again, so that a training step keeps those of a few places alone."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError

PARTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # Into how many stretches of equal work a graph is divided at most.
HALF = 2**16


def rematerialize(model: keras.Model) -> float:
    """Makes the training passes of a functional model keep activations at a few places of its graph alone.

    Also called gradient checkpointing. The graph is cut where little passes from one stretch to the next. What is in
    between is freed after the forward pass and computed again when the backward pass comes to it: one more forward
    pass in time. Results are the same: random layers draw the numbers again that they drew, BatchNorm moves its
    statistics once. A functional model within the model is cut by itself. Inference and saving stay as they are.

    Args:
        model: A built functional model.

    Returns:
        The share of its activations that a step then keeps at once, in (0, 1], by the sizes of the tensors between
        layers alone; 1 where the graph is too short to save any. What a process saves is less, see `docs/results.md`.

    Raises:
        ValueError: If the model is not functional.

    Reference:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174, sections 3 and 4: cuts by a budget
        of memory, and a search over budgets.

    Example:
        >>> x = image = keras.Input((8,))
        >>> for _ in range(9):
        ...     x = keras.layers.Dense(8, activation="relu")(x)
        >>> model = keras.Model(image, x)
        >>> round(rematerialize(model), 2)
        0.56
        >>> tuple(model(keras.ops.ones((1, 8)), training=True).shape)
        (1, 8)
    """
    if not _is_graph(model):
        raise InputError(f"Only the graph of a functional model can be computed in parts. Received: {model.name}")
    if not hasattr(model, "_kept_share"):
        stretches, model._kept_share = _divide(model)
        if any(isinstance(stretch, _Recomputed) for stretch in stretches):
            _run_by(model, stretches)
    return model._kept_share


def kept_share(model: keras.Model) -> float:
    """Returns the share of its activations that a training step of a model keeps at once; 1 if it was left as it is.

    Args:
        model: Any model.

    Example:
        >>> kept_share(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
        1.0
    """
    return getattr(model, "_kept_share", 1.0)


def _run_by(model: keras.Model, stretches: Sequence[Any]) -> None:
    """Has a model's training passes run by its stretches."""
    whole = model.call

    def call(inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        if not training or mask is not None or kwargs:
            return whole(inputs, training=training, mask=mask, **kwargs)
        values = dict(zip(map(id, model.inputs), keras.tree.flatten(inputs), strict=True))
        for stretch in stretches:
            results = stretch([values[id(tensor)] for tensor in stretch.takes], training=True)
            values |= zip(map(id, stretch.gives), results, strict=True)
        return keras.tree.map_structure(lambda tensor: values[id(tensor)], model.output)

    model.call = call


class _Stretch(keras.layers.Layer):
    """A part of a graph, run as it is."""

    def __init__(self, nodes: Sequence[Any], takes: list[Any], gives: list[Any]) -> None:
        # Without autocast: a weight that is handed over has to be the weight itself, whatever the layers compute in.
        super().__init__(autocast=False, name="stretch")
        self.built = True
        self.nodes, self.takes, self.gives = nodes, takes, gives
        self.parts = [op for op in _distinct(node.operation for node in nodes) if isinstance(op, keras.layers.Layer)]

    def call(self, tensors: list[Any], training: bool | None = None) -> list[Any]:
        values = dict(zip(map(id, self.takes), tensors, strict=True))
        for node in self.nodes:
            args, kwargs = node.arguments.fill_in(values)
            # Said to each layer: one that is called without it would tell those after it that there is no training.
            if isinstance(node.operation, keras.layers.Layer):
                kwargs["training"] = training
            results = node.operation(*args, **kwargs)
            values |= zip(map(id, node.outputs), keras.tree.flatten(results), strict=True)
        return [values[id(tensor)] for tensor in self.gives]


class _Recomputed(keras.layers.Layer):
    """A part of a graph whose activations are freed, and computed again in the backward pass.

    It is run as a pure function of tensors and weights, which gives what its layers would have assigned: run again, it
    draws the same random numbers, and nothing is assigned a second time.
    """

    def __init__(self, stretch: _Stretch, model: keras.Model) -> None:
        super().__init__(autocast=False, name="recomputed")
        self.built = True
        self.stretch, self.takes, self.gives = stretch, stretch.takes, stretch.gives
        # Keras leaves the method out of models, though it collects their losses.
        self.give_loss = functools.partial(keras.layers.Layer.add_loss, model)

    def call(self, tensors: list[Any], training: bool | None = None) -> list[Any]:
        variables = self.stretch.variables
        changed: list[Any] = []

        def pure(*values: Any) -> tuple[Any, ...]:
            inputs, state = values[: len(tensors)], values[len(tensors) :]
            mapping = [(v, _unpacked(value, v.dtype)) for v, value in zip(variables, state, strict=True)]
            with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
                before = [scope.get_current_value(variable) for variable in variables]
                results = self.stretch(list(inputs), training=training)
            after = [scope.get_current_value(variable) for variable in variables]
            changed[:] = [v for v, old, new in zip(variables, before, after, strict=True) if old is not new]
            return *results, *(_packed(scope.get_current_value(variable)) for variable in changed), *scope.losses

        # Copies, not the variables: what is read in the backward pass is what was read in the forward pass.
        found = iter(keras.remat(pure)(*tensors, *(_packed(ops.copy(variable.value)) for variable in variables)))
        results = list(itertools.islice(found, len(self.gives)))
        for variable, value in zip(changed, found, strict=False):
            variable.assign(_unpacked(value, variable.dtype))
        for loss in found:
            self.give_loss(loss)
        return results


def _packed(value: Any) -> Any:
    """Returns a state of random numbers, of integers below 2^40, as floats, the only ones that have gradients."""
    if keras.backend.is_float_dtype(value.dtype):
        return value
    return ops.cast(ops.stack([value // HALF, value % HALF]), "float32")


def _unpacked(value: Any, dtype: str) -> Any:
    if keras.backend.is_float_dtype(dtype):
        return value
    high, low = ops.unstack(ops.cast(value, dtype))
    return high * HALF + low


def _divide(model: keras.Model) -> tuple[list[keras.layers.Layer], float]:
    """Cuts a model's graph; returns its stretches, and the share of the activations that a step then keeps at once."""
    nodes = _nodes(model)
    inner = {i: rematerialize(node.operation) for i, node in enumerate(nodes) if _is_graph(node.operation)}
    work = [_work(node) for node in nodes]
    largest = [share * size for share, size in zip((inner.get(i, 1.0) for i in range(len(nodes))), work, strict=True)]
    live = _live(nodes, {id(tensor) for tensor in model.outputs})
    kept = [sum(map(_bytes, tensors)) for tensors in live]
    # A functional model within is a stretch alone: it has cut itself.
    borders = sorted({0, len(nodes), *inner, *(i + 1 for i in inner)})
    starts = [
        first + cut
        for first, last in itertools.pairwise(borders)
        for cut in ([0] if first in inner else _cuts(work[first:last], kept[first:last]))
    ]
    stretches, most = [], 0.0
    for start, end in itertools.pairwise([*starts, len(nodes)]):
        stretch = _Stretch(nodes[start:end], *_ends(nodes[start:end], live[end]))
        # The backward pass begins with the last stretch: what it keeps is needed at once.
        plain = start in inner or end == len(nodes)
        stretches.append(stretch if plain else _Recomputed(stretch, model))
        most = max(most, sum(largest[start:end]))
    return stretches, min(1.0, (most + sum(kept[start] for start in starts[1:])) / sum(work))


def _ends(nodes: Sequence[Any], live: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Returns the tensors that calls take from before them, and those of theirs that are needed after them."""
    made = {id(tensor) for node in nodes for tensor in node.outputs}
    takes = _distinct(tensor for node in nodes for tensor in node.input_tensors if id(tensor) not in made)
    return takes, [tensor for tensor in live if id(tensor) in made]


def _cuts(work: Sequence[int], kept: Sequence[int]) -> list[int]:
    """Returns where the stretches of a part of a graph begin, so that a step needs the least memory.

    Args:
        work: Bytes that each call computes.
        kept: Bytes that are needed later, before each call.
    """
    sums = [0, *itertools.accumulate(work)]

    def memory(starts: list[int]) -> int:
        largest = max(sums[end] - sums[start] for start, end in itertools.pairwise([*starts, len(work)]))
        return largest + sum(kept[start] for start in starts[1:])

    return min(([0], *(_within(sums, kept, sums[-1] / parts) for parts in PARTS)), key=memory)


def _within(sums: Sequence[int], kept: Sequence[int], budget: float) -> list[int]:
    """Returns where stretches begin that compute at most `budget` bytes each, and keep the fewest between them."""
    cost, before = [0.0], [0]
    for end in range(1, len(sums)):
        starts = [i for i in range(end) if sums[end] - sums[i] <= budget] or [end - 1]
        best = min(starts, key=lambda i: cost[i] + (kept[i] if i else 0))
        cost.append(cost[best] + (kept[best] if best else 0))
        before.append(best)
    cuts = [before[-1]]
    while cuts[-1]:
        cuts.append(before[cuts[-1]])
    return cuts[::-1]


def _live(nodes: Sequence[Any], wanted: set[int]) -> list[list[Any]]:
    """Returns, before each node and after the last, the tensors made so far that are still needed."""
    needed: list[set[int]] = [wanted]
    for node in reversed(nodes):
        needed.append(needed[-1] | {id(tensor) for tensor in node.input_tensors})
    needed.reverse()
    live, made = [], []
    for i in range(len(nodes) + 1):
        made = [tensor for tensor in made if id(tensor) in needed[i]]
        live.append(made)
        made = made + (_distinct(nodes[i].outputs) if i < len(nodes) else [])
    return live


def _nodes(model: keras.Model) -> list[Any]:
    """Returns the calls of a model's graph in the order in which they run; Keras has no public way to ask for them."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]


def _is_graph(operation: Any) -> bool:
    return isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth")


def _work(node: Any) -> int:
    """Returns the bytes that a call computes for one image: a layer of several layers as if each gave its result."""
    if _is_graph(node.operation):
        return sum(map(_work, _nodes(node.operation)))
    inner = getattr(node.operation, "_flatten_layers", None)
    layers = sum(1 for _ in inner(include_self=False)) if inner else 0
    return max(layers, 1) * sum(map(_bytes, node.outputs))


def _bytes(tensor: Any) -> int:
    return math.prod(size or 1 for size in tensor.shape) * (2 if "16" in tensor.dtype else 4)


def _distinct(tensors: Any) -> list[Any]:
    return list({id(tensor): tensor for tensor in tensors}.values())
