"""What a model answers for records: probabilities, and how sure it is of them, by one look or by several."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import pandas as pd
from rich.console import Console

from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel, to_probabilities
from medkeras.uncertainty import (
    Calibrated,
    DeepEnsemble,
    LogitScaling,
    MonteCarloDropout,
    TestTimeAugmentation,
    Uncertainty,
    summarize,
)
from pipelines.images.records import Records
from pipelines.input.cache import images_from_source
from pipelines.input.dataset import InputPipeline
from pipelines.runtime.progress import bar

Sampler = Callable[[np.ndarray, int], Uncertainty]
Models = Sequence[ImageClassifier]


def _by_dropout(model: ImageClassifier, members: Models, samples: int) -> Sampler:
    sampler = MonteCarloDropout(model, samples=samples)
    sampler.model.jit_compile = model.jit_compile
    return lambda images, seed: sampler.predict(images, seed=seed)


def _by_views(model: ImageClassifier, members: Models, samples: int) -> Sampler:
    sampler = TestTimeAugmentation(model)
    sampler.model.jit_compile = model.jit_compile
    return lambda images, seed: sampler.predict(images)


def _by_members(model: ImageClassifier, members: Models, samples: int) -> Sampler:
    ensemble = DeepEnsemble([model, *members])
    ensemble.model.jit_compile = model.jit_compile
    return lambda images, seed: ensemble.predict(images)


SAMPLERS = {"mc-dropout": _by_dropout, "tta": _by_views, "ensemble": _by_members}
METHODS = ("none", *SAMPLERS)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How many predictions of an image are compared, and what makes them differ.

    Attributes:
        method: `none`, one prediction; `mc-dropout`, see `medkeras.uncertainty.MonteCarloDropout`; `tta`, the default
            views of `medkeras.uncertainty.TestTimeAugmentation`; `ensemble`, see `medkeras.uncertainty.DeepEnsemble`.
        samples: Of `mc-dropout`: predictions per image, at least 1.
        members: Of `ensemble`: the folders of the runs that predict besides this one, at least one.

    Raises:
        ValueError: If the method is unknown, there is no sample, an ensemble has no members or something else has.

    Example:
        >>> Sampling("mc-dropout", samples=20).suffix, Sampling().suffix
        ('_mc-dropout_20', '')
    """

    method: str = "none"
    samples: int = 50
    members: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(
                f"`uncertainty` must be one of {', '.join(METHODS)}. Received: uncertainty={self.method!r}"
            )
        if self.samples < 1:
            raise InputError(f"`samples` must be at least 1. Received: samples={self.samples}")
        if (self.method == "ensemble") != bool(self.members):
            raise InputError(
                "`members`, other runs, are of the ensemble that predicts with them. "
                f"Received: uncertainty={self.method!r}, members={self.members}"
            )

    @property
    def suffix(self) -> str:
        """What the files of a run that belong to this way of predicting end in; of an ensemble, see `load_trained`."""
        return "".join(f"_{part}" for name, part in self.to_dict().items() if part != "none" and name != "members")

    def to_dict(self) -> dict[str, str | int | list[str]]:
        """Returns what makes a difference: the method, and its samples or members."""
        own = {"mc-dropout": {"samples": self.samples}, "ensemble": {"members": list(self.members)}}
        return {"method": self.method} | own.get(self.method, {})


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model answers for some images.

    Attributes:
        task: One of `medkeras.tasks.TASKS`.
        found: The prediction, `found.mean`, and how sure it is; of the calibrated model.
        once: `(n, classes)`, probabilities of the calibrated model without sampling.
        raw: `(n, classes)`, probabilities of the model without scaling or sampling.
    """

    task: str
    found: Uncertainty
    once: np.ndarray
    raw: np.ndarray

    @classmethod
    def of_logits(cls, logits: np.ndarray, scaling: LogitScaling) -> "Answers":
        """Returns the answers of one prediction, from the logits of a model without scaling."""
        raw = LogitScaling(scaling.task).probabilities(logits)
        once = scaling.probabilities(logits)
        return cls(scaling.task, summarize(once[None], task=scaling.task), once, raw)

    @property
    def probabilities(self) -> np.ndarray:
        """The prediction, float64 `(n, classes)`."""
        return self.found.mean

    def unsure_label(self) -> np.ndarray | None:
        """Returns of which label each image's entropy is the largest, `(n,)`; None for tasks with classes."""
        return self.found.entropy.argmax(axis=1) if is_multilabel(self.task) else None

    def sureness(self) -> pd.DataFrame:
        """Returns one row per image: `entropy`, `normalized_entropy`, `expected_entropy`, `mutual_information`.

        See `medkeras.uncertainty.Uncertainty`. Of several labels, those of the label with the largest entropy.
        """
        names = ("entropy", "normalized_entropy", "expected_entropy", "mutual_information")
        values, label = {name: getattr(self.found, name) for name in names}, self.unsure_label()
        if label is not None:
            values = {name: np.take_along_axis(v, label[:, None], axis=1)[:, 0] for name, v in values.items()}
        return pd.DataFrame(values)


