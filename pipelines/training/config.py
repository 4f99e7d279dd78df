"""What a training run is made of: one frozen record, written to `config.yaml`."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medkeras.errors import InputError
from pipelines.io.csv_table import read_table
from pipelines.io.run_folder import RunFolder
from pipelines.preprocess.names import name_of, parse

if TYPE_CHECKING:
    from medkeras.models import ImageClassifier
    from pipelines.images.records import Records
    from pipelines.load import Splits

LOSSES = ("cross-entropy", "focal")
BALANCES = ("none", "class-weights", "effective-number", "oversample", "undersample", "sqrt-sample")
LEAKAGE = ("stop", "warn", "off")
MONITORS = ("auc", "accuracy", "loss")
TRAININGS = ("plain", "attention")
OPTIMIZERS = ("adamw", "sgd", "adam")
SCHEDULES = ("cosine", "step", "constant")
CALIBRATIONS = ("temperature", "vector", "none")
STRATEGIES = ("auto", "none", "mirrored", "multi-worker")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
JITS = ("auto", "on", "off")
CHOICES = {
    "loss": LOSSES,
    "balance": BALANCES,
    "monitor": MONITORS,
    "leakage": LEAKAGE,
    "training": TRAININGS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "calibration": CALIBRATIONS,
    "strategy": STRATEGIES,
    "precision": PRECISIONS,
    "jit": JITS,
}
# What a number may be.
RULES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("> 0", lambda x: 0 < x < math.inf),
    "weight_decay": (">= 0", lambda x: 0 <= x < math.inf),
    "momentum": (">= 0 and < 1", lambda x: 0 <= x < 1),
    "warm_up": (">= 0", lambda x: 0 <= x < math.inf),
    "warm_up_start": (">= 0 and <= 1", lambda x: 0 <= x <= 1),
    "step_factor": ("> 0 and <= 1", lambda x: 0 < x <= 1),
    "end_factor": (">= 0 and <= 1", lambda x: 0 <= x <= 1),
    "ema": ("> 0 and < 1", lambda x: 0 < x < 1),
    "clip_norm": ("> 0", lambda x: 0 < x < math.inf),
    "coverage": ("> 0 and < 1", lambda x: 0 < x < 1),
    "risk": (">= 0 and <= 1", lambda x: 0 <= x <= 1),
}
# Fields that runs of earlier versions do not have.
LATER = (
    "preprocess",
    "folds",
    "fold",
    "split_file",
    "group_duplicates",
    "leakage",
    "cache",
    "data_service",
    "training",
    "training_options",
    "pretrained",
    "recipe",
    "train_preprocess",
    "optimizer",
    "momentum",
    "decay_vectors",
    "schedule",
    "warm_up",
    "warm_up_start",
    "step_epochs",
    "step_factor",
    "end_factor",
    "clip_norm",
    "calibration",
    "coverage",
    "risk",
    "strategy",
    "gpus",
    "precision",
    "jit",
    "sync_batch_norm",
    "batch_per_replica",
    "scale_learning_rate",
    "accumulate",
    "gradient_checkpointing",
    "ema",
    "deterministic",
    "save_steps",
)
RESAMPLING = {"oversample": "oversample", "undersample": "undersample", "sqrt-sample": "sqrt"}
# Where things lie changes no result; on which devices, only what each of them draws or normalises by itself.
ELSEWHERE = ("run", "cache", "data_service", "strategy", "gpus")
FREE = ("epochs", "recipe", "save_steps", *ELSEWHERE)  # What may change when a run goes on; epochs only grow.


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
        recipe: Name of the recipe that the fields come from, for the record: all it says stands in the fields.
        preprocess: Steps on the stored images by name, see `pipelines.preprocess`.
        train_preprocess: Steps of the training images in their place; None takes the same. Where training draws
            crops, it needs the image whole, and all other images are cut to their middle.
        batch_size: Images per step, of all devices together.
        augment: Name of an augmentation, see `pipelines.augment`.
        fractions: Shares of train, val and test where the source gives no splits.
        folds: Cross-validation in so many parts, or None.
        fold: Which part is the test split, from 0.
        split_file: A CSV of `id` and `split`; kept absolute.
        group_duplicates: Whether images that look the same are kept in one split.
        leakage: `stop`, `warn` or `off`: what to do if splits share a patient, an image or a near-duplicate.
        on_error: `raise`, or `skip` to leave unreadable images out and list them in `rejected.csv`.
        source_options: Further arguments of the source.
        model_options: Further arguments of the model.
        pretrained: Weights for the backbone of the model before the first epoch: a torchvision or timm file, which
            is kept absolute, or a keras-hub preset.
        training: `plain`, or `attention` to train a model by its own attention maps, see
            `medkeras.models.dualattendmed.training.AttentionTraining`.
        training_options: Arguments of that training; `mask` true draws the maps to the lesion masks of the source.
        epochs: Passes over the training images.
        optimizer: `adamw`, `sgd` or `adam`.
        momentum: Of `sgd`, in [0, 1).
        learning_rate: Its peak, after the linear rise.
        weight_decay: Decoupled for `adamw`; for `sgd` and `adam` the part of the weights in the gradient.
        decay_vectors: Whether biases and weights of one axis, as those of norms, decay too.
        schedule: What follows the rise: `cosine` to the last step, `step`, or `constant`.
        warm_up: Epochs of the linear rise; None takes 5 % of all steps.
        warm_up_start: The first learning rate, as a share of the peak, in [0, 1].
        step_epochs: Epochs after which `step` multiplies the learning rate again.
        step_factor: By what, in (0, 1].
        end_factor: The last learning rate of `cosine`, as a share of the peak, in [0, 1].
        clip_norm: Largest norm of all gradients together; None does not clip.
        accumulate: Steps whose gradients make one update, as one batch of so many times `batch_size` would, save that
            BatchNorm still sees one batch at a time.
        gradient_checkpointing: Whether activations are computed again in the backward pass, which takes less memory and
            more time, see `medkeras.backend.rematerialization`.
        ema: What remains of the running means of the weights in an update, in (0, 1), as 0.999; the means are then
            what is validated and saved. None keeps no means.
        loss: `cross-entropy` or `focal`.
        balance: `none`; `class-weights` or `effective-number` to weigh classes, see
            `pipelines.splits.balance.class_weights`; `oversample`, `undersample` or `sqrt-sample` to show them more or
            less often in training, see `pipelines.splits.balance.resampled_counts`.
        monitor: The validation measure that chooses the best epoch: `auc`, `accuracy` or `loss`.
        patience: Stop after this many epochs without a better one; None never stops early.
        calibration: What is fitted to the logits of the best epoch on validation: `temperature`, `vector` or `none`;
            see `medkeras.uncertainty.fit_scaling`.
        coverage: The share of prediction sets that shall hold the true class, in (0, 1).
        risk: The share of wrong decisions that is wanted among what is not referred, in [0, 1].
        cache: Folder of decoded images, see `pipelines.input.shards`; kept absolute.
        data_service: Address of a tf.data service that makes the training batches, `grpc://host:port`.
        deterministic: Whether each sum has a fixed order, so that the same run gives the same weights bit for bit;
            what `jit` compiles has none.
        save_steps: Save the state of the training after every so many steps too; None saves it after each epoch.
        tensorboard: Whether to write TensorBoard logs to `tensorboard/`.
        strategy: Which devices share a step: `auto`, `none`, `mirrored` or `multi-worker`, see
            `pipelines.distribution.strategy.choose_strategy`.
        gpus: How many GPUs of each host to take; None takes all.
        precision: `float32`, or `mixed_bfloat16` or `mixed_float16` to compute in half precision; weights, losses and
            the saved model are float32.
        jit: Whether XLA compiles the step: `on`, `off`, or `auto`, on a single GPU where operations need not be
            deterministic. On several devices, each compiles its own pass.
        sync_batch_norm: Whether BatchNorm normalises by the batch of all devices together, not by each one's part.
        batch_per_replica: Whether `batch_size` is that of each device: all together then take as many times more.
        scale_learning_rate: Whether the learning rate is multiplied by the number of devices.
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
    recipe: str | None = None
    task: str | None = None
    image_size: int | tuple[int, ...] | None = None
    channels: int | None = None
    preprocess: tuple[str, ...] = ()
    train_preprocess: tuple[str, ...] | None = None
    batch_size: int = 32
    augment: str = "standard"
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    folds: int | None = None
    fold: int = 0
    split_file: str | None = None
    group_duplicates: bool = False
    leakage: str = "stop"
    on_error: str = "raise"
    source_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pretrained: str | None = None
    training: str = "plain"
    training_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    epochs: int = 20
    optimizer: str = "adamw"
    momentum: float = 0.9
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    decay_vectors: bool = True
    schedule: str = "cosine"
    warm_up: float | None = None
    warm_up_start: float = 0.0
    step_epochs: int = 10
    step_factor: float = 0.1
    end_factor: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1
    gradient_checkpointing: bool = False
    ema: float | None = None
    loss: str = "cross-entropy"
    balance: str = "none"
    monitor: str = "auc"
    patience: int | None = None
    calibration: str = "temperature"
    coverage: float = 0.9
    risk: float = 0.05
    cache: str | None = None
    data_service: str | None = None
    deterministic: bool = True
    save_steps: int | None = None
    tensorboard: bool = False
    strategy: str = "auto"
    gpus: int | None = None
    precision: str = "float32"
    jit: str = "auto"
    sync_batch_norm: bool = False
    batch_per_replica: bool = False
    scale_learning_rate: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"`{name}` must be one of {', '.join(choices)}. Received: {name}={getattr(self, name)!r}"
                )
        for name in ("epochs", "batch_size", "patience", "step_epochs", "accumulate", "save_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"`{name}` must be >= 1. Received: {name}={getattr(self, name)}")
        for name, (rule, holds) in RULES.items():
            value = getattr(self, name)
            if value is not None and not holds(value):
                raise InputError(f"`{name}` must be {rule}. Received: {name}={value}")
        if self.gpus is not None and self.gpus < 0:
            raise InputError(f"`gpus` must be >= 0. Received: gpus={self.gpus}")
        if self.warm_up is not None and self.warm_up > self.epochs:
            raise InputError(f"`warm_up` must be <= epochs={self.epochs}. Received: warm_up={self.warm_up}")
        for name in self.source_options:
            if name == "seed" or name in vars(self):
                raise InputError(f"`source_options` are those of the source alone. Received: {name}")
        if self.training == "plain" and self.training_options:
            raise InputError(f"A plain training has no options. Received: training_options={self.training_options}")
        if not isinstance(self.training_options.get("mask", False), bool):
            raise InputError(f"`mask` must be true or false. Received: mask={self.training_options['mask']!r}")
        for name in ("data", "split_file", "cache", "pretrained"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _absolute(getattr(self, name), always=name == "cache"))
        # In full, so that a run keeps its meaning when a default changes.
        for name in ("preprocess", "train_preprocess"):
            if getattr(self, name) is not None:
                steps = tuple(name_of(parse(step)) for step in getattr(self, name))
                object.__setattr__(self, name, steps)

    def to_dict(self) -> dict[str, Any]:
        """Returns the configuration as plain values, without the place of the run folder."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items() if k != "run"}

    @property
    def is_deterministic(self) -> bool:
        """Whether operations are deterministic; those that XLA compiles are not."""
        return self.deterministic and self.jit != "on"

    @property
    def uses_masks(self) -> bool:
        """Whether the training sees the lesion masks of the source."""
        return self.training_options.get("mask", False)

    def on_replicas(self, replicas: int) -> "TrainConfig":
        """Returns what this configuration means on so many devices: the batch and the learning rate of all of them.

        Example:
            >>> config = TrainConfig(data="phantom", model="focusnet2d", run="runs/a", batch_per_replica=True)
            >>> config.on_replicas(4).batch_size
            128
        """
        return dataclasses.replace(
            self,
            batch_size=self.batch_size * (replicas if self.batch_per_replica else 1),
            learning_rate=self.learning_rate * (replicas if self.scale_learning_rate else 1),
        )

    @classmethod
    def from_run(cls, run: RunFolder) -> "TrainConfig":
        """Reads the configuration of a run folder.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If `config.yaml` does not hold the fields of a configuration. One that a run of an earlier
                version has not yet, see `LATER`, has its default.
        """
        values = run.read_config()
        known = {field.name for field in dataclasses.fields(cls)} - {"run"}
        if not isinstance(values, dict) or (set(values) ^ known) - set(LATER) or not set(values) <= known:
            wrong = sorted((set(values) ^ known) - set(LATER)) if isinstance(values, dict) else values
            raise InputError(f"A config.yaml holds every field of a run. Received: {run / 'config.yaml'}, {wrong}")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(run=str(run.path), **values)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"Cannot read {run / 'config.yaml'}: {error}") from error

    def check_continues(self, earlier: "TrainConfig") -> None:
        """Checks that this configuration continues an earlier one: only `epochs` may differ, and only grow.

        Raises:
            ValueError: Naming what differs.
        """
        mine, theirs = self.to_dict(), earlier.to_dict()
        different = [k for k in mine if mine[k] != theirs[k] and k not in FREE]
        if self.epochs < earlier.epochs:
            different.append("epochs")
        if different:
            values = ", ".join(f"{k}={mine[k]!r} (was {theirs[k]!r})" for k in different)
            raise InputError(
                f"{self.run} holds a run of another configuration; only epochs may grow. Received: {values}"
            )


