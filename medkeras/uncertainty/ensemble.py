"""Deep ensembles: the same image seen by several trainings."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.uncertainty.measures import Uncertainty, summarize
from medkeras.uncertainty.sampling import sampled, task_of


class DeepEnsemble:
    """Predicts with several models of one task, in one compiled call; each model is one sample.

    Trainings that differ in their seed alone agree where the data taught them and not elsewhere, so that their
    disagreement, the mutual information, is large for images unlike those of the training. The models need not be of
    one architecture.

    Args:
        models: Two or more, of this package or any functional Keras models, of one task, with the same classes in
            the same order and the same image shape.
        task: Needed for models of another package only: one of `medkeras.tasks.TASKS`.
        from_logits: Whether the models give logits, as those of this package do.

    Raises:
        ValueError: If there are fewer than two models, one is not functional, or they do not agree.

    Reference:
        Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles,
        arXiv 1612.01474.

    Example:
        >>> image = keras.Input((8, 8, 1))
        >>> models = [keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image))) for _ in range(3)]
        >>> found = DeepEnsemble(models, task="binary").predict(np.ones((5, 8, 8, 1), "float32"))
        >>> found.mean.shape, found.mutual_information.shape
        ((5, 2), (5,))
    """

    def __init__(self, models: Sequence[keras.Model], *, task: str | None = None, from_logits: bool = True) -> None:
        models = tuple(models)
        if len(models) < 2:
            raise InputError(f"An ensemble is of at least two models. Received: {len(models)}")
        tasks = [task_of(model, task, by="An ensemble") for model in models]
        _check_same("task", tasks)
        _check_same("image shape", [tuple(model.input_shape[1:]) for model in models])
        _check_same("number of classes", [model.output_shape[-1] for model in models])
        _check_same("class names", [model.class_names for model in models if hasattr(model, "class_names")])
        self.models, self.task, self.from_logits = models, tasks[0], from_logits
        image = keras.Input(models[0].input_shape[1:])
        self.model = keras.Model(image, _SideBySide(models)(image))

    def predict(self, images: Any, *, batch_size: int = 32) -> Uncertainty:
        """Returns what the models agree and disagree on.

        Args:
            images: `(n, *image_shape)`, float in [0, 1].
            batch_size: Images per call.
        """
        return summarize(self.sample(images, batch_size=batch_size), task=self.task)

    def sample(self, images: Any, *, batch_size: int = 32) -> np.ndarray:
        """Returns the probabilities of each model, float32 `(models, n, classes)`; see `predict`."""
        return sampled(self.model, images, task=self.task, from_logits=self.from_logits, batch_size=batch_size)


class _SideBySide(keras.layers.Layer):
    """Several models on the same images, `(batch, models, classes)`.

    A layer, since a graph cannot hold two models of one name. In float32, so that images and outputs are not rounded
    on their way in and out of models that compute in half precision.
    """

    def __init__(self, models: Sequence[keras.Model]) -> None:
        super().__init__(dtype="float32")
        self.models = list(models)

    def call(self, images: Any) -> Any:
        return ops.stack([ops.cast(model(images, training=False), "float32") for model in self.models], axis=1)


def _check_same(what: str, values: Sequence[Any]) -> None:
    different = [value for value in values if value != values[0]]
    if different:
        raise InputError(f"The models of an ensemble have one {what}. Received: {values[0]} and {different[0]}")
