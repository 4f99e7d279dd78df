"""Two logical devices of the CPU against one, in double precision, as a program: all that several replicas change."""

import keras
import numpy as np
import tensorflow as tf

import medkeras
import tiny_model
from double_precision import compute_in_float64
from medkeras.backend.rematerialization import kept_share, rematerialize
from medkeras.backend.replica_seeds import draw_apart
from medkeras.layers import SteadyBatchNorm
from medkeras.models import registry
from medkeras.models.dualattendmed.training import AttentionTraining
from medkeras.tasks import default_loss
from mini_backbone import CODE, OPTIONS
from pipelines.distribution.batch_norm import average_statistics, synchronise_norms
from pipelines.distribution.compiled_replicas import compile_replicas
from pipelines.distribution.multi_worker import join
from pipelines.distribution.strategy import choose_strategy
from pipelines.training.build import build_training, class_weight, train_batches, validation
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
ONE, TWO = choose_strategy("none"), choose_strategy("mirrored")
RNG = np.random.default_rng(0)


def of_both(function, *values):
    """What each device makes of its half of the rows, put together again."""
    halves = [
        TWO.strategy.experimental_distribute_values_from_function(
            lambda context, value=value: tf.convert_to_tensor(np.split(value, 2)[context.replica_id_in_sync_group])
        )
        for value in values
    ]
    results = TWO.strategy.run(tf.function(function), halves)
    return np.concatenate([part.numpy() for part in TWO.strategy.experimental_local_results(results)])


def check_norms():
    """Far from zero, and constant on a device or everywhere, a batch is normalised as on one device."""
    values = RNG.normal(size=(4, 3, 3, 3)).astype("float32")
    values[..., 0] = 300 + values[..., 0]
    values[:2, ..., 1], values[..., 2] = 0.1, 0.1
    for kind in (keras.layers.BatchNormalization, SteadyBatchNorm):
        alone = kind(momentum=0.5)
        with TWO.strategy.scope():
            shared = kind(momentum=0.5)
            shared.build(values.shape)
            assert synchronise_norms(keras.Sequential([keras.Input(values.shape[1:]), shared])) == 1
        weigh = RNG.normal(size=values.shape).astype("float32")

        def with_gradient(norm, x, weight):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = norm(x, training=True)
                total = tf.reduce_sum(y * weight)
            return tf.stack([y, tape.gradient(total, x)], axis=1)

        expected = with_gradient(alone, tf.convert_to_tensor(values), weigh).numpy()
        found = of_both(lambda x, weight, norm=shared: with_gradient(norm, x, weight), values, weigh)
        varied = expected[..., :2]
        np.testing.assert_allclose(found[..., :2], varied, atol=2e-4 * np.abs(varied).max((0, 2, 3)).max())
        if kind is SteadyBatchNorm:
            np.testing.assert_array_equal(found[..., 2], 0.0)
            assert np.abs(found[:2, 1, ..., 1]).max() > 0  # The other device has other values.
        for mine, own in zip(shared.non_trainable_variables, alone.non_trainable_variables, strict=True):
            np.testing.assert_allclose(mine, own, rtol=1e-5)


def check_statistics():
    """Where each device normalises by its own batch, both keep the same statistics: means of what they have seen."""
    values = RNG.normal(size=(4, 5)).astype("float32")
    with TWO.strategy.scope():
        norm = keras.layers.BatchNormalization(momentum=0.5)
        norm.build(values.shape)
    assert average_statistics(keras.Sequential([keras.Input((5,)), norm])) == 1
    normal = of_both(lambda x: norm(x, training=True), values)
    seen = [np.mean([moment(half, 0) for half in np.split(values, 2)], 0) for moment in (np.mean, np.var)]
    np.testing.assert_allclose(normal[:2], (values[:2] - values[:2].mean(0)) / np.sqrt(values[:2].var(0) + 1e-3), 1e-4)
    for statistic, mean, start in zip((norm.moving_mean, norm.moving_variance), seen, (0, 1), strict=True):
        for own in TWO.strategy.experimental_local_results(statistic.value):
            np.testing.assert_allclose(own, 0.5 * start + 0.5 * mean, rtol=1e-5)


