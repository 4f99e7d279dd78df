"""AADA training: each term of its loss against numpy, compiled, distributed, saved, and where attention is missing."""

import inspect
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import medkeras
import pipelines
from fresh_process import run
from jax_process import on_devices
from medkeras.layers.attention.crop_drop import attention_crop, attention_drop
from medkeras.models.dualattendmed.training import WEIGHTS, AttentionTraining
from medkeras.tasks import default_loss
from mini_backbone import CODE, OPTIONS, mini_backbone  # noqa: F401  registers it for each test

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(6, 16, 16, 3)).astype("float32")
LABELS = np.array([0, 0, 2, 0, 2, 2])


def tiny(**options):
    """A network of one block whose maps have four by four cells."""
    keras.utils.set_random_seed(0)
    options = {"input_shape": (16, 16, 3), "num_classes": 3, **OPTIONS, **options}
    return medkeras.models.create("dualattendmed_tiny", **options)


def training_of(model=None, *, rate=0.0, options=None, **compiling):
    model = tiny() if model is None else model
    training = AttentionTraining(model, seed=1, **(options or {}))
    compiling = {"jit_compile": False, "run_eagerly": not compiling, **compiling}
    training.compile(keras.optimizers.SGD(rate), default_loss(model.task), **compiling)
    return training


def step(training, images=IMAGES, labels=LABELS, **arguments):
    """The logs of one step alone."""
    training.reset_metrics()
    logs = training.train_on_batch(images, labels, return_dict=True, **arguments)
    return {name: float(value) for name, value in logs.items()}


def uniform(shape, minval=0.0, maxval=1.0, **_):
    """Numbers that follow from their shape alone, equal on every backend and in every form of a graph."""
    drawn = np.random.default_rng(list(shape)).random(tuple(shape))
    return keras.ops.convert_to_tensor((minval + (maxval - minval) * drawn).astype("float32"))


@pytest.fixture
def fixed(monkeypatch):
    """Draws that a twin can draw too."""
    monkeypatch.setattr(keras.random, "uniform", uniform)


def cross_entropy(logits, labels):
    logits = np.asarray(logits, "float64")
    logits = logits - logits.max(-1, keepdims=True)
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -log[np.arange(len(labels)), labels]


def drawn_views(images, maps, training):
    """Crops and drops, each image by itself, by maps that numpy chooses."""
    draws, views = np.asarray(uniform((len(images), 4))), {"crop": [], "drop": []}
    for image, own, draw in zip(images, np.asarray(maps), draws, strict=True):
        strength = np.sqrt(own.mean((0, 1)))
        bounds = np.cumsum(strength) / strength.sum()
        first, second = (own[None, ..., np.searchsorted(bounds, u, "right")] for u in draw[:2])
        crop, drop = (
            low + (high - low) * u
            for (low, high), u in zip((training.crop_threshold, training.drop_threshold), draw[2:], strict=True)
        )
        views["crop"].append(attention_crop(image[None], first, threshold=float(crop), padding=training.padding))
        views["drop"].append(attention_drop(image[None], second, threshold=float(drop), fill=training.fill))
    return np.concatenate([view for name in training.views for view in views[name]])


def twin(training, images, labels, centres):
    """The terms of the loss in numpy, from what the network gives; moves the centres."""
    seen = {name: np.asarray(x) for name, x in training.looks(images, training=True).items()}
    maps = seen["attention"].astype("float64")
    raw, auxiliary = (cross_entropy(seen[name], labels) for name in ("logits", "aux_logits"))
    classification = (raw.mean() + auxiliary.mean()) / 2
    if count := len(training.views):
        again, labels_again = training.looks(drawn_views(images, maps, training), training=True), np.tile(labels, count)
        augmented = cross_entropy(again["logits"], labels_again)
        auxiliary = np.concatenate([auxiliary, cross_entropy(again["aux_logits"], labels_again)])
        total = raw.mean() + count * augmented.mean() + (1 + count) * auxiliary.mean()
        classification = total / (2 + 2 * count)
    flat = maps.reshape(len(maps), -1, maps.shape[-1])
    overlaps = [
        max(((image[:, i] * image[:, j]) ** 2).sum() - 0.1, 0)
        for image in flat
        for i, j in itertools.combinations(range(flat.shape[-1]), 2)
    ]
    own = (centres / np.maximum(np.linalg.norm(centres, axis=-1, keepdims=True), 1e-12))[labels]
    apart = seen["feature"] - own
    np.add.at(centres, labels, 0.05 * apart)
    return {
        "classification": classification,
        "alignment": ((maps - maps.mean(-1, keepdims=True)) ** 2).mean(),
        "diversity": np.mean(overlaps),
        "centre": np.maximum(np.linalg.norm(apart, axis=-1) - 0.1, 0).mean(),
    }


