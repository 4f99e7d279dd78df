"""What the samplers share: several predictions of the same images, by one compiled call."""

from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.tasks import check_task, to_probabilities


def task_of(model: keras.Model, task: str | None, *, by: str) -> str:
    """Returns the task of a model, which one of this package knows and others are told.

    Args:
        model: The model.
        task: For a model of another package, one of `medkeras.tasks.TASKS`.
        by: What samples it, for the message.

    Raises:
        ValueError: If the model is not functional, or the task is missing or does not fit its outputs.

    Example:
        >>> image = keras.Input((4,))
        >>> task_of(keras.Model(image, keras.layers.Dense(2)(image)), "binary", by="An ensemble")
        'binary'
    """
    if not hasattr(model, "input"):
        raise InputError(f"{by} needs a functional model. Received: {type(model).__name__}")
    task = getattr(model, "task", None) or task
    if task is None:
        raise InputError("`task` says what the outputs of a model of another package are. Received: task=None")
    return check_task(task, model.output_shape[-1])


def sampled(model: keras.Model, images: Any, *, task: str, from_logits: bool, batch_size: int) -> np.ndarray:
    """Returns the probabilities of each sample, float32 `(samples, n, classes)`.

    Args:
        model: From images to `(batch, samples, classes)`.
        images: `(n, *image_shape)`.
        task: One of `medkeras.tasks.TASKS`.
        from_logits: Whether the model gives logits.
        batch_size: Images per call.
    """
    outputs = model.predict(images, batch_size=batch_size, verbose=0)
    if from_logits:
        outputs = ops.convert_to_numpy(to_probabilities(outputs, task))
    return np.moveaxis(outputs, 1, 0)
