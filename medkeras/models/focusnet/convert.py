"""The published FocusNet checkpoint's tensors and the variables that they fill."""

from typing import Any

import numpy as np

from medkeras.checkpoints.layouts import Target, conv_kernel, dense_kernel, norm

_CONV_INDEX = {2: (0, 2), 3: (0, 3)}  # position of each convolution in the official Sequential
_HEAD_INDEX = {2: (1, 3), 3: (0, 2)}


def official_tensors(model: Any) -> list[Target]:
    """Lists, for each variable of a repaired FocusNet, the official tensors that it is made of."""
    rank = len(model.image_shape) - 1
    block = model.get_layer("pathways")
    targets = [Target(block.cross_norm.scales, ("mpk_block.cross_norm.pathway_scale",))]
    for letter, column in zip("MPK", block.columns, strict=True):
        targets += _pathway(f"mpk_block.{letter}", column, rank)
    targets += _dense("mpk_block.gate_fc", block.gate)
    head = model.get_layer("offset")
    first, second = (f"saccade_fc.{i}" for i in _HEAD_INDEX[rank])
    hidden = _dense(first, head.hidden)
    if rank == 2:
        hidden[0] = Target(head.hidden.kernel, (f"{first}.weight",), _flattened_grid(block))
    targets += [*hidden, *_dense(second, head.offset)]
    targets += _gru("pc_gru.gru", model.get_layer("integration"))
    targets += norm("pc_gru.norm", model.get_layer("state_norm"))
    targets += _dense("classifier.0", model.get_layer("hidden"))
    targets += _dense("classifier.2", model.get_layer("logits"))
    return targets


def _pathway(prefix: str, column: Any, rank: int) -> list[Target]:
    targets = []
    for index, layer in zip(_CONV_INDEX[rank], column.convs, strict=False):
        name = f"{prefix}.{index}"
        parts = getattr(layer, "convs", [layer])
        for i, part in enumerate(parts):
            share = _share(i, len(parts))
            targets.append(Target(part.kernel, (f"{name}.weight",), lambda a, share=share: conv_kernel(share(a))))
            targets.append(Target(part.bias, (f"{name}.bias",), share))
    for index, (layer,) in zip(_CONV_INDEX[rank], column.norms, strict=False):
        targets += norm(f"{prefix}.{index + 1}", layer)
    return targets


def _share(index: int, count: int) -> Any:
    """Returns the function that takes one group's part of the output channels."""
    return lambda array: np.split(array, count)[index]


def _dense(name: str, layer: Any) -> list[Target]:
    return [Target(layer.kernel, (f"{name}.weight",), dense_kernel), Target(layer.bias, (f"{name}.bias",))]


def _flattened_grid(block: Any) -> Any:
    """Returns the transform for a dense layer behind a flattened map: channels first there, last here."""

    def transform(array: np.ndarray) -> np.ndarray:
        edge = block.pooled
        grid = array.reshape(array.shape[0], -1, edge, edge)
        return grid.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])

    return transform


def _gru(name: str, cell: Any) -> list[Target]:
    return [
        Target(cell.kernel, (f"{name}.weight_ih_l0",), _gates),
        Target(cell.recurrent_kernel, (f"{name}.weight_hh_l0",), _gates),
        Target(
            cell.bias,
            (f"{name}.bias_ih_l0", f"{name}.bias_hh_l0"),
            lambda inputs, hidden: np.stack([_gates(inputs), _gates(hidden)]),
        ),
    ]


def _gates(array: np.ndarray) -> np.ndarray:
    """Reorders the gates from reset, update, new to update, reset, new, and transposes a matrix."""
    reset, update, new = np.split(array, 3)
    return np.concatenate([update, reset, new]).T
