"""Training: from a configuration to a run folder that holds the best model on validation.

The same call on the same folder continues a training that was interrupted, at whatever moment, and ends with
the same weights and history as an uninterrupted one: every image and its augmentation depend on (seed, epoch,
record), the weights on those and on the checkpoint of the epoch before, and on nothing else.
"""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pipelines.checkpointing import Checkpoints, Progress
from pipelines.jobs.config import TrainConfig, load_data
from pipelines.run_folder import RunFolder

if TYPE_CHECKING:
    import keras

    from medkeras.models.base import ImageClassifier
    from pipelines.load import Splits

WARM_UP = 0.05
PACKAGES = ("medkeras", "tensorflow", "keras", "numpy", "pandas", "opencv-python", "scikit-learn")
PLAIN = {"highlight": False, "soft_wrap": True}
DERIVED = ("operating_point.json", "metrics.json", "predictions.csv")


def train(config: TrainConfig, *, console: Console | None = None) -> RunFolder:
    """Trains a model, or continues its training, and returns its run folder.

    Writes `config.yaml`, `environment.json` and `splits.csv`; after every epoch `checkpoints/`, `history.csv`
    and the best model so far, `model.keras`; at the end `operating_point.json`, chosen on validation. A complete
    run is left as it is.

    Args:
        config: What to train, on what and where.
        console: Where to print; nothing is printed by default.

    Raises:
        ValueError: If the folder holds a run of another configuration or other data, or the model does not fit
            the data.
        OSError: If a file cannot be read or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> config = TrainConfig(data="phantom", model="focusnet2d", run=folder, epochs=1, batch_size=16,
        ...                      image_size=16, source_options={"images": 60})
        >>> train(config).read_config()["epochs"]
        1
    """
    console = console or Console(quiet=True)
    run = RunFolder(config.run)
    checkpoints = Checkpoints(run)
    if (run / "config.yaml").is_file():
        config.check_continues(TrainConfig.from_run(run))
        checkpoints.remove_leftovers()
        checkpoints.publish()
    progress = checkpoints.progress()
    if is_trained(config, progress) and (run / "operating_point.json").is_file():
        console.print(
            f"{run.path} is complete: {_summary(config, progress)}", highlight=False, soft_wrap=True
        )
        return run
    with console.status(f"Loading {config.data}"):
        data = load_data(config)
        model = build_model(config, data)
    write_beginning(run, config, data)
    if not is_trained(config, progress):
        progress = _fit(model, config, data, checkpoints, console)
    choose_threshold(run, config, data)
    console.print(f"{run.path}: {_summary(config, progress)}", **PLAIN)
    return run


def is_trained(config: TrainConfig, progress: Progress) -> bool:
    """Says whether no epoch is left: all are done, or patience has run out."""
    is_out_of_patience = config.patience is not None and progress.wait >= config.patience
    return progress.epoch >= config.epochs or is_out_of_patience


def build_model(config: TrainConfig, data: "Splits") -> "ImageClassifier":
    """Builds and compiles the model of a run for its data, with seeded weights.

    Raises:
        ValueError: If the model is unknown or does not fit the rank of the images.
    """
    import keras

    from medkeras import models
    from medkeras.metrics import default_metrics

    keras.utils.set_random_seed(config.seed)
    info = data.info
    rank = len(models.preset(config.model).input_shape) - 1
    if rank != len(info.image_shape) - 1:
        raise ValueError(
            f"{config.model} takes {rank}D images. Received: {info.name} with shape {info.image_shape}"
        )
    model = models.create(
        config.model,
        input_shape=info.image_shape,
        num_classes=info.num_classes,
        task=info.task,
        class_names=info.class_names,
        **config.model_options,
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(_schedule(config, data), weight_decay=config.weight_decay),
        loss=_loss(config, data),
        metrics=default_metrics(info.task, info.num_classes),
    )
    return model


