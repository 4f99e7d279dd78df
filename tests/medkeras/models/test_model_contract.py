"""The contract that every registered model keeps."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import medkeras
from medkeras.explain import explanation_maps, methods_of
from medkeras.explain.methods.registry import METHODS
from medkeras.models import Grid, Positions, Tokens
from small_models import distinct_names, small

RNG = np.random.default_rng(0)


def images(model, count=3):
    return RNG.uniform(size=(count, *model.image_shape)).astype("float32")


@pytest.fixture(scope="module", params=distinct_names())
def model(request):
    keras.utils.set_random_seed(0)
    return small(request.param, class_names=["a", "b", "c"])


def test_gives_finite_float32_logits(model):
    logits = model.predict(images(model), verbose=0)
    assert logits.shape == (3, 3)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_rows_are_independent(model):
    x = images(model)
    logits = model(x)
    others = np.concatenate([1 - x[:1], x[1:2], x[2:] ** 2])
    np.testing.assert_allclose(model(others)[1], logits[1], atol=1e-6)
    # A batch of one sums in another order, so this is equal to rounding only, not to 1e-6.
    np.testing.assert_allclose(model(x[1:2])[0], logits[1], rtol=1e-4, atol=1e-5)


def test_config_is_total_and_plain(model):
    config = model.get_config()
    assert config == json.loads(json.dumps(config))
    twin = type(model).from_config(config)
    assert twin.get_config() == config
    twin.set_weights(model.get_weights())
    x = images(model)
    np.testing.assert_allclose(twin(x), model(x), atol=1e-6)
    assert (twin.task, twin.class_names) == ("multiclass", ("a", "b", "c"))


def test_file_loads_in_safe_mode(model, tmp_path):
    x = images(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)


def test_explain_points_fold_to_the_image(model):
    points, x = model.explain_points, images(model)
    rank = len(model.image_shape) - 1
    values = {name: np.asarray(value) for name, value in model.tensors(*points)(x).items()}
    assert any(isinstance(point.rule, Grid | Tokens) for point in points.values())
    for name, point in points.items():
        folded = point.rule.fold(values[name])
        assert len(folded) == len(x)
        assert np.isfinite(folded).all()
        assert point.description
        if isinstance(point.rule, Positions):
            assert folded.shape[-1] == rank
            assert np.abs(folded).max() <= 1
        else:
            assert len(folded.shape) == rank + 2
    with pytest.raises(ValueError, match="Received: 'nowhere'"):
        model.tensors("nowhere")


SHORT = {"integrated_gradients": {"steps": 1}, "smooth_grad": {"samples": 1}}
OF_A_TRANSFORMER = {"attention_rollout", "gradient_rollout"}


def test_every_method_that_applies_explains_the_model(model):
    """One call each, so that nothing is compiled."""
    x, grid = images(model, 1), model.image_shape[:-1]
    methods = set(METHODS) if type(model).__name__ == "ViT" else set(METHODS) - OF_A_TRANSFORMER
    assert set(methods_of(model)) == methods
    for method in methods:
        options = {"patch": grid[0] // 2} if method == "occlusion" else SHORT.get(method, {})
        target = 2 if METHODS[method].has_target else None
        maps = explanation_maps(model, x, method=method, target=target, **options)
        assert maps.shape == (1, *grid) and maps.dtype == np.float32 and np.isfinite(maps).all(), method


def test_only_the_declared_layers_are_stochastic(model):
    x = images(model)
    assert all(layer in model.layers for layer in model.stochastic)
    dropping = {layer.name for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)}
    assert dropping == {layer.name for layer in model.stochastic}
    np.testing.assert_array_equal(model(x, training=False), model(x, training=False))


def test_compiles_whole_to_xla(model):
    x = tf.constant(images(model))
    compiled = tf.function(lambda x: model(x, training=False), jit_compile=True)
    np.testing.assert_allclose(compiled(x), model(x), atol=1e-4)


def test_fits_and_every_gradient_is_finite(model):
    x, y = images(model, 6), np.arange(6) % 3
    clone = type(model).from_config(model.get_config())
    clone.compile(keras.optimizers.SGD(0.01), medkeras.tasks.default_loss(clone.task))
    history = clone.fit(x, y, batch_size=3, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert all(np.isfinite(w).all() for w in clone.get_weights())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_nearly_the_same_probabilities(model, policy):
    x = images(model)
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        half = type(model).from_config(model.get_config())
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    logits = np.asarray(half(x))  # Each layer by itself is also traced in half precision, by the harness.
    assert logits.dtype == np.float32
    probabilities = medkeras.tasks.to_probabilities
    np.testing.assert_allclose(probabilities(logits, "multiclass"), probabilities(model(x), "multiclass"), atol=0.03)


def test_every_task_has_its_head_and_loss(model):
    for task, label in (("multilabel", [[1.0, np.nan, 0.0]]), ("ordinal", [2])):
        config = model.get_config() | {"task": task}
        twin = type(model).from_config(config)
        loss = medkeras.tasks.default_loss(twin.task)(np.array(label), twin(images(model, 1)))
        assert np.isfinite(float(loss))


@pytest.mark.parametrize("name", ["focusnet2d_large", "focusnet3d_tiny", "dualattendmed_tiny", "hemf_tiny"])
def test_weights_are_counted_without_being_made(name):
    assert (
        medkeras.models.count_params(name, num_classes=3) == medkeras.models.create(name, num_classes=3).count_params()
    )


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="perhaps focusnet2d.*Received: name='focusnet2'"):
        medkeras.models.create("focusnet2", num_classes=2)


def test_a_name_cannot_be_registered_twice():
    with pytest.raises(ValueError, match="Received: name='focusnet2d'"):
        medkeras.models.register({"focusnet2d": medkeras.models.preset("focusnet2d")})
