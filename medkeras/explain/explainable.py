"""Any functional Keras model as one that can be explained: its graph laid flat, its logits and features found."""

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from medkeras.errors import InputError
from medkeras.models import ExplainPoint, Grid, ImageClassifier
from medkeras.tasks import default_task

_FOUND: weakref.WeakKeyDictionary[keras.Model, dict[Any, ImageClassifier]] = weakref.WeakKeyDictionary()


def explainable(
    model: keras.Model,
    *,
    image_shape: Sequence[int] | None = None,
    layer: str | None = None,
    task: str | None = None,
    class_names: Sequence[str] | None = None,
) -> ImageClassifier:
    """Returns a functional Keras model as one of this package, with the same weights and its features as explain point.

    Models within the model are laid open. A softmax or sigmoid at the end is left out, so that explanations are of
    logits. `features` is the output of `layer`; without one, the last feature map that all of the answer passes
    through: `(batch, *grid, channels)` of more than one cell, not the image itself. A head of several maps, joined
    after they were pooled, has no such map near its end; name a layer then. Where there is none at all, the model has
    no explain point, and is explained by what needs none. The model and its graph stay as they are.

    Args:
        model: Functional or sequential, from one image, channels last, to `(batch, classes)`.
        image_shape: Shape of an image, for a model that leaves it open.
        layer: Name of a layer, behind those of the models that it is within: `resnet50/conv5_block3_out`. The last name
            alone will do where it is the only one.
        task: One of `medkeras.tasks.TASKS`; by default multi-label behind a sigmoid or with a single output, else the
            single-label task that fits the number of outputs.
        class_names: One name per class; by default `"0", "1", ...`.

    Raises:
        ValueError: If the model is not of this form, or the layer is unknown or gives no feature map.

    Example:
        >>> image = keras.Input((16, 16, 1))
        >>> inner = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Conv2D(4, 3, name="last")], name="net")
        >>> x = keras.layers.GlobalAveragePooling2D()(inner(image))
        >>> model = keras.Model(image, keras.layers.Dense(3, "softmax")(x))
        >>> found = explainable(model)
        >>> found.task, found.explain_points["features"].description, found.explain_points["features"].tensor.shape
        ('multiclass', 'output of net/last', (None, 14, 14, 4))
    """
    _check(model)
    shape = _image_shape(model, image_shape)
    key = (shape, layer, task, None if class_names is None else tuple(class_names))
    kept = _FOUND.setdefault(model, {})
    if key not in kept:
        kept[key] = _explainable(model, *key)
    return kept[key]


class _Call(keras.layers.Layer):
    """One call of an operation of another model; that one's own graph is left alone."""

    def __init__(self, operation: Any, arguments: Any, *, linear: bool = False) -> None:
        super().__init__(dtype=getattr(operation, "dtype_policy", None))
        self.operation, self.linear, self.built = operation, linear, True
        self.__dict__["arguments"] = arguments  # Past Keras, which would look for layers in it.

    def call(self, tensors: list[Any]) -> Any:
        filled = iter(tensors)
        args, kwargs = keras.tree.map_structure(lambda v: next(filled) if _is_symbolic(v) else v, self.arguments)
        if not self.linear:
            return self.operation(*args, **kwargs)
        activation, self.operation.activation = self.operation.activation, keras.activations.linear
        try:
            return self.operation(*args, **kwargs)
        finally:
            self.operation.activation = activation


class _Step(NamedTuple):
    """A call in the flat graph: its name, what is called with what, and what comes out."""

    name: str
    operation: Any
    arguments: Any
    inputs: list[Any]
    outputs: list[Any]


def _explainable(
    model: keras.Model,
    shape: tuple[int, ...],
    layer: str | None,
    task: str | None,
    class_names: tuple[str, ...] | None,
) -> ImageClassifier:
    image = keras.Input(shape, name="image")
    steps: list[_Step] = []
    output = _lay_flat(model, image, "", steps)
    logits, has_sigmoid = _without_activation(output, steps)
    step = _last_map(image, output, steps) if layer is None else _named(layer, len(shape) + 1, steps)
    points = {} if step is None else {"features": ExplainPoint(step.outputs[0], Grid(), f"output of {step.name}")}
    return ImageClassifier(
        inputs=image,
        logits=logits,
        image_shape=shape,
        num_classes=logits.shape[-1],
        task=task or ("multilabel" if has_sigmoid or logits.shape[-1] == 1 else default_task(logits.shape[-1])),
        class_names=class_names,
        normalization="none",
        explain_points=points,
        name=model.name,
    )


