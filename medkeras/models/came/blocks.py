"""The blocks of CAME's three branches: convolution, shifted windows, external attention."""

from typing import Any

import keras
from keras import ops

from medkeras.layers import ExternalAttention, WindowAttention
from medkeras.models.hemf.parts import (
    branch_conv,
    branch_depthwise,
    branch_linear,
    channel_norm,
    gelu,
    uniform_kernel,
)

WINDOW = 7
TOKEN_EPSILON = 1e-5  # of the norms between the stages of the global branch


def local_block(x: Any, *, name: str, std: float) -> Any:
    """Returns `x + linear(GELU(conv 3x3(norm(depthwise 3x3(x)))))`."""
    y = channel_norm(f"{name}_norm")(branch_depthwise(3, std=std, name=f"{name}_depthwise")(x))
    y = gelu(branch_conv(x.shape[-1], 3, std=std, name=f"{name}_conv")(y), name=f"{name}_gelu")
    return keras.layers.Add(name=f"{name}_sum")([x, branch_linear(x.shape[-1], name=f"{name}_linear")(y)])


def window_block(x: Any, *, name: str, std: float, heads: int, shifted: bool, scrambled: bool) -> Any:
    """Returns `x + GELU(linear(window attention(norm(conv 3x3(x)))))`.

    Args:
        x: Symbolic `(batch, height, width, channels)`.
        name: Prefix of the layers' names.
        std: Standard deviation of the convolution's initial weights.
        heads: Heads of the attention.
        shifted: Whether the windows are shifted by 3 places.
        scrambled: Whether the convolution and its norm see the published view of the memory, see `scramble`.
    """
    y = scramble(x) if scrambled else x
    y = channel_norm(f"{name}_norm")(branch_conv(x.shape[-1], 3, std=std, name=f"{name}_conv")(y))
    y = unscramble(y) if scrambled else y
    shift = WINDOW // 2 if shifted else 0
    y = WindowAttention(heads, window=WINDOW, shift=shift, name=f"{name}_attention")(y)
    y = gelu(branch_linear(x.shape[-1], name=f"{name}_linear")(y), name=f"{name}_gelu")
    return keras.layers.Add(name=f"{name}_sum")([x, y])


def scramble(x: Any) -> Any:
    """Reads the memory of a channels-last map as if it were channels-first, as the published code does.

    Space and channels are mixed up by it: that is the published code's defect, kept for `as_published` only.

    Example:
        >>> x = ops.reshape(ops.arange(6), (1, 1, 3, 2))
        >>> ops.convert_to_numpy(scramble(x))[0, 0].tolist()
        [[0, 3], [1, 4], [2, 5]]
    """
    rows, columns, channels = x.shape[1:]
    return ops.transpose(ops.reshape(x, (-1, channels, rows, columns)), (0, 2, 3, 1))


def unscramble(x: Any) -> Any:
    """Undoes `scramble`.

    Example:
        >>> x = ops.reshape(ops.arange(24), (1, 2, 3, 4))
        >>> bool(ops.all(unscramble(scramble(x)) == x))
        True
    """
    return ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, *x.shape[1:]))


def shrink_tokens(x: Any, width: int, *, stage: int, std: float, name: str) -> Any:
    """Passes the patch embedding (stage 1), or merges 2x2 places: their channels joined, a norm, a projection."""
    if stage == 1:
        x = branch_conv(width, 4, stride=4, std=std, name=name)(x)
        return channel_norm(f"{name}_norm", epsilon=TOKEN_EPSILON)(x)
    # Published order: down before right.
    x = ops.concatenate([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], axis=-1)
    x = channel_norm(f"{name}_norm", epsilon=TOKEN_EPSILON)(x)
    return branch_linear(width, use_bias=False, name=name)(x)


def external_stage(x: Any, width: int, *, stage: int, memory: int, epsilon: float, name: str) -> tuple[Any, Any]:
    """Shrinks the map without a norm, then returns `x + external attention(norm(x))`, and the attention's maps."""
    size = 4 if stage == 1 else 2
    bound = (size * size * x.shape[-1]) ** -0.5
    x = keras.layers.Conv2D(
        width,
        size,
        strides=size,
        kernel_initializer=uniform_kernel(),
        bias_initializer=keras.initializers.RandomUniform(-bound, bound),
        name=f"{name}_shrink",
    )(x)
    attention = ExternalAttention(heads=1, memory=memory, epsilon=epsilon, name=f"{name}_memory")
    seen = attention(channel_norm(f"{name}_norm")(x))
    return keras.layers.Add(name=f"{name}_sum")([x, seen["output"]]), seen["maps"]
