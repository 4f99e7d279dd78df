"""ViT against the published answers and a numpy twin; its official files; and what it shows of its attention."""

import functools
import sys
import types

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import medkeras
from fusion_parts import assert_parity, golden, official_names, official_weights
from harness import run_layer_test
from medkeras import explain, layers
from medkeras.models.vit.official import read_official
from vit_twin import narrow_weights, relevance, rollout, vit

RNG = np.random.default_rng(0)
NARROW = {"patch": 8, "units": 8, "depth": 3, "heads": 2, "hidden": 12}


def narrow(edges=(32, 32), **options):
    return medkeras.models.ViT(
        (*edges, 3), **{"num_classes": 5, "task": "multilabel", "normalization": "none"} | NARROW | options
    )


def loaded(edges=(32, 32), seed=1, **options):
    """A narrow network with seeded weights, and the weights."""
    model, weights = narrow(edges, **options), narrow_weights(seed)
    model.load_official(weights)
    return model, weights


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def last(images):
    return np.moveaxis(images, 1, -1)


def test_the_published_network_gives_the_reference_answers(monkeypatch):
    images, reference = golden("vit_b16_14labels")
    weights = official_weights("vit_b16_14labels", 1)
    # 86 million random numbers take long, and all of them are replaced.
    monkeypatch.setattr(keras.initializers.RandomNormal, "__call__", keras.initializers.Zeros().__call__)
    model = medkeras.models.create("vit_b16", num_classes=14, task="multilabel", normalization="none")
    assert model.count_params() == 85_809_422
    assert set(medkeras.checkpoints.load(model, weights)) == set(official_names("vit_b16_14labels"))
    seen = model.tensors("logits", "tokens_12", "attention_12", "attention")(last(images))
    seen = {name: np.asarray(values) for name, values in seen.items()}
    ours = {
        "logits": seen["logits"],
        "cls_hidden": seen["tokens_12"][:, 0],
        "last_attention_cls": seen["attention_12"][0, 1:].T,
        "cls_rollout": seen["attention"][0, 1:].reshape(14, 14),
    }
    assert_parity(ours, reference)
    for name in ("last_attention_cls", "cls_rollout"):  # small numbers, so also relative to themselves
        np.testing.assert_allclose(ours[name], reference[name], rtol=1e-3)
    twin = vit(images, weights, heads=12)
    np.testing.assert_allclose(twin["logits"], reference["logits"], atol=1e-4)  # so the twin is one
    np.testing.assert_allclose(rollout(twin["attention"])[0].reshape(14, 14), reference["cls_rollout"], rtol=1e-3)


@pytest.mark.parametrize(("edges", "seed"), [((32, 32), 2), ((8, 24), 1), ((64, 40), 2)])
def test_a_narrow_network_equals_the_twin_at_any_size(edges, seed):
    model, weights = loaded(edges, seed)
    images = normal(2, 3, *edges)
    twin = vit(images.astype("float64"), weights, heads=2)
    names = [f"tokens_{i}" for i in range(4)]
    seen = model.tensors(*names, "logits")(last(images))
    np.testing.assert_allclose(seen["logits"], twin["logits"], rtol=1e-4, atol=1e-4)
    for name, tokens in zip(names, twin["tokens"], strict=True):
        np.testing.assert_allclose(seen[name], tokens, rtol=1e-4, atol=1e-4)
    for block in (None, 1):
        rows = twin["attention"][:, (block or 3) - 1, :, 0, 1:].reshape(2, 2, *model.grid)
        np.testing.assert_allclose(explain.attention_maps(model, last(images), block=block), rows, rtol=1e-4)
    for mode in ("default", "published"):
        expected = rollout(twin["attention"], published=mode == "published").reshape(2, *model.grid)
        np.testing.assert_allclose(explain.attention_rollout(model, last(images), mode=mode), expected, rtol=1e-4)


def test_the_relevance_of_each_class_equals_the_twin():
    model, weights = loaded((16, 24))
    images = normal(3, 3, 16, 24)
    for targets in ([0, 0, 2], [3, 1, 0]):
        expected = relevance(images, weights, targets, heads=2).reshape(3, 2, 3)
        assert expected.max() > 1e-3
        found = explain.relevance_map(model, last(images), target=targets)
        np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
    largest = np.asarray(model(last(images))).argmax(axis=-1)
    np.testing.assert_array_equal(
        explain.relevance_map(model, last(images)), explain.relevance_map(model, last(images), target=largest)
    )


