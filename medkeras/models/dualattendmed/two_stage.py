"""Two-stage inference: a look at the whole image, a look at what the first one attended to, and their average."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.layers import AttentionCrop
from medkeras.layers.attention.crop_drop import PEAKS
from medkeras.models.base import ImageClassifier
from medkeras.models.explain_points import Grid, Tokens
from medkeras.models.wrapper import Wrapper
from medkeras.tasks import is_multilabel

AVERAGES = ("logits", "probabilities")

# How each published system crops and averages at test time.
PROTOCOLS = {
    "dualattendmed": {"crops": ((0.5, 0.1),)},
    "ws-dan": {"crops": ((0.1, 0.05),), "peak": "image", "average": "probabilities"},
    "cal": {"crops": ((0.3, 0.1), (0.2, 0.1), (0.1, 0.05)), "flips": True},
}


def two_stage(model: ImageClassifier, protocol: str = "dualattendmed", **changes: Any) -> "TwoStage":
    """Returns a model that looks twice, as a published system does; the weights are the given model's own.

    Args:
        model: A model with attention maps, such as `DualAttendMed`.
        protocol: `dualattendmed`: one crop at threshold 0.5 with padding 0.1, mean of logits. `ws-dan`: threshold
            0.1 of the resized map's maximum, padding 0.05, mean of probabilities (boxes are cut to the image, which
            the official code fills with zeros). `cal`: three crops (thresholds 0.3, 0.2 and 0.1 with paddings 0.1,
            0.1 and 0.05), mean of logits, with flips.
        **changes: Arguments of `TwoStage` that differ; `flips=True` gives DualAttendMed's inference script.

    Raises:
        ValueError: If the protocol is unknown, or by `TwoStage`.

    Reference:
        The public DualAttendMed code; Hu et al., WS-DAN, arXiv 1901.09891; Rao et al., CAL, arXiv 2108.08728.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> tuple(two_stage(model, "ws-dan").predict(ops.ones((1, 32, 32, 3)), verbose=0).shape)
        (1, 2)
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"`protocol` must be one of {', '.join(PROTOCOLS)}. Received: protocol={protocol!r}")
    return TwoStage(model, **(PROTOCOLS[protocol] | changes))


@keras.saving.register_keras_serializable("medkeras")
class TwoStage(Wrapper):
    """Classifies an image as a whole and again cropped to what its attention map marks, and averages.

    It has the task, the classes, the normalisation and the explain points of the given model, whose weights it
    shares; the points are those of the look at the whole image. Where a map is constant, nowhere positive or not
    finite, the crop is the whole image. A box moves by whole pixels: where a map comes within rounding of the
    threshold, the same model can differ a little between runtimes.

    Args:
        classifier: A model with attention maps.
        crops: `(threshold, padding)` of each crop, at least one: the share of the map's maximum that is kept, in
            [0, 1], and the rim about it as a share of the image, in [0, 1); see `medkeras.layers.attention_box`.
        peak: Where the maximum is taken, `map` or `image`; see `medkeras.layers.attention_box`.
        average: `logits`, or `probabilities`; then the logits are such that their probabilities are the mean.
        flips: Whether to look at the image mirrored left to right too, with crops of its own.
        point: The explain point with the attention map, the mean being taken over its channels.
        name: Name of the model; by default the classifier's with `_two_stage`.

    Input shape:
        `(batch, *classifier.image_shape)`, float in [0, 1].

    Output shape:
        `(batch, num_classes)`, logits.

    Raises:
        ValueError: If an argument is out of its range, or the classifier has no such map.

    Reference:
        Hu et al., See Better Before Looking Closer, arXiv 1901.09891.

    Example:
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> both = TwoStage(model, crops=[(0.4, 0.1)], flips=True)
        >>> both.output_shape, both.count_params() == model.count_params(), sorted(both.explain_points)
        ((None, 2), True, ['attention', 'attention_maps', 'backbone', 'features'])
    """

    def __init__(
        self,
        classifier: ImageClassifier,
        *,
        crops: Sequence[Sequence[float]] = ((0.5, 0.1),),
        peak: str = "map",
        average: str = "logits",
        flips: bool = False,
        point: str = "attention",
        name: str | None = None,
    ) -> None:
        _check(classifier, peak, average, point)
        if not len(crops) or any(np.shape(crop) != (2,) for crop in crops):
            raise InputError(f"`crops` must be (threshold, padding), one or several. Received: crops={crops}")
        self.crops = tuple((float(threshold), float(padding)) for threshold, padding in crops)
        self.peak, self.average, self.flips, self.point = peak, average, bool(flips), point
        # The first look is the classifier's own graph, so that its explain points can be cut as ever.
        image, attention = classifier.input, _attention(classifier, point)
        zooms = [AttentionCrop(t, padding=p, peak=peak, name=f"crop_{i}") for i, (t, p) in enumerate(self.crops)]
        looks = [classifier.output, *(classifier(zoom([image, attention])) for zoom in zooms)]
        if flips:
            first = keras.Model(image, [classifier.output, attention], name="first_look")
            mirrored = ops.flip(image, axis=-2)
            logits, attention = first(mirrored)
            looks += [logits, *(classifier(zoom([mirrored, attention])) for zoom in zooms)]
        super().__init__(
            classifier,
            logits=_mean(looks, average, classifier.task),
            name=name or f"{classifier.name}_two_stage",
        )
        self._classifier_name = classifier.name

    @property
    def classifier(self) -> ImageClassifier:
        """The model that looks."""
        return self.get_layer(self._classifier_name)

    def settings(self) -> dict[str, Any]:
        """Returns how the looks are made and averaged, as plain values."""
        return {
            "crops": [list(crop) for crop in self.crops],
            "peak": self.peak,
            "average": self.average,
            "flips": self.flips,
            "point": self.point,
        }


def _check(classifier: Any, peak: str, average: str, point: str) -> None:
    if not isinstance(classifier, ImageClassifier) or isinstance(classifier, TwoStage):
        raise InputError(
            f"`classifier` must be a model of this package that looks once. Received: {type(classifier).__name__}"
        )
    maps = [n for n, p in classifier.explain_points.items() if isinstance(p.rule, (Grid, Tokens))]
    for name, value, choices in (("peak", peak, PEAKS), ("average", average, AVERAGES), ("point", point, maps)):
        if value not in choices:
            raise InputError(f"`{name}` must be one of {', '.join(choices)}. Received: {name}={value!r}")


def _attention(classifier: ImageClassifier, name: str) -> Any:
    """Returns the map that crops are taken from, `(batch, *cells)`."""
    point = classifier.explain_points[name]
    return ops.mean(ops.cast(point.rule.fold(point.tensor), "float32"), axis=-1)


def _mean(looks: list[Any], average: str, task: str) -> Any:
    if average == "logits":
        return ops.mean(ops.stack(looks), axis=0)
    # Through logarithms: a probability that rounds to 0 or 1 would have no logit.
    if is_multilabel(task):
        return _log_mean(ops.log_sigmoid, looks) - _log_mean(ops.log_sigmoid, [-logits for logits in looks])
    return _log_mean(ops.log_softmax, looks)


def _log_mean(log_probability: Callable[[Any], Any], looks: list[Any]) -> Any:
    values = ops.stack([log_probability(logits) for logits in looks])
    return ops.logsumexp(values, axis=0) - math.log(len(looks))
