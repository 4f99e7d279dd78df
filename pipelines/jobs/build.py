"""From a configuration to a compiled training: architecture, way of training, optimizer, loss and balance."""

import inspect
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import losses, models, tasks
from medkeras.metrics import default_metrics
from medkeras.models.dualattendmed.training import AttentionTraining
from pipelines.balance import class_weights, positive_weights
from pipelines.jobs.config import TrainConfig
from pipelines.jobs.optimizer import build_optimizer
from pipelines.load import Splits

WEIGHTS = {"class-weights": "inverse", "effective-number": "effective"}


def build_training(config: TrainConfig, data: Splits) -> tuple[keras.Model, models.ImageClassifier]:
    """Builds and compiles what a run fits on its data, with seeded weights.

    Returns:
        What is fitted, and the model that it trains; they are the same in a plain training.

    Raises:
        ValueError: If the model is unknown, does not fit the rank of the images or cannot be trained in this way,
            or the task has no such measure or balance.
    """
    model = build_model(config, data)
    training = _attention_training(config, model) if config.training == "attention" else model
    training.compile(
        optimizer=build_optimizer(config, training, steps_per_epoch=data.steps_per_epoch),
        loss=_loss(config, data),
        metrics=default_metrics(data.info.task, data.info.num_classes),
    )
    return training, model


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
        raise ValueError(f"{config.model} takes {rank}D images. Received: {info.name} with shape {info.image_shape}")
    if config.monitor == "accuracy" and tasks.is_multilabel(info.task):
        raise ValueError("A multilabel task is monitored by auc or loss. Received: monitor='accuracy'")
    arguments = {
        "input_shape": info.image_shape,
        "num_classes": info.num_classes,
        "task": info.task,
        "class_names": info.class_names,
    }
    for name in arguments.keys() & config.model_options.keys():
        raise ValueError(f"What follows from the data is no option. Received: {name}={config.model_options[name]!r}")
    model = models.create(config.model, **arguments, **config.model_options)
    if config.pretrained is not None and not hasattr(model, "load_backbone"):
        raise ValueError(
            f"Pretrained weights are for models with a backbone. Received: {config.model}, "
            f"pretrained={config.pretrained!r}"
        )
    return model


def _attention_training(config: TrainConfig, model: models.ImageClassifier) -> AttentionTraining:
    if not hasattr(model, "internals"):
        raise ValueError(
            f"Training by attention is for models that show their attention maps. Received: {config.model}"
        )
    options = {name: value for name, value in config.training_options.items() if name != "mask"}
    known = set(inspect.signature(AttentionTraining).parameters) - {"classifier", "seed"}
    for name in options.keys() - known:
        raise ValueError(f"An option of the training is one of {', '.join(sorted(known | {'mask'}))}. Received: {name}")
    try:
        return AttentionTraining(model, seed=config.seed, **options)
    except TypeError as error:
        raise ValueError(f"An option of the training is of another type. Received: {options}, {error}") from error


def _loss(config: TrainConfig, data: Splits) -> keras.losses.Loss:
    multilabel = tasks.is_multilabel(data.info.task)
    if multilabel and config.balance not in ("none", "class-weights"):
        raise ValueError(f"A multilabel task is balanced by class-weights. Received: balance={config.balance!r}")
    balanced = multilabel and config.balance == "class-weights"
    if config.loss == "focal":
        if balanced:
            raise ValueError("The multilabel focal loss takes no weights. Received: balance='class-weights'")
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


def train_labels(data: Splits) -> np.ndarray:
    """Returns the labels that the training sees."""
    records = data.records["train"]
    return records.labels if records.train_labels is None else records.train_labels
