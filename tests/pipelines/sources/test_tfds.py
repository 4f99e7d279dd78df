import importlib.util
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from pipelines.images.decode import common_shape, find_unreadable
from pipelines.sources import open_source
from pipelines.sources.tfds.source import open_tfds
from pipelines.splits.by_patient import split_records

tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
F = tfds.features
RNG = np.random.default_rng(0)
NUMBER = itertools.count()


def make(name, features, splits, **details):
    """Registers a set, as any of TFDS is, that holds the examples of each split; returns its name, a new one."""
    name = f"{name}{next(NUMBER)}"

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=F.FeaturesDict(features), **details)

    def split_generators(self, manager):
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def generate_examples(self, examples):
        yield from enumerate(examples)

    members = {
        "VERSION": tfds.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": split_generators,
        "_generate_examples": generate_examples,
    }
    type(name.title().replace("_", ""), (tfds.core.GeneratorBasedBuilder,), members)
    return name


def grey(count, **values):
    """Examples with distinct small grey images and the given values in turn."""
    images = RNG.integers(0, 256, (count, 8, 9, 1), dtype=np.uint8)
    return [
        {"image": image} | {key: column[i % len(column)] for key, column in values.items()}
        for i, image in enumerate(images)
    ]


def prepare(name, folder, file_format="array_record"):
    tfds.builder(name, data_dir=folder).download_and_prepare(file_format=file_format)
    return name


CLASSES = {"image": F.Image(shape=(8, 9, 1)), "label": F.ClassLabel(names=["well", "ill"])}


@pytest.fixture(scope="module")
def scans():
    """A set with all splits, patients and metadata, and its examples."""
    features = {
        "image": F.Image(shape=(None, None, 3), dtype=np.uint16),
        "thumbnail": F.Image(),
        "label": F.ClassLabel(names=["well", "ill"]),
        "patient": F.Text(),
        "age": F.Scalar(np.int64),
        "split": F.ClassLabel(names=["left", "right"]),
        "notes": {"author": F.Text()},
    }
    splits = {
        split: [
            {
                "image": RNG.integers(0, 65536, (8, 9 + i, 3), dtype=np.uint16),
                "thumbnail": np.zeros((2, 2, 3), np.uint8),
                "label": i % 2,
                "patient": f"{split}-ä{i // 2}",
                "age": 40 + i,
                "split": i % 2,
                "notes": {"author": "x"},
            }
            for i in range(count)
        ]
        for split, count in (("train", 8), ("validation", 3), ("test", 4))
    }
    return make("scan_set", features, splits, supervised_keys=("image", "label")), splits


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_images_labels_splits_patients_and_metadata_come_back(tmp_path, scans, file_format):
    name, splits = scans
    prepare(name, tmp_path, file_format)
    records = open_tfds(name, data_dir=str(tmp_path))
    assert records.task == "binary" and records.class_names == ("well", "ill") and records.name == name
    assert records.table["split"].value_counts().to_dict() == {"train": 8, "test": 4, "val": 3}
    by_age = {(split, example["age"]): example for split, part in splits.items() for example in part}
    theirs = {"train": "train", "val": "validation", "test": "test"}
    for i, row in records.table.iterrows():
        example = by_age.pop((theirs[row["split"]], row["age"]))  # TFDS shuffles once, when it prepares.
        image = records.read(i)
        np.testing.assert_array_equal(image, example["image"])
        assert image.dtype == np.uint16 and records.read_shape(i) == image.shape
        assert records.labels[i] == example["label"] and row["patient"] == example["patient"]
        assert row["original_split"] == ["left", "right"][example["split"]]
    assert by_age == {} and set(records.table) == {"id", "patient", "split", "age", "original_split"}
    assert len({records.fingerprint(i) for i in range(15)}) == 15


def test_a_folder_of_a_prepared_set_needs_no_code_of_it(tmp_path, scans):
    builder = tfds.builder(prepare(scans[0], tmp_path), data_dir=tmp_path)
    by_folder, by_name = open_tfds(str(builder.data_dir)), open_tfds(scans[0], data_dir=str(tmp_path))
    assert by_folder.table.equals(by_name.table)
    np.testing.assert_array_equal(by_folder.read(14), by_name.read(14))


