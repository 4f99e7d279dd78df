"""What a training run is made of: one frozen record in groups, written to `config.yaml`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from medkeras.errors import InputError
from pipelines.io.run_folder import RunFolder
from pipelines.io.settings import option, read, settings

DATA, TRAINING, DEVICES, OUTPUT, SURENESS = "Data", "Training", "Devices", "Output", "How sure"

# Where things lie changes no result; on which devices, only what each of them draws or normalises by itself.
ELSEWHERE = ("run", "cache", "data_service", "strategy", "gpus")
FREE = ("epochs", "recipe", "save_steps", *ELSEWHERE)  # What may change when a run goes on; epochs only grow.
# What the `config.yaml` of every version holds; fields that came later have their default where they are missing.
ALWAYS = (
    "data",
    "model",
    "task",
    "image_size",
    "channels",
    "batch_size",
    "augment",
    "fractions",
    "on_error",
    "source_options",
    "model_options",
    "epochs",
    "learning_rate",
    "weight_decay",
    "loss",
    "balance",
    "monitor",
    "patience",
    "tensorboard",
    "seed",
)


def _absolute(source: str) -> str:
    """Returns a source or path with an absolute path, where it has one; `kind:path` keeps its kind."""
    if pathlib.Path(source).exists():
        return str(pathlib.Path(source).resolve())
    kind, colon, rest = source.partition(":")
    return f"{kind}:{pathlib.Path(rest).resolve()}" if colon and rest and pathlib.Path(rest).exists() else source


def _in_full(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Returns steps with all their options, so that a run keeps its meaning when a default changes."""
    if not steps:
        return steps
    from pipelines.preprocess.names import name_of, parse

    return tuple(name_of(parse(step)) for step in steps)


# An existing path is kept absolute, so that a run can be used from anywhere.
Place = Annotated[str, pydantic.AfterValidator(_absolute)]
Folder = Annotated[str, pydantic.AfterValidator(lambda path: str(pathlib.Path(path).resolve()))]
Steps = Annotated[tuple[str, ...], pydantic.Field(strict=False), pydantic.AfterValidator(_in_full)]
Size = int | tuple[int, ...] | None
Task = Literal["binary", "multiclass", "multilabel", "ordinal"] | None


