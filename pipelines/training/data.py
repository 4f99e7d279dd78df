"""The data of a run: opened, split and read as its configuration says, the same every time."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medkeras.errors import InputError
from pipelines.io.csv_table import read_table
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig

if TYPE_CHECKING:
    from medkeras.models import ImageClassifier
    from pipelines.images.records import Records
    from pipelines.load import Splits

RESAMPLING = {"oversample": "oversample", "undersample": "undersample", "sqrt-sample": "sqrt"}


def load_data(config: TrainConfig, *, leakage: str | None = None) -> "Splits":
    """Opens the data of a run as its configuration says: the same records, splits and order every time.

    Args:
        config: The configuration.
        leakage: Overrides the configuration's, to look for leaks once only.

    Example:
        >>> config = TrainConfig(data="phantom", model="focusnet2d", run="runs/a", source_options={"images": 90})
        >>> sum(load_data(config).info.counts.values())
        90
    """
    import pipelines

    return pipelines.load(
        config.data,
        image_size=config.image_size,
        channels=config.channels,
        train_preprocess=config.train_preprocess,
        batch_size=config.batch_size,
        augment=config.augment,
        resample=RESAMPLING.get(config.balance),
        cache=config.cache,
        data_service=config.data_service,
        masks=config.uses_masks,
        **_split_arguments(config, leakage),
    )


def load_split(config: TrainConfig, split: str) -> "Records":
    """Returns the records of one split, see `load_splits`."""
    return load_splits(config)[split]


def load_splits(config: TrainConfig) -> "dict[str, Records]":
    """Returns the records of each split of a run that was split already, undecoded.

    Raises:
        FileNotFoundError: If the run has no `splits.csv`, or its source does not exist.
        ValueError: If records, labels or splits differ from the run's `splits.csv`.
    """
    from pipelines.splits.folds import apply_split, read_split_file

    run = RunFolder(config.run)
    records = open_like(config, config.data, task=config.task, on_error=config.on_error, **_source_options(config))
    if (run / "rejected.csv").is_file():
        rejected = read_table(run / "rejected.csv", columns=["id"], dtype=str)["id"]
        records = records.select(np.flatnonzero(~records.table["id"].isin(rejected)))
    path = run / "splits.csv"
    try:
        splits = apply_split(records, read_split_file(path))
    except ValueError as error:
        raise InputError(f"The data of a run must stay as in {path}. {error}") from error
    check_same_splits(run, splits)
    return splits


def open_like(config: TrainConfig, source: str, **options: Any) -> "Records":
    """Opens any source, its images preprocessed as those of a run."""
    from pipelines.load import open_records

    return open_records(source, preprocess=config.preprocess, **options)


def open_run_inputs(config: TrainConfig, inputs: Sequence[str | os.PathLike], model: "ImageClassifier") -> "Records":
    """Opens images by their paths, read and preprocessed as those of a run."""
    from pipelines.sources.unlabelled import open_inputs

    return open_inputs(inputs, model=model, options=config.source_options, preprocess=config.preprocess)


def _source_options(config: TrainConfig) -> dict[str, Any]:
    """Returns the options of the run's source; one that hashes patients gets the salt of the run folder."""
    from pipelines.sources import options_of

    options = dict(config.source_options)
    return options | {"salt": RunFolder(config.run).salt()} if "salt" in options_of(config.data) else options


def _split_arguments(config: TrainConfig, leakage: str | None) -> dict[str, Any]:
    names = ("task", "preprocess", "seed", "fractions", "folds", "fold", "split_file", "group_duplicates", "on_error")
    arguments = {name: getattr(config, name) for name in names} | _source_options(config)
    return arguments | {"leakage": leakage or config.leakage}


def check_same_splits(run: RunFolder, splits: "Mapping[str, Records]") -> None:
    """Checks that splits are those of a run, if it was split already.

    Raises:
        ValueError: If records, labels or splits differ from the run's `splits.csv`.
    """
    from pipelines.splits.by_patient import manifest

    path = run / "splits.csv"
    if path.is_file() and path.read_text() != manifest(splits).to_csv(index=False):
        raise InputError(f"The data of a run must stay as in {path}. Received: other records in {splits['train'].name}")