def test_a_set_that_is_not_prepared_is_prepared_to_be_read_one_by_one(tmp_path, scans, capsys):
    records = open_tfds(scans[0], data_dir=str(tmp_path))
    assert len(records) == 15 and capsys.readouterr().out == ""
    assert list(tmp_path.rglob("*.array_record*")) and not list(tmp_path.rglob("*.tfrecord*"))


def test_threads_read_what_one_reads(tmp_path, scans):
    records = open_tfds(prepare(scans[0], tmp_path), data_dir=str(tmp_path))
    order = RNG.integers(0, 15, 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        for i, image in zip(order, pool.map(records.read, order), strict=True):
            np.testing.assert_array_equal(image, records.read(i))


def test_a_set_is_opened_and_split_like_any_source(tmp_path):
    name = make("whole_way", CLASSES, {"train": grey(24, label=[0, 1]), "test": grey(6, label=[0, 1])})
    records = open_source(f"tfds:{name}:1.0.0", data_dir=str(tmp_path), on_error="skip")
    assert common_shape(records) == (8, 9, 1) and len(find_unreadable(records)) == 0
    splits = split_records(records)
    assert len(splits["test"]) == 6 and len(splits["train"]) + len(splits["val"]) == 24 and len(splits["val"]) > 0
    original = records.table["id"].tolist().index(splits["val"].table["id"][0])
    np.testing.assert_array_equal(splits["val"].read(0), records.read(original))


# Labels


@pytest.mark.parametrize(
    ("feature", "values", "task", "names", "wanted"),
    [
        (F.ClassLabel(num_classes=3), [2, 0, 1], "multiclass", ("0", "1", "2"), [0, 1, 2]),
        (
            F.Sequence(F.ClassLabel(names=["cyst", "mass", "none"])),
            [[0, 1], [2], []],
            "multilabel",
            ("cyst", "mass", "none"),
            [[0, 0, 0], [0, 0, 1], [1, 1, 0]],
        ),
        (
            F.Tensor(shape=(2,), dtype=np.float32),
            [[1, 0], [0, np.nan], [1, 1]],
            "multilabel",
            ("0", "1"),
            [[0, np.nan], [1, 0], [1, 1]],
        ),
        (F.Tensor(shape=(2,), dtype=np.bool_), [[1, 0], [0, 1]], "multilabel", ("0", "1"), [[0, 1], [1, 0]]),
        (F.Scalar(np.int64), [3, 0, 1], "multiclass", ("0", "1", "2", "3"), [0, 1, 3]),
        (F.Scalar(np.bool_), [True, False], "binary", ("0", "1"), [0, 1]),
    ],
)
@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_each_kind_of_label(tmp_path, feature, values, task, names, wanted, file_format):
    features = {"image": F.Image(shape=(8, 9, 1)), "labels": feature}
    name = make("label_kinds", features, {"train": grey(len(values), labels=values)})
    records = open_tfds(prepare(name, tmp_path, file_format), data_dir=str(tmp_path))
    assert records.task == task and records.class_names == names
    assert records.labels.dtype == (np.float32 if task == "multilabel" else np.int32)
    found = records.labels[np.lexsort(records.labels.T[::-1])] if records.labels.ndim == 2 else np.sort(records.labels)
    order = np.lexsort(np.array(wanted).T[::-1]) if np.ndim(wanted) == 2 else slice(None)
    np.testing.assert_array_equal(found, np.array(wanted, float)[order])


def test_task_and_class_names_can_be_given(tmp_path):
    name = make("given_names", CLASSES, {"train": grey(4, label=[0, 1])})
    records = open_tfds(name, data_dir=str(tmp_path), task="ordinal", class_names=["low", "high"])
    assert records.task == "ordinal" and records.class_names == ("low", "high")


@pytest.mark.parametrize(
    ("feature", "values", "reason"),
    [
        (F.Sequence(F.ClassLabel(num_classes=4)), [[0, 3, 3, 1]], "each class that is present once.*0, 3, 3, 1"),
        (F.Sequence(F.Scalar(np.int64)), [[0, 1], [0]], "one length in all records"),
        (F.Tensor(shape=(2,), dtype=np.float32), [[0, 0.5]], "each 0, 1 or NaN"),
        (F.Scalar(np.int64), [-2, 1], "0 to 1.*-2"),
        (F.Scalar(np.float32), [0.5], "type Scalar"),
        (F.Text(), ["ill"], "type Text"),
        (F.ClassLabel(num_classes=2), [-1, -1], "all 2 records without"),
    ],
)
def test_a_bad_label_is_refused(tmp_path, feature, values, reason):
    """The first is CheXpert's: a state of every finding, which as a list of classes would be read all wrong."""
    features = {"image": F.Image(shape=(8, 9, 1)), "label": feature}
    name = make("bad_labels", features, {"train": grey(len(values), label=values)})
    with pytest.raises(ValueError, match=f"{reason}|Received.*{reason}") as error:
        open_tfds(name, data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


def test_records_without_a_label_are_left_out_and_counted(tmp_path, caplog):
    name = make("half_labelled", CLASSES, {"train": grey(4, label=[0, 1]), "test": grey(3, label=[-1])})
    with caplog.at_level(logging.WARNING, "medkeras"):
        records = open_tfds(name, data_dir=str(tmp_path))
    assert "left out 3 of 7 records, without a label" in caplog.text
    assert set(records.table["split"]) == {"train"} and records.table.index.tolist() == [0, 1, 2, 3]


# Splits, features


def test_a_sample_split_is_left_out_and_said(tmp_path, caplog):
    examples = grey(4, label=[0, 1])
    name = make("with_sample", CLASSES, {"train": examples, "sample": examples[:2]})
    with caplog.at_level(logging.WARNING, "medkeras"):
        assert len(open_tfds(name, data_dir=str(tmp_path))) == 4
    assert "left out sample" in caplog.text


def test_a_split_alone_is_to_be_split(tmp_path):
    name = make("one_split", CLASSES, {"full": grey(4, label=[0, 1])})
    records = open_tfds(name, data_dir=str(tmp_path))
    assert set(records.table["split"]) == {""} and records.table["id"][3] == "full_3"


def test_splits_of_other_names_are_refused(tmp_path):
    name = make("odd_splits", CLASSES, {"north": grey(4, label=[0, 1]), "south": grey(2, label=[0, 1])})
    with pytest.raises(ValueError, match="train, validation and test, or one alone.*north, south"):
        open_tfds(name, data_dir=str(tmp_path))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A prepared set with two images and two labels, none of which is the set's own choice."""
    features = {
        "front": F.Image(shape=(8, 9, 1)),
        "side": F.Image(shape=(8, 9, 1)),
        "finding": F.ClassLabel(num_classes=2),
        "sex": F.ClassLabel(num_classes=2),
        "person": F.Scalar(np.int64),
    }
    rows = grey(4, finding=[0, 1], sex=[0], person=[7, 7, 8])
    examples = [row | {"front": row["image"], "side": 255 - row["image"]} for row in rows]
    for example in examples:
        del example["image"]
    folder = tmp_path_factory.mktemp("several")
    return {"name": prepare(make("several_features", features, {"train": examples}), folder), "data_dir": str(folder)}


KEYS = {"image_key": "side", "label_key": "finding", "patient_key": "person"}


def test_features_are_chosen_by_name(several):
    records = open_tfds(**several, **KEYS)
    assert sorted(records.table["patient"]) == ["7", "7", "7", "8"] and set(records.table["sex"]) == {"0"}
    assert sorted(records.labels) == [0, 0, 1, 1]
    front = open_tfds(**several, **KEYS | {"image_key": "front"})
    np.testing.assert_array_equal(records.read(2), 255 - front.read(2))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("image_key", None, "one of the image features of several_features[0-9]+, front, side"),
        ("image_key", "sex", "front, side. Received: image_key='sex'"),
        ("label_key", None, "one of the features of several_features[0-9]+.*Received: label_key=None"),
        ("label_key", "class", "Received: label_key='class'"),
        ("label_key", "front", "A label is a ClassLabel.*front of type Image"),
        ("patient_key", "side", "finding, person, sex. Received: patient_key='side'"),
    ],
)
def test_a_feature_that_is_not_there_or_unclear_lists_those_that_are(several, key, value, reason):
    with pytest.raises(ValueError, match=reason):
        open_tfds(**several, **KEYS | {key: value})