def write_beginning(run: RunFolder, config: TrainConfig, data: "Splits") -> None:
    """Writes what is known before the first epoch.

    Raises:
        ValueError: If the folder holds the splits of other data.
    """
    splits = data.info.manifest.to_csv(index=False)
    if (run / "splits.csv").is_file() and (run / "splits.csv").read_text() != splits:
        raise ValueError(
            f"The data must not change under a run. Received: {config.data}, not as in {run / 'splits.csv'}"
        )
    for name in DERIVED:
        (run / name).unlink(missing_ok=True)
    run.write_config(config.to_dict())
    run.write_text("splits.csv", splits)
    run.write_json("environment.json", _environment())
    if len(data.rejected):
        run.write_text("rejected.csv", data.rejected.to_csv(index=False))


def choose_threshold(run: RunFolder, config: TrainConfig, data: "Splits") -> None:
    """Chooses the best model's operating point on validation and freezes it in `operating_point.json`."""
    from medkeras.evaluation import choose_operating_point
    from pipelines.jobs.trained import load_model, predict_split

    probabilities = predict_split(load_model(run), data, "val", console=Console(quiet=True))
    point = choose_operating_point(data.records["val"].labels, probabilities, task=data.info.task)
    run.write_json("operating_point.json", point.to_dict())


def _fit(
    model: "ImageClassifier", config: TrainConfig, data: "Splits", checkpoints: Checkpoints, console: Console
) -> Progress:
    from pipelines.callbacks import EpochLines, SaveEpochs, bar

    progress = checkpoints.progress()
    if progress.epoch:
        checkpoints.restore(model)
        console.print(f"Continuing after epoch {progress.epoch} of {config.epochs}", **PLAIN)
    with bar(console) as moving:
        saver = SaveEpochs(checkpoints, progress, monitor=config.monitor, patience=config.patience)
        lines = EpochLines(moving, epochs=config.epochs, steps=data.steps_per_epoch)
        board = [_tensorboard(checkpoints.run)] if config.tensorboard else []
        model.fit(
            data.train_stream(progress.epoch),
            steps_per_epoch=data.steps_per_epoch,
            validation_data=data.val,
            class_weight=_class_weight(config, data),
            initial_epoch=progress.epoch,
            epochs=config.epochs,
            callbacks=[lines, saver, *board],
            verbose=0,
        )
    return saver.progress


def _schedule(config: TrainConfig, data: "Splits") -> Any:
    import keras

    steps = config.epochs * data.steps_per_epoch
    warm_up = max(1, round(WARM_UP * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=config.learning_rate, warmup_steps=warm_up
    )


def _loss(config: TrainConfig, data: "Splits") -> "keras.losses.Loss":
    from medkeras import losses, tasks
    from pipelines.balance import positive_weights

    multilabel, balanced = tasks.is_multilabel(data.info.task), config.balance == "class-weights"
    if config.loss == "focal":
        if multilabel and balanced:
            raise ValueError(
                "The focal loss of a multilabel task takes no class weights. Received: balance='class-weights'"
            )
        return losses.BinaryFocalLoss() if multilabel else losses.FocalLoss()
    if multilabel and balanced:
        return losses.MaskedBinaryCrossentropy(
            positive_weights=positive_weights(data.records["train"].labels)
        )
    return tasks.default_loss(data.info.task)


def _class_weight(config: TrainConfig, data: "Splits") -> dict[int, float] | None:
    from medkeras.tasks import is_multilabel
    from pipelines.balance import class_weights

    if config.balance == "none" or is_multilabel(data.info.task):
        return None
    return class_weights(data.records["train"].labels, data.info.num_classes)


def _tensorboard(run: RunFolder) -> "keras.callbacks.Callback":
    import keras

    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError("TensorBoard logs need the extra: pip install 'medkeras[tensorboard]'")
    return keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False)


def _environment() -> dict[str, Any]:
    import keras

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "backend": keras.backend.backend(),
        "packages": {name: _version(name) for name in PACKAGES},
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _summary(config: TrainConfig, progress: Progress) -> str:
    early = "" if progress.epoch == config.epochs else f" (no better one for {config.patience})"
    best = "undefined" if progress.best_value is None else f"{progress.best_value:.4f}"
    return (
        f"{progress.epoch} epochs{early}, best is {progress.best_epoch}, validation {config.monitor} {best}"
    )
