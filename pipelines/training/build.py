"""From a configuration to a compiled training: architecture, way of training, optimizer, loss and balance."""

import inspect
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import losses, models, tasks
from medkeras.backend.rematerialization import rematerialize
from medkeras.errors import InputError, perhaps
from medkeras.metrics import default_metrics
from medkeras.models.dualattendmed.training import AttentionTraining
from pipelines.distribution.batch_norm import average_statistics, synchronise_norms
from pipelines.distribution.compiled_replicas import compile_replicas
from pipelines.distribution.multi_worker import join
from pipelines.distribution.strategy import Distribution, precision_of
from pipelines.load import Splits
from pipelines.splits.balance import class_weights, positive_weights
from pipelines.training.config import TrainConfig
from pipelines.training.optimizer import build_optimizer

WEIGHTS = {"class-weights": "inverse", "effective-number": "effective"}


def build_training(
    config: TrainConfig, data: Splits, *, distribution: Distribution | None = None
) -> tuple[keras.Model, models.ImageClassifier]:
    """Builds and compiles what a run fits on its data, with seeded weights.

    Args:
        config: The configuration, of all devices together.
        data: The data.
        distribution: The devices; one by default.

    Returns:
        What is fitted, and the model that it trains; they are the same in a plain training.

    Raises:
        ValueError: If the model is unknown, does not fit the rank of the images or cannot be trained in this way,
            the task has no such measure or balance, or the devices cannot do what is asked of them.
    """
    distribution = distribution or Distribution(tf.distribute.get_strategy())
    distribution.check_batch(data.pipelines["train"].batch_size)
    _check_replicated(config, distribution)
    with distribution.strategy.scope(), precision_of(config.precision):
        model = build_model(config, data)
        if config.sync_batch_norm:
            synchronise_norms(model)
        elif distribution.is_distributed:
            average_statistics(model)
        if config.gradient_checkpointing:
            rematerialize(model)
        training = _attention_training(config, model) if config.training == "attention" else model
        training.compile(
            optimizer=build_optimizer(config, training, steps_per_epoch=data.steps_per_epoch),
            loss=_loss(config, data),
            metrics=default_metrics(data.info.task, data.info.num_classes),
            jit_compile=_is_compiled(config, distribution),
        )
    if config.jit == "on" and not training.jit_compile:
        raise InputError("Some layer of the model has no compiled form. Received: jit='on'")
    if config.jit == "on" and distribution.is_distributed:
        compile_replicas(training)
    return (join(training) if distribution.is_distributed else training), model


def _check_replicated(config: TrainConfig, distribution: Distribution) -> None:
    """Checks that several replicas can do what is asked of them."""
    if distribution.replicas == 1:
        return
    if config.jit == "on" and config.sync_batch_norm:
        raise InputError(
            "Norms that are synchronised in the forward pass have no compiled form. "
            f"Received: jit='on' and sync_batch_norm=True with {distribution.replicas} replicas"
        )
    if config.accumulate > 1:
        raise InputError(
            "Gradients are accumulated on one device alone; on several, take a larger `batch_size`. "
            f"Received: accumulate={config.accumulate} with {distribution.replicas} replicas"
        )


def _is_compiled(config: TrainConfig, distribution: Distribution) -> bool | str:
    """Returns what `compile` is told of XLA; `auto` leaves out what has no compiled form."""
    if config.jit == "auto":
        is_one_gpu = distribution.replicas == 1 and tf.config.list_physical_devices("GPU")
        return "auto" if is_one_gpu and not config.is_deterministic else False
    return config.jit == "on"


def build_model(config: TrainConfig, data: Splits) -> models.ImageClassifier:
    """Builds the model of a run for its data, with seeded weights.

    Raises:
        ValueError: If the model is unknown, does not fit the rank of the images or has no backbone to load, or the
            task has no such measure.
    """
    keras.utils.set_random_seed(config.seed)
    info = data.info
    rank = len(models.preset(config.model).input_shape) - 1
    if rank != len(info.image_shape) - 1:
        raise InputError(f"{config.model} takes {rank}D images. Received: {info.name} with shape {info.image_shape}")
    if config.monitor == "accuracy" and tasks.is_multilabel(info.task):
        raise InputError("A multilabel task is monitored by auc or loss. Received: monitor='accuracy'")
    arguments = {
        "input_shape": info.image_shape,
        "num_classes": info.num_classes,
        "task": info.task,
        "class_names": info.class_names,
    }
    for name in arguments.keys() & config.model_options.keys():
        raise InputError(f"What follows from the data is no option. Received: {name}={config.model_options[name]!r}")
    model = models.create(config.model, **arguments, **config.model_options)
    if config.pretrained is not None and not hasattr(model, "load_backbone"):
        raise InputError(
            f"Pretrained weights are for models with a backbone. Received: {config.model}, "
            f"pretrained={config.pretrained!r}"
        )
    return model


