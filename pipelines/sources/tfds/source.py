"""The tfds source: a set of TensorFlow Datasets, prepared already or downloaded."""

import dataclasses
import hashlib
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.tasks import default_task
from pipelines.images.decode import MAX_PIXELS, checked_header
from pipelines.images.headers import read_header
from pipelines.images.records import Records
from pipelines.sources.images import file_fingerprint
from pipelines.sources.options import SourceOptions
from pipelines.sources.tfds.features import (
    UNLABELLED,
    image_feature,
    label_feature,
    labels_of,
    plain_values,
    scalar_features,
)
from pipelines.sources.tfds.reader import prepared_builder, read_splits

SPLIT_NAMES = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
PATIENT_KEYS = ("patient", "patient_id")
logger = logging.getLogger("medkeras")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SourceOptions):
    """What a set of TensorFlow Datasets takes.

    Attributes:
        image_key: The image feature; by default the set's own input, or the only one.
        label_key: The label feature: a `ClassLabel`, a list of such, a whole number, or a vector of 0, 1 and
            NaN (unknown); by default the set's own target, `label`, `labels`, or the only classes.
        patient_key: The feature that tells patients apart; by default `patient` or `patient_id` where there is
            one, else every image is a patient of its own.
        class_names: One name per class; by default the set's own, or `"0", "1", ...`.
        data_dir: Folder of prepared sets; by default that of TFDS, `~/tensorflow_datasets`.
        max_pixels: As for `pipelines.images.decode.read_image`.
        memory_limit: Bytes up to which a set that was prepared as TFRecord is taken into memory.
    """

    image_key: str | None = None
    label_key: str | None = None
    patient_key: str | None = None
    class_names: Sequence[str] | None = None
    data_dir: str | None = None
    max_pixels: int = MAX_PIXELS
    memory_limit: int = 2 * 2**30


def open_tfds(name: str, **options: Any) -> Records:
    """Opens a set of TensorFlow Datasets; needs the extra `tfds`.

    A set that is not prepared in `data_dir` is downloaded and prepared there, as array records, which are read
    one by one wherever they lie. A set that was prepared as TFRecord, TFDS' default, can only be read from its
    beginning: its images are kept in memory, still coded as PNG or JPEG. In either case opening goes once
    through all records for their labels.

    The splits `train`, `validation` and `test` are taken as given. Others are left out, which is logged, unless
    there is one alone: that is to be split. Records without a label (-1) are left out too, and logged. All
    numbers, texts and classes beside the label become metadata.

    Args:
        name: Name as `set`, `set/config` or `set/config:1.0.0`, or the folder of a prepared set.
        **options: Those of `Options`.

    Raises:
        ModuleNotFoundError: If tensorflow-datasets is not installed.
        ValueError: If the set is unknown, cannot be prepared or read, or is too large for memory; if a feature
            is not there or must be chosen; or if a label or a patient is not sound.
    """
    given = Options(**options)
    builder = prepared_builder(name, given.data_dir)
    info = builder.info
    image, label = image_feature(info, given.image_key), label_feature(info, given.label_key)
    patient = _patient_feature(info, given.patient_key)
    wanted = {label, *scalar_features(info)}
    names = _splits(info)
    splits = read_splits(builder, tuple(names), image=image, wanted=wanted, memory_limit=given.memory_limit)
    values = {key: [value for part in splits.values() for value in part.values[key]] for key in wanted}
    labels, classes = labels_of(info.features[label], values[label], label)
    classes = given.class_names or classes
    origin = [(theirs, row) for theirs, part in splits.items() for row in range(part.size)]
    kept = _labelled(labels, info.full_name)
    table = _table(info, values, origin, names, label=label, patient=patient).iloc[kept].reset_index(drop=True)
    labels, origin = labels[kept], [origin[i] for i in kept]
    feature, versions = info.features[image], {theirs: _version(info.splits[theirs].filepaths) for theirs in splits}

    def coded(i: int) -> bytes:
        theirs, row = origin[i]
        data = splits[theirs].coded(row)
        checked_header(data, table["id"][i], max_pixels=given.max_pixels)
        return data

    return Records(
        name=info.name,
        task=given.task or ("multilabel" if labels.ndim == 2 else default_task(len(classes))),
        class_names=tuple(classes),
        table=table,
        labels=labels if labels.ndim == 2 else labels.astype(np.int32),
        read=lambda i: _decoded(coded(i), feature, table["id"][i]),
        read_shape=lambda i: _shape(coded(i), feature, table["id"][i]),
        fingerprint=lambda i: f"{versions[origin[i][0]]}-{origin[i][1]}",
    )


