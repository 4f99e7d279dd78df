"""A calibrated model: a classifier whose logits are scaled in its own graph."""

from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from medkeras.models.wrapper import Wrapper
from medkeras.uncertainty.scaling import LogitScaling


@keras.saving.register_keras_serializable("medkeras")
class Calibrated(Wrapper):
    """A classifier with its logits scaled, so that whatever uses it has calibrated probabilities.

    It is the classifier's graph with one step behind it: the weights, the explain points and the stochastic layers are
    the classifier's own, and it is explained, sampled, saved and exported as that one is.

    Args:
        classifier: A model of this package.
        scaling: For its logits, from `medkeras.uncertainty.fit_scaling`; also as `LogitScaling.to_dict` gives it.
        name: Name of the model; by default the classifier's.

    Attributes:
        classifier, scaling: As given.

    Input shape:
        As the classifier.

    Output shape:
        As the classifier, calibrated logits.

    Raises:
        ValueError: If the classifier is none, is calibrated already, or the scaling is of another task or of another
            number of classes.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> cooler = Calibrated(model, LogitScaling("binary", scale=(0.5,)))
        >>> images = np.ones((1, 28, 28, 1), "float32")
        >>> bool(np.allclose(cooler(images), 0.5 * model(images), atol=1e-6))
        True
    """

    def __init__(
        self, classifier: ImageClassifier, scaling: LogitScaling | dict[str, Any], *, name: str | None = None
    ) -> None:
        scaling = LogitScaling.from_dict(scaling) if isinstance(scaling, dict) else scaling
        _check(classifier, scaling)
        super().__init__(classifier, logits=_scaled(classifier.output, scaling), name=name or classifier.name)
        self.scaling = scaling
        # Past Keras, which would track, and save, the same layers a second time.
        self.__dict__["classifier"] = classifier

    def settings(self) -> dict[str, Any]:
        """Returns the scaling, as plain values."""
        return {"scaling": self.scaling.to_dict()}


def with_scaling(model: ImageClassifier, scaling: LogitScaling) -> ImageClassifier:
    """Returns a model with scaled logits; the model itself where the scaling changes nothing.

    Raises:
        ValueError: As `Calibrated`.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> with_scaling(model, LogitScaling("binary")) is model
        True
    """
    changes_nothing = set(scaling.scale) == {1.0} and set(scaling.shift) == {0.0}
    if changes_nothing and scaling.task == model.task:
        return model
    found = Calibrated(model, scaling)
    found.jit_compile = model.jit_compile
    return found


def _check(classifier: Any, scaling: LogitScaling) -> None:
    if not isinstance(classifier, ImageClassifier) or isinstance(classifier, Calibrated):
        raise InputError(
            f"`classifier` must be a model of this package, not calibrated yet. Received: {type(classifier).__name__}"
        )
    sizes = {len(scaling.scale), len(scaling.shift)}
    if scaling.task != classifier.task or not sizes <= {1, classifier.num_classes}:
        raise InputError(
            f"`scaling` must be of the model's task and classes, {classifier.task} of {classifier.num_classes}. "
            f"Received: scaling={scaling}"
        )


def _scaled(logits: Any, scaling: LogitScaling) -> Any:
    scale, shift = (np.array(values, "float32") for values in (scaling.scale, scaling.shift))
    return ops.cast(logits, "float32") * scale + shift
