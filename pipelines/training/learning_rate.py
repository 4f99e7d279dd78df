"""The learning rate over the steps of a run: a linear rise, then cosine, steps or nothing."""

from typing import Any

import keras
from keras import ops

from pipelines.training.config import TrainConfig

WARM_UP = 0.05  # Share of all steps, where the configuration gives no epochs of it.

Rates = keras.optimizers.schedules.LearningRateSchedule


def learning_rates(config: TrainConfig, steps_per_epoch: int) -> Rates:
    """Returns the schedule of a run; it counts updates, of which one takes `accumulate` steps.

    Args:
        config: The configuration.
        steps_per_epoch: Training batches per epoch.

    Example:
        >>> config = TrainConfig(data="phantom", model="focusnet2d", run="runs/a", schedule="step", warm_up=0,
        ...                      learning_rate=1.0, step_epochs=2, step_factor=0.5)
        >>> rates = learning_rates(config, 10)
        >>> [float(rates(step)) for step in (0, 19, 20, 40)]
        [1.0, 1.0, 0.5, 0.25]
    """
    rates = _of_updates(config, steps_per_epoch / config.accumulate)
    return rates if config.accumulate == 1 else Held(rates, steps=config.accumulate)


def _of_updates(config: TrainConfig, updates_per_epoch: float) -> Rates:
    steps, peak = int(config.epochs * updates_per_epoch), config.learning_rate
    if config.warm_up is None:
        warm_up = max(1, round(WARM_UP * steps))
    else:
        warm_up = round(config.warm_up * updates_per_epoch)
    start = config.warm_up_start * peak
    if config.schedule != "cosine":
        every = round(config.step_epochs * updates_per_epoch)
        factor = config.step_factor if config.schedule == "step" else 1.0
        return Steps(peak, every=every, factor=factor, warm_up=warm_up, start=start)
    if warm_up == 0:
        return keras.optimizers.schedules.CosineDecay(peak, steps, alpha=config.end_factor)
    return keras.optimizers.schedules.CosineDecay(
        start, max(1, steps - warm_up), alpha=config.end_factor, warmup_target=peak, warmup_steps=warm_up
    )


class Held(Rates):
    """A schedule that counts once for several steps.

    Args:
        rates: The schedule.
        steps: Steps for which it counts once, >= 1.

    Example:
        >>> rates = Held(Steps(1.0, every=1, factor=0.5), steps=2)
        >>> [float(rates(step)) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, rates: Rates, *, steps: int) -> None:
        self.rates, self.steps = rates, steps

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate at a step, counted from 0."""
        return self.rates(ops.floor_divide(step, self.steps))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"rates": self.rates, "steps": self.steps}


class Steps(Rates):
    """A linear rise, then the peak times a factor, once more every so many steps.

    The steps are counted from the first one, those of the rise among them.

    Args:
        peak: Learning rate after the rise, > 0.
        every: Steps after which the factor comes in again, >= 1.
        factor: In (0, 1]; 1 keeps the peak.
        warm_up: Steps of the rise, >= 0.
        start: Learning rate at its first step.

    Example:
        >>> rates = Steps(1.0, every=4, factor=0.5, warm_up=2, start=0.0)
        >>> [float(rates(step)) for step in range(6)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(self, peak: float, *, every: int, factor: float, warm_up: int = 0, start: float = 0.0) -> None:
        self.peak, self.every, self.factor, self.warm_up, self.start = peak, every, factor, warm_up, start

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate at a step, counted from 0."""
        step = ops.cast(step, "float32")
        stepped = self.peak * ops.power(ops.cast(self.factor, "float32"), ops.floor(step / self.every))
        rising = self.start + (self.peak - self.start) * step / max(self.warm_up, 1)
        return ops.where(step < self.warm_up, rising, stepped)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {
            "peak": self.peak,
            "every": self.every,
            "factor": self.factor,
            "warm_up": self.warm_up,
            "start": self.start,
        }