def test_a_position_grid_is_resized_as_by_an_independent_library():
    grid = normal(5, 5, 3)
    table = np.concatenate([normal(1, 3), grid.reshape(25, 3)])
    for rows, columns in ((5, 5), (9, 5), (2, 3), (14, 7)):
        resized = layers.resize_positions(table, (rows, columns))
        expected = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)
        np.testing.assert_array_equal(resized[0], table[0])
        np.testing.assert_allclose(resized[1:], expected.reshape(-1, 3), atol=1e-5)
    oblong = normal(1 + 6, 3)
    np.testing.assert_array_equal(layers.resize_positions(oblong, (2, 3)), oblong)
    with pytest.raises(ValueError, match="a square grid. Received: 7 of them"):
        layers.resize_positions(oblong, (3, 3))


def plain(weights):
    """The layout of the pretrained file: no prefix, no classifier, a pooler."""
    names = {name: name.removeprefix("vit.") for name in weights if not name.startswith("classifier")}
    return {ours: weights[name] for name, ours in names.items()} | {
        "pooler.dense.weight": np.zeros((8, 8), "float32"),
        "pooler.dense.bias": np.zeros(8, "float32"),
    }


def in_memory(weights):
    """The layout of transformers 5 in memory."""
    changes = {".encoder.layer.": ".layers.", ".attention.attention.query": ".attention.q_proj"}
    changes |= {".attention.attention.key": ".attention.k_proj", ".attention.attention.value": ".attention.v_proj"}
    changes |= {".attention.output.dense": ".attention.o_proj", ".intermediate.dense": ".mlp.fc1"}
    changes |= {".output.dense": ".mlp.fc2"}
    return renamed(weights, changes)


