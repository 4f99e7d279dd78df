"""How well maps find lesions: overlap at a threshold, the pointing game, energy inside, ranking of pixels.

All measures take one map and one mask of the same size, in 2D or 3D, and give NaN where the mask is empty: an image
without a lesion says nothing of where a lesion was found.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from medkeras.errors import InputError
from medkeras.evaluation.statistics.bootstrap import Interval
from medkeras.evaluation.statistics.means import mean_intervals

THRESHOLDS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())


def binarize(saliency: Any, threshold: float) -> np.ndarray:
    """Returns where a map reaches a share of its range, boolean of the same shape.

    The lowest value of the map counts as 0 and the highest as 1, so maps of any scale are treated alike; a
    constant or non-finite map marks nothing.

    Args:
        saliency: A map of any shape.
        threshold: Share of the range, in (0, 1].

    Raises:
        ValueError: If the threshold is out of range.

    Example:
        >>> binarize([0.0, 2.0, 3.0, 4.0], 0.5).tolist()
        [False, True, True, True]
    """
    if not 0 < threshold <= 1:
        raise InputError(f"`threshold` must be in (0, 1]. Received: threshold={threshold}")
    saliency = np.asarray(saliency, np.float64)
    low, high = saliency.min(), saliency.max()
    if not np.isfinite([low, high]).all() or low == high:
        return np.zeros(saliency.shape, bool)
    return saliency - low >= threshold * (high - low)


def iou(found: Any, mask: Any) -> float:
    """Returns the intersection of two masks over their union.

    Args:
        found: Where a lesion was found, boolean.
        mask: Where it is.

    Example:
        >>> iou([1, 1, 0, 0], [0, 1, 1, 0])
        0.3333333333333333
    """
    found, mask = _checked(found, mask)
    return float((found & mask).sum() / (found | mask).sum()) if mask.any() else np.nan


def dice(found: Any, mask: Any) -> float:
    """Returns twice the intersection of two masks over the sum of their sizes.

    Args:
        found: Where a lesion was found, boolean.
        mask: Where it is.

    Example:
        >>> dice([1, 1, 0, 0], [0, 1, 1, 0])
        0.5
    """
    found, mask = _checked(found, mask)
    return float(2 * (found & mask).sum() / (found.sum() + mask.sum())) if mask.any() else np.nan


def pointing_game(saliency: Any, mask: Any, *, tolerance: float = 0.0) -> float:
    """Returns 1 if the highest place of a map lies in the mask, else 0; ties share the point.

    Args:
        saliency: The map.
        mask: Where the lesion is.
        tolerance: Distance from the mask that still counts, in pixels, >= 0.

    Raises:
        ValueError: If shapes differ or the tolerance is negative.

    Reference:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, arXiv 1608.00507 (15 pixels tolerance).

    Example:
        >>> pointing_game([[0.1, 0.9], [0.2, 0.3]], [[0, 1], [0, 0]])
        1.0
    """
    if tolerance < 0:
        raise InputError(f"`tolerance` must be >= 0. Received: tolerance={tolerance}")
    saliency = np.asarray(saliency, np.float64)
    _, mask = _checked(np.zeros(saliency.shape, bool), mask)
    if not mask.any():
        return np.nan
    if tolerance:
        mask = ndimage.distance_transform_edt(~mask) <= tolerance
    return float(mask[saliency == np.nanmax(saliency)].mean()) if np.isfinite(saliency).any() else 0.0


def energy_in_mask(saliency: Any, mask: Any) -> float:
    """Returns the share of a map's positive sum that lies in the mask, 0 for a map without any.

    Args:
        saliency: The map; negative and non-finite values count as 0.
        mask: Where the lesion is.

    Reference:
        Wang et al., Score-CAM, arXiv 1910.01279 (energy-based pointing game).

    Example:
        >>> energy_in_mask([1.0, 3.0, -5.0], [0, 1, 1])
        0.75
    """
    saliency = np.asarray(saliency, np.float64)
    _, mask = _checked(np.zeros(saliency.shape, bool), mask)
    if not mask.any():
        return np.nan
    positive = np.where(np.isfinite(saliency), np.maximum(saliency, 0), 0)
    return float(positive[mask].sum() / positive.sum()) if positive.any() else 0.0


def boxes(found: Any, *, smallest: int = 1) -> np.ndarray:
    """Returns the bounding box of every connected region, the largest region first.

    Args:
        found: Boolean mask of any rank; diagonal neighbours belong together.
        smallest: Pixels that a region must have, >= 1.

    Returns:
        int64 `(regions, 2 * rank)`: the lower corner, then the upper one, exclusive.

    Raises:
        ValueError: If `smallest` is below 1.

    Example:
        >>> boxes([[1, 1, 0, 0], [0, 0, 0, 1]]).tolist()
        [[0, 0, 1, 2], [1, 3, 2, 4]]
    """
    if smallest < 1:
        raise InputError(f"`smallest` must be >= 1. Received: smallest={smallest}")
    found = np.asarray(found, bool)
    regions, count = ndimage.label(found, np.ones((3,) * found.ndim))
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    slices = ndimage.find_objects(regions)
    order = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] >= smallest]
    corners = [[s.start for s in slices[i]] + [s.stop for s in slices[i]] for i in order]
    return np.array(corners, np.int64).reshape(-1, 2 * found.ndim)


MEASURES = ("iou", "dice", "pointing", "energy")


def image_scores(saliency: Any, mask: Any, *, threshold: float) -> dict[str, float]:
    """Returns `iou`, `dice`, `pointing` and `energy` of one map, all NaN where the mask is empty.

    Args:
        saliency: The map.
        mask: Where the lesion is.
        threshold: Share of the map's range at which `iou` and `dice` are taken, in (0, 1].

    Raises:
        ValueError: If shapes differ or the threshold is out of range.

    Example:
        >>> image_scores([0.0, 2.0, 2.0], [0, 1, 1], threshold=0.5)
        {'iou': 1.0, 'dice': 1.0, 'pointing': 1.0, 'energy': 1.0}
    """
    found = binarize(saliency, threshold)
    return {
        "iou": iou(found, mask),
        "dice": dice(found, mask),
        "pointing": pointing_game(saliency, mask),
        "energy": energy_in_mask(saliency, mask),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Localization:
    """How well the maps of a set of images find its lesions, over the images that have one.

    Attributes:
        images: How many images have a lesion.
        threshold: Share of a map's range at which `iou` and `dice` are taken.
        iou: Mean intersection over union, with its interval.
        dice: Mean Dice coefficient.
        pointing: Share of images whose highest place lies in the lesion.
        energy: Mean share of the map inside the lesion.
        centre: Share of images whose very centre lies in the lesion: what the pointing game gives to a map that
            knows nothing.
        area: Mean share of the image that is lesion: what IoU gives to marking everything, and what the energy is
            of a map that is the same everywhere.
        iou_by_threshold: Mean IoU at each threshold of a sweep, with its interval.
        dice_by_threshold: The same of the Dice coefficient.
    """

    images: int
    threshold: float
    iou: Interval
    dice: Interval
    pointing: Interval
    energy: Interval
    centre: float
    area: float
    iou_by_threshold: dict[float, Interval]
    dice_by_threshold: dict[float, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Returns all attributes as plain values."""
        return dataclasses.asdict(self)


