"""Fills a model with the tensors of an official checkpoint, all of them or none."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from medkeras.checkpoints.files import read_arrays
from medkeras.errors import InputError

COUNTER = "num_batches_tracked"  # torch's BatchNorm counter: no weight


def load(model: Any, source: str | os.PathLike | Mapping[str, np.ndarray], *, skip_head: bool = False) -> list[str]:
    """Loads an official checkpoint into a model.

    Args:
        model: A medkeras model in a configuration that has an official layout.
        source: A `.safetensors` or torch file, or a mapping of arrays, in the official layout.
        skip_head: Leaves the layer `logits` as it is, for a checkpoint of other classes; its tensors in the
            checkpoint are passed over.

    Returns:
        The official names that were loaded, in the order of the model.

    Raises:
        ValueError: If a tensor is missing, unknown or misshapen, or the model has no official layout; then the
            model is left as it was.
        FileNotFoundError: If there is no such file.

    Example:
        >>> from medkeras import models
        >>> model = models.create("focusnet2d", input_shape=(28, 28, 3), num_classes=5, compat="repaired")
        >>> load(model, {})
        Traceback (most recent call last):
        ...
        medkeras.InputError: The checkpoint lacks 27 tensors, the first being mpk_block.cross_norm.pathway_scale.
    """
    arrays = {
        name: array
        for name, array in read_arrays(source).items()
        if not (name.endswith(COUNTER) or model.is_unused(name))
    }
    targets = model.official_tensors()
    if skip_head:
        targets, passed = _without_head(model, targets)
        arrays = {name: array for name, array in arrays.items() if name not in passed}
    expected = list(dict.fromkeys(name for target in targets for name in target.names))
    missing = [name for name in expected if name not in arrays]
    if missing:
        raise InputError(f"The checkpoint lacks {len(missing)} tensors, the first being {missing[0]}.")
    unknown = sorted(set(arrays) - set(expected))
    if unknown:
        raise InputError(f"The model has no place for {len(unknown)} tensors, the first being {unknown[0]}.")
    values = [_value(target, arrays) for target in targets]
    for target, value in zip(targets, values, strict=True):
        target.variable.assign(value)
    return expected


def _without_head(model: Any, targets: list[Any]) -> tuple[list[Any], set[str]]:
    """Returns the targets outside the layer `logits`, and the official names of those inside."""
    head = {variable.path for variable in model.get_layer("logits").variables}
    kept = [target for target in targets if target.variable.path not in head]
    return kept, {name for target in targets if target.variable.path in head for name in target.names}


def _value(target: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    given = [arrays[name] for name in target.names]
    try:
        value = target.transform(*given)
    except ValueError:  # an array of another rank or size cannot be brought into our layout
        value = None
    if value is None or value.shape != tuple(target.variable.shape):
        shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(target.names, given, strict=True))
        raise InputError(
            f"A tensor does not fit the variable {target.variable.path} {tuple(target.variable.shape)}. "
            f"Received: {shapes}"
        )
    if not np.isfinite(value).all():
        raise InputError(f"A checkpoint must hold finite numbers. Received: {', '.join(target.names)}")
    return value