def of_timm(weights):
    """The layout of timm."""
    changes = {"vit.encoder.layer": "blocks", "vit.embeddings.cls_token": "cls_token", "classifier": "head"}
    changes |= {"vit.embeddings.position_embeddings": "pos_embed", "vit.layernorm": "norm"}
    changes |= {"vit.embeddings.patch_embeddings.projection": "patch_embed.proj", "layernorm_before": "norm1"}
    changes |= {"layernorm_after": "norm2", "attention.output.dense": "attn.proj"}
    changes |= {"intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"}
    arrays = renamed(weights, changes)
    for name in [name for name in arrays if ".query." in name]:
        parts = [arrays.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        arrays[name.replace("attention.attention.query", "attn.qkv")] = np.concatenate(parts)
    return arrays


def renamed(weights, changes):
    arrays = {}
    for name, array in weights.items():
        for old, new in changes.items():
            name = name.replace(old, new)
        arrays[name] = array
    return arrays


@pytest.fixture(scope="module")
def model():
    return loaded()[0]


@pytest.mark.parametrize("layout", [dict, in_memory, of_timm])
def test_every_layout_of_a_trained_classifier_loads(layout):
    other, x = narrow(), normal(2, 32, 32, 3)
    source, weights = loaded(seed=3)
    arrays = layout(weights)
    assert (set(arrays) == set(weights)) == (layout is dict)
    other.load_official(arrays)
    np.testing.assert_array_equal(other(x), source(x))


@pytest.mark.parametrize("kind", ["file", "folder", "hub"])
def test_pretrained_weights_come_from_files_folders_and_the_hub(kind, tmp_path, monkeypatch):
    other, (source, weights) = narrow(num_classes=2), loaded(seed=3)
    head = other.get_layer("logits").get_weights()
    save_file(plain(weights), tmp_path / "model.safetensors")
    origin = {"file": tmp_path / "model.safetensors", "folder": tmp_path, "hub": "google/vit"}[kind]
    asked = fake_hub(monkeypatch, lambda: str(tmp_path / "model.safetensors"))
    other.load_backbone(origin)
    x = normal(2, 32, 32, 3)
    np.testing.assert_array_equal(other.tensors("tokens_3")(x)["tokens_3"], source.tensors("tokens_3")(x)["tokens_3"])
    for old, new in zip(head, other.get_layer("logits").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert asked == ([("google/vit", "model.safetensors")] if kind == "hub" else [])


def fake_hub(monkeypatch, answer):
    """Puts a hub in place that answers so; returns the list of what it was asked."""
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return answer()

    hub, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    hub.hf_hub_download, hub.errors = download, errors
    errors.EntryNotFoundError, errors.LocalEntryNotFoundError = LookupError, KeyError
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return asked


def raising(error):
    def answer():
        raise error

    return answer


def test_weights_that_cannot_be_had_say_what_to_download(monkeypatch, tmp_path):
    for error, files in ((ConnectionError, 1), (KeyError, 1), (LookupError, 2)):
        asked = fake_hub(monkeypatch, raising(error))
        with pytest.raises(FileNotFoundError, match=f"{error.__name__}.*google/vit/resolve/main/model.saf.*by hand"):
            read_official("google/vit")
        assert [name for _, name in asked] == ["model.safetensors", "pytorch_model.bin"][:files]
    with pytest.raises(FileNotFoundError, match="must hold model.safetensors or pytorch_model.bin"):
        read_official(tmp_path)
    with pytest.raises(FileNotFoundError, match="weights/gone.safetensors"):
        read_official("weights/gone.safetensors")


def without(weights, name):
    return {key: array for key, array in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda w: without(w, "vit.layernorm.bias"), "lacks 1 tensors, the first being vit.layernorm.bias"),
        (lambda w: without(w, "classifier.bias"), "lacks 1 tensors, the first being classifier.bias"),
        (lambda w: w | {"vit.layernorm.scale": np.ones(8)}, "no place for 1 tensors.*vit.layernorm.scale"),
        (lambda w: w | {"layernorm.bias": np.ones(8)}, "the same one. Received: layernorm.bias"),
        (lambda w: narrow_weights(1, classes=3), r"Received: classifier.weight \(3, 8\)"),
        (lambda w: narrow_weights(1, units=6), r"Received: vit.embeddings.cls_token \(1, 1, 6\)"),
        (lambda w: narrow_weights(1, patch=4), "patch_embeddings.projection.weight"),
        (lambda w: narrow_weights(1, depth=2), "lacks 16 tensors"),
        (lambda w: narrow_weights(1, depth=4), "no place for 16 tensors"),
        (lambda w: w | {"vit.embeddings.position_embeddings": np.ones((1, 8, 8))}, r"\(1, 8, 8\)"),
        (lambda w: w | {"vit.embeddings.cls_token": np.ones(())}, r"cls_token \(\)"),
        (lambda w: {"blocks.0.attn.qkv.bias": np.ones(8)}, r"three equal parts. Received: blocks.0.attn.qkv.bias \(8,"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(model, change, text):
    before = model.get_weights()
    with pytest.raises(ValueError, match=text):
        model.load_official(change(narrow_weights(2)))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_head_of_other_classes_is_skipped_only_when_asked():
    other = narrow(num_classes=2)
    head = other.get_layer("logits").get_weights()
    with pytest.raises(ValueError, match="classifier.weight"):
        other.load_official(narrow_weights(1))
    names = other.load_official(narrow_weights(1), skip_head=True)
    assert "vit.layernorm.bias" in names and "classifier.bias" not in names
    np.testing.assert_array_equal(head[0], other.get_layer("logits").get_weights()[0])


def test_an_image_of_no_whole_patches_is_resized_to_the_next_ones():
    model, whole = narrow((29, 20), normalization="half"), narrow((32, 24), normalization="half")
    whole.set_weights(model.get_weights())
    assert model.grid == (4, 3)
    x = RNG.uniform(size=(2, 29, 20, 3)).astype("float32")
    resized = np.stack([cv2.resize(image, (24, 32), interpolation=cv2.INTER_LINEAR) for image in x])
    expected = whole(resized)
    np.testing.assert_allclose(model(x), expected, atol=1e-5)
    compiled = tf.function(lambda x: model(x, training=False), jit_compile=True)
    np.testing.assert_allclose(compiled(x), expected, atol=1e-4)
    changed = x.copy()
    changed[:, -1, -1] = 1 - changed[:, -1, -1]
    assert np.abs(np.asarray(model(changed)) - model(x)).max() > 1e-7  # the last pixel counts
    assert explain.localize(model, x).maps.shape == (2, 29, 20)


def test_maps_are_of_the_image_and_of_the_class(model):
    x = normal(2, 32, 32, 3)
    seen = model.tensors("attention", "attention_2")(x)
    for shares in seen.values():  # with the class token itself
        np.testing.assert_allclose(np.sum(shares, axis=1), 1, atol=1e-5)
    assert explain.default_map(model) == "attention"
    evidence_map = functools.partial(explain.class_map, method="hires_cam")
    for make in (explain.class_map, evidence_map, explain.relevance_map):
        first, second = make(model, x, target=0), make(model, x, target=1)
        assert first.max() > 0
        assert np.abs(first - second).max() > 1e-3 * first.max()
    marked = explain.attention_rollout(model, x)
    resized = explain.resize_maps(marked[..., None], (32, 32))[..., 0]
    np.testing.assert_allclose(explain.saliency_maps(model, x), resized, rtol=1e-5)


def test_a_map_of_another_model_or_block_is_refused(model):
    x = normal(1, 32, 32, 3)
    with pytest.raises(ValueError, match="Received: block=4"):
        explain.attention_maps(model, x, block=4)
    with pytest.raises(ValueError, match="default, published. Received: mode='mean'"):
        explain.attention_rollout(model, x, mode="mean")
    with pytest.raises(ValueError, match="Received: target=5"):
        explain.relevance_map(model, x, target=5)
    other = medkeras.models.create("focusnet2d_tiny", num_classes=2)
    for make in (explain.attention_maps, explain.attention_rollout, explain.relevance_map):
        with pytest.raises(ValueError, match="Received: model=FocusNet"):
            make(other, x)


def test_the_dropout_of_the_head_can_be_sampled():
    model = narrow(dropout=0.5)
    assert [layer.rate for layer in model.stochastic] == [0.5]
    x = normal(1, 32, 32, 3)
    assert np.abs(np.asarray(model(x, training=True)) - model(x)).max() > 1e-4


def test_self_attention_keeps_the_contract_and_equals_that_of_keras():
    x = normal(2, 5, 8)
    run_layer_test(lambda **k: layers.SelfAttention(2, **k), x, weights=(4, 0))
    layer = layers.SelfAttention(2)
    layer(x)
    for weight in layer.weights:
        weight.assign(normal(*weight.shape))
    oracle = keras.layers.MultiHeadAttention(2, 4)
    oracle(x, x)
    kernel, bias = layer.qkv.get_weights()
    projections = [
        array.reshape(shape)
        for k, b in zip(np.split(kernel, 3, axis=1), np.split(bias, 3), strict=True)
        for array, shape in ((k, (8, 2, 4)), (b, (2, 4)))
    ]
    kernel, bias = layer.project.get_weights()
    oracle.set_weights([*projections, kernel.reshape(2, 4, 8), bias])
    expected, maps = oracle(x, x, return_attention_scores=True)
    seen = layer(x)
    np.testing.assert_allclose(seen["maps"], maps, atol=1e-5)
    np.testing.assert_allclose(seen["output"], expected, rtol=1e-4, atol=1e-4)


def test_positions_are_added_behind_a_class_token():
    x = normal(2, 6, 4)
    run_layer_test(lambda **k: layers.TokenPositions(**k), x, weights=(2, 0))
    layer = layers.TokenPositions()
    seen = np.asarray(layer(x))
    np.testing.assert_allclose(seen[:, 1:], x + np.asarray(layer.positions)[1:], atol=1e-6)
    np.testing.assert_allclose(seen[1, 0], (layer.class_token + layer.positions[:1])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"heads": 3}, "units=8, heads=3"),
        ({"depth": 0}, "depth=0"),
        ({"patch": 0}, "patch=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"edges": (32, 7)}, r"input_shape=\(32, 7, 3\)"),
        ({"edges": (16, 16, 16)}, r"input_shape=\(16, 16, 16, 3\)"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match="Received: " + text):
        narrow(**options)
    with pytest.raises(ValueError, match="Received: heads=0"):
        layers.SelfAttention(0)
