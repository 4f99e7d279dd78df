"""From a configuration to a compiled model: architecture, optimizer, loss and balance."""

import keras
import numpy as np

from medkeras import losses, models, tasks
from medkeras.metrics import default_metrics
from pipelines.balance import class_weights, positive_weights
from pipelines.jobs.config import TrainConfig
from pipelines.load import Splits

WARM_UP = 0.05
WEIGHTS = {"class-weights": "inverse", "effective-number": "effective"}


def build_model(config: TrainConfig, data: Splits) -> models.ImageClassifier:
    """Builds and compiles the model of a run for its data, with seeded weights.

    Raises:
        ValueError: If the model is unknown or does not fit the rank of the images, or the task has no such
            measure or balance.
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
    model.compile(
        optimizer=keras.optimizers.AdamW(_schedule(config, data), weight_decay=config.weight_decay),
        loss=_loss(config, data),
        metrics=default_metrics(info.task, info.num_classes),
    )
    return model


def _schedule(config: TrainConfig, data: Splits) -> keras.optimizers.schedules.LearningRateSchedule:
    steps = config.epochs * data.steps_per_epoch
    warm_up = max(1, round(WARM_UP * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=config.learning_rate, warmup_steps=warm_up
    )


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


def train_labels(data: Splits) -> np.ndarray:
    """Returns the labels that the training sees."""
    records = data.records["train"]
    return records.labels if records.train_labels is None else records.train_labels
