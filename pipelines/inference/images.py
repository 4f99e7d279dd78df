"""The images of a job: those of a run, of another source or of files, each as the model takes it."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines.images.decode import fit
from pipelines.images.records import SPLITS, Records
from pipelines.io.box_tables import file_name
from pipelines.io.output import check_folder
from pipelines.io.run_folder import RunFolder
from pipelines.runtime.progress import bar
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split, open_like

BATCH = 8  # Images whose maps are made at a time.


def open_run(run: str | os.PathLike, out: str | os.PathLike | None = None) -> RunFolder:
    """Returns a run folder, once it is known that it is one and that the results can be written.

    Raises:
        FileNotFoundError: If the folder holds no run.
        OSError: If `out` is given and cannot be written.

    Example:
        >>> open_run("no-such-run")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    if out is not None:
        check_folder(out)
    return RunFolder(run).open()


def open_images(
    config: TrainConfig, model: ImageClassifier, *, data: str | None = None, split: str | None = None, **options: Any
) -> Records:
    """Returns the images of a split of a run, or those of another source with the same classes.

    Args:
        config: Of the run.
        model: Of the run.
        data: Another source.
        split: `train`, `val` or `test`; by default `test`, and all of another source.
        **options: Of the other source.

    Raises:
        FileNotFoundError: If the data do not exist.
        ValueError: If there is no such split, the run's data have changed, or another source has other classes.
    """
    if split not in (None, *SPLITS):
        raise InputError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}")
    if data is None:
        records = load_split(config, split or "test")
    else:
        records = of_split(open_like(config, data, **options), data, split)
    check_classes(records, model)
    return records


def of_split(records: Records, data: str, split: str | None) -> Records:
    """Returns the records of a split of another source, or all.

    Raises:
        ValueError: If there are none.
    """
    if split not in SPLITS:
        return records
    rows = np.flatnonzero(records.table["split"] == split)
    if not len(rows):
        raise InputError(f"The source gives no images of this split. Received: {data} with {split=}")
    return records.select(rows)


def check_classes(records: Records, model: ImageClassifier) -> None:
    """Checks that records have a model's classes.

    Raises:
        ValueError: If they do not.
    """
    if is_multilabel(records.task) != is_multilabel(model.task) or records.class_names != model.class_names:
        raise InputError(
            f"The data must have the model's classes, {', '.join(model.class_names)} ({model.task}). "
            f"Received: {records.name} with {', '.join(records.class_names)} ({records.task})"
        )


def sample_rows(records: Records, count: int, seed: int) -> np.ndarray:
    """Returns the rows of a sample of records, in their order.

    Example:
        >>> from pipelines.sources import open_source
        >>> sample_rows(open_source("phantom", images=8), 3, seed=0).shape
        (3,)
    """
    return np.sort(np.random.default_rng(seed).permutation(len(records))[:count])


def picture_names(names: Sequence[str]) -> list[str]:
    """Returns what the pictures of some images are called.

    Example:
        >>> picture_names(["a/1.png"])
        ['001-1.png']
    """
    return [f"{number:03d}-{file_name(str(name))}.png" for number, name in enumerate(names, start=1)]


@contextlib.contextmanager
def naming(records: Records, i: int) -> Iterator[None]:
    """Names the image whose error it is.

    Raises:
        ValueError: If the block raises one, or an OSError.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise InputError(f"Image {records.table['id'][i]} cannot be used: {error}") from error


def read_fitted(records: Records, i: int, model: ImageClassifier) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns an image as the model takes it, and the size in which it is stored.

    Raises:
        ValueError: If it cannot be used.
    """
    with naming(records, i):
        image = records.read(i)
        return fit(image, model.image_shape), image.shape[: records.rank]


def fitted_batches(
    records: Records, model: ImageClassifier, title: str, console: Console
) -> Iterator[tuple[range, np.ndarray]]:
    """Yields the rows of a few records at a time and their images as the model takes them, and shows how far it is.

    Raises:
        ValueError: If an image cannot be used.
    """
    with bar(console) as moving:
        task = moving.add_task(title, total=len(records))
        for start in range(0, len(records), BATCH):
            rows = range(start, min(start + BATCH, len(records)))
            yield rows, np.stack([read_fitted(records, i, model)[0] for i in rows])
            moving.advance(task, len(rows))
