"""The signatures of a SavedModel beside `serving_default`: image files, where, and how sure."""

import dataclasses
import pathlib
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from export_models import SeenNet, images, randomize
from medkeras.explain import localize, mark_regions
from medkeras.export import available_signatures, export_saved_model, graph_step
from medkeras.export.saved_model.decoding import decode_image
from medkeras.export.saved_model.explaining import largest_box
from medkeras.export.saved_model.resizing import fit_levels
from medkeras.export.saved_model.sampling import dropout_mask
from medkeras.export.saved_model.signatures import SIGNATURES, endpoint
from medkeras.models import create
from medkeras.uncertainty import LogitScaling, MonteCarloDropout, summarize, with_scaling
from paths import SUPPORT
from pipelines.images.decode import fit, fit_stored, read_image
from pipelines.preprocess import CentreCrop, Percentile, Square, apply

tf = pytest.importorskip("tensorflow")
from tensorflow.core.framework import tensor_pb2  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402


@pytest.fixture(scope="module")
def model():
    seen = randomize(SeenNet())
    return with_scaling(seen, LogitScaling("multiclass", scale=(0.7,), shift=(0.2, 0.0, -0.1)))


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    """The signatures of a calibrated model whose files are made square first."""
    folder = tmp_path_factory.mktemp("served") / "1"
    steps = [graph_step("square", {"fill": "zero"})]
    loaded = tf.saved_model.load(str(export_saved_model(model, folder, signatures=SIGNATURES, steps=steps)))
    loaded.folder = folder
    return loaded


def ask(served, name, **inputs):
    return {key: value.numpy() for key, value in served.signatures[name](**inputs).items()}


def test_names_shapes_and_types_are_pinned(served):
    wanted = {
        "serve_bytes": {"probabilities": ([None, 3], tf.float32), "labels": ([None, 3], tf.string)},
        "explain": {"map": ([None, 16, 16], tf.float32), "box": ([None, 4], tf.int32)},
        "uncertainty": {
            "mean": ([None, 3], tf.float32),
            "entropy": ([None], tf.float32),
            "mutual_information": ([None], tf.float32),
        },
    }
    assert set(served.signatures) == {"serve", "serving_default", *wanted}
    for name, outputs in wanted.items():
        found = served.signatures[name].structured_outputs
        assert {k: (v.shape.as_list(), v.dtype) for k, v in found.items()} == outputs
    inputs = {name: sorted(served.signatures[name].structured_input_signature[1]) for name in wanted}
    assert inputs == {"serve_bytes": ["image_bytes"], "explain": ["image"], "uncertainty": ["image", "samples", "seed"]}


def prediction_log():
    """The message class of a warm-up record, described anew from the .proto files of TF Serving."""
    file = descriptor_pb2.FileDescriptorProto(name="warmup_test.proto", package="warmup_test")
    file.dependency.append("tensorflow/core/framework/tensor.proto")
    for name, fields in {
        "ModelSpec": [("name", 1, ""), ("signature_name", 3, "")],
        "InputsEntry": [("key", 1, ""), ("value", 2, ".tensorflow.TensorProto")],
        "PredictRequest": [("model_spec", 1, ".warmup_test.ModelSpec"), ("inputs", 2, ".warmup_test.InputsEntry")],
        "PredictLog": [("request", 1, ".warmup_test.PredictRequest")],
        "PredictionLog": [("predict_log", 6, ".warmup_test.PredictLog")],
    }.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            label = 3 if field == "inputs" else 1
            message.field.add(name=field, number=number, label=label, type=11 if kind else 9, type_name=kind or None)
    pool = descriptor_pool.Default()
    return message_factory.GetMessageClass(pool.Add(file).message_types_by_name["PredictionLog"])


def test_every_signature_answers_its_warm_up_request(model, served):
    assert tensor_pb2.TensorProto  # Its description is in the pool.
    kind = prediction_log()
    records = tf.data.TFRecordDataset(str(served.folder / "assets.extra" / "tf_serving_warmup_requests"))
    requests = [kind.FromString(record).predict_log.request for record in records.as_numpy_iterator()]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", *SIGNATURES]
    for request in requests:
        assert request.model_spec.name == "seen_net"
        inputs = {entry.key: tf.constant(tf.make_ndarray(entry.value)) for entry in request.inputs}
        answer = ask(served, request.model_spec.signature_name, **inputs)
        assert all(len(value) == 1 for value in answer.values())