def _check(model: Any) -> None:
    is_known = isinstance(model, keras.Model) and getattr(model, "inputs", None) and getattr(model, "outputs", None)
    if not is_known:
        raise InputError(
            f"Explanations need a functional model, or a built sequential one. Received: {type(model).__name__}"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise InputError(
            "Explanations need a model from one image to (batch, classes). "
            f"Received: inputs {[tuple(t.shape) for t in model.inputs]}, "
            f"outputs {[tuple(t.shape) for t in model.outputs]}"
        )


def _image_shape(model: keras.Model, given: Sequence[int] | None) -> tuple[int, ...]:
    declared = tuple(model.inputs[0].shape[1:])
    shape = declared if given is None else tuple(map(int, given))
    fits = len(shape) == len(declared) and all(n in (None, s) for n, s in zip(declared, shape, strict=True))
    if not fits or None in shape or len(shape) not in (3, 4):
        raise InputError(
            f"Images of this model are {declared}, of (height, width, channels) or (depth, height, width, channels). "
            f"Received: image_shape={given}"
        )
    return shape


def _lay_flat(model: keras.Model, image: Any, path: str, steps: list[_Step]) -> Any:
    """Calls a model operation by operation, and those within it likewise; returns its output."""
    end = keras.layers.Identity()
    # A model of its own, so that how the given one was compiled plays no part.
    whole = keras.Model(model.inputs, end(model.outputs[0]))
    found = []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is end:
            found.append(args[0])
            return args[0]
        name = path + operation.name
        if _is_graph(operation):
            return _lay_flat(operation, args[0], f"{name}/", steps)
        tensors = [v for v in keras.tree.flatten((args, kwargs)) if _is_symbolic(v)]
        outputs = _Call(operation, (args, kwargs))(tensors)
        steps.append(_Step(name, operation, (args, kwargs), tensors, keras.tree.flatten(outputs)))
        return outputs

    keras.models.clone_model(whole, input_tensors=_like(whole.input, image), clone_function=_itself, call_function=call)
    return found[0]


def _itself(operation: Any) -> Any:
    return operation


def _like(structure: Any, tensor: Any) -> Any:
    return keras.tree.map_structure(lambda _: tensor, structure)


def _is_graph(operation: Any) -> bool:
    """Whether it is a model that can be laid open: functional or sequential, from one tensor to one."""
    graph = isinstance(operation, keras.Model) and [getattr(operation, n, None) or () for n in ("inputs", "outputs")]
    return bool(graph) and [len(tensors) for tensors in graph] == [1, 1]


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _without_activation(output: Any, steps: list[_Step]) -> tuple[Any, bool]:
    """Returns the output without a softmax or sigmoid, and whether it was a sigmoid."""
    (last,) = (step for step in steps if any(t is output for t in step.outputs))
    kind = type(last.operation).__name__.lower()
    if kind in ("softmax", "sigmoid"):
        return last.inputs[0], kind == "sigmoid"
    activation = getattr(last.operation, "activation", None)
    if activation not in (keras.activations.softmax, keras.activations.sigmoid):
        return output, False
    return _Call(last.operation, last.arguments, linear=True)(last.inputs), activation is keras.activations.sigmoid


def _last_map(image: Any, output: Any, steps: list[_Step]) -> _Step | None:
    """Returns the last step that gives a feature map and that every way from image to answer passes."""
    for step in reversed(steps):
        if _is_map(step, len(image.shape)) and not _is_image(step, image) and _all_passes(image, output, step, steps):
            return step
    return None


def _is_map(step: _Step, rank: int) -> bool:
    grids = [t.shape[1:-1] for t in step.outputs if len(t.shape) == rank]
    return len(step.outputs) == len(grids) == 1 and None not in grids[0] and np.prod(grids[0]) > 1


def _is_image(step: _Step, image: Any) -> bool:
    return tuple(step.outputs[0].shape) == tuple(image.shape)


def _all_passes(image: Any, output: Any, through: _Step, steps: list[_Step]) -> bool:
    """Whether nothing of the image reaches the output but through a step."""
    reached = {id(image)}
    for step in steps:
        if step is not through and any(id(t) in reached for t in step.inputs):
            reached |= {id(t) for t in step.outputs}
    return id(output) not in reached


def _named(layer: str, rank: int, steps: list[_Step]) -> _Step:
    found = [step for step in steps if step.name == layer] or list(_ending(layer, steps))
    if len(found) != 1 or not _is_map(found[0], rank):
        known = [step.name for step in steps if _is_map(step, rank)]
        raise InputError(
            f"`layer` must be one layer, called once, that gives a feature map: {', '.join(known) or 'there is none'}. "
            f"Received: layer={layer!r}"
        )
    return found[0]


def _ending(layer: str, steps: list[_Step]) -> Iterator[_Step]:
    return (step for step in steps if step.name.endswith(f"/{layer}"))
