"""Training by the model's own attention: raw, cropped and dropped images in one compiled step."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.backend.replica_seeds import ReplicaSeeds
from medkeras.errors import InputError
from medkeras.labels import class_indices
from medkeras.layers.attention.crop_drop import attention_crop, attention_drop, attention_indices
from medkeras.losses import CentreLoss, attention_alignment, attention_diversity
from medkeras.losses.replicas import replica_share
from medkeras.tasks import is_multilabel

WEIGHTS = {"classification": 1.0, "alignment": 0.5, "diversity": 0.1, "centre": 0.01}
INTERNALS = {"logits", "aux_logits", "feature", "attention"}
VIEWS = ("crop", "drop")
MEANS = ("sum_over_batch_size", "mean")


@keras.saving.register_keras_serializable("medkeras")
class AttentionTraining(keras.Model):
    """Trains a `DualAttendMed` with attention-assisted augmentation (AADA) in plain `fit`.

    Each step looks at an image three times: as it is, cropped to what one of its attention maps marks, and with
    what another one marks dropped. The maps are drawn by their strength. All three passes, the losses and the
    update of the class centres are one graph, which compiles to one XLA program, on TensorFlow and JAX. Build and
    compile it within the scope of a `MirroredStrategy` to train on several devices.

    Dropping asks the model for the class of an image without what told it. That is right where a class shows in many
    parts, as a bird's does. Where a class is one small lesion, the image left over is one of another class, and the
    attention learns to shun the lesion: crop alone, `views=("crop",)`.

    `fit`, `evaluate` and `predict` take images and labels as those of the model do. `compile` takes a classification
    loss on logits, the mean over images, such as `medkeras.tasks.default_loss(model.task)`. In training, every term
    of the composite loss is logged beside the total; evaluation is one plain pass and reports the compiled loss on
    its logits. What is trained is `classifier`: save that.

    Labels may come with lesion masks of any size, as `{"label": ..., "mask": (batch, *sizes)}`: the attention maps
    are then drawn towards the share of each cell that the mask covers. An image whose mask marks nothing counts as
    one without a mask. Sample and class weights weigh the classification term.

    Args:
        classifier: The model to train, with `internals`.
        weights: Factors of the loss terms that differ from `classification` 1, `alignment` 0.5, `diversity` 0.1
            and `centre` 0.01; 0 leaves a term out. A multilabel task has no `centre`.
        views: What to look at beside the raw image: `crop` and `drop`, one of them, or nothing.
        crop_threshold: Range of the share of a map's maximum above which the crop keeps, in (0, 1).
        drop_threshold: The same for what is dropped.
        padding: Rim about the crop, as a share of the image, in [0, 1).
        published_diversity: Whether to take the published sign of the diversity term.
        seed: Seed of which maps and thresholds are drawn.

    Raises:
        ValueError: If the model has no internals, an argument is out of its range or a weight unknown; in
            training, if the compiled loss is no `keras.losses.Loss` that is a mean over images.

    Reference:
        DualAttendMed's composite loss, `(CE_raw + 2 CE_crop,drop + 3 CE_counterfactual) / 6` and the other terms; with
        n views, `(CE_raw + n CE_views + (1 + n) CE_counterfactual) / (2 + 2 n)`. Thresholds and centres as in WS-DAN,
        arXiv 1901.09891.

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
        views: Sequence[str] = VIEWS,
        crop_threshold: Sequence[float] = (0.4, 0.6),
        drop_threshold: Sequence[float] = (0.2, 0.5),
        padding: float = 0.1,
        published_diversity: bool = False,
        seed: int | None = None,
    ) -> None:
        looks = _internals(classifier)
        # Loss scaling follows the policy; casting images to half precision here would blur them for nothing.
        super().__init__(name=f"{classifier.name}_training", dtype=classifier.dtype_policy, autocast=False)
        self.crop_threshold = _range("crop_threshold", crop_threshold)
        self.drop_threshold = _range("drop_threshold", drop_threshold)
        if not 0 <= padding < 1:
            raise InputError(f"`padding` must be in [0, 1). Received: padding={padding}")
        self.classifier, self.looks = classifier, looks
        self.term_weights = _checked_weights(weights)
        self.views, self.padding, self.published_diversity = _checked_views(views), padding, published_diversity
        self.fill, self.seed = classifier.mean_pixel, seed
        self.draw = ReplicaSeeds(seed)
        named = [name for name in WEIGHTS if self.term_weights[name]]
        if is_multilabel(classifier.task) and "centre" in named:
            named.remove("centre")
        self.centre_loss = None
        if "centre" in named:
            self.centre_loss = CentreLoss(classifier.num_classes, name="centre_loss")
            self.centre_loss.build(looks.output["feature"].shape)
        self.terms = {name: keras.metrics.Mean(name) for name in named}
        self._is_evaluating = False
        self.built = True

    def call(self, images: Any, training: bool = False) -> Any:
        """Returns the logits, or in training all that the losses need."""
        return self.looks(images, training=True) if training else self.classifier(images, training=False)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the composite loss of a training step, or the compiled loss of an evaluation step."""
        labels, mask = _labels_and_mask(y)
        if not training:
            return super().compute_loss(x, labels, y_pred, sample_weight, training=False)
        values = self._values(x, labels, mask, y_pred, sample_weight)
        total = sum(self.losses, ops.zeros(()))
        for name, tracker in self.terms.items():
            tracker.update_state(values[name], sample_weight=ops.shape(x)[0])
            total = total + self.term_weights[name] * values[name]
        return total * replica_share()

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Updates the compiled metrics on the logits of the raw images."""
        logits = y_pred["logits"] if isinstance(y_pred, Mapping) else y_pred
        return super().compute_metrics(x, _labels_and_mask(y)[0], logits, sample_weight)

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the metrics; the terms of the composite loss only in training."""
        results = super().get_metrics_result()
        return {name: value for name, value in results.items() if not (self._is_evaluating and name in self.terms)}

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the classifier as `keras.Model.evaluate` does."""
        with self._evaluating():
            return super().evaluate(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the classifier on one batch as `keras.Model.test_on_batch` does."""
        with self._evaluating():
            return super().test_on_batch(*args, **kwargs)

    def augmented(self, images: Any, attention: Any) -> Any:
        """Returns cropped, then dropped images, `(views * batch, *image_shape)`, by maps that are drawn now.

        Args:
            images: `(batch, *image_shape)`.
            attention: Attention maps `(batch, rows, columns, maps)` of the images. Where a drawn map is constant,
                nowhere positive or not finite, the image stays whole.
        """
        attention = ops.cast(ops.stop_gradient(attention), "float32")
        uniform = keras.random.uniform((ops.shape(images)[0], 4), dtype="float32", seed=self.draw)
        chosen = attention_indices(attention, uniform[:, :2])
        maps = ops.take_along_axis(attention, chosen[:, None, None, :], axis=-1)
        views = []
        if "crop" in self.views:
            threshold = _between(self.crop_threshold, uniform[:, 2])
            views.append(attention_crop(images, maps[..., 0], threshold=threshold, padding=self.padding))
        if "drop" in self.views:
            threshold = _between(self.drop_threshold, uniform[:, 3])
            views.append(attention_drop(images, maps[..., 1], threshold=threshold, fill=self.fill))
        return ops.concatenate(views, axis=0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "weights": dict(self.term_weights),
            "views": list(self.views),
            "crop_threshold": list(self.crop_threshold),
            "drop_threshold": list(self.drop_threshold),
            "padding": self.padding,
            "published_diversity": self.published_diversity,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "AttentionTraining":
        """Builds the training that `get_config` described, with a new classifier."""
        classifier = keras.saving.deserialize_keras_object(config["classifier"], custom_objects=custom_objects)
        return cls(**(config | {"classifier": classifier}))

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        self._is_evaluating = True
        try:
            yield
        finally:
            self._is_evaluating = False

    def _values(
        self, images: Any, labels: Any, mask: Any, seen: Mapping[str, Any], sample_weight: Any
    ) -> dict[str, Any]:
        """Returns each term of the loss that counts, a scalar."""
        maps, values = seen["attention"], {}
        if "classification" in self.terms:
            values["classification"] = self._classify(images, labels, seen, sample_weight)
        if "alignment" in self.terms:
            values["alignment"] = attention_alignment(maps, None if mask is None else _target(mask, maps))
        if "diversity" in self.terms:
            values["diversity"] = attention_diversity(maps, published=self.published_diversity)
        if "centre" in self.terms:
            classes = class_indices(labels, self.classifier.num_classes)
            values["centre"] = self.centre_loss(seen["feature"], classes, training=True)
        return values

    def _classify(self, images: Any, labels: Any, seen: Mapping[str, Any], sample_weight: Any) -> Any:
        """Returns the classification term: raw, augmented and counterfactual logits."""
        raw, count = self._mean_loss(labels, seen["logits"], sample_weight), len(self.views)
        if not count:
            auxiliary = self._mean_loss(labels, seen["aux_logits"], sample_weight)
            return (raw + auxiliary) / 2
        again = self.looks(self.augmented(images, seen["attention"]), training=True)
        counterfactual = ops.concatenate([seen["aux_logits"], again["aux_logits"]], axis=0)
        augmented = self._mean_loss(_repeated(labels, count), again["logits"], _repeated(sample_weight, count))
        looks = 1 + count
        auxiliary = self._mean_loss(_repeated(labels, looks), counterfactual, _repeated(sample_weight, looks))
        return (raw + count * augmented + looks * auxiliary) / (2 * looks)

    def _mean_loss(self, labels: Any, logits: Any, sample_weight: Any) -> Any:
        loss = self.loss
        if not isinstance(loss, keras.losses.Loss) or loss.reduction not in MEANS:
            raise InputError(f"`loss` must be a keras.losses.Loss, the mean over images. Received: loss={loss!r}")
        # One value per image: Keras' own mean would be shared between replicas already.
        loss = copy.copy(loss)
        loss.reduction = None
        return ops.mean(loss(labels, logits, sample_weight=sample_weight))


def _internals(classifier: keras.Model) -> keras.Model:
    """Returns the model of all that the losses need."""
    make = getattr(classifier, "internals", None)
    looks = None if make is None else make()
    if looks is None or not isinstance(looks.output, Mapping) or not set(looks.output) >= INTERNALS:
        raise InputError(
            f"`classifier` must have internals with {', '.join(sorted(INTERNALS))}, as DualAttendMed has. "
            f"Received: classifier={classifier.name!r}"
        )
    return looks


def _checked_views(views: Sequence[str]) -> tuple[str, ...]:
    if isinstance(views, str) or not set(views) <= set(VIEWS) or len(set(views)) < len(views):
        raise InputError(f"`views` must be among {', '.join(VIEWS)}. Received: views={views!r}")
    return tuple(views)


def _range(name: str, limits: Sequence[float]) -> tuple[float, float]:
    if len(limits) != 2 or not 0 < limits[0] <= limits[1] < 1:
        raise InputError(f"`{name}` must be a range in (0, 1). Received: {name}={tuple(limits)}")
    return float(limits[0]), float(limits[1])


def _checked_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    chosen = WEIGHTS | dict(weights or {})
    is_known = set(chosen) == set(WEIGHTS)
    if not is_known or not all(0 <= weight < float("inf") for weight in chosen.values()) or not any(chosen.values()):
        raise InputError(
            f"`weights` must be >= 0, not all 0, and of {', '.join(WEIGHTS)}. Received: weights={dict(weights or {})}"
        )
    return {name: float(weight) for name, weight in chosen.items()}


def _between(limits: Sequence[float], uniform: Any) -> Any:
    return limits[0] + (limits[1] - limits[0]) * uniform


def _labels_and_mask(y: Any) -> tuple[Any, Any]:
    if not isinstance(y, Mapping):
        return y, None
    if "label" not in y or set(y) - {"label", "mask"}:
        raise InputError(f"Labels with more to them must be `label` and `mask`. Received: {sorted(y)}")
    return y["label"], y.get("mask")


def _target(mask: Any, maps: Any) -> Any:
    """Returns the share of each cell that the mask covers; where it marks nothing, the mean of the maps."""
    if len(mask.shape) != len(maps.shape) - 1 or None in mask.shape[1:]:
        raise InputError(f"`mask` must be (batch, *sizes), sizes known. Received: mask of shape {tuple(mask.shape)}")
    mask = ops.cast(mask, "float32")
    cells = tuple(range(1, len(mask.shape)))
    marks = ops.any(mask > 0, axis=cells, keepdims=True)
    for cell_count in maps.shape[1:-1]:
        # The axis that is summed over is the first one, and its cells become the last one.
        mask = ops.tensordot(mask, _shares(mask.shape[1], cell_count), axes=[[1], [0]])
    return ops.where(marks, mask, ops.mean(maps, axis=-1))


def _shares(pixels: int, cells: int) -> np.ndarray:
    """Returns the share of each cell of an axis that lies in each pixel, `(pixels, cells)`."""
    edges, pixel = np.linspace(0, pixels, cells + 1), np.arange(pixels)[:, None]
    overlap = np.minimum(pixel + 1, edges[1:]) - np.maximum(pixel, edges[:-1])
    return (np.maximum(overlap, 0) * cells / pixels).astype("float32")


def _repeated(values: Any, times: int) -> Any:
    return None if values is None else ops.concatenate([ops.convert_to_tensor(values)] * times, axis=0)
