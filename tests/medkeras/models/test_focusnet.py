"""FocusNet: parity with the repaired reference, and the properties of its own parts."""

import keras
import numpy as np
import pytest

import medkeras
import seeded_weights  # noqa: E402
from harness import run_layer_test
from medkeras.models.focusnet import published
from medkeras.models.focusnet.pathways import CrossNormalization, Pathway, PathwayBlock, pathway_stages
from medkeras.models.focusnet.saccades import PredictiveCell, PriorityMap
from paths import PARITY

RNG = np.random.default_rng(0)
SHAPES = {"focusnet2d": ((28, 28, 3), 5), "focusnet3d": ((28, 28, 28, 1), 11)}


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def repaired(name, **options):
    shape, classes = SHAPES[name]
    arguments = {"input_shape": shape, "num_classes": classes, "normalization": "none", "compat": "repaired"}
    return medkeras.models.create(name, **arguments | options)


def weights(name, seed=1):
    return seeded_weights.state_dict(PARITY / "keys" / f"{name}.tsv", seed)


def assert_parity(actual, reference):
    np.testing.assert_allclose(actual, reference, atol=1e-4 * max(1.0, np.abs(reference).max()), rtol=0)


@pytest.fixture(scope="module", params=SHAPES)
def answered(request):
    """Name, golden arrays, and what our model answers with the same weights."""
    name = request.param
    golden = np.load(PARITY / "golden" / f"{name}.npz")
    model = repaired(name)
    medkeras.checkpoints.load(model, weights(name))
    inputs = seeded_weights.sample(tuple(golden["input_shape"]), int(golden["input_seed"]), "uniform")
    return name, golden, model, np.moveaxis(inputs, 1, -1)


def test_repaired_model_gives_the_reference_answers(answered):
    _, golden, model, inputs = answered
    named = {"state": model.get_layer("state_norm").output, "logits": model.output}
    named["offsets"] = model.explain_points["offsets"].tensor
    # The cell's own input is the suppressed glimpse.
    nodes = model.get_layer("integration")._inbound_nodes
    glimpses = [node.arguments.args[0] for node in nodes]
    outputs = keras.Model(model.input, named | {f"glimpse_{i}": g for i, g in enumerate(glimpses)}).predict(
        inputs, verbose=0
    )
    assert_parity(keras.ops.log_softmax(outputs["logits"]), golden["log_probs"])
    assert_parity(outputs["offsets"], golden["offsets"])
    assert_parity(outputs["state"], golden["state"])
    suppression = np.array([1.0] + [0.7] * (len(glimpses) - 1), "float32")
    stacked = np.stack([outputs[f"glimpse_{i}"] for i in range(len(glimpses))], axis=1)
    assert_parity(stacked / suppression[:, None], golden["glimpse_features"])


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters"),
    [
        ("focusnet2d", (28, 28, 3), 5, 83_909),
        ("focusnet2d", (28, 28, 1), 4, 79_364),
        ("focusnet2d", (224, 224, 1), 2, 79_106),
        ("focusnet3d", (28, 28, 28, 1), 2, 61_931),
        ("focusnet3d", (28, 28, 28, 1), 11, 63_092),
        ("focusnet3d", (28, 28, 28, 1), 3, 62_060),
    ],
)
def test_repaired_model_has_the_published_parameters(name, shape, classes, parameters):
    model = repaired(name, input_shape=shape, num_classes=classes)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == parameters


def test_the_offset_bound_in_3d():
    volumes = uniform(1, 28, 28, 28, 1)
    shift = published.ShiftedVolume()
    far = shift([volumes, np.array([[50.0, -50.0, 7.0]], "float32")])
    np.testing.assert_allclose(far, shift([volumes, np.array([[7.0, -7.0, 7.0]], "float32")]), atol=1e-6)
    # An offset of 7 moves by 7 * 27/28 voxels: the last rows see zeros only.
    assert np.all(np.asarray(far)[0, -6:] == 0)


def test_the_hard_crop_rounds_half_to_even_and_clamps():
    images = uniform(4, 28, 28, 1)
    offsets = np.array([[0.5, 1.5], [-100.0, 100.0], [-2.5, 0.0], [3.4, -3.6]], "float32")
    crops = np.asarray(published.HardCrop()([images, offsets]))
    starts = [(8, 8), (0, 14), (4, 7), (10, 3)]  # 7.5 -> 8, 8.5 -> 8, 4.5 -> 4
    for image, crop, (row, column) in zip(images, crops, starts, strict=True):
        np.testing.assert_allclose(crop, image[row : row + 14, column : column + 14], atol=1e-6)
    small = uniform(2, 10, 28, 1)
    np.testing.assert_array_equal(published.HardCrop()([small, offsets[:2]]), small)


