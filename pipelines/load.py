"""From a source to tf.data in one call."""

# Nothing here may import TensorFlow at the top: `import pipelines` stays light.
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from medkeras.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import tensorflow as tf

    from pipelines.images.records import DatasetInfo, Records
    from pipelines.input.cache import Images
    from pipelines.input.dataset import InputPipeline

# What of records a preprocessing step changes.
IMAGES_OF_RECORDS = ("read", "read_mask", "read_shape", "fingerprint")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """Train, validation and test data, as `load` returns them.

    Datasets give `(image, label)` batches: float32 images in [0, 1], `(batch, *info.image_shape)`; int32
    labels `(batch,)`, or float32 `(batch, labels)` with NaN for unknown.

    Attributes:
        info: What a model and a report need to know.
        records: `{split: Records}`, in the order of `batches`.
        rejected: `id` and `reason` of every record left out by `on_error="skip"`.
        leaks: What stands in two splits, one row per pair, see `pipelines.splits.leakage.find_leaks`; empty where it
            was not looked for.
        pipelines: `{split: InputPipeline}`.
    """

    info: "DatasetInfo"
    records: "dict[str, Records]"
    rejected: "pd.DataFrame"
    leaks: "pd.DataFrame"
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

    def train_stream(
        self, start_epoch: int = 0, *, start_step: int = 0, rows: tuple[int, int] | None = None
    ) -> "tf.data.Dataset":
        """Returns endless training batches from a step of epoch `start_epoch` on, `steps_per_epoch` an epoch.

        With `rows`, it gives those rows of each batch alone, see `InputPipeline.stream`.

        An epoch's batches follow from its number alone, so `fit(stream, initial_epoch=start_epoch, ...)` goes
        on exactly where a killed training stood.
        """
        return self.pipelines["train"].stream(start_epoch, start_step=start_step, rows=rows)

    def batches(self, split: str) -> "tf.data.Dataset":
        """Returns the images of any split once, unaugmented, in the order of its records."""
        return self.pipelines[split].batches()

    def arrays(self, split: str) -> "tuple[np.ndarray, Any]":
        """Returns all images and labels of a split as numpy arrays, in the order of its records.

        With masks, the labels are a dictionary of `label` and `mask`, as in the batches.
        """
        import numpy as np
        import tensorflow as tf

        batches = self.batches(split).as_numpy_iterator()
        return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)


def load(
    source: "str | Records",
    *,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    train_preprocess: Sequence[Any] | None = None,
    batch_size: int = 32,
    seed: int = 0,
    augment: str | Sequence[Any] | None = "standard",
    resample: str | None = None,
    masks: bool = False,
    cache: str | os.PathLike | None = None,
    memory_limit: int = 2 * 2**30,
    data_service: str | None = None,
    **opening: Any,
) -> Splits:
    """Reads a source, splits it by patient, looks for leaks and returns tf.data for `model.fit`.

    Args:
        source: What `pipelines.sources.open_source` opens (`"phantom"`, a `.npz`, a folder, a `.csv`,
            `"kind:rest"`), or records.
        image_size: Pixels per side, or one number per axis; by default the images' own size.
        channels: 1 for grey, 3 for colour; by default the images' own.
        train_preprocess: Steps of the training images in the place of `preprocess`; by default the same.
        batch_size: Images per batch, at least 1.
        seed: Chooses the splits, and the order and augmentation of every epoch.
        augment: For the training batches: a key of `pipelines.augment.AUGMENTATIONS`, or a list of
            augmentations and Keras preprocessing layers.
        resample: How an epoch shows the classes of the training split: `"oversample"`, `"undersample"` or
            `"sqrt"`, see `pipelines.splits.balance.resampled_counts`; by default every image once.
        masks: Whether lesion masks come along, see `InputPipeline`.
        cache: Folder in which decoded images are kept for this and later trainings, see `pipelines.input.shards`;
            by default they are kept in memory, or not at all.
        memory_limit: Bytes up to which decoded images are kept in memory; beyond, each epoch reads them.
        data_service: Address of a tf.data service whose workers make the training batches; needs `cache`.
        **opening: All other arguments of `open_splits` (`task`, `preprocess`, `fractions`, `folds`, `leakage`,
            `on_error`, ...), the options of the source among them.

    Raises:
        LeakError: As by `open_splits`.
        ValueError: As by `open_splits`, if an argument breaks its rule, or if images differ in size and `image_size`
            is not given.
        FileNotFoundError: If the source does not exist.

    Example:
        >>> data = load("phantom", images=90, image_size=32, batch_size=8)
        >>> images, labels = next(iter(data.train))
        >>> images.shape
        TensorShape([8, 32, 32, 1])
    """
    from pipelines.augment import choose
    from pipelines.images.decode import common_shape

    _check(batch_size, data_service, cache)
    training = {"augmentations": choose(augment), "data_service": data_service}
    opened = open_splits(source, seed=seed, **opening)
    training["class_counts"] = _class_counts(opened.splits["train"], resample)
    image_shape = common_shape(opened.records, image_size=image_size, channels=channels)
    always = {"image_shape": image_shape, "batch_size": batch_size, "seed": seed, "masks": masks}
    storage = functools.partial(_storage, image_shape=image_shape, cache=cache, memory_limit=memory_limit)
    stored, pipelines = storage(opened.records), {}
    for name, part in opened.splits.items():
        if name == "train" and train_preprocess is not None:
            part = _preprocessed_as(opened.stored, part, train_preprocess)
            pipelines[name] = _pipeline(part, storage(part), **always, **training)
        else:
            pipelines[name] = _pipeline(part, stored, **always, **(training if name == "train" else {}))
    info = _describe(opened.splits, image_shape)
    return Splits(info=info, records=opened.splits, rejected=opened.rejected, leaks=opened.leaks, pipelines=pipelines)


