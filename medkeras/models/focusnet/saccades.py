"""Where FocusNet looks next, and what it makes of what it sees there."""

import math
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError


@keras.saving.register_keras_serializable("medkeras")
class PriorityMap(keras.layers.Layer):
    """Chooses the next fixation from the whole view, given the state and the fixations so far.

    Each place of the feature grid is scored by how well it answers a query from the state; places near earlier
    fixations are inhibited; a softmax over the grid is the priority map. The fixation is the map's centre of
    mass, so it is differentiable, never outside the image, and the map itself can be looked at.

    Args:
        units: Size of queries and keys.
        radius: Radius of the inhibition of return, as a share of the image edge.

    Input shape:
        `[features, state, *fixations]`: `(batch, *grid, channels)`, `(batch, state_units)` and, for each earlier
        fixation, `(batch, rank)` in [-1, 1].

    Output shape:
        Dict of `priority` `(batch, *grid)`, non-negative with sum 1; `fixation` `(batch, rank)` in [-1, 1], the
        order being that of the axes; `preview` `(batch, channels)`, the features at the fixation as seen in the
        periphery.

    Raises:
        ValueError: If `units` is below 1 or `radius` is not positive.

    Reference:
        The priority map with winner and inhibition of return of Itti and Koch, Computational modelling of
        visual attention, Nat Rev Neurosci 2:194, 2001, with a soft winner.

    Example:
        >>> chosen = PriorityMap(4)([ops.ones((1, 3, 3, 2)), ops.ones((1, 5))])
        >>> ops.convert_to_numpy(ops.abs(chosen["fixation"]) < 1e-6).tolist()
        [[True, True]]
    """

    def __init__(self, units: int = 32, *, radius: float = 0.25, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units < 1 or radius <= 0:
            raise InputError(
                f"`units` must be at least 1 and `radius` positive. Received: units={units}, radius={radius}"
            )
        self.units, self.radius = units, radius
        self.query = keras.layers.Dense(units, dtype=self.dtype_policy, name="query")
        self.key = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy, name="key")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, center=False, scale=False, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Makes the projections and the learned strength of the inhibition."""
        features, state = input_shape[:2]
        self.norm.build(features)
        self.key.build(features)
        self.query.build(state)
        self.inhibition = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(4.0), constraint="non_neg", name="inhibition"
        )

    def call(self, inputs: Any) -> dict[str, Any]:
        """Returns priority map, fixation and preview."""
        features, state, *fixations = inputs
        grid, channels = tuple(features.shape[1:-1]), features.shape[-1]
        places = _grid_places(grid)
        tokens = ops.reshape(features, (-1, math.prod(grid), channels))
        # The gradient of a place, taken from pixel differences, is noise to what sees; it trains the choice alone.
        keys = self.key(self.norm(ops.stop_gradient(tokens)))
        # Not divided by the root of `units`: a flat map would keep every fixation near the centre.
        scores = ops.einsum("bnu,bu->bn", keys, self.query(ops.stop_gradient(state)))
        # Priority and place stay in float32: half precision would blur both on a large grid.
        scores = ops.cast(scores, "float32")
        for fixation in fixations:
            apart = ops.cast(fixation, "float32")[:, None, :] - places
            near = ops.exp(-ops.sum(apart**2, axis=-1) / (2 * (2 * self.radius) ** 2))
            scores = scores - ops.cast(self.inhibition, "float32") * near
        priority = ops.softmax(scores, axis=-1)
        return {
            "priority": ops.reshape(priority, (-1, *grid)),
            "fixation": ops.einsum("bn,nr->br", priority, places),
            "preview": ops.einsum("bn,bnc->bc", ops.cast(priority, tokens.dtype), tokens),
        }

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        """Returns the shapes of priority, fixation and preview."""
        features = input_shape[0]
        batch, rank = features[0], len(features) - 2
        return {
            "priority": tuple(features[:-1]),
            "fixation": (batch, rank),
            "preview": (batch, features[-1]),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"units": self.units, "radius": self.radius}


def _grid_places(grid: tuple[int, ...]) -> Any:
    """Returns the centres of the grid's cells, `(cells, rank)`, on axes from -1 to 1."""
    axes = [(ops.arange(n, dtype="float32") + 0.5) * (2 / n) - 1 for n in grid]
    return ops.stack([ops.reshape(a, (-1,)) for a in ops.meshgrid(*axes, indexing="ij")], axis=-1)


@keras.saving.register_keras_serializable("medkeras")
class PredictiveCell(keras.layers.Layer):
    """Integrates one glimpse into the state: predicts its features, and lets the error drive the state.

    The prediction is made before the glimpse is seen, from the state, the place looked at (the efference copy)
    and the peripheral preview of that place; `state' = GRU(seen - predicted, state)`. The mean squared error is
    added to the model's losses with `weight`, its target held fixed, so that predicting well is rewarded and
    seeing less is not.

    Args:
        units: Size of the state.
        weight: Weight of the prediction-error loss, at least 0.

    Input shape:
        `[seen, state, fixation, preview]`: `(batch, channels)`, `(batch, units)`, `(batch, rank)` and
        `(batch, channels)`.

    Output shape:
        Dict of `state` `(batch, units)` and `error` `(batch, channels)`.

    Raises:
        ValueError: If `units` is below 1 or `weight` is negative.

    Reference:
        Rao and Ballard, Predictive coding in the visual cortex, Nat Neurosci 2:79, 1999.

    Example:
        >>> cell = PredictiveCell(8)
        >>> out = cell([ops.ones((1, 4)), ops.zeros((1, 8)), ops.zeros((1, 2)), ops.ones((1, 4))])
        >>> tuple(out["state"].shape), tuple(out["error"].shape)
        ((1, 8), (1, 4))
    """

    def __init__(self, units: int = 64, *, weight: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units < 1 or weight < 0:
            raise InputError(
                f"`units` must be at least 1 and `weight` at least 0. Received: units={units}, weight={weight}"
            )
        self.units, self.weight = units, weight
        self.cell = keras.layers.GRUCell(units, dtype=self.dtype_policy, name="gru")

    def build(self, input_shape: Any) -> None:
        """Makes the predictor and the recurrent cell."""
        seen, state, fixation, preview = input_shape
        self.predictor = keras.layers.Dense(seen[-1], dtype=self.dtype_policy, name="predictor")
        self.predictor.build((None, state[-1] + fixation[-1] + preview[-1]))
        self.cell.build(seen)

    def call(self, inputs: Any) -> dict[str, Any]:
        """Predicts, compares and updates the state."""
        seen, state, fixation, preview = inputs
        predicted = self.predictor(ops.concatenate([state, fixation, preview], axis=-1))
        if self.weight:
            miss = ops.cast(predicted, "float32") - ops.stop_gradient(ops.cast(seen, "float32"))
            self.add_loss(self.weight * ops.mean(miss**2))
        error = seen - predicted
        return {"state": self.cell(error, [state])[0], "error": error}

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        """Returns the shapes of state and error."""
        seen, state, _, _ = input_shape
        return {"state": tuple(state), "error": tuple(seen)}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"units": self.units, "weight": self.weight}
