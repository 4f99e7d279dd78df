"""What a training run is made of: one frozen record, written to `config.yaml`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.run_folder import RunFolder

if TYPE_CHECKING:
    from pipelines.load import Splits

LOSSES = ("cross-entropy", "focal")
BALANCES = ("none", "class-weights")
MONITORS = ("auc", "accuracy", "loss")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The whole configuration of a run.

    Attributes:
        data: A source, see `pipelines.sources.open_source`; a path is kept absolute.
        model: A name from `medkeras.models.names()`.
        run: The run folder; not part of the configuration, so that a run can be moved.
        task: One of `medkeras.tasks.TASKS`; the source's own by default.
        image_size: Edge or edges in pixels or voxels; the images' own by default.
        channels: 1 or 3; the images' own by default.
        batch_size: Images per step.
        augment: Name of an augmentation, see `pipelines.augment`.
        fractions: Shares of train, val and test where the source gives no splits.
        on_error: `raise`, or `skip` to leave unreadable images out and list them in `rejected.csv`.
        source_options: Further arguments of the source.
        model_options: Further arguments of the model.
        epochs: Passes over the training images.
        learning_rate: Its peak, after a linear rise over the first 5 % of the steps, before a cosine to zero.
        weight_decay: Decoupled weight decay of AdamW.
        loss: `cross-entropy` or `focal`.
        balance: `none`, or `class-weights` to weigh classes by the inverse of their frequency.
        monitor: The validation measure that chooses the best epoch: `auc`, `accuracy` or `loss`.
        patience: Stop after this many epochs without a better one; None never stops early.
        tensorboard: Whether to write TensorBoard logs to `tensorboard/`.
        seed: Seed of the splits, the weights, the order and the augmentation.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> TrainConfig(data="phantom", model="focusnet2d", run="runs/a", epochs=3).to_dict()["epochs"]
        3
    """

    data: str
    model: str
    run: str
    task: str | None = None
    image_size: int | tuple[int, ...] | None = None
    channels: int | None = None
    batch_size: int = 32
    augment: str = "standard"
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    on_error: str = "raise"
    source_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    epochs: int = 20
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    loss: str = "cross-entropy"
    balance: str = "none"
    monitor: str = "auc"
    patience: int | None = None
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("loss", LOSSES), ("balance", BALANCES), ("monitor", MONITORS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(choices)}. Received: {name}={getattr(self, name)!r}"
                )
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1. Received: {name}={getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"`learning_rate` must be > 0. Received: learning_rate={self.learning_rate}")
        if self.weight_decay < 0:
            raise ValueError(f"`weight_decay` must be >= 0. Received: weight_decay={self.weight_decay}")
        for name in self.source_options:
            if name == "seed" or name in vars(self):
                raise ValueError(f"`source_options` are those of the source alone. Received: {name}")
        if pathlib.Path(self.data).exists():
            object.__setattr__(self, "data", str(pathlib.Path(self.data).resolve()))

    def to_dict(self) -> dict[str, Any]:
        """Returns the configuration as plain values, without the place of the run folder."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items() if k != "run"}

    @classmethod
    def from_run(cls, run: RunFolder) -> "TrainConfig":
        """Reads the configuration of a run folder.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If `config.yaml` does not hold the fields of a configuration.
        """
        values = run.read_config()
        known = {field.name for field in dataclasses.fields(cls)} - {"run"}
        if not isinstance(values, dict) or set(values) != known:
            wrong = sorted(set(values) ^ known) if isinstance(values, dict) else values
            raise ValueError(f"A config.yaml holds every field of a run. Received: {run / 'config.yaml'}, {wrong}")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(run=str(run.path), **values)

    def check_continues(self, earlier: "TrainConfig") -> None:
        """Checks that this configuration continues an earlier one: only `epochs` may differ, and only grow.

        Raises:
            ValueError: Naming what differs.
        """
        mine, theirs = self.to_dict(), earlier.to_dict()
        different = [k for k in mine if mine[k] != theirs[k] and k != "epochs"]
        if self.epochs < earlier.epochs:
            different.append("epochs")
        if different:
            values = ", ".join(f"{k}={mine[k]!r} (was {theirs[k]!r})" for k in different)
            raise ValueError(
                f"{self.run} holds a run of another configuration; only epochs may grow. Received: {values}"
            )


def load_data(config: TrainConfig) -> "Splits":
    """Opens the data of a run as its configuration says: the same records, splits and order every time.

    Example:
        >>> config = TrainConfig(data="phantom", model="focusnet2d", run="runs/a", source_options={"images": 90})
        >>> sum(load_data(config).info.counts.values())
        90
    """
    import pipelines

    return pipelines.load(
        config.data,
        task=config.task,
        image_size=config.image_size,
        channels=config.channels,
        batch_size=config.batch_size,
        seed=config.seed,
        fractions=config.fractions,
        augment=config.augment,
        on_error=config.on_error,
        **config.source_options,
    )


def check_same_splits(run: RunFolder, data: "Splits") -> None:
    """Checks that data are those that a run was split from, if it was split already.

    Raises:
        ValueError: If records, labels or splits differ from the run's `splits.csv`.
    """
    path = run / "splits.csv"
    if path.is_file() and path.read_text() != data.info.manifest.to_csv(index=False):
        raise ValueError(f"The data of a run must stay as in {path}. Received: other records in {data.info.name}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value
