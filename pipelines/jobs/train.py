"""Training: from a configuration to a run folder that holds the best model on validation.

The same call on the same folder continues a training that was interrupted, at whatever moment, and ends with
the same weights and history as an uninterrupted one: every image and its augmentation depend on (seed, epoch,
record), the weights on those and on the checkpoint before, and on nothing else.
"""

import contextlib
import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from medkeras.backend.rematerialization import kept_share
from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from pipelines.distribution.multi_worker import (
    WorkerLostError,
    check_alike,
    chief_first,
    code_digest,
    noticing_lost_workers,
)
from pipelines.distribution.strategy import Distribution, choose_strategy
from pipelines.inference.calibration import Calibration
from pipelines.inference.trained_model import calibrate, load_model
from pipelines.io.run_folder import RunFolder
from pipelines.load import Splits
from pipelines.runtime.environment import environment
from pipelines.runtime.memory import keep_freed_memory
from pipelines.runtime.progress import bar
from pipelines.runtime.termination import Terminated, on_sigterm
from pipelines.splits.leakage import LeakError, summary
from pipelines.training.build import build_training, class_weight, train_batches, validation
from pipelines.training.checkpointing import Checkpoints, Progress
from pipelines.training.config import ELSEWHERE, TrainConfig, check_same_splits, load_data
from pipelines.training.memory_estimate import estimate_memory, free_memory
from pipelines.training.progress import EpochLines
from pipelines.training.save_state import SaveState
from pipelines.training.weight_averaging import ValidateAveraged

PLAIN = {"highlight": False, "soft_wrap": True}
SMALL_BATCH = 2**20  # Bytes of images with which no step needs memory worth estimating.
DERIVED = (
    *("operating_point*.json", "calibration*.json", "metrics.json", "predictions.csv", "errors.csv"),
    *("decision_curve.csv", "subgroups.csv", "localization*/localization.json"),
)  # Of the model as it was; a training that goes on makes another.


def train(config: TrainConfig, *, console: Console | None = None) -> RunFolder:
    """Trains a model, or continues its training, and returns its run folder.

    Writes `config.yaml`, `environment.json` and `splits.csv`; after every epoch `checkpoints/`, `history.csv`
    and the best model so far, `model.keras`; after every `save_steps` steps `checkpoints/` too; at the end
    `calibration.json` and `operating_point.json`, fitted to validation. A complete run is left as it is. On
    SIGTERM the running step ends, the state is saved and the training stops.

    Args:
        config: What to train, on what and where.
        console: Where to print; nothing is printed by default.

    Raises:
        ValueError: If the folder holds a run of another configuration or of other data, or model and data do
            not fit, or all its checkpoints are torn or altered.
        OSError: If a file cannot be read, the folder cannot be written, or a worker is gone; what was saved before
            stays.
        Terminated: On SIGTERM, once the state is saved.

    Example:
        >>> train(TrainConfig(data="no-such.csv", model="focusnet2d", run="runs/a"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: A source is phantom[:name], ... No such path: no-such.csv
    """
    distribution = choose_strategy(config.strategy, gpus=config.gpus)
    console = console if console and distribution.is_chief else Console(quiet=True)
    run = RunFolder(config.run)
    checkpoints = Checkpoints(run)
    if (run / "config.yaml").is_file():
        config.check_continues(TrainConfig.from_run(run))
        _check_replicas(run, config, distribution)
    chief_first(distribution, lambda: _tidy(run, checkpoints, console) if distribution.is_chief else None)
    progress = checkpoints.progress()
    check_alike(distribution, _facts(config, progress))
    if is_trained(config, progress) and (run / "operating_point.json").is_file():
        console.print(f"{run.path} is complete: {_summary(config, progress)}", **PLAIN)
        return run
    keep_freed_memory()
    if config.is_deterministic:
        # Without XLA, and with each sum in a fixed order: else a continued run could differ in the last bits.
        tf.config.experimental.enable_op_determinism()
    of_all = config.on_replicas(distribution.replicas)
    with console.status(f"Loading {config.data}"):
        data = chief_first(distribution, lambda: _load(run, of_all, looks=distribution.is_chief))
        training, model = build_training(of_all, data, distribution=distribution)
    chief_first(distribution, lambda: _begin(run, config, data, distribution))
    _say_what_is_trained_on(config, data, console)
    _say_where(of_all, distribution, console)
    _say_memory(training, model, data, distribution, console)
    if not is_trained(config, progress):
        progress = _fit(training, model, config, data, checkpoints, console, distribution)
    _end(run, data, distribution, console)
    console.print(f"{run.path}: {_summary(config, progress)}", **PLAIN)
    return run


def _tidy(run: RunFolder, checkpoints: Checkpoints, console: Console) -> None:
    """Brings the folder of a training that ended anyhow in order: leftovers, what is broken, what is published."""
    if not (run / "config.yaml").is_file():
        return
    checkpoints.remove_leftovers()
    for wrong in checkpoints.set_aside_broken():
        console.print(f"set aside, and the state before is used: {wrong}", style="yellow", markup=False, **PLAIN)
    checkpoints.publish()


