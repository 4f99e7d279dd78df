"""Test-time augmentation: the same image seen in several ways that do not change what it shows."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.uncertainty.measures import Uncertainty, summarize
from medkeras.uncertainty.sampling import sampled, task_of

AXES = {"width": -2, "height": -3, "depth": -4}
SHIFT = 0.03  # Of an axis, at least one pixel; what enters repeats the border.
GAIN = 0.1


def _flip(images: Any, axis: str) -> Any:
    return ops.flip(images, axis=AXES[axis])


def _shift(images: Any, axis: str, direction: int) -> Any:
    size = images.shape[AXES[axis]]
    pixels = direction * max(1, round(SHIFT * size))
    return ops.take(images, np.clip(np.arange(size) - pixels, 0, size - 1), axis=AXES[axis])


def _turn(images: Any, quarters: int) -> Any:
    return ops.rot90(images, k=quarters, axes=(len(images.shape) - 3, len(images.shape) - 2))


def _brighten(images: Any, gain: float) -> Any:
    return ops.clip(gain * images, 0, 1)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda images: images,
    "brighter": functools.partial(_brighten, gain=1 + GAIN),
    "darker": functools.partial(_brighten, gain=1 - GAIN),
    "shift_left": functools.partial(_shift, axis="width", direction=-1),
    "shift_right": functools.partial(_shift, axis="width", direction=1),
    "shift_up": functools.partial(_shift, axis="height", direction=-1),
    "shift_down": functools.partial(_shift, axis="height", direction=1),
    "flip_width": functools.partial(_flip, axis="width"),
    "flip_height": functools.partial(_flip, axis="height"),
    "flip_depth": functools.partial(_flip, axis="depth"),
    "turn_90": functools.partial(_turn, quarters=1),
    "turn_180": functools.partial(_turn, quarters=2),
    "turn_270": functools.partial(_turn, quarters=3),
}
# No flip, no turn: what they make of an image need not exist, see `TestTimeAugmentation`.
DEFAULT_VIEWS = ("identity", "brighter", "darker", "shift_left", "shift_right", "shift_up", "shift_down")
SQUARE = ("turn_90", "turn_270")


class TestTimeAugmentation:
    """Predicts from several views of each image, in one compiled call; each view is one sample.

    What the views disagree on, the mutual information, is what hangs on accidents of how the image was taken. Every
    view is fixed, so that the same images give the same numbers.

    The views are the caller's choice, because they must not change the answer. The default is careful: small shifts
    and changes of brightness, which change no finding of any modality. Flips and turns belong only where a mirrored
    or turned image could as well have been taken, as of a skin lesion or of tissue. A mirrored chest X-ray has its
    heart on the wrong side, a mirrored fundus is the other eye, and a retina in OCT is never upside down.

    Args:
        model: A model of this package, or any functional Keras model of images of a fixed shape, channels last.
        views: Names of `VIEWS`, each once. `shift_*` moves by 3 % of the axis, `brighter` and `darker` multiply by
            1.1 and 0.9, within [0, 1]; `turn_*` are degrees in the plane of height and width, counted from the
            height axis to the width axis.
        task: Needed for other models only: one of `medkeras.tasks.TASKS`.
        from_logits: Whether the model gives logits, as those of this package do.

    Raises:
        ValueError: If the model is not functional or takes no images of a fixed shape, a view is unknown, named twice
            or does not fit the shape, or there is none.

    Reference:
        Wang et al., Aleatoric uncertainty estimation with test-time augmentation for medical image segmentation with
        convolutional neural networks, arXiv 1807.07356.

    Example:
        >>> image = keras.Input((8, 8, 1))
        >>> model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
        >>> seen = TestTimeAugmentation(model, views=("identity", "flip_width"), task="binary")
        >>> seen.sample(np.ones((3, 8, 8, 1), "float32")).shape
        (2, 3, 2)
    """

    __test__ = False  # For pytest, which takes a class of such a name for tests.

    def __init__(
        self,
        model: keras.Model,
        *,
        views: Sequence[str] = DEFAULT_VIEWS,
        task: str | None = None,
        from_logits: bool = True,
    ) -> None:
        self.task, self.from_logits = task_of(model, task, by="Test-time augmentation"), from_logits
        self.views = _check_views(views, tuple(model.input_shape[1:]))
        image = keras.Input(model.input_shape[1:])
        seen = ops.concatenate([VIEWS[view](image) for view in self.views], axis=0)
        outputs = ops.reshape(model(seen, training=False), (len(self.views), -1, model.output_shape[-1]))
        self.model = keras.Model(image, ops.swapaxes(outputs, 0, 1))

    def predict(self, images: Any, *, batch_size: int = 32) -> Uncertainty:
        """Returns what the views agree and disagree on.

        Args:
            images: `(n, *image_shape)`, float in [0, 1].
            batch_size: Images per call; the model sees all views of them at once.
        """
        return summarize(self.sample(images, batch_size=batch_size), task=self.task)

    def sample(self, images: Any, *, batch_size: int = 32) -> np.ndarray:
        """Returns the probabilities of each view, float32 `(views, n, classes)`; see `predict`."""
        return sampled(self.model, images, task=self.task, from_logits=self.from_logits, batch_size=batch_size)


def _check_views(views: Sequence[str], shape: tuple[int | None, ...]) -> tuple[str, ...]:
    views = (views,) if isinstance(views, str) else tuple(views)
    if len(shape) not in (3, 4) or None in shape:
        raise InputError(f"Test-time augmentation needs a model of images of a fixed shape. Received: shape {shape}")
    if not views or len(set(views)) < len(views) or not set(views) <= set(VIEWS):
        raise InputError(f"`views` must be names of {', '.join(VIEWS)}, each once. Received: views={views}")
    if "flip_depth" in views and len(shape) == 3:
        raise InputError(f"`flip_depth` is for volumes. Received: images of shape {shape}")
    if set(SQUARE) & set(views) and shape[-3] != shape[-2]:
        raise InputError(f"A turn by 90 degrees needs a height equal to the width. Received: images of shape {shape}")
    return views
