"""Training by the model's own attention: raw, cropped and dropped images in one compiled step."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from medkeras.layers.attention_crop import attention_crop, attention_drop, attention_indices
from medkeras.losses.attention import attention_alignment, attention_diversity
from medkeras.losses.centres import CentreLoss
from medkeras.tasks import is_multilabel

WEIGHTS = {"classification": 1.0, "alignment": 0.5, "diversity": 0.1, "centre": 0.01}


class AttentionTraining(keras.Model):
    """Trains a `DualAttendMed` with attention-assisted augmentation (AADA) in plain `fit`.

    Each step looks at an image three times: as it is, cropped to what one of its attention maps marks, and with
    what another one marks dropped. The maps are drawn by their strength. All three passes, the losses and the
    update of the class centres are one graph, which compiles to one XLA program, on TensorFlow and JAX.

    `fit`, `evaluate` and `predict` take images and labels as those of the model do, with any compiled
    classification loss on logits; validation is one plain pass. Labels may come with lesion masks, as
    `{"label": ..., "mask": ...}`: the attention maps are then drawn towards the mask. What is trained is
    `classifier`: save that.

    Args:
        classifier: The model to train.
        weights: Factors of the loss terms that differ from `classification` 1, `alignment` 0.5, `diversity` 0.1
            and `centre` 0.01; 0 leaves a term out.
        augment: Whether to look at cropped and dropped images; without, only raw images count.
        crop_threshold: Range of the share of a map's maximum above which the crop keeps, in (0, 1).
        drop_threshold: The same for what is dropped.
        padding: Rim about the crop, as a share of the image, in [0, 1).
        published_diversity: Whether to take the published sign of the diversity term.
        seed: Seed of which maps and thresholds are drawn.

    Raises:
        ValueError: If an argument is out of its range or a weight unknown.

    Reference:
        DualAttendMed's composite loss, `(CE_raw + 2 CE_crop,drop + 3 CE_counterfactual) / 6` and the other terms;
        thresholds and centres as in WS-DAN, arXiv 1901.09891.

    Example:
        >>> from medkeras.models import create
        >>> from medkeras.tasks import default_loss
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> training = AttentionTraining(model, seed=0)
        >>> training.compile("sgd", default_loss(model.task))
        >>> sorted(training.train_on_batch(ops.ones((2, 32, 32, 3)), ops.array([0, 1]), return_dict=True))
        ['alignment', 'centre', 'classification', 'diversity', 'loss']
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        weights: Mapping[str, float] | None = None,
        augment: bool = True,
        crop_threshold: Sequence[float] = (0.4, 0.6),
        drop_threshold: Sequence[float] = (0.2, 0.5),
        padding: float = 0.1,
        published_diversity: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(name=f"{classifier.name}_training")
        for name, (low, high) in (("crop_threshold", crop_threshold), ("drop_threshold", drop_threshold)):
            if not 0 < low <= high < 1:
                raise ValueError(f"`{name}` must be a range in (0, 1). Received: {name}={(low, high)}")
        if not 0 <= padding < 1:
            raise ValueError(f"`padding` must be in [0, 1). Received: padding={padding}")
        self.classifier, self.looks = classifier, classifier.internals()
        self.term_weights = _checked_weights(weights)
        self.augment, self.padding, self.published_diversity = augment, padding, published_diversity
        self.crop_threshold, self.drop_threshold = tuple(crop_threshold), tuple(drop_threshold)
        self.fill = classifier.mean_pixel
        self.draw = keras.random.SeedGenerator(seed)
        self.centre_loss = None
        if self.term_weights["centre"] and not is_multilabel(classifier.task):
            self.centre_loss = CentreLoss(classifier.num_classes, name="centre_loss")
            self.centre_loss.build(self.looks.output["feature"].shape)
        self.terms = {name: keras.metrics.Mean(name) for name, weight in self.term_weights.items() if weight}
        self._is_training_step = False

    def call(self, images: Any, training: bool = False) -> Any:
        """Returns the logits, or in training all that the losses need."""
        return self.looks(images, training=True) if training else self.classifier(images, training=False)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the composite loss of a training step, or the plain loss of an evaluation step."""
        self._is_training_step = training
        labels, mask = (y["label"], y.get("mask")) if isinstance(y, Mapping) else (y, None)
        if not training:
            return self._classification(labels, y_pred, sample_weight)
        values = {
            "classification": self._classify(x, labels, y_pred, sample_weight),
            "alignment": attention_alignment(y_pred["attention"], _on_grid(mask, y_pred["attention"])),
            "diversity": attention_diversity(y_pred["attention"], published=self.published_diversity),
        }
        if self.centre_loss is not None:
            values["centre"] = self.centre_loss(y_pred["feature"], labels, training=True)
        total = sum(self.losses, ops.zeros((), "float32"))
        for name, tracker in self.terms.items():
            if name in values:
                tracker.update_state(values[name], sample_weight=ops.shape(x)[0])
                total = total + self.term_weights[name] * values[name]
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Updates the compiled metrics on the logits of the raw images."""
        labels = y["label"] if isinstance(y, Mapping) else y
        logits = y_pred["logits"] if isinstance(y_pred, Mapping) else y_pred
        return super().compute_metrics(x, labels, logits, sample_weight)

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the metrics; the terms of the composite loss only in training."""
        results = super().get_metrics_result()
        return {k: v for k, v in results.items() if self._is_training_step or k not in self.terms}

    def _classify(self, images: Any, labels: Any, seen: Mapping[str, Any], sample_weight: Any) -> Any:
        """Returns the classification term: raw, augmented and counterfactual logits."""
        raw = self._classification(labels, seen["logits"], sample_weight)
        if not self.augment:
            auxiliary = self._classification(labels, seen["aux_logits"], sample_weight)
            return (raw + auxiliary) / 2
        again = self.looks(self.augmented(images, seen["attention"]), training=True)
        counterfactual = ops.concatenate([seen["aux_logits"], again["aux_logits"]], axis=0)
        augmented = self._classification(_repeated(labels, 2), again["logits"], _repeated(sample_weight, 2))
        auxiliary = self._classification(_repeated(labels, 3), counterfactual, _repeated(sample_weight, 3))
        return (raw + 2 * augmented + 3 * auxiliary) / 6

    def augmented(self, images: Any, attention: Any) -> Any:
        """Returns cropped, then dropped images, `(2 * batch, *image_shape)`, by maps that are drawn now.

        Args:
            images: `(batch, *image_shape)`.
            attention: Attention maps `(batch, rows, columns, maps)` of the images.
        """
        attention = ops.cast(ops.stop_gradient(attention), "float32")
        uniform = keras.random.uniform((ops.shape(images)[0], 4), seed=self.draw)
        chosen = attention_indices(attention, uniform[:, :2])
        maps = ops.take_along_axis(attention, chosen[:, None, None, :], axis=-1)
        cropped = attention_crop(
            images, maps[..., 0], threshold=_between(self.crop_threshold, uniform[:, 2]), padding=self.padding
        )
        dropped = attention_drop(
            images, maps[..., 1], threshold=_between(self.drop_threshold, uniform[:, 3]), fill=self.fill
        )
        return ops.concatenate([cropped, dropped], axis=0)

    def _classification(self, labels: Any, logits: Any, sample_weight: Any) -> Any:
        return keras.losses.get(self.loss)(labels, logits, sample_weight=sample_weight)


def _checked_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    chosen = WEIGHTS | dict(weights or {})
    if set(chosen) != set(WEIGHTS) or min(chosen.values()) < 0:
        raise ValueError(f"`weights` are >= 0 and of {', '.join(WEIGHTS)}. Received: weights={dict(weights or {})}")
    return chosen


def _between(limits: Sequence[float], uniform: Any) -> Any:
    return limits[0] + (limits[1] - limits[0]) * uniform


def _on_grid(mask: Any, attention: Any) -> Any:
    """Returns the share of each cell of the attention maps that a mask covers."""
    if mask is None:
        return None
    mask = ops.cast(mask, "float32")[..., None]
    return ops.image.resize(mask, attention.shape[1:-1], antialias=True)[..., 0]


def _repeated(values: Any, times: int) -> Any:
    return None if values is None else ops.concatenate([ops.convert_to_tensor(values)] * times, axis=0)
