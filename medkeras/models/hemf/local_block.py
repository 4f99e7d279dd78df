"""ELF, the block of the local branch: what a place and its neighbours show."""

from typing import Any

import keras

from medkeras.layers import DropPath
from medkeras.models.hemf.parts import branch_conv, branch_depthwise, branch_linear, channel_norm, gelu


def local_block(x: Any, *, name: str, std: float, drop_path: float = 0.0) -> Any:
    """Returns `x + drop_path(GELU(linear(depthwise 3x3(norm(conv 3x3(x))))))`.

    Args:
        x: Symbolic `(batch, height, width, channels)`.
        name: Prefix of the layers' names.
        std: Standard deviation of the convolutions' initial weights.
        drop_path: Probability with which training leaves the branch out, in [0, 1).
    """
    width = x.shape[-1]
    y = branch_conv(width, 3, std=std, name=f"{name}_conv")(x)
    y = channel_norm(f"{name}_norm")(y)
    y = branch_depthwise(3, std=std, name=f"{name}_depthwise")(y)
    y = gelu(branch_linear(width, name=f"{name}_linear")(y), name=f"{name}_gelu")
    if drop_path:
        y = DropPath(drop_path, name=f"{name}_drop_path")(y)
    return keras.layers.Add(name=f"{name}_sum")([x, y])