def encoded(kind, shape, dtype=np.uint8, seed=0):
    """A file of smooth waves with noise, of any size and type."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = 0.5 + 0.4 * np.sin(rows / 5)[..., None] * np.cos(columns / 7)[..., None]
    values = np.clip(waves + 0.1 * rng.random((*shape[:2], shape[2] if len(shape) > 2 else 1)), 0, 1)
    image = (values * np.iinfo(dtype).max).astype(dtype)
    return cv2.imencode(kind, image.reshape(shape))[1].tobytes()


FILES = {
    "grey PNG": encoded(".png", (40, 30)),
    "16 bit grey PNG": encoded(".png", (50, 64), np.uint16),
    "RGB PNG": encoded(".png", (33, 47, 3)),
    "RGBA PNG": encoded(".png", (32, 32, 4)),
    "16 bit RGBA PNG": encoded(".png", (40, 33, 4), np.uint16),
    "grey JPEG": encoded(".jpg", (45, 60)),
    "RGB JPEG": encoded(".jpg", (71, 64, 3)),
    "as it is": encoded(".png", (16, 16)),
}


def test_files_are_answered_as_the_pipeline_answers_them(model, served, tmp_path):
    wanted = []
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
        wanted.append(fit(apply(read_image(tmp_path / name), ["square"]), model.image_shape))
    found = ask(served, "serve_bytes", image_bytes=tf.constant(list(FILES.values())))
    probabilities = ask(served, "serving_default", image=tf.constant(np.stack(wanted)))["probabilities"]
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-5)
    assert np.ptp(probabilities, axis=0).max() > 0.01
    assert (found["labels"] == np.array([name.encode() for name in model.class_names])).all()
    assert found["labels"].shape == probabilities.shape
    alone = [ask(served, "serve_bytes", image_bytes=tf.constant([data])) for data in FILES.values()]
    np.testing.assert_allclose(np.concatenate([one["probabilities"] for one in alone]), probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"bytes of a PNG or JPEG file. Received: bytes =\] \[0\]"),
        (b"a text that is no image, and longer than any header", "Received: another kind of file"),
        (FILES["RGB PNG"][:200], "Invalid PNG"),
        (FILES["RGB JPEG"][:-400], "JPEG"),
        (FILES["grey PNG"][:16] + b"\x00\xff\xff\xff" * 2 + FILES["grey PNG"][24:], "at most 100000000 pixels"),
    ],
)
def test_what_is_no_image_is_refused_with_the_rule(served, data, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        ask(served, "serve_bytes", image_bytes=tf.constant([FILES["grey PNG"], data]))


def test_no_image_gets_no_answer(served):
    none = tf.zeros((0, 16, 16, 1))
    counts = {"samples": tf.constant(2), "seed": tf.constant(0)}
    asked = {
        "serving_default": {"image": none},
        "uncertainty": {"image": none, **counts},
        "serve_bytes": {"image_bytes": tf.zeros((0,), tf.string)},
    }
    for name, inputs in asked.items():
        found = ask(served, name, **inputs)
        wanted = served.signatures[name].structured_outputs
        assert {key: value.shape for key, value in found.items()} == {
            key: (0, *value.shape[1:]) for key, value in wanted.items()
        }


def test_an_image_of_another_shape_is_refused(served):
    counts = {"samples": tf.constant(2), "seed": tf.constant(0)}
    for name, more in (("serving_default", {}), ("explain", {}), ("uncertainty", counts)):
        for shape in ((1, 8, 8, 1), (1, 20, 16, 1), (1, 16, 16, 3)):
            with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
                ask(served, name, image=tf.zeros(shape), **more)


@pytest.fixture(scope="module")
def fitted():
    """Resizing to 28 pixels of one and of three channels, traced once each."""
    spec = tf.TensorSpec((None, None, None), tf.int32)
    return {
        channels: tf.function(lambda x, c=channels: fit_levels(x, (28, 28, c)), [spec], autograph=False)
        for channels in (1, 3)
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(56, 56), (84, 56), (64, 48), (100, 33), (28, 28), (300, 29), (252, 252)])
def test_shrinking_equals_opencv_to_the_level(fitted, size, dtype):
    rng = np.random.default_rng(size[0])
    for stored, channels in ((1, 1), (1, 3), (3, 1), (3, 3)):
        image = rng.integers(0, np.iinfo(dtype).max, (*size, stored), dtype, endpoint=True)
        found = fitted[channels](image.astype(np.int32))
        np.testing.assert_array_equal(found, fit_stored(image, (28, 28, channels)))


@pytest.mark.parametrize("size", [(14, 14), (20, 50), (9, 11), (1, 1), (50, 20)])
def test_growing_equals_opencv_but_for_halves(fitted, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    difference = np.abs(fitted[3](image.astype(np.int32)) - fit_stored(image, (28, 28, 3)))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.005


@pytest.mark.parametrize(
    "step", [Square(), Square(fill="edge"), CentreCrop(share=0.6), CentreCrop(share=0.875, form="square")]
)
@pytest.mark.parametrize("size", [(7, 12), (12, 7), (8, 8), (1, 4)])
def test_steps_move_pixels_as_in_the_training(step, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = graph_step(step.name, dataclasses.asdict(step))(tf.constant(image.astype(np.int32)))
    np.testing.assert_array_equal(found, step(image))


@pytest.mark.parametrize("step", [Percentile(), Percentile(low=0.0, high=37.5), Percentile(low=12.3, high=100.0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_percentiles_stretch_as_in_the_training(step, dtype):
    highest, rng = np.iinfo(dtype).max, np.random.default_rng(0)
    apply_step = tf.function(graph_step(step.name, dataclasses.asdict(step)))
    for shape in ((1, 1, 1), (3, 5, 1), (64, 50, 3)):
        for image in (
            rng.integers(0, highest, shape, dtype),
            rng.integers(0, 9, shape, dtype),
            np.full(shape, 7, dtype),
        ):
            found = apply_step(tf.constant(image.astype(np.int32)), tf.constant(highest))
            np.testing.assert_array_equal(found, step(image))


@pytest.mark.parametrize("signatures", [(), *[(name,) for name in SIGNATURES], SIGNATURES], ids=str)
def test_each_weight_is_written_once_whatever_is_asked(signatures, tmp_path):
    wide = SeenNet(channels=10_000)
    saved = export_saved_model(wide, tmp_path / "1", signatures=signatures)
    weights = 4 * sum(int(np.prod(variable.shape)) for variable in wide.variables)
    written = sum(path.stat().st_size for path in (saved / "variables").glob("*.data-*"))
    assert weights <= written < weights + 5_000
    assert (saved / "saved_model.pb").stat().st_size < weights  # Nor are they constants of the graph.


def test_every_depth_and_colour_of_a_png_is_decoded_as_stored(tmp_path):
    """Palettes, one bit a pixel and grey with alpha too, which OpenCV does not write."""
    image = pytest.importorskip("PIL.Image")
    values = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        path = tmp_path / f"{mode}.png"
        image.fromarray(values).convert(mode).save(path)
        wanted = read_image(path)
        levels, highest = decode_image(tf.constant(path.read_bytes()))
        np.testing.assert_array_equal(levels, wanted.reshape(9, 7, -1), err_msg=mode)
        assert int(highest) == 255


def test_the_map_and_its_box_are_those_of_the_library(model, served):
    x = images(model, 3)
    found, wanted = ask(served, "explain", image=tf.constant(x)), localize(model, x)
    assert wanted.point == "class_map"
    np.testing.assert_allclose(found["map"], wanted.maps, atol=1e-5)
    assert found["box"].tolist() == [boxes[0].tolist() if len(boxes) else [0] * 4 for boxes in wanted.boxes]
    alone = [ask(served, "explain", image=tf.constant(x[i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(np.concatenate([one["map"] for one in alone]), found["map"], atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([one["box"] for one in alone]), found["box"])


def test_an_attention_map_comes_before_a_class_map():
    model = randomize(SeenNet(point="attention"))
    x = images(model, 2)
    function, _ = endpoint("explain", model)
    found, wanted = function(tf.constant(x)), localize(model, x)
    assert wanted.point == "attention"
    np.testing.assert_allclose(found["map"], wanted.maps, atol=1e-5)
    assert found["box"].numpy().tolist() == [boxes[0].tolist() for boxes in wanted.boxes]


def test_the_box_is_that_of_the_largest_region():
    rng = np.random.default_rng(0)
    maps = rng.random((6, 11, 9)).astype("float32")
    maps[1] = 0.5  # Nothing stands out.
    maps[2, 3, 4] = np.nan
    volumes = rng.random((2, 5, 6, 7)).astype("float32")
    for values in (maps, volumes):
        for threshold in (0.5, 0.8, 1.0):
            regions = mark_regions(values, point="any", threshold=threshold)
            rank = values.ndim - 1
            wanted = [boxes[0].tolist() if len(boxes) else [0] * 2 * rank for boxes in regions.boxes]
            assert largest_box(tf.constant(values), threshold=threshold).numpy().tolist() == wanted


def test_samples_follow_from_the_seed_and_change_nothing(model, served):
    x = images(model, 3)
    before = [v.numpy() for v in served.variables]

    def sample(images, seed, samples=20):
        return ask(
            served, "uncertainty", image=tf.constant(images), samples=tf.constant(samples), seed=tf.constant(seed)
        )

    first, again, other = sample(x, 1), sample(x, 1), sample(x, 2)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        rows = np.concatenate([sample(x[i : i + 1], 1)[name] for i in range(3)])
        np.testing.assert_allclose(rows, first[name], atol=1e-5)
    assert np.abs(first["mean"] - other["mean"]).max() > 1e-3
    assert before and all(np.array_equal(a, b) for a, b in zip(before, served.variables, strict=True))
    for samples in (0, 1001):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`samples` must be from 1 to 1000"):
            sample(x, 1, samples)


def test_samples_equal_a_twin_with_the_same_masks(model, served):
    x, seen = images(model, 2), model.classifier
    pooled = np.asarray(seen.before(x, training=False))
    kernel, bias = (np.asarray(weight) for weight in seen.head.get_weights())
    masks = [dropout_mask((1, 4), rate=0.4, seed=5, sample=k, call=0).numpy() for k in range(7)]
    twin = np.stack([model.scaling.probabilities((pooled * mask) @ kernel + bias) for mask in masks])
    wanted = summarize(twin / twin.sum(axis=-1, keepdims=True), task="multiclass")
    found = ask(served, "uncertainty", image=tf.constant(x), samples=tf.constant(7), seed=tf.constant(5))
    for name in ("mean", "entropy", "mutual_information"):
        np.testing.assert_allclose(found[name], getattr(wanted, name), atol=1e-5)


def test_many_samples_agree_with_monte_carlo_dropout(model, served):
    x = images(model, 2)
    wanted = MonteCarloDropout(model, samples=1000).predict(x, seed=3)
    found = ask(served, "uncertainty", image=tf.constant(x), samples=tf.constant(1000), seed=tf.constant(3))
    error = 4 * np.sqrt(2 * wanted.variance.max() / 1000)
    np.testing.assert_allclose(found["mean"], wanted.mean, atol=error)
    np.testing.assert_allclose(found["mutual_information"], wanted.mutual_information, atol=0.05)


def test_a_label_is_a_question_of_its_own():
    model = randomize(SeenNet(num_classes=2, task="multilabel"))
    x = images(model, 2)
    function, _ = endpoint("uncertainty", model)
    found = function(tf.constant(x), 200, 0)
    wanted = MonteCarloDropout(model, samples=200).predict(x)
    assert found["entropy"].shape == (2, 2)
    np.testing.assert_allclose(found["entropy"], wanted.entropy, atol=0.1)


def test_what_a_model_cannot_have_is_told():
    volume = create("focusnet3d_tiny", num_classes=2, dropout=0.0)
    reasons = available_signatures(volume)
    assert set(reasons) == set(SIGNATURES)
    assert reasons["serve_bytes"] and reasons["uncertainty"] and reasons["explain"] is None
    for name, words in (("serve_bytes", "Received: a model of images of shape"), ("uncertainty", "with no dropout")):
        with pytest.raises(ValueError, match=words):
            endpoint(name, volume)
    with pytest.raises(ValueError, match="Received: 'classify'"):
        endpoint("classify", volume)


@pytest.mark.process
def test_every_signature_answers_through_the_c_api(model, served, tmp_path):
    """Without Python's TensorFlow or Keras: what a server, or a program in another language, gets."""
    library = pathlib.Path(tf.__file__).parent / "libtensorflow_cc.so.2"
    if not library.is_file():
        pytest.skip(f"this TensorFlow has no C API for other programs: no {library.name}")
    x, sampling = images(model, 3), {"samples": np.int32(5), "seed": np.int32(1)}
    values = {
        "serving_default": {"image": x},
        "serve_bytes": {"image_bytes": np.array([FILES["grey PNG"], FILES["RGB JPEG"]], object)},
        "explain": {"image": x},
        "uncertainty": {"image": x, **sampling},
    }
    graph = saved_model_pb2.SavedModel.FromString((served.folder / "saved_model.pb").read_bytes()).meta_graphs[0]
    requests = {
        name: {
            "inputs": {key: tensor.name for key, tensor in graph.signature_def[name].inputs.items()},
            "outputs": {key: tensor.name for key, tensor in graph.signature_def[name].outputs.items()},
            "values": given,
        }
        for name, given in values.items()
    }
    (tmp_path / "requests").write_bytes(pickle.dumps(requests))
    script = SUPPORT / "c_api.py"
    subprocess.run([sys.executable, script, served.folder, tmp_path / "requests", tmp_path / "answers"], check=True)
    found = pickle.loads((tmp_path / "answers").read_bytes())
    for name, given in values.items():
        wanted = ask(served, name, **{key: tf.constant(value) for key, value in given.items()})
        assert set(found[name]) == set(wanted)
        for key, value in wanted.items():
            if value.dtype == object:
                assert found[name][key].tolist() == value.tolist()
            else:
                np.testing.assert_allclose(found[name][key], value, atol=1e-5)