def _absolute(source: str, *, always: bool = False) -> str:
    """Returns a source or path with an absolute path, where it has one; `kind:path` keeps its kind."""
    if always or pathlib.Path(source).exists():
        return str(pathlib.Path(source).resolve())
    kind, colon, rest = source.partition(":")
    return f"{kind}:{pathlib.Path(rest).resolve()}" if colon and pathlib.Path(rest).exists() and rest else source


def load_data(config: TrainConfig, *, leakage: str | None = None) -> "Splits":
    """Opens the data of a run as its configuration says: the same records, splits and order every time.

    Args:
        config: The configuration.
        leakage: Overrides the configuration's, to look for leaks once only.

    Example:
        >>> config = TrainConfig(data="phantom", model="focusnet2d", run="runs/a", source_options={"images": 90})
        >>> sum(load_data(config).info.counts.values())
        90
    """
    import pipelines

    return pipelines.load(
        config.data,
        image_size=config.image_size,
        channels=config.channels,
        train_preprocess=config.train_preprocess,
        batch_size=config.batch_size,
        augment=config.augment,
        resample=RESAMPLING.get(config.balance),
        cache=config.cache,
        data_service=config.data_service,
        masks=config.uses_masks,
        **_split_arguments(config, leakage),
    )


def load_split(config: TrainConfig, split: str) -> "Records":
    """Returns the records of one split, see `load_splits`."""
    return load_splits(config)[split]


