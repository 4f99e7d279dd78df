"""Window attention: places attend to each other inside windows, which every second block shifts."""

from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.layers.channel_dense import ChannelDense

APART = -100.0  # added to the logits of places that only the shift has brought together, as published
PADDED = -1e9


@keras.saving.register_keras_serializable("medkeras")
class WindowAttention(keras.layers.Layer):
    """Attends inside windows of `window` by `window` places, with a learned bias for each relative position.

    With `shift`, the map is rolled up and left by so many places before and back after; places that only the roll
    has brought together are kept apart. A map whose edges are no multiple of the window is padded below and on the
    right; no place attends to the padding.

    Args:
        heads: Number of heads; divides the channels.
        window: Rows and columns of a window, positive.
        shift: By how many places the windows are shifted, from 0 to `window - 1`.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: If an argument is out of range or `heads` does not divide the channels.

    Reference:
        Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv 2103.14030.

    Example:
        >>> tuple(WindowAttention(2, window=3, shift=1)(ops.ones((1, 4, 5, 8))).shape)
        (1, 4, 5, 8)
    """

    def __init__(self, heads: int, *, window: int = 7, shift: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if heads < 1 or window < 1 or not 0 <= shift < window:
            raise InputError(
                "`heads` and `window` must be at least 1, `shift` from 0 to `window - 1`. "
                f"Received: heads={heads}, window={window}, shift={shift}"
            )
        self.heads, self.window, self.shift = heads, window, shift

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the projections, the table of relative positions and the mask."""
        rows, columns, channels = input_shape[1:]
        if channels % self.heads:
            raise InputError(f"`heads` must divide the {channels} channels. Received: heads={self.heads}")
        for name, units in (("qkv", 3 * channels), ("project", channels)):
            dense = ChannelDense(
                units,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
                dtype=self.dtype_policy,
                name=name,
            )
            dense.build(input_shape)
            setattr(self, name, dense)
        self.table = self.add_weight(
            shape=((2 * self.window - 1) ** 2, self.heads),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="table",
        )
        self._padding = [-n % self.window for n in (rows, columns)]
        self._mask = window_mask(rows, columns, window=self.window, shift=self.shift)

    def call(self, inputs: Any) -> Any:
        """Attends inside each window."""
        rows, columns, channels = inputs.shape[1:]
        below, right = self._padding
        # The projection comes first, so that padding costs none.
        x = ops.pad(self.qkv(inputs), ((0, 0), (0, below), (0, right), (0, 0)))
        x = self._split(_roll(x, self.shift))
        query, key, value = (
            ops.reshape(part, (-1, self.window**2, self.heads, channels // self.heads))
            for part in ops.split(x, 3, axis=-1)
        )
        query = query * (channels // self.heads) ** -0.5
        logits = ops.matmul(ops.transpose(query, (0, 2, 1, 3)), ops.transpose(key, (0, 2, 3, 1)))
        logits = ops.cast(logits, "float32") + self._bias()
        if self._mask is not None:
            shape = tuple(logits.shape[1:])
            logits = ops.reshape(logits, (-1, len(self._mask), *shape)) + self._mask[:, None]
            logits = ops.reshape(logits, (-1, *shape))
        maps = ops.cast(ops.softmax(logits, axis=-1), value.dtype)
        x = ops.transpose(ops.matmul(maps, ops.transpose(value, (0, 2, 1, 3))), (0, 2, 1, 3))
        x = self._join(ops.reshape(x, (-1, self.window, self.window, channels)), rows + below, columns + right)
        return self.project(_roll(x, -self.shift)[:, :rows, :columns])

    def _bias(self) -> Any:
        """Returns what the relative positions add to the logits, `(heads, places, places)`, float32."""
        # Along the last axis: along the first, TensorFlow's gradient is sparse, and optimisers treat it otherwise.
        return ops.take(ops.transpose(ops.cast(self.table, "float32")), relative_index(self.window), axis=1)

    def _split(self, x: Any) -> Any:
        """Cuts a map into windows, `(batch * windows, window * window, channels)`, row by row."""
        rows, columns, channels = x.shape[1:]
        n = self.window
        x = ops.reshape(x, (-1, n, columns // n, n * channels))
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, n * n, channels))

    def _join(self, x: Any, rows: int, columns: int) -> Any:
        """Puts windows back into a map of `rows` by `columns`."""
        n, channels = self.window, x.shape[-1]
        x = ops.reshape(x, (-1, columns // n, n, n * channels))
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, rows, columns, channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"heads": self.heads, "window": self.window, "shift": self.shift}


def relative_index(window: int) -> np.ndarray:
    """Returns the row of the table for each query and key of a window, `(window**2, window**2)`, int32.

    Example:
        >>> relative_index(2).tolist()
        [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    """
    places = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij"), axis=-1).reshape(-1, 2)
    apart = places[:, None] - places + window - 1
    return (apart[..., 0] * (2 * window - 1) + apart[..., 1]).astype(np.int32)


def window_mask(rows: int, columns: int, *, window: int, shift: int) -> np.ndarray | None:
    """Returns what is added to the logits of each window, `(windows, window**2, window**2)`, or None if nothing is.

    After the roll, each axis has three regions: cut at the last `window` and at the last `shift` places. A place
    keeps apart from other regions, by -100, and from padding, by more.

    Example:
        >>> window_mask(2, 3, window=2, shift=0).min(axis=1)[1].tolist()
        [0.0, -1000000000.0, 0.0, -1000000000.0]
    """
    sizes = [n + -n % window for n in (rows, columns)]
    if not shift and sizes == [rows, columns]:
        return None
    axes, padded = [], []
    for given, size in zip((rows, columns), sizes, strict=True):
        place = np.arange(size)
        axes.append((place >= size - window).astype(int) + (place >= size - shift) if shift else 0 * place)
        padded.append((place + shift) % size >= given)
    region = _windows(axes[0][:, None] * 3 + axes[1], window)
    outside = _windows(padded[0][:, None] | padded[1], window)
    mask = np.where(region[:, :, None] != region[:, None], APART, 0.0)
    return np.where(outside[:, None], PADDED, mask).astype(np.float32)


def _windows(grid: np.ndarray, window: int) -> np.ndarray:
    rows, columns = grid.shape
    cut = grid.reshape(rows // window, window, columns // window, window)
    return cut.transpose(0, 2, 1, 3).reshape(-1, window * window)


def _roll(x: Any, shift: int) -> Any:
    """Rolls a map up and left by `shift` places, down and right by a negative one; LiteRT has no roll."""
    if not shift:
        return x
    for axis in (1, 2):
        cut = shift % x.shape[axis]
        first, second = ops.split(x, [cut], axis=axis)
        x = ops.concatenate([second, first], axis=axis)
    return x