def check_dropout():
    """Each device drops other units; the first one those that it would drop alone."""
    with TWO.strategy.scope():
        drop = draw_apart(keras.Sequential([keras.Input((1000,)), keras.layers.Dropout(0.5, seed=3)]))
    values = TWO.strategy.run(lambda: drop(tf.ones((1, 1000)), training=True))
    first, second = (value.numpy() for value in TWO.strategy.experimental_local_results(values))
    np.testing.assert_array_equal(first, keras.layers.Dropout(0.5, seed=3)(tf.ones((1, 1000)), training=True))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


class Adds(keras.layers.Layer):
    def call(self, inputs):
        self.add_loss(keras.ops.mean(inputs**2))
        return inputs


def check_added_losses():
    """What a layer adds to the loss counts once for each device, though they share it and take turns at norms."""
    images, labels = RNG.uniform(size=(6, 3)), RNG.uniform(size=(6, 1))

    def added(devices, prepare):
        keras.utils.set_random_seed(0)
        with devices.strategy.scope():
            norms = [keras.layers.BatchNormalization() for _ in range(2)]
            model = keras.Sequential([keras.Input((3,)), norms[0], Adds(), norms[1], keras.layers.Dense(1)])
            model.compile("sgd", "mse", jit_compile=False)
            prepare(model)
        data = tf.data.Dataset.from_tensors((images, labels)).repeat(2)
        return join(model).fit(data, epochs=1, verbose=0).history["loss"][0]

    np.testing.assert_allclose(added(TWO, synchronise_norms), added(ONE, synchronise_norms), rtol=1e-12)
    np.testing.assert_allclose(added(TWO, compile_replicas), added(TWO, lambda model: None), rtol=1e-12)


def trained(devices, **changes):
    """What a run ends with: weights, the running means of the weights, which are validated, and the history."""
    config = TrainConfig(**({
        "data": "phantom", "model": "tiny_net", "run": "unused", "image_size": 16, "batch_size": 8, "augment": "none",
        "source_options": {"images": 30, "size": 16}, "model_options": {"rate": 0}, "clip_norm": 0.5, "ema": 0.5,
        "learning_rate": 0.01, "balance": "class-weights", "leakage": "off",
    } | changes))  # fmt: skip
    data = load_data(config)
    training, model = build_training(config, data, distribution=devices)
    batches = train_batches(data, devices, weights=class_weight(config, data))
    steps = {"steps_per_epoch": data.steps_per_epoch, **validation(data, devices)}
    history = training.fit(batches, shuffle=False, verbose=0, **steps).history
    assert not changes.get("gradient_checkpointing") or kept_share(model) < 1
    means = getattr(training.optimizer, "inner_optimizer", training.optimizer).means
    return [*training.get_weights(), *map(np.asarray, means), *history.values()]


def check_training():
    """A run of the tiny network takes the steps of one device."""
    for own, mine in zip(*(trained(devices, sync_batch_norm=True) for devices in (ONE, TWO)), strict=True):
        np.testing.assert_allclose(mine, own, atol=1e-12)


def check_compiled_training():
    """A step that each device compiles for itself is the step it is without XLA; also with activations run again."""
    attention = {
        "model": "dualattendmed_tiny", "model_options": OPTIONS, "training": "attention",
        "training_options": {"views": []}, "gradient_checkpointing": True,
    }  # fmt: skip
    for changes in ({}, attention):
        for own, mine in zip(*(trained(TWO, jit=jit, **changes) for jit in ("off", "on")), strict=True):
            np.testing.assert_allclose(mine, own, atol=1e-9 * max(1, np.abs(own).max()))


