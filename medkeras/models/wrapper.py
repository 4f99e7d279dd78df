"""A model around a classifier: other logits, the rest as it was."""

from typing import Any

import keras

from medkeras.models.base import ImageClassifier

SAVED = ("module", "class_name", "config", "registered_name")  # of a serialised classifier: not how it was compiled


class Wrapper(ImageClassifier):
    """An image classifier with the image, the classes, the task, the explain points and the weights of another.

    A subclass makes its logits from the classifier's graph, has the attribute or property `classifier`, and returns its
    own arguments from `settings`.

    Args:
        classifier: The model that is wrapped.
        logits: The symbolic output, `(batch, num_classes)`, made of `classifier.input`.
        name: Name of the model.
    """

    def __init__(self, classifier: ImageClassifier, *, logits: Any, name: str) -> None:
        super().__init__(
            inputs=classifier.input,
            logits=logits,
            image_shape=classifier.image_shape,
            num_classes=classifier.num_classes,
            task=classifier.task,
            class_names=classifier.class_names,
            normalization=classifier.normalization,
            explain_points=classifier.explain_points,
            stochastic=classifier.stochastic,
            name=name,
        )

    def settings(self) -> dict[str, Any]:
        """Returns the constructor's own arguments, beside the classifier and the name, as plain values."""
        raise TypeError(f"{type(self).__name__} must have `settings`.")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        classifier = keras.saving.serialize_keras_object(self.classifier)
        classifier = {key: value for key, value in classifier.items() if key in SAVED}
        return {"name": self.name, "classifier": classifier} | self.settings()

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Wrapper":
        """Builds the model that `get_config` described."""
        config = dict(config)
        classifier = keras.saving.deserialize_keras_object(config.pop("classifier"), custom_objects=custom_objects)
        return cls(classifier, **config)
