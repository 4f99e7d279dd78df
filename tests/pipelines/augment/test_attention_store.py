"""The attention store and its callback: what a lookup sees, also elsewhere, and when an epoch sees new maps."""

import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from medkeras.models import create
from pipelines.augment import AttentionCrop, AttentionStore, RefreshAttention
from pipelines.augment.attention.refresh import attention_model
from pipelines.images.records import Records
from pipelines.input.dataset import InputPipeline

SIZE, SHAPE = 6, (2, 3)


@pytest.fixture
def store(tmp_path):
    return AttentionStore(tmp_path / "maps", size=SIZE, map_shape=SHAPE)


def maps_of(seed=0, size=SIZE, shape=SHAPE):
    """Maps whose largest value is 1, as the store keeps them."""
    maps = np.random.default_rng(seed).random((size, *shape)).astype("float32")
    return maps / maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)


def test_a_lookup_gives_the_maps_of_its_records(store):
    store.write(maps_of())
    indices = tf.constant([4, 0, 4], tf.int64)
    np.testing.assert_allclose(store.lookup(indices), maps_of()[[4, 0, 4]], atol=5e-4)
    assert store.lookup(indices).dtype == tf.float32


def test_float32_keeps_every_bit_and_volumes_have_three_axes(tmp_path):
    store = AttentionStore(tmp_path / "maps", size=2500, map_shape=(2, 2, 3), dtype="float32")
    maps = maps_of(size=2500, shape=(2, 2, 3))
    store.write(iter(np.array_split(maps, 7)))
    np.testing.assert_array_equal(store.lookup(tf.range(2500)), maps)


def test_maps_of_any_scale_keep_their_shape(store):
    scales = np.array([1e-30, 1e-6, 1, 1e6, 1e30, -1], "float32").reshape(-1, 1, 1)
    store.write(maps_of() * scales)
    np.testing.assert_allclose(store.lookup(tf.range(SIZE)), maps_of() * np.sign(scales), atol=5e-4)


def test_new_and_unusable_maps_are_constant(store):
    np.testing.assert_array_equal(store.lookup(tf.range(SIZE)), np.zeros((SIZE, *SHAPE)))
    maps = maps_of()
    maps[1, 0, 0], maps[2, 1, 1], maps[3] = np.nan, np.inf, 0
    store.write(maps)
    found = store.lookup(tf.range(SIZE)).numpy()
    np.testing.assert_array_equal(found[1:4], 0)
    assert (found[[0, 4, 5]].max(axis=(1, 2)) == 1).all()


@pytest.mark.parametrize("size", [SIZE, 200_000], ids=["small", "large"])
@pytest.mark.parametrize("calls", [None, 2])
def test_a_running_iterator_sees_new_maps(tmp_path, size, calls):
    """The file is mapped at each execution: TensorFlow has not put its contents into the graph."""
    store = AttentionStore(tmp_path / "maps", size=size, map_shape=(5, 6))
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    dataset = tf.data.Dataset.range(10**6).batch(2).map(lambda i: store.lookup(i % size), num_parallel_calls=calls)
    iterator = iter(dataset.with_options(options))
    for value in (1.0, -1.0, 1.0):
        row = np.full((1, 5, 6), value, "float32")
        store.write(np.broadcast_to(row, (min(1000, size - i), 5, 6)) for i in range(0, size, 1000))
        for _ in range(8):  # What was made ahead.
            next(iterator)
        np.testing.assert_array_equal(next(iterator), np.full((2, 5, 6), value))


def test_a_compiled_function_sees_new_maps(store):
    lookup = tf.function(store.lookup)
    for seed in range(3):
        store.write(maps_of(seed))
        np.testing.assert_allclose(lookup(tf.constant([1])), maps_of(seed)[[1]], atol=5e-4)


def test_the_file_takes_little_space_and_replaces_the_old_one_whole(store):
    store.write(maps_of())
    assert os.listdir(store.path.parent) == ["maps"]
    assert store.path.stat().st_blocks * 512 < 100_000
    with pytest.raises(ValueError, match="Received: 4 maps"):
        store.write(np.zeros((4, *SHAPE)))
    with pytest.raises(ValueError, match=r"shape \(2, 3\). Received: \(3, 2\)"):
        store.write(iter([np.zeros((2, 2, 3)), np.zeros((4, 3, 2))]))
    assert os.listdir(store.path.parent) == ["maps"]
    np.testing.assert_allclose(store.lookup(tf.range(SIZE)), maps_of(), atol=5e-4)


