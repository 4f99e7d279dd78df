"""Whether maps say what carried the answer: deletion and insertion of pixels, and shuffled weights."""

import dataclasses
from typing import Any

import keras
import numpy as np

from medkeras.errors import InputError
from medkeras.explain.explainable import explainable
from medkeras.explain.explanation import explain, target_index
from medkeras.explain.methods.feature_maps import BATCH, image_batches
from medkeras.explain.methods.input_gradients import baseline_image, logits_of, most_probable
from medkeras.models import ImageClassifier
from medkeras.tasks import to_probabilities

CHANGES_BELOW = 0.5


@dataclasses.dataclass(frozen=True)
class Curve:
    """The probability of a class while the pixels of an image are replaced in the order of a map.

    Attributes:
        shares: Share of the pixels replaced, `(steps + 1,)`, from 0 to 1.
        probabilities: `(batch, steps + 1)`.
        areas: Area under each curve, in [0, 1], `(batch,)`.
    """

    shares: np.ndarray
    probabilities: np.ndarray
    areas: np.ndarray


def deletion_curve(
    model: keras.Model, images: Any, maps: Any, *, target: Any = None, steps: int = 32, baseline: Any = None
) -> Curve:
    """Takes pixels away, the highest of the map first: the faster the probability falls, the better the map.

    Args:
        model: Any model of this package, or what `explainable` takes.
        images: `(batch, *model.image_shape)`.
        maps: `(batch, *image grid)`, finite; ties go in reading order.
        target: Class or label, by index or name, one for all images or one per image; by default the one with the
            largest logit.
        steps: How many times pixels are taken, at least 1.
        baseline: What they are replaced by: see `medkeras.explain.integrated_gradients`.

    Raises:
        ValueError: If maps or images do not fit the model, or an argument is out of range.

    Reference:
        Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, arXiv 1806.07421.

    Example:
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> curve = deletion_curve(model, np.ones((1, 32, 32, 3)), np.ones((1, 32, 32)), steps=2)
        >>> curve.shares.tolist(), curve.probabilities.shape
        ([0.0, 0.5, 1.0], (1, 3))
    """
    model = _of_package(model, images)
    fill = np.broadcast_to(baseline_image(model, baseline), model.image_shape)
    return _curve(model, images, maps, target, steps, lambda image: (image, fill))


def insertion_curve(model: keras.Model, images: Any, maps: Any, *, target: Any = None, steps: int = 32) -> Curve:
    """Brings pixels back into a blurred image, the highest first: the faster the probability rises, the better.

    The blur is Gaussian, its standard deviation a fortieth of each edge; it shows no edge of its own.

    Args:
        model: As for `deletion_curve`.
        images: As for `deletion_curve`.
        maps: As for `deletion_curve`.
        target: As for `deletion_curve`.
        steps: As for `deletion_curve`.

    Raises:
        ValueError: As `deletion_curve`.

    Reference:
        Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, arXiv 1806.07421.

    Example:
        >>> from medkeras.models import create
        >>> model = create("vit_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> insertion_curve(model, np.ones((1, 32, 32, 3)), np.ones((1, 32, 32)), steps=2).areas.shape
        (1,)
    """
    from scipy import ndimage

    model = _of_package(model, images)
    widths = [n / 40 for n in model.image_shape[:-1]] + [0]
    return _curve(model, images, maps, target, steps, lambda image: (ndimage.gaussian_filter(image, widths), image))


@dataclasses.dataclass(frozen=True)
class Randomization:
    """How maps change while the weights are shuffled, from the last layer to the first.

    Attributes:
        shares: Share of the layers shuffled, rising to 1.
        similarities: Mean rank correlation (Spearman) of the maps with those of the intact model, at each share.
        changes: Whether the last of them is below 0.5. A map that stays when nothing learned is left shows the image,
            not the model.
    """

    shares: tuple[float, ...]
    similarities: tuple[float, ...]
    changes: bool