@pytest.mark.parametrize("views", [(), ("crop",), ("drop",), ("crop", "drop")])
def test_every_term_equals_a_numpy_twin(fixed, views):
    weights = {"classification": 0.7, "alignment": 0.4, "diversity": 0.3, "centre": 0.2}
    training = training_of(options={"views": views, "weights": weights})
    centres = np.zeros((3, training.looks.output["feature"].shape[-1]))
    for _ in range(2):
        wanted = twin(training, IMAGES, LABELS, centres)
        logs = step(training)
        for name, value in wanted.items():
            assert value > 0
            assert logs[name] == pytest.approx(value, rel=2e-4), name
        assert logs["loss"] == pytest.approx(sum(weights[name] * value for name, value in wanted.items()), rel=2e-4)
        np.testing.assert_allclose(training.centre_loss.centres, centres, atol=1e-5)
    assert np.abs(centres[[0, 2]]).max() > 0 and not np.asarray(training.centre_loss.centres)[1].any()


def moved(training, images=IMAGES, labels=LABELS):
    """The names of what one step changes."""
    model = training.classifier
    parts = {name: model.get_layer(name) for name in ("backbone", "channel_attention", "attention", "logits")}
    before = {name: [w.numpy() for w in part.trainable_weights] for name, part in parts.items()}
    step(training, images, labels)
    return {
        name
        for name, part in parts.items()
        if any(not np.array_equal(w, b) for w, b in zip(part.trainable_weights, before[name], strict=True))
    }


def only(name):
    return {"weights": {other: float(other == name) for other in WEIGHTS}}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_term_alone_trains_what_it_depends_on_and_is_all_that_is_logged(name):
    training = training_of(rate=1.0, options=only(name))
    if name == "centre":
        step(training)  # Until the centres have moved, the distance to them is 1 for every unit vector.
    network = {"backbone", "channel_attention", "attention"}
    assert moved(training) == (network | {"logits"} if name == "classification" else network)
    logs = step(training)
    assert set(logs) == {"loss", name} and logs["loss"] == pytest.approx(logs[name])


def test_images_are_cropped_and_dropped_and_no_gradient_flows_into_the_choice(fixed):
    maps = tf.Variable(RNG.random((6, 4, 4, 4)).astype("float32"))
    with tf.GradientTape() as tape:
        views = training_of().augmented(IMAGES, maps)
        total = tf.reduce_sum(views)
    assert views.shape == (12, 16, 16, 3) and tape.gradient(total, maps) is None
    assert not np.array_equal(views[:6], IMAGES) and not np.array_equal(views[6:], IMAGES)


def test_a_mask_is_the_target_at_the_share_that_it_covers_of_each_cell():
    training = training_of(options=only("alignment"))
    maps = np.asarray(training.looks(IMAGES, training=True)["attention"])
    for size in (16, 20, 10):
        mask = (RNG.random((6, size, size)) < 0.4).astype("float32")
        mask[1] = 0
        fine = np.kron(mask, np.ones((1, 4, 4)))
        target = fine.reshape(6, 4, size, 4, size).mean((2, 4))
        target[1] = maps[1].mean(-1)  # Nothing is marked: as without a mask.
        logs = step(training, labels={"label": LABELS, "mask": mask})
        assert logs["alignment"] == pytest.approx(((maps - target[..., None]) ** 2).mean(), rel=1e-4)
    unmasked = step(training)["alignment"]
    assert step(training, labels={"label": LABELS})["alignment"] == unmasked
    assert step(training, labels={"label": LABELS, "mask": 0 * mask})["alignment"] == pytest.approx(unmasked, rel=1e-6)


