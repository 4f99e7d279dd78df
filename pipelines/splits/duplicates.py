"""Images that a source holds more than once: the same pixels, or copies that were cropped, scaled or flipped."""

import hashlib
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.images.records import Records
from pipelines.splits.similarity import BATCH, describe, likeness, thumbnail, turned, turned_descriptions, unit

LAYOUT = 0.9  # Of the common layout, what is taken off. Not all: of many copies of one image, only noise would be left.
SIMILAR_STRUCTURE = 0.75  # Product of what is left, from which thumbnails are compared; recorded copies have 0.78 to 1.
SAMPLE = 1000  # Random pairs that say how alike the images of a source are anyway.
DEVIATIONS = 7.5  # Above them, to be called a copy.
LOWEST, HIGHEST = 0.4, 0.95
FEW = 12  # Images from which random pairs say anything.
THRESHOLD_OF_FEW = 0.7
BLOCK = 2048  # Descriptions multiplied at once, 16 MB of products.
NEAREST = 8  # Neighbours of an image, by structure, that are aligned: where all images have one layout, many are near.
MOST = 50  # Of equal images, each is paired with so many: a source of blank images has a table of bearable size.


def find_duplicates(records: Records, *, threshold: float | None = None) -> pd.DataFrame:
    """Finds pairs of images with the same pixels, and pairs that are copies of each other all but exactly.

    A near-duplicate is found also if one of the two was flipped, turned by right angles, scaled, cropped by a
    few percent, compressed, or changed in brightness or contrast. Every image is read once; a digest and a
    thumbnail of 48 x 48 bytes are kept. Pairs of similar coarse structure are aligned and compared by their
    gradients, see `pipelines.splits.similarity`.

    Measured: of the 233 pairs in the recorded groups of BUSI, 223 (95.7 %) are found as pairs, and all through
    common neighbours, as `pipelines.splits.by_patient.join_duplicates` joins them. The 19 pairs beyond show the same
    lesion or tissue again, in another cut or frame. Of 1,000 NIH chest X-rays no two of different patients are called
    alike, nor any two of PneumoniaMNIST that are not identical. Of copies of 100 images each of BUSI and NIH that
    were scaled by 0.5 to 2, saved as JPEG of quality 50, changed in contrast, blurred or cropped by up to 4 %, the
    likeness is 0.83 or more; the two sets ask for 0.41 and 0.89. Copies of images with fewer pixels than a
    thumbnail are missed if they were blurred, made noisy or halved: what is lost then is what tells images apart.

    The comparison of all coarse structures is quadratic in the number of images: 12 s for 20,000, so some five
    minutes for 100,000, on two cores that were busy otherwise, too. Aligning costs about a millisecond a pair; the
    eight nearest of each image are aligned, so an image of which there are more than eight copies is found through
    some of them.

    Args:
        records: The images; all must be readable.
        threshold: Likeness from which a pair is near, in (0, 1]. By default 7.5 robust standard deviations above
            that of random pairs of these images, within 0.4 and 0.95; 0.7 for fewer than 12 images.

    Returns:
        One row per pair, sorted: `a` and `b`, the ids in the order of the records; `kind`, `"identical"` or
        `"near"`; `distance`, 0 for identical pixels, else 1 - likeness. Images of one value throughout are
        only ever identical. Of more than 50 identical images, each is paired with the first 50.

    Raises:
        ValueError: If `threshold` is out of range, or an image cannot be read.

    Example:
        >>> from pipelines.sources import open_source
        >>> records = open_source("phantom", images=8).select([0, 1, 2, 3])
        >>> copy = Records(name="copy", task="binary", class_names=records.class_names, labels=records.labels,
        ...                table=records.table, read=lambda i: records.read(0)[:, ::-1] if i == 3 else records.read(i))
        >>> pairs = find_duplicates(copy)
        >>> pairs.loc[pairs["distance"] < 0.01, ["a", "b"]].values.tolist() == [list(records.table["id"][[0, 3]])]
        True
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError(f"`threshold` must lie in (0, 1]. Received: threshold={threshold}")
    digests, thumbnails = _read_all(records)
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    members = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    rows = [(a, b, "identical", 0.0) for group in members for a, b in _pairs_within(group)]
    for i, j, score in _near_pairs(thumbnails[first], threshold):
        distance = max(1 - score, 0.0)
        rows += [(a, b, "near", distance) for a, b in _pairs_between(members[i], members[j])]
    return _table(records, rows)


def _table(records: Records, rows: list[tuple[int, int, str, float]]) -> pd.DataFrame:
    ids = records.table["id"].to_numpy()
    table = pd.DataFrame(sorted(rows), columns=["a", "b", "kind", "distance"])
    places = table[["a", "b"]].to_numpy(dtype=np.int64)
    return table.assign(a=ids[places[:, 0]], b=ids[places[:, 1]], distance=table["distance"].astype(float))


def _read_all(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Returns a digest of the pixels and a thumbnail of every image."""
    from rich.console import Console
    from rich.progress import track

    def read(index: int) -> tuple[str, np.ndarray]:
        try:
            image = records.read(index)
            return _digest(image, records.rank), thumbnail(image, rank=records.rank)
        except ValueError as error:
            name = records.table["id"].iloc[index]
            raise error if name in str(error) else InputError(f"Cannot use {name}: {error}") from error

    progress = {"description": "Looking for duplicates", "console": Console(stderr=True), "transient": True}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(track(pool.map(read, range(len(records))), total=len(records), **progress))
    digests, thumbnails = zip(*found, strict=True)
    return np.array(digests), np.stack(thumbnails)