def randomization_check(
    model: keras.Model,
    images: Any,
    *,
    method: str,
    target: Any = None,
    stages: int = 4,
    seed: int = 0,
    **options: Any,
) -> Randomization:
    """Checks that a method's maps depend on what the model has learned: cascading randomisation of its weights.

    On a copy, the weights of ever more layers are shuffled, each variable in itself, so that their distribution stays;
    the maps are of the same class throughout. A map that has become constant has correlation 0.

    Args:
        model: As for `explain`.
        images: `(batch, *model.image_shape)`.
        method: One of `medkeras.explain.methods_of(model)`.
        target: As for `explain`.
        stages: In how many steps the layers are shuffled, at least 1.
        seed: Seed of the shuffling.
        **options: What else `explain` takes.

    Raises:
        ValueError: If `stages` is below 1, or as `explain`.

    Reference:
        Adebayo et al., Sanity Checks for Saliency Maps, arXiv 1810.03292; there, weights are drawn anew.

    Example:
        >>> from medkeras.models import create
        >>> keras.utils.set_random_seed(0)
        >>> model = create("vit_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3))
        >>> checked = randomization_check(model, images, method="grad_cam", stages=2)
        >>> checked.shares, checked.changes
        ((0.5, 1.0), True)
    """
    if stages < 1:
        raise InputError(f"`stages` must be at least 1. Received: stages={stages}")
    intact = explain(model, images, method=method, target=target, **options)
    target = None if intact.targets is None else intact.targets
    copy = _copy(model)
    flat = copy if isinstance(copy, ImageClassifier) else explainable(copy, image_shape=np.shape(images)[1:])
    layers = [layer for layer in reversed(flat.layers) if layer.weights]
    rng, done, similarities = np.random.default_rng(seed), 0, []
    for stage in range(1, stages + 1):
        until = round(stage / stages * len(layers))
        for layer in layers[done:until]:
            layer.set_weights([rng.permuted(w.ravel()).reshape(w.shape) for w in layer.get_weights()])
        done = until
        maps = explain(copy, images, method=method, target=target, **options).maps
        similarities.append(float(np.mean([_rank_correlation(*pair) for pair in zip(intact.maps, maps, strict=True)])))
    shares = tuple((np.arange(stages) + 1) / stages)
    return Randomization(tuple(map(float, shares)), tuple(similarities), similarities[-1] < CHANGES_BELOW)


def _of_package(model: keras.Model, images: Any) -> ImageClassifier:
    return model if isinstance(model, ImageClassifier) else explainable(model, image_shape=np.shape(images)[1:])


def _curve(model: ImageClassifier, images: Any, maps: Any, target: Any, steps: int, ends: Any) -> Curve:
    """Returns the curve from the first image that `ends` gives to the second, for each image."""
    images, maps = np.concatenate(list(image_batches(model, images))), np.asarray(maps)
    if steps < 1:
        raise InputError(f"`steps` must be at least 1. Received: steps={steps}")
    if maps.shape != images.shape[:-1] or not np.isfinite(maps).all():
        raise InputError(f"`maps` must be finite, of shape {images.shape[:-1]}. Received: maps of shape {maps.shape}")
    targets = most_probable(model, images, target_index(model, target))
    counts = np.rint(np.linspace(0, 1, steps + 1) * maps[0].size)
    rows = []
    for image, values, wanted in zip(images, maps, targets, strict=True):
        rank = np.empty(values.size, np.int64)
        rank[np.argsort(-values, axis=None, kind="stable")] = np.arange(values.size)
        is_changed = counts.reshape(-1, *[1] * values.ndim) > rank.reshape(values.shape)
        rows.append(_probabilities(model, *ends(image), is_changed)[:, wanted])
    probabilities = np.array(rows)
    areas = ((probabilities[:, 1:] + probabilities[:, :-1]) / 2 * np.diff(counts) / counts[-1]).sum(axis=1)
    return Curve(counts / counts[-1], probabilities, areas)


def _probabilities(model: ImageClassifier, first: Any, second: Any, is_changed: np.ndarray) -> np.ndarray:
    """Returns the probabilities, `(steps + 1, classes)`, of the first image with what is changed from the second."""
    found = []
    for start in range(0, len(is_changed), BATCH):
        views = np.where(is_changed[start : start + BATCH, ..., None], second, first).astype(np.float32)
        found.append(np.asarray(to_probabilities(logits_of(model, views), model.task)))
    return np.concatenate(found)


def _copy(model: keras.Model) -> keras.Model:
    if type(model) is ImageClassifier:
        raise InputError(f"Give the model that `explainable` was given, for it to be copied. Received: {model.name}")
    is_own = isinstance(model, ImageClassifier)
    copy = type(model).from_config(model.get_config()) if is_own else keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Spearman's correlation of two maps, 0 where one is constant."""
    from scipy import stats

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(stats.spearmanr(first.ravel(), second.ravel()).statistic)