@settings
class ImageOptions:
    """Which images are read, and how they are split."""

    data: Place = option(
        help="phantom[:name], a .npz, a folder of class folders, a .csv, or kind:rest.", panel=DATA, metavar="SOURCE"
    )
    image_size: Size = option(
        None, "Pixels per side, N, HxW or DxHxW; by default the images' own.", panel=DATA, metavar="SIZE"
    )
    channels: int | None = option(None, "1 for grey, 3 for colour; by default the images' own.", panel=DATA)
    preprocess: Steps = option(
        (), "A step on the stored images, as clahe or clahe:clip=3; repeatable, in order.", panel=DATA, metavar="STEP"
    )
    fractions: tuple[float, float, float] = option(
        (0.7, 0.1, 0.2),
        "Shares of train, val and test where the source gives none.",
        panel=DATA,
        metavar="T,V,T",
        strict=False,
    )
    split_file: Place | None = option(
        None, "A .csv of id and split of every image, as splits.csv of a run.", panel=DATA, metavar="FILE"
    )
    leakage: Literal["stop", "warn", "off"] = option(
        "stop", "stop, warn or off: when splits share a patient, an image or its copy.", panel=DATA
    )
    on_error: Literal["raise", "skip"] = option(
        "raise", "raise stops at a bad image, skip lists it in rejected.csv.", panel=DATA
    )
    source_options: Mapping[str, Any] = option(dict, "Further options of the source.", panel=DATA)

    def to_dict(self) -> dict[str, Any]:
        """Returns the configuration as plain values, without the place of the run folder."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items() if k != "run"}


@settings
class DataOptions(ImageOptions):
    """How labelled images are read: the task, other steps for training, cross-validation, and what is kept."""

    task: Task = option(None, "binary, multiclass, multilabel or ordinal; by default as labels say.", panel=DATA)
    train_preprocess: Steps | None = option(
        None,
        "A step of the training images in place of those of --preprocess; none for no step. Where training "
        "draws crops, it needs the image whole, and all other images are cut to their middle.",
        panel=DATA,
        metavar="STEP",
    )
    folds: int | None = option(None, "Cross-validation in so many parts.", panel=DATA)
    fold: int = option(0, "Which part is the test split, from 0.", panel=DATA)
    group_duplicates: bool = option(False, "Keep images that look the same in one split.", panel=DATA)
    cache: Folder | None = option(
        None, "Folder that keeps decoded images for all trainings.", panel=DATA, metavar="FOLDER"
    )
    data_service: str | None = option(
        None, "tf.data service that makes the batches; needs --cache.", panel=DATA, metavar="GRPC://HOST:PORT"
    )


@settings
class ModelOptions:
    """The network, and the weights that it starts from."""

    model: str = option(help="A name that `medkeras models` lists; a recipe has one already.")
    model_options: Mapping[str, Any] = option(dict, "An option of the model; repeatable.", panel=TRAINING)
    pretrained: Place | None = option(
        None, "Weights of the backbone: a torchvision or timm file, or a preset.", panel=TRAINING, metavar="WEIGHTS"
    )


@settings
class OptimisationOptions:
    """How the weights are found: batches, augmentation, optimizer, schedule, loss, and which epoch is kept."""

    epochs: int = option(20, "Passes over the training images.", panel=TRAINING, ge=1)
    seed: int = option(0, "Seed of splits, weights, order and augmentation.", panel=TRAINING)
    batch_size: int = option(32, "Images per step, of all devices together.", panel=TRAINING, ge=1)
    augment: str = option("standard", "Augmentation of training images; none leaves it out.", panel=TRAINING)
    optimizer: Literal["adamw", "sgd", "adam"] = option("adamw", "adamw, sgd or adam.", panel=TRAINING)
    momentum: float = option(0.9, "Of sgd.", panel=TRAINING, ge=0, lt=1)
    learning_rate: float = option(1e-3, "Peak of the schedule.", panel=TRAINING, gt=0)
    weight_decay: float = option(1e-4, "Decoupled for adamw, in the gradient for sgd and adam.", panel=TRAINING, ge=0)
    decay_vectors: bool = option(True, "Biases and weights of norms decay too.", panel=TRAINING)
    schedule: Literal["cosine", "step", "constant"] = option(
        "cosine", "After the warm-up: cosine, step or constant.", panel=TRAINING
    )
    warm_up: float | None = option(
        None,
        "Epochs of the linear rise; 5 % of all steps by default.",
        panel=TRAINING,
        metavar="EPOCHS",
        ge=0,
    )
    warm_up_start: float = option(0.0, "Where it rises from, as a share of the peak.", panel=TRAINING, ge=0, le=1)
    step_epochs: int = option(10, "Epochs between the steps of the schedule step.", panel=TRAINING, ge=1)
    step_factor: float = option(0.1, "Factor of each of them.", panel=TRAINING, gt=0, le=1)
    end_factor: float = option(0.0, "Where cosine ends, as a share of the peak.", panel=TRAINING, ge=0, le=1)
    clip_norm: float | None = option(None, "Largest norm of all gradients together.", panel=TRAINING, gt=0)
    accumulate: int = option(
        1,
        "Steps whose gradients make one update; BatchNorm still sees one batch at a time.",
        panel=TRAINING,
        metavar="STEPS",
        ge=1,
    )
    gradient_checkpointing: bool = option(
        False, "Compute activations again in the backward pass: less memory, more time.", panel=TRAINING
    )
    ema: float | None = option(
        None,
        "Keep running means of the weights, as 0.999; they are what is validated and saved.",
        panel=TRAINING,
        gt=0,
        lt=1,
    )
    deterministic: bool = option(
        True,
        "The same run gives the same weights, bit for bit; what XLA compiles does not.",
        "--deterministic/--fast",
        panel=TRAINING,
    )
    loss: Literal["cross-entropy", "focal"] = option("cross-entropy", "cross-entropy or focal.", panel=TRAINING)
    balance: Literal["none", "class-weights", "effective-number", "oversample", "undersample", "sqrt-sample"] = option(
        "none", "none, class-weights, effective-number, oversample, undersample or sqrt-sample.", panel=TRAINING
    )
    monitor: Literal["auc", "accuracy", "loss"] = option(
        "auc", "auc, accuracy or loss: chooses the best epoch.", panel=TRAINING
    )
    patience: int | None = option(None, "Stop after so many epochs without a better one.", panel=TRAINING, ge=1)
    training: Literal["plain", "attention"] = option(
        "plain", "plain, or attention: by crops and drops that follow the model's attention maps.", panel=TRAINING
    )
    training_options: Mapping[str, Any] = option(
        dict, "An option of that training, as mask=true; repeatable.", panel=TRAINING
    )


@settings
class CalibrationOptions:
    """What is fitted on validation when the training has ended."""

    calibration: Literal["temperature", "vector", "none"] = option(
        "temperature", "Fitted on validation at the end: temperature, vector or none.", panel=SURENESS
    )
    coverage: float = option(
        0.9, "Share of prediction sets that shall hold the true class.", panel=SURENESS, gt=0, lt=1
    )
    risk: float = option(
        0.05, "Share of wrong decisions that is wanted among what is not referred.", panel=SURENESS, ge=0, le=1
    )


@settings
class HardwareOptions:
    """Which devices share a step, and how they compute."""

    strategy: Literal["auto", "none", "mirrored", "multi-worker"] = option(
        "auto",
        "none: one device; mirrored: all of this host; multi-worker: several hosts; auto: what there is.",
        panel=DEVICES,
    )
    gpus: int | None = option(None, "How many GPUs of a host to take; all by default.", panel=DEVICES, ge=0)
    batch_per_replica: bool = option(
        False, "--batch-size is that of each device.", "--batch-per-replica/--batch-of-all", panel=DEVICES
    )
    scale_learning_rate: bool = option(
        False,
        "Multiply the learning rate by the number of devices.",
        "--scale-learning-rate/--keep-learning-rate",
        panel=DEVICES,
    )
    sync_batch_norm: bool = option(False, "BatchNorm over the batch of all devices.", panel=DEVICES)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = option(
        "float32",
        "float32, mixed_bfloat16 or mixed_float16; weights, losses and the saved model are float32.",
        panel=DEVICES,
    )
    jit: Literal["auto", "on", "off"] = option(
        "auto", "Compile the step by XLA, on each device: on, off, or auto, on one GPU.", panel=DEVICES
    )


@settings
class OutputOptions:
    """What is written, and where."""

    run: str = option(help="Folder of the run; the same command continues it.", metavar="FOLDER")
    recipe: str | None = option(
        None,
        "Train as published: a name that `medkeras recipes` lists, or a .yaml; --data is then what "
        "`medkeras data prepare` made, and any other option overrides the recipe's.",
    )
    save_steps: int | None = option(
        None, "Save the state after every so many steps too; by default after each epoch.", panel=OUTPUT, ge=1
    )
    tensorboard: bool = option(False, "Write TensorBoard logs too.", "--tensorboard", panel=OUTPUT)


@settings
class TrainConfig(OutputOptions, HardwareOptions, CalibrationOptions, OptimisationOptions, ModelOptions, DataOptions):
    """The whole configuration of a run: the fields of all groups.

    `run` is not part of what is written, so that a run can be moved. `recipe` is for the record: all that it says
    stands in the fields.

    Raises:
        ValueError: If a name is unknown or a value is out of its range.

    Example:
        >>> TrainConfig(data="phantom", model="focusnet2d", run="runs/a", epochs=3).to_dict()["epochs"]
        3
    """

    def __post_init__(self) -> None:
        if self.warm_up is not None and self.warm_up > self.epochs:
            raise InputError(f"`warm_up` must be <= epochs={self.epochs}. Received: warm_up={self.warm_up}")
        for name in self.source_options:
            if name == "seed" or name in vars(self):
                raise InputError(f"`source_options` are those of the source alone. Received: {name}")
        if self.training == "plain" and self.training_options:
            raise InputError(f"A plain training has no options. Received: training_options={self.training_options}")
        if not isinstance(self.training_options.get("mask", False), bool):
            raise InputError(f"`mask` must be true or false. Received: mask={self.training_options['mask']!r}")

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
            ValueError: If `config.yaml` does not hold the fields of a configuration: a name is unknown, a value is
                wrong, or a field that every version has is missing.
        """
        values = run.read_config()
        for name in ALWAYS:
            if name not in values:
                raise InputError(f"Cannot read {run / 'config.yaml'}: it must have `{name}`, as every run has")
        return read(cls, values, run / "config.yaml", run=str(run.path))

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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value