def _check_replicas(run: RunFolder, config: TrainConfig, distribution: Distribution) -> None:
    """Checks that a training whose batch or learning rate is each device's goes on with as many of them."""
    follows = config.batch_per_replica or config.scale_learning_rate
    if not follows or not (run / "environment.json").is_file():
        return
    before = run.read_json("environment.json", {"devices?": {"replicas?": int}}).get("devices", {}).get("replicas", 1)
    if before != distribution.replicas:
        raise InputError(
            f"The batch or the learning rate of {run.path} follows the number of devices, which must stay {before}. "
            f"Received: {distribution.replicas} replicas"
        )


def _facts(config: TrainConfig, progress: Progress) -> dict[str, Any]:
    """Returns what all processes of a training must have in common."""
    fields = {name: value for name, value in config.to_dict().items() if name not in ELSEWHERE}
    versions = environment()["packages"] | {"code": code_digest()}
    return fields | versions | {"stands after": str(progress)}


def _begin(run: RunFolder, config: TrainConfig, data: Splits, distribution: Distribution) -> None:
    """Writes what is known before the first epoch, or checks that the chief has written it here."""
    if distribution.is_chief:
        write_beginning(run, config, data, devices=distribution.describe())
    elif not (run / "splits.csv").is_file():
        raise InputError(f"All workers must see the same run folder. Received: {run.path}, which only the chief has")
    else:
        check_same_splits(run, data.records)


def _end(run: RunFolder, data: Splits, distribution: Distribution, console: Console) -> None:
    """Has the chief calibrate the best model."""

    def end() -> None:
        if distribution.is_chief:
            _say_how_sure(calibrate(run, load_model(run), data.records["val"], console=console), console)

    try:
        chief_first(distribution, end)
    except WorkerLostError:
        # Who hears first that all is done may be gone before the others hear it.
        if not (run / "operating_point.json").is_file():
            raise


def _say_where(config: TrainConfig, distribution: Distribution, console: Console) -> None:
    """Prints on how many devices a step is computed, if on several."""
    if distribution.is_distributed:
        workers = f" of {distribution.workers} workers" if distribution.workers > 1 else ""
        console.print(
            f"{distribution.replicas} replicas{workers}, {config.batch_size // distribution.replicas} images each, "
            f"{config.batch_size} in all per step",
            **PLAIN,
        )


def _say_memory(
    training: keras.Model, model: ImageClassifier, data: Splits, distribution: Distribution, console: Console
) -> None:
    """Prints how much memory a step will take, and warns if there is not so much."""
    batch_size = data.pipelines["train"].batch_size // distribution.replicas
    if 4 * batch_size * math.prod(data.info.image_shape) < SMALL_BATCH:
        return
    passes = 1 + len(getattr(training, "views", ()))
    found = estimate_memory(model, batch_size=batch_size, optimizer=training.optimizer, passes=passes)
    saved = ", less what gradient checkpointing saves" if kept_share(model) < 1 else ""
    console.print(f"memory, as estimated: {found}{saved}", **PLAIN)
    free = None if tf.config.list_physical_devices("GPU") else free_memory()
    if free is not None and found.step * distribution.replicas > free:
        console.print(
            f"A step takes some {found.step * distribution.replicas / 2**30:.1f} GB more, and {free / 2**30:.1f} GB "
            "are free: less --batch-size with more --accumulate takes less, and so does --gradient-checkpointing.",
            style="yellow",
            **PLAIN,
        )


def _load(run: RunFolder, config: TrainConfig, *, looks: bool = True) -> Splits:
    """Loads the data; the first time, looks for leaks and writes what was found to `leakage.csv`."""
    if (run / "splits.csv").is_file() or not looks:
        return load_data(config, leakage="off")
    try:
        data = load_data(config)
    except LeakError as error:
        run.write_text("leakage.csv", error.leaks.to_csv(index=False))
        raise InputError(f"{error} All are listed in {run / 'leakage.csv'}") from error
    return data