def _check(batch_size: int, data_service: str | None, cache: str | os.PathLike | None) -> None:
    if batch_size < 1:
        raise InputError(f"`batch_size` must be >= 1. Received: batch_size={batch_size}")
    if data_service and not cache:
        raise InputError(f"Workers share the images through `cache`. Received: data_service={data_service!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A source that was read and split, undecoded.

    Attributes:
        stored: All records, as the source gives them.
        records: Those that can be read, preprocessed.
        splits: `{split: Records}`.
        rejected: As in `Splits`.
        leaks: As in `Splits`.
    """

    stored: "Records"
    records: "Records"
    splits: "dict[str, Records]"
    rejected: "pd.DataFrame"
    leaks: "pd.DataFrame"


def open_splits(
    source: "str | Records",
    *,
    task: str | None = None,
    preprocess: Sequence[Any] = (),
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    folds: int | None = None,
    fold: int = 0,
    split_file: str | os.PathLike | None = None,
    group_duplicates: bool = False,
    leakage: str = "stop",
    on_error: str = "raise",
    **source_options: Any,
) -> Opened:
    """Reads a source, splits it by patient and looks for leaks.

    Args:
        source: As for `load`.
        task: Overrides the source's task, for instance `"ordinal"`.
        preprocess: Steps on the stored images, by name (`"clahe:clip=3"`) or as objects, see
            `pipelines.preprocess`.
        seed: Chooses the splits.
        fractions: Shares of train, val and test, for splits that the source does not give.
        folds: Cross-validation in so many parts instead; the source's own splits are put together.
        fold: Which part is the test split, from 0.
        split_file: A CSV with the `id` and `split` of every record, as `splits.csv` of a run.
        group_duplicates: Whether images that look the same are kept in one split, as those of one patient are.
        leakage: What to do if a patient, an image or a near-duplicate stands in two splits: `"stop"`, `"warn"`,
            or `"off"`, which does not look. To look, every image is read once.
        on_error: `"raise"` names the first image that cannot be used; `"skip"` leaves such images out and
            lists them in `rejected`.
        **source_options: Options of the source.

    Raises:
        LeakError: If the splits leak and `leakage` is `"stop"`; its `leaks` are those of `Splits.leaks`.
        ValueError: If an argument breaks its rule, an image cannot be used, or a class is absent from a split.
        FileNotFoundError: If the source does not exist.

    Example:
        >>> opened = open_splits("phantom", images=90)
        >>> {name: len(part) for name, part in opened.splits.items()}
        {'train': 62, 'val': 10, 'test': 18}
    """
    from pipelines.preprocess import preprocess as preprocessed
    from pipelines.splits.by_patient import join_duplicates
    from pipelines.splits.duplicates import find_duplicates
    from pipelines.splits.leakage import check_leaks, check_policy

    if on_error not in ("raise", "skip"):
        raise InputError(f"`on_error` must be raise or skip. Received: on_error={on_error!r}")
    check_policy(leakage)
    stored = open_records(source, task=task, on_error=on_error, **source_options)
    records, rejected = _readable(preprocessed(stored, preprocess) if preprocess else stored, on_error)
    pairs = find_duplicates(records) if group_duplicates or leakage != "off" else None
    if group_duplicates:
        records = join_duplicates(records, pairs)
    splits = _split(records, fractions=fractions, folds=folds, fold=fold, split_file=split_file, seed=seed)
    leaks = check_leaks(splits, pairs, policy=leakage)
    return Opened(stored=stored, records=records, splits=splits, rejected=rejected, leaks=leaks)


def _split(
    records: "Records",
    *,
    fractions: Sequence[float],
    folds: int | None,
    fold: int,
    split_file: str | os.PathLike | None,
    seed: int,
) -> "dict[str, Records]":
    from pipelines.splits.by_patient import split_records
    from pipelines.splits.folds import apply_split, fold_records, read_split_file

    if split_file is not None and folds is not None:
        raise InputError(f"Splits come from a file or are made as folds. Received: {split_file} and folds={folds}")
    if split_file is not None:
        return apply_split(records, read_split_file(split_file))
    if folds is not None:
        return fold_records(records, folds=folds, fold=fold, val_fraction=fractions[1], seed=seed)
    return split_records(records, fractions=fractions, seed=seed)


def open_records(
    source: "str | Records",
    *,
    task: str | None = None,
    preprocess: Sequence[Any] = (),
    on_error: str = "raise",
    **source_options: Any,
) -> "Records":
    """Returns the records of a source, or the given records, with the task and preprocessing that are asked for.

    Raises:
        ValueError: If the labels do not fit the task, or records come with options for a source.
        FileNotFoundError: If the source does not exist.

    Example:
        >>> open_records("phantom", images=8).class_names
        ('healthy', 'lesion')
    """
    from pipelines.images.records import Records
    from pipelines.preprocess import preprocess as preprocessed
    from pipelines.sources import open_source

    if not isinstance(source, Records):
        records = open_source(source, task=task, on_error=on_error, **source_options)
    elif source_options:
        raise InputError(f"Records are open already and take no options. Received: {', '.join(source_options)}")
    else:
        records = _with_task(source, task)
    return preprocessed(records, preprocess) if preprocess else records


def _preprocessed_as(stored: "Records", part: "Records", steps: Sequence[Any]) -> "Records":
    """Returns the records of a part with other steps than the part has."""
    from pipelines.preprocess import preprocess

    position = {name: i for i, name in enumerate(stored.table["id"])}
    chosen = preprocess(stored.select([position[name] for name in part.table["id"]]), steps)
    return dataclasses.replace(part, **{name: getattr(chosen, name) for name in IMAGES_OF_RECORDS})


def _with_task(records: "Records", task: str | None) -> "Records":
    from medkeras.tasks import is_multilabel

    if task is None:
        return records
    if is_multilabel(task) != is_multilabel(records.task):
        raise InputError(f"The labels of a {records.task} task are given. Received: task={task!r}")
    return dataclasses.replace(records, task=task)


def _readable(records: "Records", on_error: str) -> "tuple[Records, pd.DataFrame]":
    """Leaves out what cannot be read, where that is wanted."""
    import pandas as pd

    from pipelines.images.decode import find_unreadable

    if on_error == "raise":
        return records, pd.DataFrame(columns=["id", "reason"])
    rejected = find_unreadable(records)
    if len(rejected) == len(records):
        raise InputError(f"No image of {records.name} can be read. Received: {rejected['reason'].iloc[0]}")
    return records.select((~records.table["id"].isin(rejected["id"])).to_numpy().nonzero()[0]), rejected


def _storage(
    records: "Records", image_shape: tuple[int, ...], cache: str | os.PathLike | None, memory_limit: int
) -> "Callable[[Records], Images]":
    """Returns the rule from the records of a split to their decoded images."""
    from pipelines.input.cache import decoded_bytes, images_from_memory, images_from_source, taken

    if cache is None:
        fits = decoded_bytes(records, image_shape) <= memory_limit
        return functools.partial(images_from_memory if fits else images_from_source, image_shape=image_shape)
    from pipelines.input.shards import images_from_shards

    # One cache for all splits: another fold or seed finds its images decoded.
    images = images_from_shards(records, image_shape, cache)
    position = {name: i for i, name in enumerate(records.table["id"])}
    return lambda part: taken(images, [position[name] for name in part.table["id"]])


def _pipeline(
    records: "Records", stored: "Callable[[Records], Images]", *, masks: bool, **options: Any
) -> "InputPipeline":
    from pipelines.input.cache import images_from_memory, mask_records
    from pipelines.input.dataset import InputPipeline

    if masks:
        # One byte per pixel: masks are kept in memory even where images are not.
        options["masks"] = images_from_memory(mask_records(records), (*options["image_shape"][:-1], 1))
    return InputPipeline(records, images=stored(records), **options)


def _class_counts(records: "Records", resample: str | None) -> "list[int] | None":
    from medkeras.tasks import is_multilabel
    from pipelines.splits.balance import resampled_counts

    if resample is None:
        return None
    if is_multilabel(records.task):
        raise InputError(f"Classes are resampled where an image has one. Received: resample={resample!r}")
    return resampled_counts(records.class_counts(), resample)


def _describe(splits: "dict[str, Records]", image_shape: tuple[int, ...]) -> "DatasetInfo":
    from pipelines.images.records import DatasetInfo
    from pipelines.splits.by_patient import manifest

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
