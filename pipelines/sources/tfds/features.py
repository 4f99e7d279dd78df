"""Which features of a TensorFlow Datasets set are image, label and metadata, and what their values mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError

LABEL_NAMES = ("label", "labels")
UNLABELLED = -1


def image_feature(info: Any, key: str | None) -> str:
    """Returns the name of the image feature: the one asked for, or the set's own input, or the only one there is.

    Args:
        info: A `tfds.core.DatasetInfo`.
        key: The name of a feature, or None to look for it.

    Raises:
        ValueError: If there is no such image feature, or several to choose from.
    """
    found = image_features(info)
    if key is None and _supervised(info)[0] in found:
        return _supervised(info)[0]
    if key is None and len(found) == 1:
        return found[0]
    if key in found:
        return key
    raise InputError(
        f"`image_key` is one of the image features of {info.name}, {', '.join(found) or 'which has none'}. "
        f"Received: image_key={key!r}"
    )


def image_features(info: Any) -> list[str]:
    """Returns the names of all image features at the top level of the set."""
    import tensorflow_datasets as tfds

    return [name for name, feature in info.features.items() if isinstance(feature, tfds.features.Image)]


def label_feature(info: Any, key: str | None) -> str:
    """Returns the name of the label feature: as asked for, the set's own target, called so, or the only classes.

    Args:
        info: A `tfds.core.DatasetInfo`.
        key: The name of a feature, or None to look for it.

    Raises:
        ValueError: If there is no such feature, or none can be told to be the label.
    """
    import tensorflow_datasets as tfds

    def is_classes(feature: Any) -> bool:
        feature = feature.feature if isinstance(feature, tfds.features.Sequence) else feature
        return isinstance(feature, tfds.features.ClassLabel)

    classes = [name for name, feature in info.features.items() if is_classes(feature)]
    if key is None:
        named = [name for name in (_supervised(info)[1], *LABEL_NAMES) if name in info.features]
        key = named[0] if named else classes[0] if len(classes) == 1 else None
    if key not in info.features:
        raise InputError(
            f"`label_key` is one of the features of {info.name}, {', '.join(info.features)}. "
            f"Received: label_key={key!r}"
        )
    return key


def labels_of(feature: Any, values: Sequence[Any], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the labels of all records and the class names.

    Args:
        feature: The label feature.
        values: Its value in every record.
        name: Its name, for errors.

    Returns:
        int64 `(n,)`, -1 for a record without a label, of a `ClassLabel` or a whole number; or float32
        `(n, labels)` with NaN for unknown, of a list of classes or a vector of 0 and 1. With the class names.

    Raises:
        ValueError: If the feature is another, or a value is not sound.
    """
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return np.array(values, np.int64), tuple(feature.names)
    if isinstance(feature, tfds.features.Sequence) and isinstance(feature.feature, tfds.features.ClassLabel):
        return _indicators(values, feature.feature.num_classes, name), tuple(feature.feature.names)
    plain = isinstance(feature, (tfds.features.Tensor, tfds.features.Sequence))
    if not plain or _kind(feature) not in ("biu" if feature.shape == () else "biuf"):
        raise InputError(
            "A label is a ClassLabel, a list of such, a whole number or a vector of 0 and 1. "
            f"Received: {name} of type {type(feature).__name__}"
        )
    if feature.shape == ():
        whole = np.array(values, np.int64)
        return whole, tuple(str(label) for label in range(max(int(whole.max()) + 1, 2)))
    if len({np.shape(value) for value in values}) != 1 or np.ndim(values[0]) != 1:
        raise InputError(f"A label vector has one length in all records. Received: {name}, {np.shape(values[0])}")
    return np.array(values, np.float32), tuple(str(label) for label in range(len(values[0])))


def plain_values(feature: Any, values: Sequence[Any]) -> list[Any]:
    """Returns the values of a scalar feature as plain numbers or text; classes by name, `""` for none.

    Args:
        feature: A scalar feature.
        values: Its value in every record.
    """
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return [feature.names[value] if value >= 0 else "" for value in values]
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else np.asarray(value).item() for value in values
    ]


def scalar_features(info: Any) -> list[str]:
    """Returns the names of all numbers, texts and classes at the top level of the set, sorted."""
    import tensorflow_datasets as tfds

    def is_scalar(name: str) -> bool:
        return isinstance(info.features[name], tfds.features.Tensor) and info.features[name].shape == ()

    return sorted(filter(is_scalar, info.features))


def _supervised(info: Any) -> tuple[str | None, str | None]:
    """Returns the set's own input and target, where it names one feature for each."""
    keys = info.supervised_keys
    if isinstance(keys, tuple) and len(keys) >= 2 and all(isinstance(key, str) for key in keys[:2]):
        return keys[0], keys[1]
    return None, None


def _kind(feature: Any) -> str:
    return np.dtype(feature.np_dtype).kind


def _indicators(values: Sequence[Any], num_classes: int, name: str) -> np.ndarray:
    """Returns a row of 0 and 1 for each list of class indices."""
    rows = np.zeros((len(values), num_classes), np.float32)
    for row, present in zip(rows, values, strict=True):
        present = np.asarray(present, np.int64)
        if len(set(present.tolist())) < len(present) or ((present < 0) | (present >= num_classes)).any():
            raise InputError(
                f"A list of classes names each class that is present once. Received: {name}={present.tolist()}"
            )
        row[present] = 1
    return rows