def test_alpha_goes_and_grey_files_among_colour_become_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((5, 4), 9, np.uint8))
    for channels, image, wanted in (
        (4, np.dstack([np.full((5, 4), v, np.uint8) for v in (1, 2, 3, 4)]), [1, 2, 3]),
        (3, str(tmp_path / "grey.png"), [9, 9, 9]),
    ):
        features = CLASSES | {"image": F.Image(shape=(None, None, channels))}
        name = make("channels", features, {"train": [{"image": image, "label": 1}]})
        records = open_tfds(name, data_dir=str(tmp_path))
        assert records.read(0).shape == records.read_shape(0) == (5, 4, 3)
        assert records.read(0)[2, 2].tolist() == wanted


# Bad input


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_bad_images_are_named_and_the_others_read(tmp_path, file_format):
    png = cv2.imencode(".png", RNG.integers(0, 256, (20, 20), dtype=np.uint8))[1].tobytes()
    for name, data in (("cut", png[:200]), ("text", b"no image"), ("large", png), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
    features = CLASSES | {"image": F.Image(shape=(None, None, 1)), "kind": F.Text()}
    examples = [{"image": str(tmp_path / name), "label": 0, "kind": name} for name in ("cut", "text", "large", "empty")]
    examples += [row | {"kind": "good"} for row in grey(2, label=[0, 1])]
    name = prepare(make("bad_images", features, {"train": examples}), tmp_path, file_format)
    records = open_tfds(name, data_dir=str(tmp_path), max_pixels=300)
    reasons = find_unreadable(records).set_index("id")["reason"]
    kinds = records.table.set_index("id")["kind"]
    found = {kinds[name]: reason for name, reason in reasons.items()}
    assert set(found) == {"cut", "text", "large", "empty"}
    assert "truncated PNG" in found["cut"] and "not an image" in found["text"] and "zero bytes" in found["empty"]
    assert "20 x 20 pixels are more than `max_pixels`" in found["large"]
    assert all(reason.startswith(f"Cannot read {name}: ") for name, reason in reasons.items())


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damaged_files_are_named(tmp_path, file_format, harm):
    name = make("damaged_files", CLASSES, {"train": grey(20, label=[0, 1])})
    prepare(name, tmp_path, file_format)
    path = next(tmp_path.rglob(f"*train.{file_format}*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.unlink()
    if harm != "remove":
        path.write_bytes(data if harm == "flip" else data[: len(data) // 2])
    with pytest.raises(ValueError, match=f"Cannot read train of {name}/1.0.0 in {tmp_path}.*: [^{{]*$") as error:
        open_tfds(name, data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_large_tfrecord_set_is_refused_with_the_way_out(tmp_path):
    name = make("large_set", CLASSES, {"train": grey(50, label=[0, 1])})
    prepare(name, tmp_path, "tfrecord")
    with pytest.raises(ValueError, match="file_format='array_record'.*Received: memory_limit=1000"):
        open_tfds(name, data_dir=str(tmp_path), memory_limit=1000)


@pytest.mark.parametrize("name", ["no_such_set", "no/such:1", "SET:9.9.9", "SET/no_config"])
def test_an_unknown_set_is_named(tmp_path, scans, name):
    name = name.replace("SET", scans[0])
    with pytest.raises(ValueError, match=f"Cannot open {name} of TensorFlow Datasets: ") as error:
        open_tfds(name, data_dir=str(tmp_path))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_folder_without_a_prepared_set_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"Cannot open {tmp_path} of TensorFlow Datasets"):
        open_tfds(str(tmp_path))


def test_a_set_that_cannot_be_downloaded_says_what_to_do(tmp_path, monkeypatch):
    name = make("far_away", CLASSES, {"train": grey(2, label=[0, 1])})

    def unreachable(self, manager):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(tfds.core.registered.imported_builder_cls(name), "_split_generators", unreachable)
    with pytest.raises(ValueError, match=f"tfds build {name}.*{tmp_path}.*no route to host$"):
        open_tfds(name, data_dir=str(tmp_path))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'medkeras\[tfds\]'"):
        open_tfds("mnist")