def answer(
    model: ImageClassifier,
    records: Records,
    *,
    sampling: Sampling | None = None,
    members: Models = (),
    seed: int = 0,
    batch_size: int = 32,
    console: Console | None = None,
) -> Answers:
    """Predicts records with a model that may be calibrated, once or by samples.

    Args:
        model: The model; images are brought to its size and channels.
        records: What to predict; labels are not looked at.
        sampling: How; one prediction per image by default.
        members: The other models of an ensemble.
        seed: Of the samples; with the same batch size, the same seed gives the same ones.
        batch_size: Images per step.
        console: Where the progress is shown; nowhere by default.

    Raises:
        ValueError: If the records are not of the model's rank, an image cannot be read, or the model cannot be sampled
            in this way.
    """
    sampling = sampling or Sampling()
    sampler = SAMPLERS[sampling.method](model, members, sampling.samples) if sampling.method != "none" else None
    own, scaling = model, LogitScaling(model.task)
    if isinstance(model, Calibrated):
        own, scaling = model.classifier, model.scaling
    answers = Answers.of_logits(predict_logits(own, records, batch_size=batch_size, console=console), scaling)
    if sampler is None:
        return answers
    return dataclasses.replace(answers, found=_sample(sampler, model, records, seed, batch_size, console))


def predict_records(
    model: ImageClassifier, records: Records, *, batch_size: int = 32, console: Console | None = None
) -> np.ndarray:
    """Returns the probabilities of records in their order, float32 `(n, classes)`; see `predict_logits`."""
    logits = predict_logits(model, records, batch_size=batch_size, console=console)
    return np.asarray(to_probabilities(logits, model.task))


def predict_logits(
    model: ImageClassifier, records: Records, *, batch_size: int = 32, console: Console | None = None
) -> np.ndarray:
    """Returns the logits of records in their order, float32 `(n, classes)`.

    Args:
        model: The model; images are brought to its size and channels.
        records: What to predict; labels are not looked at.
        batch_size: Images per step.
        console: Where the progress is shown; nowhere by default.

    Raises:
        ValueError: If the records are not of the model's rank, or an image cannot be read.
    """
    pipeline = pipeline_for(model, records, batch_size)
    unlabelled = pipeline.batches().map(lambda image, label: image)
    batches = -(-len(records) // pipeline.batch_size)
    with bar(console or Console(quiet=True)) as moving:
        row = moving.add_task(f"Predicting {records.name}", total=batches)
        after = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: moving.advance(row))
        return model.predict(unlabelled, verbose=0, callbacks=[after])


def pipeline_for(model: ImageClassifier, records: Records, batch_size: int) -> InputPipeline:
    """Returns the batches of records as a model takes them, in their order.

    Raises:
        ValueError: If the records are not of the model's rank.
    """
    if records.rank != len(model.image_shape) - 1:
        raise InputError(
            f"{model.name} takes images of shape {model.image_shape}. "
            f"Received: {records.name} with {records.rank}D images"
        )
    images = images_from_source(records, model.image_shape, check=False)
    return InputPipeline(records, image_shape=model.image_shape, batch_size=batch_size, images=images)


def _sample(
    sampler: Sampler,
    model: ImageClassifier,
    records: Records,
    seed: int,
    batch_size: int,
    console: Console | None,
) -> Uncertainty:
    """Samples batch by batch, each from a seed of its own."""
    parts = []
    with bar(console or Console(quiet=True)) as moving:
        row = moving.add_task(f"Sampling {records.name}", total=len(records))
        for i, (images, _) in enumerate(pipeline_for(model, records, batch_size).batches().as_numpy_iterator()):
            parts.append(sampler(images, int(np.random.default_rng([seed, i]).integers(2**31))))
            moving.advance(row, len(images))
    names = [field.name for field in dataclasses.fields(Uncertainty)]
    return Uncertainty(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