def test_masks_draw_the_attention_to_them():
    images, mask = IMAGES * 0.3, np.zeros((6, 16, 16), "float32")
    for i in range(6):
        rows, columns = (slice(8 * (i // k % 2), 8 * (i // k % 2) + 8) for k in (1, 2))
        mask[i, rows, columns] = 1
        images[i, rows, columns] += 0.7
    training = training_of(rate=0.05, options=only("alignment"), run_eagerly=False)
    values = [step(training, images, {"label": LABELS, "mask": mask})["alignment"] for _ in range(60)]
    maps = np.asarray(training.looks(images, training=True)["attention"]).mean(-1).repeat(4, 1).repeat(4, 2)
    assert values[-1] < 0.5 * values[0]
    assert maps[mask == 1].mean() > 3 * maps[mask == 0].mean()


def test_compiled_equals_eager_and_is_one_program(fixed):
    eager, compiled = training_of(rate=0.01), training_of(rate=0.01)
    program = tf.function(compiled.train_step, jit_compile=True)
    data = (tf.constant(IMAGES), tf.constant(LABELS))
    for _ in range(2):
        compiled.reset_metrics()
        logs = {name: float(value) for name, value in program(data).items()}
        assert logs == pytest.approx(step(eager), rel=2e-3)
    assert program.experimental_get_tracing_count() == 1
    text = program.experimental_get_compiler_ir(data)(stage="hlo")
    assert text.count("\nENTRY ") == 1
    assert not [word for word in ("send(", "recv(", "infeed(", "outfeed(", "callback") if word in text]
    operations = program.get_concrete_function(data).graph.get_operations()
    assert not [op.name for op in operations if "_xla_outside_compilation" in op.node_def.attr]


def test_fit_learns_logs_every_term_and_saves_a_classifier(tmp_path):
    data = pipelines.load("phantom", image_size=16, batch_size=16, images=72, leakage="off")
    model = tiny(input_shape=data.info.image_shape, num_classes=2)
    training = AttentionTraining(model, seed=0)
    training.compile(keras.optimizers.AdamW(3e-3), default_loss(model.task), metrics=["accuracy"], run_eagerly=True)
    history = training.fit(data.train, validation_data=data.val, epochs=4, verbose=0).history
    assert set(history) == {"loss", "accuracy", *WEIGHTS, "val_loss", "val_accuracy"}
    assert {len(values) for values in history.values()} == {4}
    assert history["classification"][-1] < 0.8 * history["classification"][0]
    for total, *terms in zip(*(history[name] for name in ("loss", *WEIGHTS)), strict=True):
        assert total == pytest.approx(np.dot(terms, list(WEIGHTS.values())), rel=1e-4)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    images, labels = data.arrays("test")
    np.testing.assert_allclose(training.predict(images, verbose=0), again(images), atol=1e-5)
    again.compile(loss=default_loss(model.task), metrics=["accuracy"], run_eagerly=True)
    plain = again.evaluate(images, labels, verbose=0, return_dict=True)
    assert training.evaluate(images, labels, verbose=0, return_dict=True) == pytest.approx(plain, rel=1e-4)


def test_the_whole_training_is_saved_too(fixed, tmp_path):
    training = training_of(rate=0.01, options={"weights": {"diversity": 0.2}, "crop_threshold": (0.5, 0.5)})
    step(training)
    training.save(tmp_path / "training.keras")
    again = keras.models.load_model(tmp_path / "training.keras")
    assert again.get_config() == training.get_config() and again.crop_threshold == (0.5, 0.5)
    np.testing.assert_array_equal(again.centre_loss.centres, training.centre_loss.centres)
    assert step(again) == pytest.approx(step(training), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_and_a_batch_of_one_train(value):
    training = training_of(rate=0.01)
    logs = step(training, np.full((1, 16, 16, 3), value, "float32"), LABELS[:1])
    assert all(np.isfinite(x) for x in logs.values())
    assert all(np.isfinite(w).all() for w in training.get_weights())


@pytest.mark.parametrize("missing", [0.0, np.nan, 0.3])
def test_without_a_peak_in_its_map_an_image_stays_whole(missing):
    maps = np.full((6, 4, 4, 4), missing, "float32")
    views = training_of().augmented(IMAGES, maps)
    np.testing.assert_array_equal(views, np.concatenate([IMAGES, IMAGES]))


def test_closed_maps_cost_finite_losses():
    model = tiny()
    model.get_layer("attention_norm").beta.assign([-1e3] * 4)
    training = training_of(model, rate=0.01)
    logs = step(training)
    assert all(np.isfinite(x) for x in logs.values()) and logs["diversity"] == logs["alignment"] == 0
    assert all(np.isfinite(w).all() for w in training.get_weights())


def test_unknown_labels_of_a_multilabel_task_are_left_out(fixed):
    model, labels = tiny(task="multilabel"), RNG.integers(0, 2, (6, 3)).astype("float32")
    labels[0], labels[1, 2], labels[:, 1] = np.nan, np.nan, np.nan
    training = training_of(model, options={"views": ()})
    logs = step(training, labels=labels)
    assert "centre" not in logs and training.centre_loss is None
    seen, known = training.looks(IMAGES, training=True), ~np.isnan(labels)
    logits, own = np.asarray(seen["logits"], "float64"), np.nan_to_num(labels)
    losses = np.logaddexp(0, logits) - own * logits
    raw = ((losses * known).sum(-1) / np.maximum(known.sum(-1), 1)).mean()
    auxiliary = float(default_loss("multilabel")(labels, seen["aux_logits"]))
    assert logs["classification"] == pytest.approx((raw + auxiliary) / 2, rel=1e-4)


def test_sample_weights_and_shares_of_classes_count(monkeypatch):
    monkeypatch.setattr(keras.random, "uniform", lambda shape, low=0.0, high=1.0, **_: keras.ops.full(shape, high / 2))
    training = training_of(options={"views": (), **only("classification")})
    images, labels = np.concatenate([IMAGES[:2]] * 2), np.array([0, 2, 1, 1])
    plain = step(training, images, np.array([0, 2, 0, 2]))["loss"]
    assert step(training, images, labels, sample_weight=np.array([2.0, 2, 0, 0]))["loss"] == pytest.approx(
        plain, rel=0.2
    )
    shares = np.eye(3, dtype="float32")[LABELS]
    training = training_of()
    assert set(step(training, labels=shares)) == {"loss", *WEIGHTS}
    assert np.asarray(training.centre_loss.centres).any(-1).tolist() == [True, False, True]


def test_mixed_precision_scales_the_loss_and_keeps_images_and_losses_whole(fixed):
    expected = step(training_of())
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = tiny()
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    training = training_of(model, rate=1e-3)
    assert isinstance(training.optimizer, keras.optimizers.LossScaleOptimizer)
    assert training.augmented(IMAGES, RNG.random((6, 4, 4, 4))).dtype == "float32"
    logs = step(training)
    assert logs == pytest.approx(expected, rel=0.1)
    assert all(np.isfinite(w).all() for w in training.get_weights())


ON_JAX = """
import json
import numpy as np, keras, medkeras
from medkeras.models.dualattendmed.training import AttentionTraining
from medkeras.tasks import default_loss
assert keras.backend.backend() == "jax"
UNIFORM
keras.random.uniform = uniform
keras.distribution.set_distribution(keras.distribution.DataParallel())
assert keras.distribution.distribution().device_mesh.shape == (2,)
training = AttentionTraining(keras.models.load_model("FOLDER/model.keras", compile=False), seed=1)
training.compile(keras.optimizers.SGD(0.01), default_loss("multiclass"))
data = np.load("FOLDER/data.npz")
history = training.fit(data["images"], data["labels"], batch_size=6, epochs=2, shuffle=False, verbose=0).history
print(json.dumps({name: [float(value) for value in values] for name, values in history.items()}))
"""


@pytest.mark.process
def test_two_devices_of_jax_take_the_same_steps(fixed, tmp_path):
    model = tiny()
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=LABELS)
    training = training_of(model, rate=0.01)
    code = ON_JAX.replace("UNIFORM", CODE + inspect.getsource(uniform)).replace("FOLDER", str(tmp_path))
    history = json.loads(run(code, **on_devices(2)))
    for i in range(2):
        assert step(training) == pytest.approx({name: values[i] for name, values in history.items()}, rel=2e-3)


class Unfit(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return y_pred


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weights": {"entropy": 1}}, "weights={'entropy': 1}"),
        ({"weights": {"centre": -1}}, "weights={'centre': -1}"),
        ({"weights": {"centre": np.nan}}, "weights={'centre': nan}"),
        ({"weights": dict.fromkeys(WEIGHTS, 0)}, "weights={'classification': 0"),
        ({"crop_threshold": (0.6, 0.4)}, r"crop_threshold=\(0.6, 0.4\)"),
        ({"drop_threshold": (0.5,)}, r"drop_threshold=\(0.5,\)"),
        ({"padding": 1.0}, "padding=1.0"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match="Received: " + text):
        AttentionTraining(tiny(), **options)


def test_what_cannot_be_trained_is_refused():
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="must have internals.*Received: classifier='plain'"):
        AttentionTraining(plain)
    for loss in (None, "sparse_categorical_crossentropy", Unfit(reduction="sum")):
        training = AttentionTraining(tiny())
        training.compile("sgd", loss, run_eagerly=True)
        with pytest.raises(ValueError, match="mean over images. Received: loss="):
            step(training)
    training = training_of()
    with pytest.raises(ValueError, match=r"mask of shape \(6, 16, 16, 1\)"):
        step(training, labels={"label": LABELS, "mask": np.ones((6, 16, 16, 1), "float32")})
    with pytest.raises(ValueError, match=r"Received: \['mask'\]"):
        step(training, labels={"mask": np.ones((6, 16, 16), "float32")})