def test_a_store_is_opened_again_and_no_other_in_its_place(store):
    store.write(maps_of())
    again = AttentionStore(store.path, size=SIZE, map_shape=SHAPE)
    np.testing.assert_allclose(again.lookup(tf.range(SIZE)), maps_of(), atol=5e-4)
    for other in ({"size": 7}, {"map_shape": (3, 2)}, {"dtype": "float32"}):
        with pytest.raises(ValueError, match="of another training. Received: "):
            AttentionStore(store.path, **{"size": SIZE, "map_shape": SHAPE} | other)
    store.path.write_bytes(b"short")
    with pytest.raises(ValueError, match="Received: another size"):
        AttentionStore(store.path, size=SIZE, map_shape=SHAPE)
    again.clear()
    np.testing.assert_array_equal(AttentionStore(store.path, size=SIZE, map_shape=SHAPE).lookup([0]), 0)


@pytest.mark.parametrize("index", [SIZE, -1, 10**7])
def test_what_is_no_record_is_an_error(store, index):
    with pytest.raises(tf.errors.InvalidArgumentError):
        store.lookup(tf.constant([0, index]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"map_shape": (3,)}, r"map_shape=\(3,\)"),
        ({"map_shape": (0, 3)}, r"map_shape=\(0, 3\)"),
        ({"dtype": "int8"}, "dtype='int8'"),
    ],
)
def test_wrong_arguments_state_the_rule(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        AttentionStore(tmp_path / "maps", **{"size": SIZE, "map_shape": SHAPE} | options)


WORKER = """
import tensorflow as tf
service = tf.data.experimental.service
worker = service.WorkerServer(service.WorkerConfig(dispatcher_address="ADDRESS"))
print("ready", flush=True)
input()
"""


@pytest.mark.process
def test_workers_of_a_service_see_the_maps(store, tmp_path):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    code = WORKER.replace("ADDRESS", dispatcher.target.partition("://")[2])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path.root, **pipes) as worker:
        try:
            assert worker.stdout.readline() == "ready\n"
            distribute = service.distribute(processing_mode="parallel_epochs", service=dispatcher.target)
            dataset = tf.data.Dataset.range(SIZE).batch(2, drop_remainder=True).map(store.lookup).apply(distribute)
            for seed in range(2):
                store.write(maps_of(seed))
                found = np.concatenate(list(dataset.as_numpy_iterator()))
                np.testing.assert_allclose(found, maps_of(seed), atol=5e-4)
        finally:
            worker.communicate("\n", timeout=60)


def records_of(count=8):
    return Records(
        name="made",
        task="binary",
        class_names=("a", "b"),
        table=pd.DataFrame(
            {"id": [str(i) for i in range(count)], "patient": [str(i) for i in range(count)], "split": ""}
        ),
        labels=np.arange(count, dtype=np.int32) % 2,
        read=lambda i: np.full((6, 6), 20 * i + 10, np.uint8),
    )


class WriteAttention:
    """Shows the maps that a batch was made with."""

    compiled = False

    def draw(self, key, image_shape):
        return tf.zeros([])

    def apply_batch(self, batch, parameters):
        wide = tf.repeat(tf.repeat(batch["attention"], 3, axis=1), 2, axis=2)
        return batch | {"image": wide[..., None]}


class Counter(keras.Model):
    """Its one weight counts the steps of the training; the maps tell the weight."""

    def __init__(self, seen):
        super().__init__()
        self.see, self.head = seen.append, keras.layers.Dense(2)
        self.steps = self.add_weight(shape=(), initializer="zeros", name="steps")

    def call(self, images):
        return self.head(keras.layers.Flatten()(images))

    def train_step(self, data):
        self.see(data[0].numpy())
        self.steps.assign_add(1.0)
        return {"loss": tf.constant(0.0)}


def maps_that_tell(model):
    """The first column is 1; the others are the number of steps so far, as a share of 100."""
    return lambda images: tf.concat([tf.ones((len(images), 2, 1)), tf.fill((len(images), 2, 2), model.steps / 100)], -1)


