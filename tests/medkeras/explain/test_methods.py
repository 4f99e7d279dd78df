"""The methods of explanation against what is known in closed form; the contract test has them over all models."""

import keras
import numpy as np
import pytest

import medkeras
from gradient_checks import cam, cam_model
from linear_model import linear_model, weights_of
from medkeras.explain import (
    attention_rollout,
    class_map,
    explain,
    explanation_maps,
    integrated_gradients,
    methods_of,
    occlusion,
    smooth_grad,
)
from medkeras.explain.methods.occlusion import log_odds
from medkeras.uncertainty import Calibrated, LogitScaling
from small_models import small

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


@pytest.mark.parametrize("shape", [(6, 7, 2), (4, 5, 6, 1)])
def test_class_maps_of_a_linear_head_are_known(shape):
    """Behind a mean of features the gradient is the same at every place: the head's weight, by the number of places."""
    model, images = cam_model(shape), uniform(3, *shape)
    features = np.asarray(model.tensors("features")(images)["features"])
    kernel = np.asarray(model.get_layer("head").kernel)[:, 1]
    places = tuple(range(1, features.ndim - 1))
    gradient = np.maximum(kernel, 0) / features[0, ..., 0].size
    shared = gradient / (2 + gradient * features.sum(axis=places, keepdims=True))
    for method, weights in (("layer_cam", gradient), ("grad_cam_plus_plus", shared)):
        expected = (features * weights).sum(axis=-1)
        expected /= expected.max(axis=places, keepdims=True)
        np.testing.assert_allclose(class_map(model, images, method=method, target=1), expected, atol=1e-5)


@pytest.mark.parametrize(("task", "contrast"), [("multiclass", 1), ("multilabel", 0)])
def test_evidence_is_against_the_other_classes_but_not_against_other_labels(task, contrast):
    model, images = cam_model((6, 7, 2), task=task), uniform(3, 6, 7, 2)
    np.testing.assert_allclose(
        class_map(model, images, method="hires_cam", target=1), cam(model, images, [1] * 3, contrast), atol=1e-5
    )


def test_integrated_gradients_share_out_the_whole_rise():
    model = small("vit_tiny", task="multilabel")
    images = uniform(2, *model.image_shape)
    for baseline, start in ((None, model.mean_pixel), (0.1, 0.1)):
        maps = integrated_gradients(model, images, target=[0, 2], steps=24, baseline=baseline)
        low = np.asarray(model(np.broadcast_to(np.float32(start), images.shape)))
        rise = np.asarray(model(images)) - low
        np.testing.assert_allclose(maps.sum(axis=(1, 2)), rise[[0, 1], [0, 2]], rtol=0.01, atol=1e-3)


def test_a_calibrated_transformer_of_one_block_still_has_its_attention():
    model = small("vit_tiny", depth=1)
    calibrated = Calibrated(model, LogitScaling("multiclass", scale=(0.5,)))
    images = uniform(3, *model.image_shape)
    assert methods_of(calibrated) == methods_of(model)
    for method in ("attention_rollout", "gradient_rollout"):
        maps = explanation_maps(calibrated, images, method=method)
        np.testing.assert_allclose(maps, explanation_maps(model, images, method=method), atol=1e-5)
    assert attention_rollout(calibrated, images, mode="published").shape == (3, *model.grid)


@pytest.fixture(scope="module")
def linear():
    return linear_model()


def test_attributions_of_a_linear_model_are_its_weights(linear):
    images, weights = uniform(3, 4, 6, 2), weights_of(linear, 1)
    maps = integrated_gradients(linear, images, target=1, baseline=(0.2, 0.5))
    np.testing.assert_allclose(maps, ((images - (0.2, 0.5)) * weights).sum(-1), atol=1e-5)
    np.testing.assert_allclose(
        smooth_grad(linear, images, target=1), np.tile(np.abs(weights).sum(-1), (3, 1, 1)), atol=1e-5
    )
    np.testing.assert_allclose(smooth_grad(linear, images, target=1, signed=True)[0], weights.sum(-1), atol=1e-5)


def occlusion_twin(model, images, target, patch, stride, fill):
    """Patch by patch, image by image, pixel by pixel."""

    def odds(image):
        p = float(keras.ops.softmax(model(image[None]).numpy().astype("float64"))[0, target])
        return np.log(p / (1 - p))

    maps = []
    for image in images:
        falls = [[[] for _ in range(image.shape[1])] for _ in range(image.shape[0])]
        for top in range(0, image.shape[0] - patch[0] + stride[0], stride[0]):
            for left in range(0, image.shape[1] - patch[1] + stride[1], stride[1]):
                covered = image.copy()
                covered[top : top + patch[0], left : left + patch[1]] = fill
                fall = odds(image) - odds(covered)
                for y in range(top, min(top + patch[0], image.shape[0])):
                    for x in range(left, min(left + patch[1], image.shape[1])):
                        falls[y][x].append(fall)
        maps.append([[np.mean(pixel) for pixel in row] for row in falls])
    return np.array(maps)


