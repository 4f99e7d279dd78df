"""What all architectures share: the arguments of every constructor, and the way from them to a model."""

from collections.abc import Sequence
from typing import Any, Required, TypedDict

from medkeras.models.base import ImageClassifier, image_input
from medkeras.models.explain_points import ExplainPoint


class Common(TypedDict, total=False):
    """The keyword arguments that every architecture takes beside its own: see `Architecture`."""

    num_classes: Required[int]
    task: str | None
    class_names: Sequence[str] | None
    normalization: Any
    name: str | None


class Architecture(ImageClassifier):
    """An image classifier that builds its graph from its options.

    A subclass takes its own options and `**common: Unpack[Common]`, keeps each option as the attribute of its name,
    checks them, and calls this constructor, which asks its `graph` for the rest. `default_normalization` is its own;
    `takes_rgb` says that a grey image is repeated to three equal channels.

    Args:
        input_shape: `(height, width, channels)` or `(depth, height, width, channels)`, as the architecture allows.
        num_classes: Number of classes, or of labels.
        task: One of `medkeras.tasks.TASKS`; by default `binary` for two classes, else `multiclass`.
        class_names: One name per class; by default `"0", "1", ...`.
        normalization: `"imagenet"`, `"half"` (mean and std 0.5), `"none"` or `(mean, std)`; of the [0, 1] image. By
            default the architecture's own.
        name: Name of the model; by default that of the class in small letters.

    Input shape:
        `(batch, *input_shape)`, float in [0, 1].

    Output shape:
        `(batch, num_classes)`, logits.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from medkeras.models import ViT
        >>> model = ViT((32, 32, 1), num_classes=2, units=8, depth=1, heads=2, hidden=8, class_names=["no", "yes"])
        >>> model.task, model.class_names, model.normalization, model.name
        ('binary', ('no', 'yes'), 'half', 'vit')
    """

    default_normalization: Any = "half"
    takes_rgb = True

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        num_classes: int,
        task: str | None = None,
        class_names: Sequence[str] | None = None,
        normalization: Any = None,
        name: str | None = None,
    ) -> None:
        self.normalization = self.default_normalization if normalization is None else normalization
        image, x = self.image(input_shape)
        logits, points, stochastic = self.graph(x, num_classes)
        super().__init__(
            inputs=image,
            logits=logits,
            image_shape=input_shape,
            num_classes=num_classes,
            task=task,
            class_names=class_names,
            normalization=self.normalization,
            explain_points=points,
            stochastic=stochastic,
            name=name or type(self).__name__.lower(),
        )

    def image(self, input_shape: Sequence[int]) -> tuple[Any, Any]:
        """Returns the symbolic image, and what `graph` takes: the image after the model's normalisation."""
        return image_input(input_shape, self.normalization, rgb=self.takes_rgb)

    def graph(self, x: Any, num_classes: int) -> tuple[Any, dict[str, ExplainPoint], list[Any]]:
        """Returns the symbolic logits, float32; the explain points; and the layers that Monte Carlo sampling turns on.

        Args:
            x: From `image`.
            num_classes: Number of classes, or of labels.
        """
        raise TypeError(f"{type(self).__name__} must have a `graph`.")
