"""Retention: attention along the rows and then the columns of a map, fading with distance."""

from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.layers.channel_dense import ChannelDense

SLOWEST = 10_000.0  # ratio of the fastest rotation to the slowest


def rotary_tables(rows: int, columns: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns sine and cosine of each place's rotation, `(rows, columns, size // 2)`, float32.

    The position is the raster index `row * columns + column`; pair j of the channels turns by `10000 ** (-j / (n - 1))`
    per position, n being the number of pairs: from 1 down to 1e-4.

    Args:
        rows: Rows of the map.
        columns: Columns of the map.
        size: Channels of a head, even and at least 4.

    Example:
        >>> sine, cosine = rotary_tables(1, 2, 4)
        >>> [round(float(value), 4) for value in sine[0, 1]]
        [0.8415, 0.0001]
    """
    # In float32 throughout, as the published code: at 224 pixels, float64 phases differ by up to 2e-4.
    speeds = np.float32(1) / np.float32(SLOWEST) ** np.linspace(0, 1, size // 2, dtype=np.float32)
    phases = np.arange(rows * columns, dtype=np.float32)[:, None] * speeds
    return tuple(f(phases).reshape(rows, columns, -1).astype(np.float32) for f in (np.sin, np.cos))


def log_decay(length: int, heads: int, *, start: float = 1.0, span: float = 3.0) -> np.ndarray:
    """Returns what each head adds to its logits for a distance, `(heads, length, length)`, float32.

    Head n adds `distance * ln(1 - 2 ** (-start - span * n / heads))`: the first heads look near, the last ones far.

    Args:
        length: Places of a row or a column.
        heads: Number of heads.
        start: Negative logarithm, to base 2, of the first head's forgetting per step; positive.
        span: By how much that grows over all heads, at least 0.

    Example:
        >>> [round(float(value), 4) for value in log_decay(2, 2)[:, 0, 1]]
        [-0.6931, -0.1945]
    """
    per_step = np.log1p(-(2.0 ** (-start - span * np.arange(heads) / heads)))
    places = np.arange(length)
    distance = np.abs(places[:, None] - places)
    return (per_step[:, None, None] * distance).astype(np.float32)


@keras.saving.register_keras_serializable("medkeras")
class AxialRetention(keras.layers.Layer):
    """Lets every place look along its row, then along its column, nearer places counting more.

    Queries and keys are rotated by their place; each head subtracts a multiple of the distance from its logits; a
    softmax over the row weighs the values, and a softmax over the column weighs the result. A 5x5 depthwise
    convolution of the values, the local part, is added before the last projection.

    Of a head's channels, the first half of queries and keys is rotated against the second half. Published code
    rotates neighbouring channels; as only products of queries and keys are used, both are the same up to the order
    of those channels, which `medkeras.models.hemf.convert` changes for official weights.

    Args:
        heads: Number of heads; the channels of a head must be even and at least 4.
        decay_start: Negative logarithm, to base 2, of the first head's forgetting per step; positive.
        decay_span: By how much that grows over all heads, at least 0.
        conv_init_std: Standard deviation of the convolution's initial weights, positive.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        Dict of `output`, the input shape; `rows`, `(batch, height, heads, width, width)`, the attention of each
        column (fourth axis) to those of its row; and `columns`, `(batch, width, heads, height, height)`, likewise.
        `retention_map` composes the two.

    Raises:
        ValueError: If an argument is out of range, or `heads` does not fit the channels.

    Reference:
        Fan et al., RMT: Retentive Networks Meet Vision Transformers, arXiv 2309.11523.

    Example:
        >>> seen = AxialRetention(2)(ops.ones((1, 3, 5, 8)))
        >>> {name: tuple(x.shape) for name, x in sorted(seen.items())}
        {'columns': (1, 5, 2, 3, 3), 'output': (1, 3, 5, 8), 'rows': (1, 3, 2, 5, 5)}
    """

    def __init__(
        self,
        heads: int = 8,
        *,
        decay_start: float = 1.0,
        decay_span: float = 3.0,
        conv_init_std: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if heads < 1:
            raise InputError(f"`heads` must be at least 1. Received: heads={heads}")
        if decay_start <= 0 or decay_span < 0 or conv_init_std <= 0:
            raise InputError(
                "`decay_start` and `conv_init_std` must be positive, `decay_span` at least 0. Received: "
                f"decay_start={decay_start}, decay_span={decay_span}, conv_init_std={conv_init_std}"
            )
        self.heads, self.decay_start, self.decay_span = heads, decay_start, decay_span
        self.conv_init_std = conv_init_std

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the projections, the local convolution and the tables."""
        rows, columns, channels = input_shape[1:]
        size = channels // self.heads
        if channels % self.heads or size % 2 or size < 4:
            raise InputError(
                f"`heads` must split the {channels} channels into even parts of at least 4. "
                f"Received: heads={self.heads}"
            )
        for name in ("query", "key", "value", "project"):
            dense = ChannelDense(
                channels,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
                dtype=self.dtype_policy,
                name=name,
            )
            dense.build(input_shape)
            setattr(self, name, dense)
        self.local = keras.layers.DepthwiseConv2D(
            5,
            padding="same",
            depthwise_initializer=keras.initializers.RandomNormal(stddev=self.conv_init_std),
            dtype=self.dtype_policy,
            name="local",
        )
        self.local.build(input_shape)
        # Repeated for each head: a product that spreads a table over an inner axis is slow on a CPU.
        tables = [np.repeat(table[:, :, None], self.heads, axis=2) for table in rotary_tables(rows, columns, size)]
        self._tables = {"key": tables, "query": [(table * size**-0.5).astype(np.float32) for table in tables]}
        self._decays = [log_decay(n, self.heads, start=self.decay_start, span=self.decay_span) for n in (columns, rows)]

    def call(self, inputs: Any) -> dict[str, Any]:
        """Attends along rows and columns."""
        value = self.value(inputs)
        query, key = self._rotate(self.query(inputs), "query"), self._rotate(self.key(inputs), "key")
        # From (batch, row, column, head, channel) to lines first, then heads, and of keys the places last.
        seen, rows = self._attend(
            ops.transpose(query, (0, 1, 3, 2, 4)),
            ops.transpose(key, (0, 1, 3, 4, 2)),
            ops.transpose(self._split(value), (0, 1, 3, 2, 4)),
            self._decays[0],
        )
        seen, columns = self._attend(
            ops.transpose(query, (0, 2, 3, 1, 4)),
            ops.transpose(key, (0, 2, 3, 4, 1)),
            ops.transpose(seen, (0, 3, 2, 1, 4)),
            self._decays[1],
        )
        seen = ops.reshape(ops.transpose(seen, (0, 3, 1, 2, 4)), (-1, *inputs.shape[1:]))
        return {"output": self.project(seen + self._nearby(value)), "rows": rows, "columns": columns}

    def _nearby(self, value: Any) -> Any:
        # Not the layer itself: TensorFlow with oneDNN joins its convolution, its BiasAdd and the sum that follows into
        # an operation that does not exist, and then runs the whole graph without any optimization.
        return ops.depthwise_conv(value, self.local.kernel, padding="same") + self.local.bias

    def _split(self, x: Any) -> Any:
        """Splits the channels into heads."""
        *places, channels = x.shape[1:]
        return ops.reshape(x, (-1, *places, self.heads, channels // self.heads))

    def _rotate(self, x: Any, kind: str) -> Any:
        """Splits into heads and turns the first half of each head's channels against the second, by the place's angle.

        Queries are divided by the root of a head's channels as well.
        """
        first, second = ops.split(self._split(x), 2, axis=-1)
        sine, cosine = (ops.convert_to_tensor(table, x.dtype) for table in self._tables[kind])
        return ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)

    def _attend(self, query: Any, key: Any, value: Any, decay: np.ndarray) -> tuple[Any, Any]:
        """Attends within each line; returns what is seen, and the maps.

        Args:
            query: `(batch, lines, heads, length, size)`.
            key: `(batch, lines, heads, size, length)`.
            value: `(batch, lines, heads, length, size)`.
            decay: `(heads, length, length)`, added to the logits.
        """
        lines, heads, length, size = query.shape[1:]
        # Batch and lines are folded into one axis: LiteRT multiplies matrices of at most four axes fast.
        query, key, value = (ops.reshape(x, (-1, *x.shape[2:])) for x in (query, key, value))
        logits = ops.cast(ops.matmul(query, key), "float32") + decay
        maps = ops.cast(ops.softmax(logits, axis=-1), value.dtype)
        seen = ops.matmul(maps, value)
        return (
            ops.reshape(seen, (-1, lines, heads, length, size)),
            ops.reshape(maps, (-1, lines, heads, length, length)),
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> dict[str, Any]:
        """Returns the shapes of output, row maps and column maps."""
        batch, rows, columns, _ = input_shape
        return {
            "output": tuple(input_shape),
            "rows": (batch, rows, self.heads, columns, columns),
            "columns": (batch, columns, self.heads, rows, rows),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "heads": self.heads,
            "decay_start": self.decay_start,
            "decay_span": self.decay_span,
            "conv_init_std": self.conv_init_std,
        }


def retention_map(rows: Any, columns: Any) -> Any:
    """Composes row and column maps to how much each place is looked at from every place, the mean of the heads.

    A place looks along its column first, and from each place there along the row: `full[y', x'; y, x] = mean over
    heads of columns[x, y, y'] * rows[y', x, x']`. For each (y, x) the sum over all places is 1.

    Args:
        rows: `(batch, height, heads, width, width)` from `AxialRetention`.
        columns: `(batch, width, heads, height, height)` from `AxialRetention`.

    Returns:
        `(batch, height, width, height * width)`: at each place, how much it is looked at from each place, those in
        row-major order.

    Example:
        >>> seen = AxialRetention(2)(ops.ones((1, 3, 5, 8)))
        >>> tuple(retention_map(seen["rows"], seen["columns"]).shape)
        (1, 3, 5, 15)
    """
    _, height, heads, width, _ = rows.shape
    full = ops.einsum("bxnyk,bknxl->bklyx", columns, rows) / heads
    return ops.reshape(full, (-1, height, width, height * width))