def evaluate_localization(
    maps: Sequence[Any],
    masks: Sequence[Any],
    *,
    threshold: float,
    groups: Any = None,
    thresholds: Sequence[float] = THRESHOLDS,
    seed: int = 0,
) -> Localization:
    """Measures maps against lesion masks, with 95 % bootstrap intervals over patients.

    Args:
        maps: One map per image, of the size of its mask.
        masks: One mask per image; images with an empty one are left out.
        threshold: Share of a map's range that marks the lesion, chosen on validation by `choose_threshold`.
        groups: Patient of each image; by default each image is its own.
        thresholds: Of the sweep.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If lengths or shapes differ, a threshold is out of range, or no image has a lesion.

    Example:
        >>> found = evaluate_localization([np.eye(4)] * 3, [np.eye(4) > 0] * 3, threshold=0.5)
        >>> str(found.iou), found.centre, found.area
        ('1.000 (1.000 to 1.000)', 1.0, 0.25)
    """
    maps, masks, rows = _with_lesion(maps, masks)
    scores = [image_scores(*pair, threshold=threshold) for pair in zip(maps, masks, strict=True)]
    columns = np.array([[score[name] for name in MEASURES] for score in scores])
    groups = None if groups is None else np.asarray(groups)[rows]
    swept = _sweep(maps, masks, thresholds)
    intervals = mean_intervals(np.concatenate([columns, *swept], axis=1), groups=groups, seed=seed)
    means, overlap, double = np.split(np.array(intervals, object), [len(MEASURES), len(MEASURES) + len(thresholds)])
    return Localization(
        images=len(maps),
        threshold=threshold,
        **dict(zip(MEASURES, means, strict=True)),
        centre=float(np.mean([mask[tuple(n // 2 for n in mask.shape)] for mask in masks])),
        area=float(np.mean([mask.mean() for mask in masks])),
        iou_by_threshold=dict(zip(map(float, thresholds), overlap, strict=True)),
        dice_by_threshold=dict(zip(map(float, thresholds), double, strict=True)),
    )


def choose_threshold(maps: Sequence[Any], masks: Sequence[Any], *, thresholds: Sequence[float] = THRESHOLDS) -> float:
    """Returns the threshold of the best mean IoU, to be chosen on validation and used on test.

    Args:
        maps: One map per image.
        masks: One mask per image; images with an empty one are left out.
        thresholds: The choice.

    Raises:
        ValueError: If lengths or shapes differ, a threshold is out of range, or no image has a lesion.

    Example:
        >>> choose_threshold([[0.0, 0.5, 1.0]], [[0, 1, 1]], thresholds=(0.4, 0.8))
        0.4
    """
    maps, masks, _ = _with_lesion(maps, masks)
    overlap, _ = _sweep(maps, masks, thresholds)
    return float(thresholds[overlap.mean(axis=0).argmax()])


def random_head_iou(features: Any, attention: Any, labels: Any, *, seed: int = 0) -> np.ndarray:
    """Returns the "IoU" of the public DualAttendMed code: agreement with the map of a classifier never trained.

    No lesion mask takes part. The reference is the class map (CAM) of the true label under a dense layer that has
    just been drawn at random on top of the trained backbone; of it and of the attention map the highest 20 % of
    the cells are kept, whatever the image shows. Two unrelated maps score 0.11 in the mean. The number does not
    say whether a lesion was found; it is here to compare with published ones.

    Args:
        features: Output of the backbone, `(n, *cells, channels)`.
        attention: Mean attention map of each image, `(n, *cells)`.
        labels: True class of each image, `(n,)` int.
        seed: Seed of the dense layer's weights, normal with deviation 0.01.

    Returns:
        float64 `(n,)`.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        The public DualAttendMed code, JunaidAbbas517/DualAttendMed.

    Example:
        >>> features = np.random.default_rng(0).uniform(size=(1, 5, 5, 8))
        >>> weights = np.random.default_rng(1).normal(0, 0.01, (1, 8))[0]
        >>> random_head_iou(features, np.maximum(features @ weights, 0), [0], seed=1).round(6).tolist()
        [1.0]
    """
    features, attention, labels = np.asarray(features, np.float64), np.asarray(attention), np.asarray(labels)
    if features.shape[:-1] != attention.shape or labels.shape != attention.shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(
            "`features` must be (n, *cells, channels), `attention` (n, *cells) and `labels` (n,) integers. "
            f"Received: shapes {features.shape}, {attention.shape} and {labels.shape}, labels of {labels.dtype}"
        )
    weights = np.random.default_rng(seed).normal(0, 0.01, (labels.max() + 1, features.shape[-1]))
    class_maps = np.maximum(np.einsum("n...c,nc->n...", features, weights[labels]), 0)
    pairs = [(_highest_fifth(a), _highest_fifth(c)) for a, c in zip(attention, class_maps, strict=True)]
    return np.array([(a & c).sum() / ((a | c).sum() + 1e-8) for a, c in pairs])


def _sweep(
    maps: list[np.ndarray], masks: list[np.ndarray], thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns IoU and Dice of every image at every threshold, each `(n, thresholds)`."""
    order = np.argsort(thresholds)
    levels = np.asarray(thresholds, np.float64)[order]
    if not len(levels) or not (levels[0] > 0 and levels[-1] <= 1):
        raise InputError(f"`thresholds` must be in (0, 1]. Received: thresholds={list(thresholds)}")
    counts = np.array([_counts(*pair, levels) for pair in zip(maps, masks, strict=True)], np.float64)
    inside, marked, lesion = counts[:, 0], counts[:, 1], counts[:, 2]
    back = np.argsort(order)
    return (inside / (marked + lesion - inside))[:, back], (2 * inside / (marked + lesion))[:, back]


def _counts(saliency: np.ndarray, mask: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns the pixels marked inside the lesion, marked, and of the lesion, at every level: all in one pass."""
    _checked(np.zeros(saliency.shape, bool), mask)
    low, high = saliency.min(), saliency.max()
    lesion = np.full(len(levels), mask.sum())
    if not np.isfinite([low, high]).all() or low == high:
        return np.stack([0 * lesion, 0 * lesion, lesion])
    reached = np.searchsorted(levels * (high - low), saliency - low, side="right")
    marked = [
        np.bincount(r, minlength=len(levels) + 1)[::-1].cumsum()[::-1][1:] for r in (reached[mask], reached.ravel())
    ]
    return np.stack([*marked, lesion])


def _highest_fifth(values: np.ndarray) -> np.ndarray:
    return values >= np.sort(values, axis=None)[int(0.8 * values.size)]


def _with_lesion(maps: Sequence[Any], masks: Sequence[Any]) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
    """Returns the maps and masks of the images with a lesion, and which these are."""
    if len(maps) != len(masks):
        raise InputError(f"Every map needs a mask. Received: {len(maps)} maps, {len(masks)} masks")
    masks = [np.asarray(mask, bool) for mask in masks]
    rows = [i for i, mask in enumerate(masks) if mask.any()]
    if not rows:
        raise InputError(f"Localization needs an image with a lesion. Received: {len(masks)} empty masks")
    return [np.asarray(maps[i], np.float64) for i in rows], [masks[i] for i in rows], rows


def _checked(found: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    found, mask = np.asarray(found, bool), np.asarray(mask, bool)
    if found.shape != mask.shape:
        raise InputError(f"A map has the size of its mask. Received: {found.shape} and {mask.shape}")
    return found, mask