def _attention_training(config: TrainConfig, model: models.ImageClassifier) -> AttentionTraining:
    if not hasattr(model, "internals"):
        raise InputError(
            f"Training by attention is for models that show their attention maps. Received: {config.model}"
        )
    options = {name: value for name, value in config.training_options.items() if name != "mask"}
    known = sorted({"mask", *inspect.signature(AttentionTraining).parameters} - {"classifier", "seed"})
    for name in options.keys() - set(known):
        raise InputError(
            f"An option of the training is one of {', '.join(known)}{perhaps(name, known)}. Received: {name}"
        )
    try:
        return AttentionTraining(model, seed=config.seed, **options)
    except TypeError as error:
        raise InputError(f"An option of the training is of another type. Received: {options}, {error}") from error


def _loss(config: TrainConfig, data: Splits) -> keras.losses.Loss:
    multilabel = tasks.is_multilabel(data.info.task)
    if multilabel and config.balance not in ("none", "class-weights"):
        raise InputError(f"A multilabel task is balanced by class-weights. Received: balance={config.balance!r}")
    balanced = multilabel and config.balance == "class-weights"
    if config.loss == "focal":
        if balanced:
            raise InputError("The multilabel focal loss takes no weights. Received: balance='class-weights'")
        return losses.BinaryFocalLoss() if multilabel else losses.FocalLoss()
    if balanced:
        return losses.MaskedBinaryCrossentropy(positive_weights=positive_weights(train_labels(data)))
    return tasks.default_loss(data.info.task)


def class_weight(config: TrainConfig, data: Splits) -> dict[int, float] | None:
    """Returns the class weights for `fit`, if the configuration asks for them and the task has classes."""
    scheme = WEIGHTS.get(config.balance)
    if scheme is None or tasks.is_multilabel(data.info.task):
        return None
    return class_weights(data.records["train"].labels, data.info.num_classes, scheme=scheme)


def weighted(dataset: tf.data.Dataset, weights: dict[int, float]) -> tf.data.Dataset:
    """Adds to `(image, label)` batches the weight of each image, that of its class; of shares, the largest one.

    Keras does so by itself, but not for labels that come with masks.
    """
    table = tf.constant([weights[i] for i in range(len(weights))], tf.float32)

    def add(images: tf.Tensor, labels: Any) -> tuple[tf.Tensor, Any, tf.Tensor]:
        own = labels["label"] if isinstance(labels, dict) else labels
        classes = own if own.shape.rank == 1 else tf.argmax(own, axis=-1)
        return images, labels, tf.gather(table, classes)

    return dataset.map(add, num_parallel_calls=tf.data.AUTOTUNE)


def train_batches(
    data: Splits,
    distribution: Distribution,
    *,
    epoch: int = 0,
    step: int = 0,
    weights: dict[int, float] | None = None,
) -> Any:
    """Returns what `fit` trains on from a step of an epoch on: whole batches, or of each batch what is this process's.

    Args:
        data: The data, in batches of all devices together.
        distribution: The devices.
        epoch: The first epoch.
        step: Its first step, from 0.
        weights: Of each class, if images are to be weighed.
    """

    def own(rows: tuple[int, int] | None = None) -> tf.data.Dataset:
        stream = data.train_stream(epoch, start_step=step, rows=rows)
        return weighted(stream, weights) if weights else stream

    if not distribution.is_distributed:
        return own()
    size = data.pipelines["train"].batch_size // distribution.replicas
    return distribution.distribute(lambda first, count: own((first * size, (first + count) * size)).rebatch(size))


def validation(data: Splits, distribution: Distribution) -> dict[str, Any]:
    """Returns the arguments of `fit` for validation, on every image once, whatever the number of devices."""
    if not distribution.is_distributed:
        return {"validation_data": data.val}
    split, replicas = data.pipelines["val"], distribution.replicas
    return {
        "validation_data": distribution.distribute(
            lambda first, count: split.shared_batches(replicas=replicas, first=first, count=count)
        ),
        "validation_steps": split.shared_steps(replicas),
    }


def train_labels(data: Splits) -> np.ndarray:
    """Returns the labels that the training sees."""
    records = data.records["train"]
    return records.labels if records.train_labels is None else records.train_labels