def load_splits(config: TrainConfig) -> "dict[str, Records]":
    """Returns the records of each split of a run that was split already, undecoded.

    Raises:
        FileNotFoundError: If the run has no `splits.csv`, or its source does not exist.
        ValueError: If records, labels or splits differ from the run's `splits.csv`.
    """
    from pipelines.splits.folds import apply_split, read_split_file

    run = RunFolder(config.run)
    records = open_like(config, config.data, task=config.task, on_error=config.on_error, **_source_options(config))
    if (run / "rejected.csv").is_file():
        rejected = read_table(run / "rejected.csv", columns=["id"], dtype=str)["id"]
        records = records.select(np.flatnonzero(~records.table["id"].isin(rejected)))
    path = run / "splits.csv"
    try:
        splits = apply_split(records, read_split_file(path))
    except ValueError as error:
        raise InputError(f"The data of a run must stay as in {path}. {error}") from error
    check_same_splits(run, splits)
    return splits


def open_like(config: TrainConfig, source: str, **options: Any) -> "Records":
    """Opens any source, its images preprocessed as those of a run."""
    from pipelines.load import open_records

    return open_records(source, preprocess=config.preprocess, **options)


def open_run_inputs(config: TrainConfig, inputs: Sequence[str | os.PathLike], model: "ImageClassifier") -> "Records":
    """Opens images by their paths, read and preprocessed as those of a run."""
    from pipelines.sources.unlabelled import open_inputs

    return open_inputs(inputs, model=model, options=config.source_options, preprocess=config.preprocess)


def _source_options(config: TrainConfig) -> dict[str, Any]:
    """Returns the options of the run's source; one that hashes patients gets the salt of the run folder."""
    from pipelines.sources import options_of

    options = dict(config.source_options)
    return options | {"salt": RunFolder(config.run).salt()} if "salt" in options_of(config.data) else options


def _split_arguments(config: TrainConfig, leakage: str | None) -> dict[str, Any]:
    names = ("task", "preprocess", "seed", "fractions", "folds", "fold", "split_file", "group_duplicates", "on_error")
    arguments = {name: getattr(config, name) for name in names} | _source_options(config)
    return arguments | {"leakage": leakage or config.leakage}


def check_same_splits(run: RunFolder, splits: "Mapping[str, Records]") -> None:
    """Checks that splits are those of a run, if it was split already.

    Raises:
        ValueError: If records, labels or splits differ from the run's `splits.csv`.
    """
    from pipelines.splits.by_patient import manifest

    path = run / "splits.csv"
    if path.is_file() and path.read_text() != manifest(splits).to_csv(index=False):
        raise InputError(f"The data of a run must stay as in {path}. Received: other records in {splits['train'].name}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value
