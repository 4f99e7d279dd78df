"""tf-explain's explainers and callbacks through the adapter, checked against our own maps."""

import keras
import numpy as np
import pytest

import medkeras
from medkeras.explain import class_map
from medkeras.explain.methods.feature_maps import resize_maps
from medkeras.explain.tf_explain import EXPLAINERS, tf_explain, tf_explain_callback, with_feature_layer
from small_models import small

pytest.importorskip("tf_explain", reason="tf-explain is not installed: pip install 'medkeras[tf-explain]'")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=["vit_tiny", "dualattendmed_tiny"])
def model(request):
    keras.utils.set_random_seed(0)
    options = {"depth": 1, "heads": 2} if "vit" in request.param else {}
    return small(request.param, input_shape=(32, 32, 3), **options)


@pytest.fixture(scope="module")
def images():
    return RNG.uniform(size=(2, 32, 32, 3)).astype("float32")


def test_the_layer_is_the_explain_point(model, images):
    exposed = with_feature_layer(model)
    np.testing.assert_allclose(exposed(images), model(images), atol=1e-5)
    point = model.explain_points["features"]
    features = keras.Model(exposed.input, exposed.get_layer("features").output)(images)
    folded = point.rule.fold(model.tensors("features")(images)["features"])
    np.testing.assert_allclose(features, folded, atol=1e-5)
    shares = with_feature_layer(model, probabilities=True)(images)
    np.testing.assert_allclose(np.sum(shares, axis=-1), 1, atol=1e-5)


def test_its_grad_cam_is_ours(model, images):
    """Both before they are drawn: the weighted sum of the features, its negative part cut off, by its maximum."""
    from tf_explain.core.grad_cam import GradCAM

    pair = GradCAM.get_gradients_and_filters(with_feature_layer(model), images, "features", 1, False)
    cells = np.maximum(np.asarray(GradCAM.generate_ponderated_output(*pair)), 0)
    stride = getattr(model.explain_points["features"].rule, "stride", None)
    maps = resize_maps(cells[..., None], (32, 32), stride=stride)[..., 0]
    maps /= np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(class_map(model, images, target=1), maps, atol=1e-3)
    assert np.abs(maps - class_map(model, images, method="hires_cam", target=1)).max() > 0.01


OPTIONS = {"OcclusionSensitivity": {"patch_size": 16}, "IntegratedGradients": {"n_steps": 2}}


def test_every_explainer_draws(images):
    model = small("vit_tiny", input_shape=(32, 32, 3), depth=1)
    for name in EXPLAINERS:
        drawn = tf_explain(name, model, images, target=1, **OPTIONS.get(name, {}))
        assert drawn.shape[0] >= 32 and np.isfinite(drawn).all() and np.ptp(drawn) > 0


def test_callbacks_follow_a_training(images, tmp_path):
    pytest.importorskip("tensorboard")
    model = small("vit_tiny", input_shape=(32, 32, 3), depth=1)
    callbacks = [
        tf_explain_callback(name, (images, None), target=1, output_dir=str(tmp_path / name), **OPTIONS.get(name, {}))
        for name in ("GradCAM", "OcclusionSensitivity")
    ]
    model.compile("sgd", medkeras.tasks.default_loss(model.task))
    model.fit(images, np.array([0, 1]), epochs=1, verbose=0, callbacks=callbacks)
    for name in ("GradCAM", "OcclusionSensitivity"):
        assert [f.stat().st_size > 500 for f in (tmp_path / name).rglob("events*")] == [True]


def test_what_does_not_fit_is_refused(images):
    with pytest.raises(ValueError, match="Received: name='ScoreCAM'"):
        tf_explain("ScoreCAM", None, images, target=0)
    volume = medkeras.models.create("focusnet3d_tiny", input_shape=(16, 16, 16, 1), num_classes=2, depth=1, saccades=1)
    with pytest.raises(ValueError, match="2D model of this package"):
        with_feature_layer(volume)
    with pytest.raises(ValueError, match="Received: 'sequential"):
        with_feature_layer(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