def check_compiled_parts():
    """What is compiled is the whole pass, and pure: it reads, assigns and sends nothing."""
    with TWO.strategy.scope():
        model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()])
        model.compile("sgd", "mse", metrics=["mae"])
        average_statistics(model)
    join(compile_replicas(model))
    batch = tf.zeros((2, 4, 4, 1)), tf.zeros((2, 2, 2, 2))
    model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    step = tf.function(lambda: TWO.strategy.run(model.train_step, (batch,))).get_concrete_function()
    functions = step.graph.as_graph_def().library.function
    compiled = [function for function in functions if function.attr["_XlaMustCompile"].b]
    words = {node.op for function in compiled for node in function.node_def}
    assert {"Conv2D", "Conv2DBackpropFilter"} <= words
    assert not [word for word in words if "Variable" in word or "Collective" in word or "Send" in word]
    outside = {node.op for node in step.graph.as_graph_def().node}
    assert "AssignVariableOp" in outside
    assert "Conv2D" not in outside


def check_compiled_half_precision():
    """Gradients of a scaled loss are scaled back: weights move as they do without XLA."""
    half = {"precision": "mixed_float16", "optimizer": "sgd"}
    for own, mine in zip(*(trained(TWO, jit=jit, **half) for jit in ("off", "on")), strict=True):
        np.testing.assert_allclose(mine, own, atol=5e-4)


def check_compiled_dropout():
    """Each device drops other units, and goes on to others with each step."""
    with TWO.strategy.scope():
        weight = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = draw_apart(keras.Sequential([keras.Input((1000,)), keras.layers.Dropout(0.5, seed=3), weight]))
        model.compile(keras.optimizers.SGD(1.0), lambda _, logits: -logits)
    join(compile_replicas(model))
    rows = tf.data.Dataset.from_tensors((np.ones((2, 1000)), np.ones((2, 1))))
    moves = []
    for _ in range(2):
        before = weight.kernel.numpy().ravel()
        model.fit(rows, verbose=0)
        moves.append(weight.kernel.numpy().ravel() - before)
    # A unit moves by 1 for each device that keeps it, of two.
    for move in moves:
        np.testing.assert_allclose(np.bincount(np.rint(move).astype(int)) / 1000, (0.25, 0.5, 0.25), atol=0.08)
    assert abs(np.corrcoef(*moves)[0, 1]) < 0.2


def check_attention():
    """Training by attention, whose losses, centres and norms are over the batch; also with activations run again."""
    keras.random.uniform = lambda shape, minval=0.0, maxval=1.0, **_: keras.ops.full(shape, (minval + maxval) / 2)
    images, labels = RNG.uniform(size=(6, 16, 16, 3)), np.array([0, 2, 2, 1, 0, 2])

    def trained(devices, again=False):
        keras.utils.set_random_seed(0)
        with devices.strategy.scope():
            model = medkeras.models.create("dualattendmed_tiny", input_shape=(16, 16, 3), num_classes=3, **OPTIONS)
            synchronise_norms(model)
            assert not again or rematerialize(model) < 1
            training = AttentionTraining(model, seed=1, views=())
            training.compile(keras.optimizers.SGD(0.01), default_loss("multiclass"), jit_compile=False)
        data = tf.data.Dataset.from_tensors((images, labels))
        logs = training.fit(data.repeat(3), steps_per_epoch=3, verbose=0).history
        assert set(logs) == {"loss", "classification", "alignment", "diversity", "centre"}
        return [*training.get_weights(), *logs.values(), training.evaluate(data, verbose=0)]

    expected = trained(ONE)
    for found in (trained(TWO), trained(TWO, again=True)):
        for own, mine in zip(expected, found, strict=True):
            np.testing.assert_allclose(mine, own, atol=1e-9 * max(1, np.abs(own).max()))


registry.register(tiny_model.PRESETS)
exec(CODE, {})
check_norms()
check_statistics()
check_dropout()
check_compiled_parts()
check_compiled_dropout()
check_compiled_half_precision()
compute_in_float64()
check_added_losses()
check_training()
check_attention()
check_compiled_training()
