"""Reading a set of TensorFlow Datasets: prepared where it is not yet, and its images coded until asked for."""

import contextlib
import dataclasses
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from medkeras.errors import InputError
from pipelines.sources.tfds.features import image_features

CHUNK = 256  # Records read at a time.
GRAPH_NODE = re.compile(r"\{\{.*?\}\} *| *\[Op:.*?\]| name: *$", re.MULTILINE)  # TensorFlow's, about itself.


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a set.

    Attributes:
        values: `{feature: its value in every record}`, of the features asked for.
        coded: Record number to the bytes of its image.
        size: Number of records.
    """

    values: dict[str, list[Any]]
    coded: Callable[[int], bytes]
    size: int


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """Returns the `tfds.core.DatasetBuilder` of a set, prepared as array records if it was not yet.

    Args:
        name: Name of a set, or the folder of a prepared one.
        data_dir: Folder of prepared sets.

    Raises:
        ModuleNotFoundError: If tensorflow-datasets is not installed.
        ValueError: If the set is unknown or cannot be prepared.
    """
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ModuleNotFoundError(
            "A tfds source needs tensorflow-datasets: pip install 'medkeras[tfds]'", name="tensorflow_datasets"
        )
    import tensorflow_datasets as tfds

    with _explained(f"Cannot open {name} of TensorFlow Datasets"):
        builder = tfds.builder_from_directory(name) if os.path.isdir(name) else tfds.builder(name, data_dir=data_dir)
    if builder.is_prepared():
        return builder
    array_records = importlib.util.find_spec("array_record") is not None
    advice = f"without network, run `tfds build {name}` on another machine and copy its folder to {builder.data_dir}"
    # Files that Google holds prepared are TFRecord, which cannot be read one by one.
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with _explained(f"Cannot prepare {name} ({advice})"), contextlib.redirect_stdout(sys.stderr):
        builder.download_and_prepare(download_config=config, file_format="array_record" if array_records else None)
    return builder


def read_splits(
    builder: Any, names: Sequence[str], *, image: str, wanted: Collection[str], memory_limit: int
) -> dict[str, Split]:
    """Goes through the records of some splits once, without decoding an image.

    Args:
        builder: What `prepared_builder` gave.
        names: The splits.
        image: The image feature.
        wanted: Other features, whose values are kept.
        memory_limit: Bytes that the splits may take together in memory if they cannot be read one by one.

    Raises:
        ValueError: If the files are damaged or missing, or would not fit into memory.
    """
    import tensorflow_datasets as tfds

    coded = {name: tfds.decode.SkipDecoding() for name in image_features(builder.info)}
    with _explained(f"Cannot read {_place(builder)}"):
        try:
            sources = builder.as_data_source(list(names), decoders=coded)
        except NotImplementedError:  # TFRecord, which is read from its beginning.
            sources = None
    if sources is not None:
        return {
            name: _one_by_one(builder, name, source, image, wanted) for name, source in zip(names, sources, strict=True)
        }
    size = sum(builder.info.splits[name].num_bytes for name in names)
    if size > memory_limit:
        raise InputError(
            f"Cannot read {_place(builder)}: {size:,} bytes of TFRecord are read from their beginning, into memory. "
            "Prepare the set with file_format='array_record' in another data_dir, or raise `memory_limit`. "
            f"Received: memory_limit={memory_limit}"
        )
    return {name: _in_memory(builder, name, coded, image, wanted) for name in names}


def _one_by_one(builder: Any, name: str, source: Any, image: str, wanted: Collection[str]) -> Split:
    what = f"Cannot read {name} of {_place(builder)}"

    def read(row: int) -> bytes:
        with _explained(what):
            return _image(source[row], image, row)

    with _explained(what):
        return Split(_values(_in_chunks(source), wanted, image), read, len(source))


def _in_memory(builder: Any, name: str, coded: dict[str, Any], image: str, wanted: Collection[str]) -> Split:
    import tensorflow_datasets as tfds

    with _explained(f"Cannot read {name} of {_place(builder)}"):
        config = tfds.ReadConfig(try_autocache=False)
        examples = builder.as_dataset(split=name, decoders=coded, read_config=config, shuffle_files=False)
        values = _values(tfds.as_numpy(examples), (*wanted, image), image)
        images = values.pop(image)
        return Split(values, images.__getitem__, len(images))


def _place(builder: Any) -> str:
    return f"{builder.info.full_name} in {builder.data_dir}"


def _values(examples: Iterable[dict[str, Any]], wanted: Collection[str], image: str) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {name: [] for name in wanted}
    for row, example in enumerate(examples):
        _image(example, image, row)
        for name, column in values.items():
            column.append(example[name])
    return values


def _image(example: dict[str, Any], image: str, row: int) -> bytes:
    """Returns the image's bytes; where an array record file was cut, a record comes back without."""
    if example[image] is None:
        raise InputError(f"record {row} is damaged")
    return example[image]


def _in_chunks(source: Any) -> Iterator[dict[str, Any]]:
    for start in range(0, len(source), CHUNK):
        yield from source.__getitems__(range(start, min(start + CHUNK, len(source))))


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns whatever a set's own code raises into a ValueError on one line."""
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in GRAPH_NODE.sub("", str(error)).splitlines() if line.strip()]
        raise InputError(f"{what}: {lines[0] if lines else type(error).__name__}") from error