def _digest(image: np.ndarray, rank: int) -> str:
    """Returns a digest of shape, type and pixels; grey that is stored as RGB has that of grey."""
    if image.ndim > rank and (image == image[..., :1]).all():
        image = image[..., 0]
    head = f"{image.shape} {image.dtype.str} ".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()


def _pairs_within(group: np.ndarray) -> Iterator[tuple[int, int]]:
    return ((int(a), int(b)) for i, a in enumerate(group[:MOST]) for b in group[i + 1 :])


def _pairs_between(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields the pairs of two groups, each group's images with the other's first ones."""
    for i, a in enumerate(first):
        for b in second if i < MOST else second[:MOST]:
            yield int(min(a, b)), int(max(a, b))


def _near_pairs(thumbnails: np.ndarray, threshold: float | None) -> list[tuple[int, int, float]]:
    """Returns the pairs of different images that are alike, and how much."""
    way, i, j = _nearest(describe(thumbnails))
    if not len(i):
        return []
    limit = _usual_likeness(thumbnails) if threshold is None else threshold
    scores = _likenesses(thumbnails, way, i, j, at_least=limit)
    best: dict[tuple[int, int], float] = {}
    for k in np.flatnonzero(scores >= limit):
        pair = int(i[k]), int(j[k])
        best[pair] = max(best.get(pair, 0.0), float(scores[k]))
    return [(i, j, score) for (i, j), score in best.items()]


def _likenesses(
    thumbnails: np.ndarray, way: np.ndarray, i: np.ndarray, j: np.ndarray, *, at_least: float = -1.0
) -> np.ndarray:
    """Returns the likeness of pairs, the second of each turned its way."""

    def compare(part: np.ndarray) -> np.ndarray:
        second = np.stack([ways[w][k] for w, k in zip(way[part], j[part], strict=True)])
        return likeness(thumbnails[i[part]], second, at_least=at_least)

    ways = turned(thumbnails)  # Views: what is compared at once is all that is copied.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(compare, np.array_split(np.arange(len(i)), 1 + len(i) // BATCH))))


def _nearest(descriptions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the candidates that are among the nearest of either image, whichever way the second is turned."""
    found = list(_candidates(descriptions))
    if not found:
        return (np.zeros(0, np.int64),) * 3
    way, i, j, product = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(-product, kind="stable")
    kept = _first_of_each(i[order], NEAREST) | _first_of_each(j[order], NEAREST)
    chosen = np.sort(order[kept])
    return way[chosen], i[chosen], j[chosen]


def _first_of_each(values: np.ndarray, count: int) -> np.ndarray:
    """Says of each value whether it is among the first `count` of its kind."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
    rank = np.arange(len(values)) - np.repeat(starts, np.diff(np.r_[starts, len(values)]))
    first = np.empty(len(values), bool)
    first[order] = rank < count
    return first


def _candidates(descriptions: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields pairs of similar structure: the way in which the second is turned, both images, and how similar."""
    count = len(descriptions)
    layout = LAYOUT * descriptions.mean(axis=0) if count >= FEW else np.zeros_like(descriptions[0])
    own = unit(descriptions - layout)
    for way, ways in enumerate(turned_descriptions(descriptions)):
        own_ways = unit(ways - layout)
        for top, left in itertools.combinations_with_replacement(range(0, count, BLOCK), 2):
            product = own[top : top + BLOCK] @ own_ways[left : left + BLOCK].T
            i, j = np.divmod(np.flatnonzero(product > SIMILAR_STRUCTURE), product.shape[1])  # `nonzero` is far slower.
            later = j + left > i + top
            i, j = i[later], j[later]
            yield np.full(len(i), way, np.int8), i + top, j + left, product[i, j]


def _usual_likeness(thumbnails: np.ndarray) -> float:
    """Returns the likeness that random pairs of the images all but never reach."""
    thumbnails = thumbnails[thumbnails.any(axis=(1, 2))]
    if len(thumbnails) < FEW:
        return THRESHOLD_OF_FEW
    rng, size = np.random.default_rng(0), min(5 * len(thumbnails), SAMPLE)
    i = rng.integers(len(thumbnails), size=size)
    j = (i + rng.integers(1, len(thumbnails), size=size)) % len(thumbnails)
    scores = _likenesses(thumbnails, np.zeros(size, np.int64), i, j)
    scores = np.arctanh(np.clip(scores, -0.99, 0.99))  # Near to a normal variable.
    middle = np.median(scores)
    deviation = 1.4826 * np.median(np.abs(scores - middle))  # Copies among the pairs do not widen it.
    return float(np.clip(np.tanh(middle + DEVIATIONS * deviation), LOWEST, HIGHEST))