def test_other_weights_and_sizes_run_in_the_published_model():
    model = repaired("focusnet3d", input_shape=(32, 24, 20, 1))
    medkeras.checkpoints.load(model, weights("focusnet3d", seed=2))
    assert np.isfinite(model.predict(uniform(1, 32, 24, 20, 1), verbose=0)).all()


@pytest.mark.parametrize("rank", [2, 3])
def test_blocks_keep_the_layer_contract(rank):
    image = uniform(2, *[8] * rank, 2)
    run_layer_test(lambda **k: Pathway([[(3, 4, 1)], [(3, 8, 2)]], **k), image, weights=(2 + 2 + 4 + 2, 4))
    run_layer_test(
        lambda **k: PathwayBlock(pathway_stages(4, 1), normalize=False, **k), image, weights=(2 + 4 + 6 + 1 + 2, 0)
    )
    maps = [uniform(2, *[4] * rank, 3) for _ in range(3)]
    run_layer_test(lambda **k: CrossNormalization(**k), maps, weights=(1, 0))


@pytest.mark.parametrize("rank", [2, 3])
def test_saccade_layers_keep_the_layer_contract(rank):
    features, state, fixation = uniform(2, *[4] * rank, 6), uniform(2, 5), uniform(2, rank)
    run_layer_test(lambda **k: PriorityMap(8, **k), [features, state, fixation], weights=(4, 0))
    run_layer_test(lambda **k: PredictiveCell(5, **k), [uniform(2, 6), state, fixation, uniform(2, 6)], weights=(5, 0))
    run_layer_test(lambda **k: published.OffsetHead(4, **k), features, weights=(4, 0))


def test_cross_normalization_equals_the_formula():
    m, p, k = maps = [uniform(2, 5, 5, 4) for _ in range(3)]
    mean = [x.mean(-1, keepdims=True) for x in maps]
    ours = CrossNormalization()(maps)
    np.testing.assert_allclose(ours[0], m / (1 + 0.15 * (0.45 * mean[1] + 0.4 * mean[2])), atol=1e-6)
    np.testing.assert_allclose(ours[1], p / (1 + 0.15 * (0.5 * mean[0] + 0.4 * mean[2])), atol=1e-6)
    np.testing.assert_allclose(ours[2], k / (1 + 0.15 * (0.5 * mean[0] + 0.45 * mean[1])), atol=1e-6)


def test_clamped_scales_stay_non_negative_in_training():
    layer = CrossNormalization()
    maps = [np.ones((1, 2, 2, 2), "float32")] * 3
    layer(maps)
    optimizer = keras.optimizers.SGD(10.0)
    optimizer.build(layer.trainable_weights)
    optimizer.apply([keras.ops.ones((3,))])
    np.testing.assert_array_equal(layer.scales, 0.0)


def test_priority_is_a_distribution_and_avoids_earlier_fixations():
    layer = PriorityMap(8, radius=0.2)
    features, state = np.ones((1, 9, 9, 4), "float32"), np.ones((1, 3), "float32")
    corner = np.array([[-0.8, -0.8]], "float32")
    first, second = layer([features, state]), layer([features, state, corner])
    for chosen in (first, second):
        np.testing.assert_allclose(np.sum(chosen["priority"]), 1.0, atol=1e-5)
    np.testing.assert_allclose(first["fixation"], 0.0, atol=1e-6)
    assert second["priority"][0, 0, 0] < 0.1 * second["priority"][0, 8, 8]
    assert np.all(np.asarray(second["fixation"]) > 0.02)


def test_the_fixation_follows_the_priority():
    """The place that answers the query is looked at, and its features are the preview."""
    layer = PriorityMap(1)
    features, state = np.zeros((1, 5, 5, 2), "float32"), np.ones((1, 1), "float32")
    features[0, 4, 0] = 3.0, -3.0
    layer([features, state])
    layer.query.kernel.assign([[1.0]])
    layer.key.kernel.assign([[20.0], [-20.0]])
    chosen = layer([features, state])
    np.testing.assert_allclose(chosen["fixation"], [[0.8, -0.8]], atol=1e-4)
    np.testing.assert_allclose(chosen["preview"], [[3.0, -3.0]], atol=1e-4)


