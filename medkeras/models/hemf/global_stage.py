"""EGF, a stage of the global branch: retention over the whole map."""

from collections.abc import Sequence
from typing import Any

import keras

from medkeras.layers import AxialRetention, DropPath
from medkeras.models.hemf.parts import branch_linear, channel_norm


def global_stage(
    x: Any, *, name: str, drop_paths: Sequence[float], heads: int, std: float, share_norms: bool = True
) -> tuple[Any, dict[str, Any]]:
    """Passes the layers `x = norm1(x + retention(x)); x = norm2(x + linear(x))`.

    Args:
        x: Symbolic `(batch, height, width, channels)`.
        name: Prefix of the layers' names.
        drop_paths: For each layer, the probability with which training leaves one of its branches out.
        heads: Heads of the retention.
        std: Standard deviation of the convolution's initial weights.
        share_norms: Whether all layers of the stage use one pair of norms.

    Returns:
        The features, and the attention maps `rows` and `columns` of the last layer.
    """
    maps: dict[str, Any] = {}
    norms: list[Any] = []
    for layer, rate in enumerate(drop_paths, start=1):
        prefix = f"{name}_{layer}"
        if not norms or not share_norms:
            owner = name if share_norms else prefix
            norms = [channel_norm(f"{owner}_norm{i}") for i in (1, 2)]
        maps = AxialRetention(heads, conv_init_std=std, name=f"{prefix}_retention")(x)
        x = norms[0](_residual(x, maps["output"], rate, f"{prefix}_retention"))
        x = norms[1](_residual(x, branch_linear(x.shape[-1], name=f"{prefix}_linear")(x), rate, f"{prefix}_linear"))
    return x, {key: maps[key] for key in ("rows", "columns")}


def _residual(x: Any, branch: Any, rate: float, name: str) -> Any:
    if rate:
        branch = DropPath(rate, name=f"{name}_drop_path")(branch)
    return keras.layers.Add(name=f"{name}_sum")([x, branch])