@pytest.mark.parametrize(("patch", "stride"), [((2, 2), (2, 2)), ((2, 4), (1, 3)), ((3, 3), (2, 3))])
def test_occlusion_equals_its_twin(linear, patch, stride):
    images = uniform(2, 4, 6, 2)
    found = occlusion(linear, images, target=2, patch=patch, stride=stride, baseline=0.3)
    np.testing.assert_allclose(found, occlusion_twin(linear, images, 2, patch, stride, 0.3), atol=1e-4)


def test_log_odds_are_those_of_the_probability():
    logits = RNG.normal(size=(5, 4)) * 3
    for task in ("multiclass", "multilabel"):
        p = np.asarray(medkeras.tasks.to_probabilities(logits, task), np.float64)[:, 1]
        np.testing.assert_allclose(log_odds(logits, 1, task), np.log(p / (1 - p)), rtol=1e-3)


def test_an_explanation_holds_the_map_and_its_target(linear):
    images = uniform(3, 4, 6, 2)
    best = np.asarray(linear(images)).argmax(-1)
    found = explain(linear, images, method="integrated_gradients")
    np.testing.assert_array_equal(found.targets, best)
    np.testing.assert_array_equal(found.maps, integrated_gradients(linear, images, target=best))
    assert (found.method, found.fixations, found.class_map) == ("integrated_gradients", None, None)
    named = explain(linear, images, method="occlusion", target=["c", "a", "c"], patch=2)
    assert named.targets.tolist() == [2, 0, 2]
    np.testing.assert_array_equal(named[1:].maps, named.maps[1:])


def test_a_map_does_not_depend_on_the_other_images_nor_on_being_compiled():
    model = cam_model((6, 7, 2))
    images = uniform(9, 6, 7, 2)
    for method in ("grad_cam", "layer_cam", "smooth_grad", "occlusion"):
        together = explanation_maps(model, images, method=method, target=1)
        alone = [explanation_maps(model, image[None], method=method, target=1)[0] for image in images]
        np.testing.assert_allclose(together, alone, atol=1e-5)
    # By now it is compiled, and follows the weights.
    before = class_map(model, images, target=1)
    head = model.get_layer("head")
    head.kernel.assign(-head.kernel)
    assert np.abs(class_map(model, images, target=1) - before).max() > 0.1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m, x: explain(m, x, method="gradcam"), "perhaps grad_cam. Received: method='gradcam'"),
        (lambda m, x: explain(m, x, method="grad_cam"), "integrated_gradients, smooth_grad, occlusion. Received"),
        (lambda m, x: explain(m, x, method="attention"), "Received: method='attention'"),
        (lambda m, x: explain(m, x, method="occlusion", target=3), "Received: target=3"),
        (lambda m, x: explain(m, x, method="occlusion", target="d"), "one of a, b, c. Received: target='d'"),
        (lambda m, x: explain(m, x, method="occlusion", size=3), "no such option. Received: size"),
        (lambda m, x: explain(m, x, target=1), "Received: target=1"),
        (lambda m, x: explain(m, x[:, :3], method="occlusion"), r"shape \(2, 3, 6, 2\)"),
        (lambda m, x: explain(m, x, layer="head"), "Received: layer='head'"),
        (lambda m, x: occlusion(m, x, patch=5), "Received: patch=5"),
        (lambda m, x: occlusion(m, x, patch=2, stride=3), "Received: patch=2, stride=3"),
        (lambda m, x: occlusion(m, x, patch=1.5), "Received: patch=1.5"),
        (lambda m, x: occlusion(m, x, baseline=[1, 2, 3]), r"baseline of shape \(3,\)"),
        (lambda m, x: integrated_gradients(m, x, steps=0), "Received: steps=0"),
        (lambda m, x: integrated_gradients(m, x, baseline=np.nan), "Received: baseline"),
        (lambda m, x: smooth_grad(m, x, samples=0), "Received: samples=0"),
        (lambda m, x: smooth_grad(m, x, noise=-1), "noise=-1"),
        (lambda m, x: explanation_maps(cam_model((6, 6, 1)), uniform(1, 6, 6, 1), method="attention"), "'attention'"),
    ],
)
def test_wrong_arguments_state_the_rule(linear, call, text):
    with pytest.raises(ValueError, match=text):
        call(linear, uniform(2, 4, 6, 2))
