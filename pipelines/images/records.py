"""Records: what every source gives, before anything is split, decoded or augmented."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.tasks import check_task, is_multilabel

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
    """A set of labelled images, not yet decoded.

    Attributes:
        name: Short name of the source, for titles and file names.
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        table: One row per record: `id` (distinct strings), `patient` (string; equal for images that must not
            be parted by a split), `split` (`train`, `val`, `test`, or `""` where the source gives none); any
            further columns are metadata.
        labels: int32 `(n,)` class indices, or float32 `(n, labels)` with NaN for unknown.
        read: Record index to the image as stored: `(H, W)`, `(H, W, C)`, `(D, H, W)` or `(D, H, W, C)`,
            uint8, uint16 or float in [0, 1].
        rank: 2 for images, 3 for volumes.
        read_mask: Record index to a boolean lesion mask on the image's grid, where the source has masks.
        read_shape: Record index to the stored shape with channels, `(H, W, C)` or `(D, H, W, C)`, where the
            source knows it without decoding; see `pipelines.images.decode.stored_shapes`.
        read_spacing: Record index to the millimetres from pixel to pixel of the stored image along each axis, or None
            where its file is silent, where the source knows of it.
        fingerprint: Record index to a short string that changes when the stored image does (a file's size and
            time, say), so that a cache knows what it holds; None where the source cannot tell.
        train_labels: Labels to train with where they differ from what is known, float32 `(n, labels)` with
            values in [0, 1] or NaN: a policy for uncertain labels. Validation and test see `labels` alone.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    table: pd.DataFrame
    labels: np.ndarray
    read: Callable[[int], np.ndarray]
    rank: int = 2
    read_mask: Callable[[int], np.ndarray] | None = None
    read_shape: Callable[[int], tuple[int, ...]] | None = None
    read_spacing: Callable[[int], tuple[float, ...] | None] | None = None
    fingerprint: Callable[[int], str] | None = None
    train_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_task(self.task, len(self.class_names))
        if len(self.table) == 0:
            raise InputError(f"A source must hold at least one image. Received: {self.name} with none")
        if len(self.labels) != len(self.table):
            raise InputError(
                f"Every record needs a label. Received: {len(self.table)} records, {len(self.labels)} labels"
            )
        _check_labels(self.labels, self.task, len(self.class_names))
        _check_train_labels(self.train_labels, self.labels)
        repeated = self.table["id"][self.table["id"].duplicated()]
        if len(repeated):
            raise InputError(f"Record ids must be distinct. Received: {repeated.iloc[0]!r} more than once")

    def __len__(self) -> int:
        return len(self.table)

    def select(self, indices: Sequence[int] | np.ndarray) -> "Records":
        """Returns the records at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)

        def chosen(function: Callable[[int], Any] | None) -> Callable[[int], Any] | None:
            return function and (lambda i: function(int(indices[i])))

        return dataclasses.replace(
            self,
            table=self.table.iloc[indices].reset_index(drop=True),
            labels=self.labels[indices],
            train_labels=None if self.train_labels is None else self.train_labels[indices],
            read=chosen(self.read),
            read_mask=chosen(self.read_mask),
            read_shape=chosen(self.read_shape),
            read_spacing=chosen(self.read_spacing),
            fingerprint=chosen(self.fingerprint),
        )

    def class_counts(self) -> np.ndarray:
        """Returns how many records carry each class or label, int64 `(classes,)`."""
        if is_multilabel(self.task):
            return np.nansum(self.labels == 1, axis=0).astype(np.int64)
        return np.bincount(self.labels, minlength=len(self.class_names))


def _check_labels(labels: np.ndarray, task: str, num_classes: int) -> None:
    if is_multilabel(task):
        fits = labels.ndim == 2 and labels.shape[1] == num_classes
        if not fits or not np.all(np.isnan(labels) | (labels == 0) | (labels == 1)):
            raise InputError(
                f"A multilabel task has {num_classes} labels per image, each 0, 1 or NaN. "
                f"Received: labels of shape {labels.shape} with values {np.unique(labels)[:5].tolist()}"
            )
    elif labels.ndim != 1 or labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"A {task} task has one class index per image, 0 to {num_classes - 1}. Received: labels of shape "
            f"{labels.shape} from {labels.min()} to {labels.max()}"
        )


def _check_train_labels(train_labels: np.ndarray | None, labels: np.ndarray) -> None:
    if train_labels is None:
        return
    fits = train_labels.shape == labels.shape and labels.ndim == 2
    if not fits or not np.all(np.isnan(train_labels) | ((train_labels >= 0) & (train_labels <= 1))):
        raise InputError(
            f"`train_labels` are several labels per image, each in [0, 1] or NaN, of shape {labels.shape}. "
            f"Received: train_labels of shape {train_labels.shape}"
        )


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a model, a report and an export need to know of the data.

    Attributes:
        name: Name of the source.
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        image_shape: `(H, W, C)` or `(D, H, W, C)` of every image of the tf.data pipelines.
        counts: `{split: images}`.
        class_counts: `{split: [images per class or label]}`.
        manifest: Data frame with `id`, `patient`, `split` and `label` of every record.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    counts: dict[str, int]
    class_counts: dict[str, list[int]]
    manifest: Any

    @property
    def num_classes(self) -> int:
        """Number of classes, or of labels."""
        return len(self.class_names)