def _splits(info: Any) -> dict[str, str]:
    """Returns the set's splits to read, each with our name for it."""
    filled = [name for name, split in info.splits.items() if split.num_examples]
    known = {name: SPLIT_NAMES[name] for name in filled if name in SPLIT_NAMES}
    if not known and len(filled) == 1:
        return {filled[0]: ""}
    if not known or len(set(known.values())) < len(known):
        raise InputError(
            f"A set has the splits train, validation and test, or one alone. Received: {info.full_name} with "
            f"{', '.join(filled) or 'none'}"
        )
    others = [name for name in filled if name not in known]
    if others:
        logger.warning("%s: left out %s, which is none of train, validation and test", info.name, ", ".join(others))
    return known


def _patient_feature(info: Any, key: str | None) -> str | None:
    scalars = scalar_features(info)
    if key is None:
        return next((name for name in PATIENT_KEYS if name in scalars), None)
    if key not in scalars:
        raise InputError(
            f"`patient_key` is one of the features of {info.name}, {', '.join(scalars)}. Received: patient_key={key!r}"
        )
    return key


def _labelled(labels: np.ndarray, name: str) -> np.ndarray:
    """Returns which records have a label."""
    if labels.ndim == 2:
        return np.arange(len(labels))
    kept = np.flatnonzero(labels != UNLABELLED)
    if len(kept) == 0:
        raise InputError(f"A set has labels. Received: {name}, all {len(labels)} records without")
    if len(kept) < len(labels):
        logger.warning("%s: left out %d of %d records, without a label", name, len(labels) - len(kept), len(labels))
    return kept


def _table(
    info: Any,
    values: dict[str, list[Any]],
    origin: list[tuple[str, int]],
    names: dict[str, str],
    *,
    label: str,
    patient: str | None,
) -> pd.DataFrame:
    """Returns id, patient, split and metadata of all records."""
    ids = [f"{names[theirs] or theirs}_{row}" for theirs, row in origin]
    patients = [str(value) for value in plain_values(info.features[patient], values[patient])] if patient else ids
    blank = next((name for name, value in zip(ids, patients, strict=True) if value == ""), None)
    if blank is not None:
        raise InputError(f"Every record needs a patient. Received: {blank} of {info.full_name} without {patient}")
    roles = {"id": ids, "patient": patients, "split": [names[theirs] for theirs, _ in origin]}
    metadata = {
        f"original_{key}" if key in roles else key: plain_values(info.features[key], values[key])
        for key in scalar_features(info)
        if key not in (label, patient)
    }
    return pd.DataFrame(roles | metadata)


def _version(paths: Sequence[os.PathLike]) -> str:
    """Returns a string that changes when a file of the set does."""
    joined = " ".join(file_fingerprint(os.fspath(path)) for path in paths)
    return hashlib.blake2b(joined.encode(), digest_size=8).hexdigest()


def _decoded(data: bytes, feature: Any, name: str) -> np.ndarray:
    """Returns `(H, W, C)` as the feature says, alpha dropped; a grey file among colour ones becomes RGB."""
    try:
        image = feature.decode_example_np(data)
    except Exception as error:  # OpenCV's, NumPy's and TFDS' own.
        raise InputError(f"Cannot read {name}: {' '.join(str(error).split())}") from error
    channels = _channels(feature)
    if channels == 3 and image.shape[-1] == 1:
        return np.repeat(image, 3, axis=-1)
    return image[..., :channels]


def _shape(data: bytes, feature: Any, name: str) -> tuple[int, ...]:
    header, channels = read_header(data), _channels(feature)
    return (header.height, header.width, channels) if channels else _decoded(data, feature, name).shape


def _channels(feature: Any) -> int | None:
    """Returns the channels of an image feature, alpha dropped, or None if they differ."""
    return 3 if feature.shape[-1] == 4 else feature.shape[-1]
