"""How sure a model is, from several predictions of the same images."""

import dataclasses
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_probabilities
from medkeras.tasks import is_multilabel


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """What several predictions of the same images agree and disagree on.

    Entropies are in nats. Of a single-label task there is one value per image, `(n,)`; of a `multilabel` task one per
    image and label, `(n, labels)`, each label being a question of its own with two answers.

    Attributes:
        mean: `(n, classes)`, the mean probability, which is the prediction.
        entropy: Of the mean: the whole uncertainty, in [0, ln K], K being the classes, or 2 for labels.
        normalized_entropy: The same as a share of ln K, in [0, 1].
        expected_entropy: The mean of the predictions' own entropies: what stays uncertain however many models there
            were.
        mutual_information: Entropy less expected entropy, >= 0: what the predictions disagree on.
        variance: `(n, classes)`, of the probability over the predictions.
    """

    mean: np.ndarray
    entropy: np.ndarray
    normalized_entropy: np.ndarray
    expected_entropy: np.ndarray
    mutual_information: np.ndarray
    variance: np.ndarray


def summarize(samples: Any, *, task: str) -> Uncertainty:
    """Measures several predictions of the same images.

    Args:
        samples: `(samples, n, classes)` probabilities, at least one sample.
        task: One of `medkeras.tasks.TASKS`.

    Raises:
        ValueError: If the shape is another, or a sample breaks the rules of the task, as logits do.

    Reference:
        Depeweg et al., arXiv 1710.07283; Houlsby et al., arXiv 1112.5745.

    Example:
        >>> apart = summarize([[[1.0, 0.0]], [[0.0, 1.0]]], task="binary")
        >>> [round(float(x[0]), 4) for x in (apart.entropy, apart.expected_entropy, apart.mutual_information)]
        [0.6931, 0.0, 0.6931]
    """
    samples = np.asarray(samples, np.float64)
    if samples.ndim != 3 or not len(samples):
        raise InputError(
            f"`samples` must be (samples, n, classes), at least one. Received: samples of shape {samples.shape}"
        )
    samples = np.stack([check_probabilities(sample, task=task) for sample in samples])
    mean = samples.mean(axis=0)
    whole = entropy(mean, task=task)
    expected = np.mean([entropy(sample, task=task) for sample in samples], axis=0)
    return Uncertainty(
        mean=mean,
        entropy=whole,
        normalized_entropy=whole / np.log(2 if is_multilabel(task) else samples.shape[-1]),
        expected_entropy=expected,
        # By concavity never negative but for rounding.
        mutual_information=np.maximum(whole - expected, 0),
        variance=samples.var(axis=0),
    )


def entropy(probabilities: Any, *, task: str) -> np.ndarray:
    """Returns the entropy of probabilities in nats: `(n,)`, or `(n, labels)` for a `multilabel` task.

    Args:
        probabilities: `(n, classes)` in [0, 1].
        task: One of `medkeras.tasks.TASKS`.

    Example:
        >>> entropy([[0.5, 0.5], [1.0, 0.0]], task="binary").round(4).tolist()
        [0.6931, 0.0]
        >>> entropy([[0.5, 1.0]], task="multilabel").round(4).tolist()
        [[0.6931, 0.0]]
    """
    probabilities = np.asarray(probabilities, np.float64)
    if is_multilabel(task):
        return _surprise(probabilities) + _surprise(1 - probabilities)
    return _surprise(probabilities).sum(axis=-1)


def _surprise(p: np.ndarray) -> np.ndarray:
    """Returns `-p ln p`, 0 where p is 0."""
    return -p * np.log(p, out=np.zeros_like(p), where=p > 0) + 0.0