def _say_what_is_trained_on(config: TrainConfig, data: Splits, console: Console) -> None:
    """Prints the images of each split and class, and how often training shows or weighs a class."""
    info, shown = data.info, data.pipelines["train"].class_counts
    weights = class_weight(config, data)
    table = Table("images", *info.counts, title=info.name, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    if shown:
        table.add_column(f"train, {config.balance}", justify="right")
    if weights:
        table.add_column("weight", justify="right")
    for i, name in enumerate(info.class_names):
        cells = [str(info.class_counts[split][i]) for split in info.counts]
        cells += [str(shown[i])] if shown else []
        table.add_row(name, *cells, *([f"{weights[i]:.2f}"] if weights else []))
    console.print(table)
    if len(data.leaks):
        console.print(f"{summary(data.leaks)} All are listed in leakage.csv.", style="yellow", markup=False)


def is_trained(config: TrainConfig, progress: Progress) -> bool:
    """Says whether no epoch is left: all are done, or patience has run out."""
    is_out_of_patience = config.patience is not None and progress.wait >= config.patience
    return progress.epoch >= config.epochs or is_out_of_patience


def write_beginning(
    run: RunFolder, config: TrainConfig, data: Splits, *, devices: dict[str, Any] | None = None
) -> None:
    """Writes what is known before the first epoch.

    Args:
        run: The run folder.
        config: The configuration.
        data: The data.
        devices: On what is trained, see `pipelines.distribution.strategy.Distribution.describe`.

    Raises:
        ValueError: If the folder holds the splits of other data.
    """
    check_same_splits(run, data.records)
    for derived in (path for pattern in DERIVED for path in run.path.glob(pattern)):
        derived.unlink()
    run.write_config(config.to_dict())
    if config.leakage != "off" and not (run / "splits.csv").is_file():
        run.write_text("leakage.csv", data.leaks.to_csv(index=False))
    run.write_text("splits.csv", data.info.manifest.to_csv(index=False))
    made = {"deterministic": config.is_deterministic, "devices": devices or {}}
    run.write_json("environment.json", environment() | made)
    if len(data.rejected):
        run.write_text("rejected.csv", data.rejected.to_csv(index=False))


def _say_how_sure(found: Calibration, console: Console) -> None:
    """Prints what the scaling changed on validation, and what could not be fitted."""
    before, after = (found.fitted[name]["ece"] for name in ("before", "after"))
    if "scaling" not in found.left_out and found.fitted["method"] != "none":
        console.print(
            f"calibrated by {found.fitted['method']} on {found.fitted['images']} validation images: "
            f"expected calibration error {before:.3f} before, {after:.3f} after",
            **PLAIN,
        )
    for what, why in found.left_out.items():
        console.print(f"no {what}: {why}", style="yellow", markup=False, **PLAIN)


def _fit(
    training: keras.Model,
    model: ImageClassifier,
    config: TrainConfig,
    data: Splits,
    checkpoints: Checkpoints,
    console: Console,
    distribution: Distribution,
) -> Progress:
    progress, steps = checkpoints.progress(), data.steps_per_epoch
    if progress.step:
        # Makes the metrics, which in Keras have no variables before.
        training.evaluate(validation(data, distribution)["validation_data"], steps=1, verbose=0)
    if checkpoints.newest():
        checkpoints.restore(training)
        console.print(f"Continuing after {progress} of {config.epochs}", **PLAIN)
    elif config.pretrained is not None:
        model.load_backbone(config.pretrained)
    with bar(console) as moving:
        saver = SaveState(
            checkpoints,
            progress,
            monitor=config.monitor,
            steps=steps,
            patience=config.patience,
            save_steps=config.save_steps,
            saved=model,
            writes=distribution.is_chief,
            is_shared=distribution.workers > 1,
        )
        board = [_tensorboard(checkpoints.run)] if config.tensorboard and distribution.is_chief else []
        callbacks = [ValidateAveraged(), EpochLines(moving, epochs=config.epochs, steps=steps), saver, *board]
        with on_sigterm(saver.end), _ending_together(saver), noticing_lost_workers():
            _fit_from(saver.progress, training, config, data, callbacks, distribution)
            if progress.step and not is_trained(config, saver.progress):
                _fit_from(saver.progress, training, config, data, callbacks, distribution)
    return saver.progress


@contextlib.contextmanager
def _ending_together(saver: SaveState) -> Iterator[None]:
    """Ends a training that was asked to end also where another worker, asked too, was one saved state ahead."""
    try:
        yield
    except WorkerLostError as error:
        if not (saver.is_asked_to_end and saver.checkpoints.newest()):
            raise
        raise Terminated(f"the state after {saver.checkpoints.progress()} is saved") from error


def _fit_from(
    progress: Progress,
    training: keras.Model,
    config: TrainConfig,
    data: Splits,
    callbacks: list[keras.callbacks.Callback],
    distribution: Distribution,
) -> None:
    """Fits the rest of an epoch that was begun, or else all epochs that are left: in Keras these are equally long."""
    epoch, step = progress.epoch, progress.step
    training.fit(
        train_batches(data, distribution, epoch=epoch, step=step, weights=class_weight(config, data)),
        steps_per_epoch=data.steps_per_epoch - step,
        **validation(data, distribution),
        initial_epoch=epoch,
        epochs=epoch + 1 if step else config.epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


def _tensorboard(run: RunFolder) -> keras.callbacks.Callback:
    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError("TensorBoard logs need the extra: pip install 'medkeras[tensorboard]'")
    return keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False)


def _summary(config: TrainConfig, progress: Progress) -> str:
    early = "" if progress.epoch == config.epochs else f" (no better one for {config.patience})"
    best = "undefined" if progress.best_value is None else f"{progress.best_value:.4f}"
    return f"{progress.epoch} epochs{early}; best {progress.best_epoch}, validation {config.monitor} {best}"