def test_prediction_error_drives_the_state_and_is_a_loss():
    cell = PredictiveCell(4, weight=0.5)
    seen, state = uniform(3, 6), uniform(3, 4)
    inputs = [seen, state, uniform(3, 2), uniform(3, 6)]
    out = cell(inputs)
    np.testing.assert_allclose(cell.losses[0], 0.5 * np.mean(np.asarray(out["error"]) ** 2), rtol=1e-5)
    expected = cell.cell(out["error"], [keras.ops.convert_to_tensor(state)])[0]
    np.testing.assert_allclose(out["state"], expected, atol=1e-6)
    assert PredictiveCell(4, weight=0.0)(inputs)["error"].shape == (3, 6)
    silent = PredictiveCell(4, weight=0.0)
    silent(inputs)
    assert silent.losses == []


def test_the_whole_view_decides_where_to_look():
    """Moving a bright spot moves the fixation once the key sees brightness."""
    model = medkeras.models.create("focusnet2d_tiny", input_shape=(32, 32, 1), num_classes=2)
    assert model.integration == "predictive"
    places = model.tensors("fixations").predict(uniform(6, 32, 32, 1), verbose=0)["fixations"]
    assert places.shape == (6, 2, 2)
    assert np.abs(places).max() <= 0.5  # a window of half the edge stays inside


def test_the_gradient_of_a_place_trains_the_choice_alone():
    """What is seen at a place moves query and key, but neither features nor state."""
    import tensorflow as tf

    layer = PriorityMap(4)
    features, state = tf.constant(uniform(1, 4, 4, 3)), tf.constant(uniform(1, 5))
    with tf.GradientTape() as tape:
        tape.watch([features, state])
        layer([features, state])
        place = tf.reduce_sum(layer([features, state])["fixation"] ** 2)
    kernels = [layer.query.kernel.value, layer.key.kernel.value]
    *dead, query, key = tape.gradient(place, [features, state, *kernels])
    assert dead == [None, None]
    assert np.abs(query).max() > 0
    assert np.abs(key).max() > 0


@pytest.mark.parametrize("integration", ["predictive", "gru"])
def test_every_weight_learns(integration):
    """No dead part: after a few steps every trainable weight has moved, the priority map's too."""
    model = medkeras.models.create("focusnet2d_tiny", num_classes=2, integration=integration, dropout=0.0)
    before = [w.numpy().copy() for w in model.trainable_weights]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, run_eagerly=True)
    model.fit(uniform(32, 28, 28, 1), np.arange(32) % 2, epochs=2, batch_size=16, verbose=0)
    still = [w.path for w, b in zip(model.trainable_weights, before, strict=True) if np.array_equal(w.numpy(), b)]
    assert still == []


def test_prediction_weight_reaches_the_loss():
    data = uniform(8, 28, 28, 1), np.zeros(8, "int32")
    losses = []
    for weight in (0.0, 10.0):
        keras.utils.set_random_seed(0)
        model = medkeras.models.create("focusnet2d_tiny", num_classes=2, prediction_weight=weight)
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
        losses.append(model.evaluate(*data, verbose=0))
    assert losses[1] > losses[0] + 1e-4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"channels": 7}, "channels=7"),
        ({"depth": 0}, "depth=0"),
        ({"saccades": 0}, "saccades=0"),
        ({"extent": 1.5}, "extent=1.5"),
        ({"integration": "lstm"}, "integration='lstm'"),
        ({"compat": "original"}, "compat='original'"),
        ({"suppression": 1.0}, "suppression=1.0"),
        ({"input_shape": (8, 8, 1)}, r"input_shape=\(8, 8, 1\)"),
        ({"input_shape": (28, 28)}, r"input_shape=\(28, 28\)"),
        ({"normalization": "imagenet"}, "normalization='imagenet'"),
        ({"wings": 2}, "wings=2"),
        ({"normalization": "z-score"}, "normalization='z-score'"),
        ({"class_names": ["a"]}, "class_names="),
        ({"task": "binary", "num_classes": 3}, "num_classes=3"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        medkeras.models.create("focusnet2d", **{"num_classes": 2, **options})