@pytest.mark.parametrize("every", [1, 2])
def test_each_epoch_sees_the_maps_of_the_weights_it_begins_with(tmp_path, every):
    """No batch of an epoch is made before the maps of that epoch are written."""
    store = AttentionStore(tmp_path / "maps", size=8, map_shape=(2, 3), dtype="float32")
    pipeline = InputPipeline(
        records_of(), image_shape=(6, 6, 1), batch_size=2, augmentations=[WriteAttention()], attention=store
    )
    model = Counter(seen := [])
    model.compile("sgd", run_eagerly=True)

    refresh = RefreshAttention(store, images=pipeline.batches(), attention_of=maps_that_tell, every=every)
    model.fit(pipeline.epoch(), epochs=5, callbacks=[refresh], shuffle=False, verbose=0)
    steps = pipeline.steps_per_epoch
    assert len(seen) == 5 * steps
    for epoch in range(5):
        refreshed = epoch // every * every
        expected = refreshed * steps / 100
        for batch in seen[epoch * steps : (epoch + 1) * steps]:
            np.testing.assert_allclose(batch[:, :, 2:], expected, atol=1e-6)
            np.testing.assert_allclose(batch[:, :, :2], 1.0 if refreshed else 0.0)


def images_and_labels():
    rng = np.random.default_rng(0)
    return rng.random((8, 16, 16, 1)).astype("float32"), np.arange(8) % 2


def plain_model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, strides=2, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((16, 16, 1)), *layers])
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def first_features(model):
    return keras.Model(model.inputs[0], keras.ops.mean(model.layers[0].output, axis=-1))


def scaled_maps(model):
    maps = first_features(model)(images_and_labels()[0]).numpy()
    return maps / maps.max(axis=(1, 2), keepdims=True)


def test_a_training_crops_by_the_maps_of_its_model(tmp_path):
    images, labels = images_and_labels()
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)
    model = plain_model()
    store = AttentionStore(tmp_path / "maps", size=8, map_shape=(7, 7))
    refresh = RefreshAttention(store, images=batches, attention_of=first_features)
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[refresh])
    of_second_epoch = store.lookup(tf.range(8)).numpy()
    refresh.refresh()
    maps = store.lookup(tf.range(8))
    np.testing.assert_allclose(maps, scaled_maps(model), atol=1e-3)
    assert np.abs(maps - of_second_epoch).max() > 1e-2
    parameters = {"threshold": tf.fill([8], 0.95), "chosen": tf.fill([8], True)}
    crop = AttentionCrop((0.95, 0.95), probability=1.0)
    cropped = crop.apply_batch({"image": tf.constant(images), "attention": maps}, parameters)["image"]
    assert np.abs(cropped - images).max() > 0.1


@pytest.mark.parametrize("wrap", [lambda o: o, keras.optimizers.LossScaleOptimizer], ids=["plain", "loss scale"])
def test_the_average_makes_the_maps_and_the_weights_come_back_to_the_bit(tmp_path, wrap):
    images, labels = images_and_labels()
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    model = plain_model()
    optimizer = wrap(keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9))
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    store = AttentionStore(tmp_path / "maps", size=8, map_shape=(7, 7), dtype="float32")
    refresh = RefreshAttention(store, images=batches, attention_of=first_features, averaged=True)
    for batch in batches.repeat(3):
        model.train_on_batch(*batch)
    weights, current = model.get_weights(), scaled_maps(model)
    refresh.set_model(model)
    refresh.refresh()
    for now, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, before)
    optimizer.finalize_variable_values(model.trainable_variables)
    np.testing.assert_allclose(store.lookup(tf.range(8)), scaled_maps(model), atol=1e-5)
    assert np.abs(scaled_maps(model) - current).max() > 1e-2


def small_focusnet():
    return create("focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2, saccades=1, depth=1, channels=4)


def test_a_model_of_the_package_has_a_map():
    model, image = small_focusnet(), images_and_labels()[0][:1]
    seen = model.tensors("priority", "features")(image)
    np.testing.assert_allclose(attention_model(model)(image), seen["priority"][..., 0], atol=1e-6)
    model._explain_points = {"features": model.explain_points["features"]}
    expected = np.mean(seen["features"].numpy() ** 2, axis=-1)
    np.testing.assert_allclose(attention_model(model)(image), expected, rtol=1e-4)
    model._explain_points = {}
    with pytest.raises(ValueError, match=r"attention, priority, features; give `attention_of`. Received: .* \[\]"):
        attention_model(model)


def test_a_callback_that_cannot_do_what_it_is_asked(store):
    images = tf.data.Dataset.from_tensors(images_and_labels()[0])
    with pytest.raises(ValueError, match="every=0"):
        RefreshAttention(store, images=images, every=0)
    for averaged, message in ((True, "use_ema=True`. Received: averaged=True, optimizer=Adam"), (False, "shape")):
        refresh = RefreshAttention(store, images=images, attention_of=first_features, averaged=averaged)
        refresh.set_model(plain_model())
        with pytest.raises(ValueError, match=message):
            refresh.refresh()
