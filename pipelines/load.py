"""From a source to tf.data in one call."""

# Nothing here may import TensorFlow at the top: `import pipelines` stays light.
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import tensorflow as tf

    from pipelines.input_pipeline import InputPipeline
    from pipelines.records import DatasetInfo, Records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """Train, validation and test data, as `load` returns them.

    Datasets give `(image, label)` batches: float32 images in [0, 1], `(batch, *info.image_shape)`; int32
    labels `(batch,)`, or float32 `(batch, labels)` with NaN for unknown.

    Attributes:
        info: What a model and a report need to know.
        records: `{split: Records}`, in the order of `batches`.
        rejected: `id` and `reason` of every record left out by `on_error="skip"`.
        pipelines: `{split: InputPipeline}`.
    """

    info: "DatasetInfo"
    records: "dict[str, Records]"
    rejected: "pd.DataFrame"
    pipelines: "dict[str, InputPipeline]"

    @property
    def train(self) -> "tf.data.Dataset":
        """One epoch of shuffled, augmented batches, another one each time it is iterated."""
        return self.pipelines["train"].epoch()

    @property
    def val(self) -> "tf.data.Dataset":
        """The validation images, in fixed order."""
        return self.batches("val")

    @property
    def test(self) -> "tf.data.Dataset":
        """The test images, in fixed order."""
        return self.batches("test")

    @property
    def steps_per_epoch(self) -> int:
        """Training batches per epoch."""
        return self.pipelines["train"].steps_per_epoch

    def train_stream(self, start_epoch: int = 0) -> "tf.data.Dataset":
        """Returns endless training batches from epoch `start_epoch` on, `steps_per_epoch` an epoch.

        An epoch's batches follow from its number alone, so `fit(stream, initial_epoch=start_epoch, ...)` goes
        on exactly where a killed training stood.
        """
        return self.pipelines["train"].stream(start_epoch)

    def batches(self, split: str) -> "tf.data.Dataset":
        """Returns the images of any split once, unaugmented, in the order of its records."""
        return self.pipelines[split].batches()

    def arrays(self, split: str) -> "tuple[np.ndarray, np.ndarray]":
        """Returns all images and labels of a split as numpy arrays, in the order of its records."""
        import numpy as np

        images, labels = zip(*self.batches(split).as_numpy_iterator(), strict=True)
        return np.concatenate(images), np.concatenate(labels)


def load(
    source: "str | Records",
    *,
    task: str | None = None,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    augment: str | Sequence[Any] | None = "standard",
    on_error: str = "raise",
    memory_limit: int = 2 * 2**30,
    **source_options: Any,
) -> Splits:
    """Reads a source, splits it by patient and returns tf.data for `model.fit`.

    Args:
        source: What `pipelines.sources.open_source` opens (`"phantom"`, a `.npz`, a folder, a `.csv`,
            `"kind:rest"`), or records.
        task: Overrides the source's task, for instance `"ordinal"`.
        image_size: Pixels per side, or one number per axis; by default the images' own size.
        channels: 1 for grey, 3 for colour; by default the images' own.
        batch_size: Images per batch, at least 1.
        seed: Chooses the splits, and the order and augmentation of every epoch.
        fractions: Shares of train, val and test, for splits that the source does not give.
        augment: For the training batches: a key of `pipelines.augment.AUGMENTATIONS`, or a list of
            augmentations and Keras preprocessing layers.
        on_error: `"raise"` names the first image that cannot be used; `"skip"` leaves such images out and
            lists them in `rejected`.
        memory_limit: Bytes up to which decoded images are kept in memory; beyond, each epoch reads them.
        **source_options: Options of the source.

    Raises:
        ValueError: If an argument breaks its rule, an image cannot be used, images differ in size and
            `image_size` is not given, or a class is absent from a split.
        FileNotFoundError: If the source does not exist.

    Example:
        >>> data = load("phantom", image_size=32, batch_size=8)
        >>> images, labels = next(iter(data.train))
        >>> images.shape
        TensorShape([8, 32, 32, 1])
    """
    from pipelines.augment import choose
    from pipelines.cache import decoded_bytes
    from pipelines.decode import common_shape
    from pipelines.input_pipeline import InputPipeline
    from pipelines.splits import split_records

    if batch_size < 1:
        raise ValueError(f"`batch_size` must be >= 1. Received: batch_size={batch_size}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be raise or skip. Received: on_error={on_error!r}")
    augmentations = choose(augment)
    records, rejected = _readable(open_records(source, task=task, on_error=on_error, **source_options), on_error)
    image_shape = common_shape(records, image_size=image_size, channels=channels)
    splits = split_records(records, fractions=fractions, seed=seed)
    in_memory = decoded_bytes(records, image_shape) <= memory_limit
    pipelines = {
        name: InputPipeline(
            part,
            image_shape=image_shape,
            batch_size=batch_size,
            seed=seed,
            augmentations=augmentations if name == "train" else (),
            in_memory=in_memory,
        )
        for name, part in splits.items()
    }
    return Splits(info=_describe(splits, image_shape), records=splits, rejected=rejected, pipelines=pipelines)


def open_records(
    source: "str | Records", *, task: str | None = None, on_error: str = "raise", **source_options: Any
) -> "Records":
    """Returns the records of a source, or the given records, with the task that is asked for.

    Raises:
        ValueError: If the labels do not fit the task, or records come with options for a source.
        FileNotFoundError: If the source does not exist.

    Example:
        >>> open_records("phantom", images=8).class_names
        ('healthy', 'lesion')
    """
    from medkeras.tasks import is_multilabel
    from pipelines.records import Records
    from pipelines.sources import open_source

    if not isinstance(source, Records):
        return open_source(source, task=task, on_error=on_error, **source_options)
    if source_options:
        raise ValueError(f"Records are open already and take no options. Received: {', '.join(source_options)}")
    if task is None:
        return source
    if is_multilabel(task) != is_multilabel(source.task):
        raise ValueError(f"The labels of a {source.task} task are given. Received: task={task!r}")
    return dataclasses.replace(source, task=task)


def _readable(records: "Records", on_error: str) -> "tuple[Records, pd.DataFrame]":
    """Leaves out what cannot be read, where that is wanted."""
    import pandas as pd

    from pipelines.decode import find_unreadable

    if on_error == "raise":
        return records, pd.DataFrame(columns=["id", "reason"])
    rejected = find_unreadable(records)
    if len(rejected) == len(records):
        raise ValueError(f"No image of {records.name} can be read. Received: {rejected['reason'].iloc[0]}")
    return records.select((~records.table["id"].isin(rejected["id"])).to_numpy().nonzero()[0]), rejected


def _describe(splits: "dict[str, Records]", image_shape: tuple[int, ...]) -> "DatasetInfo":
    from pipelines.records import DatasetInfo
    from pipelines.splits import manifest

    records = splits["train"]
    return DatasetInfo(
        name=records.name,
        task=records.task,
        class_names=records.class_names,
        image_shape=image_shape,
        counts={name: len(part) for name, part in splits.items()},
        class_counts={name: part.class_counts().tolist() for name, part in splits.items()},
        manifest=manifest(splits),
    )
