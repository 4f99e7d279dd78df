"""Regions of maps: what is marked, where the cells of a map lie in the image, and what the figures show of it."""

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.patches import Rectangle

import medkeras
from medkeras.evaluation import binarize, boxes
from medkeras.explain import (
    class_map,
    default_map,
    explain,
    explanation_figure,
    localization_figure,
    localize,
    map_names,
    mark_regions,
    native_attention,
    resize_maps,
    saliency_maps,
)
from medkeras.explain.methods.mirrored import mirrored_mean
from medkeras.explain.methods.native import attention_points
from medkeras.explain.regions import is_of_class
from tiny_model import TinyNet

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def create(name="dualattendmed_tiny", shape=(48, 40, 3), **options):
    return medkeras.models.create(name, input_shape=shape, num_classes=2, **options)


@pytest.fixture(scope="module")
def model():
    return create(attention_maps=4)


def peaks(*places, size=(40, 60)):
    """A map that falls off around each place, and where it is above 0.5."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.max([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 20) for a, b in places], axis=0)


@pytest.mark.parametrize("name", ["attention", "attention_maps", "backbone", "features", "class_map", "evidence_map"])
def test_every_map_marks_its_share(model, name):
    images = uniform(3, 48, 40, 3)
    found = localize(model, images, point=name, threshold=0.7, smallest=3)
    expected = saliency_maps(model, images, point=name)
    np.testing.assert_allclose(found.maps, expected, atol=1e-4)
    assert (found.point, found.threshold, len(found)) == (name, 0.7, 3)
    for i in range(3):
        np.testing.assert_array_equal(found.masks[i], binarize(found.maps[i], 0.7))
        np.testing.assert_array_equal(found.boxes[i], boxes(found.masks[i], smallest=3))
        assert len(found.scores[i]) == len(found.boxes[i])
    if method := {"class_map": "grad_cam", "evidence_map": "hires_cam"}.get(name):
        # To rounding: some of these calls are compiled.
        np.testing.assert_allclose(expected, class_map(model, images, method=method), atol=1e-4)
        other = saliency_maps(model, images, point=name, target=[0, 1, 0])
        np.testing.assert_allclose(other, class_map(model, images, method=method, target=[0, 1, 0]), atol=1e-4)


@pytest.mark.parametrize("name", ["attention", "evidence_map"])
def test_mirrored_maps_of_mirror_images_are_mirror_images(model, name):
    images = uniform(2, 48, 40, 3)
    maps = saliency_maps(model, images, point=name, mirrored=True)
    target = model.predict(images, verbose=0).argmax(axis=-1) if name == "evidence_map" else None
    views = [saliency_maps(model, images[:, ::y, ::x], point=name, target=target) for y in (1, -1) for x in (1, -1)]
    backs = [view[:, ::y, ::x] for view, (y, x) in zip(views, [(1, 1), (1, -1), (-1, 1), (-1, -1)], strict=True)]
    np.testing.assert_allclose(maps, np.mean(backs, axis=0), atol=1e-6)
    upside_down = saliency_maps(model, images[:, ::-1], point=name, mirrored=True, target=target)
    np.testing.assert_allclose(upside_down[:, ::-1], maps, atol=1e-6)
    np.testing.assert_allclose(localize(model, images, point=name, mirrored=True).maps, maps, atol=1e-6)


def test_two_peaks_are_two_boxes_with_their_scores():
    values = peaks((10, 12), (28, 45))
    values[values < 0.01] = 0
    values[20:, 30:] *= 0.8
    found = mark_regions(values[None], point="attention", threshold=0.5)
    (first, second), scores = found.boxes[0], found.scores[0]
    np.testing.assert_allclose(scores, [1, 0.8], atol=1e-6)
    assert first.tolist() == [7, 9, 14, 16]  # exp(-9 / 20) is above a half, exp(-16 / 20) is not.
    assert second.tolist() == [25, 42, 32, 49]
    part = found[:1]
    assert len(part) == 1 and part.boxes[0] is found.boxes[0]


def test_edges_are_in_pixels_of_the_stored_image():
    values = np.zeros((1, 4, 8))
    values[0, 1:3, 0:2] = 1
    found = mark_regions(values, point="attention")
    # Twice as high, half as wide: pixels 2 to 5 and the first half of the image's 4 columns.
    np.testing.assert_allclose(found.edges(0, (8, 4)), [[[1.5, 5.5], [-0.5, 0.5]]])
    np.testing.assert_allclose(found.edges(0, (4, 8))[0], [[0.5, 2.5], [-0.5, 1.5]])


def test_volumes_have_boxes_of_three_axes():
    found = localize(create("focusnet3d_tiny", (16, 16, 16, 1)), uniform(1, 16, 16, 16, 1), threshold=0.3)
    assert found.masks.shape == (1, 16, 16, 16) and found.boxes[0].shape[1] == 6
    assert found.edges(0, (32, 16, 8)).shape == (len(found.boxes[0]), 3, 2)
    assert mirrored_mean(lambda views: views[..., 0] * np.arange(4), np.ones((1, 2, 3, 4, 1))).tolist() == [
        [[[1.5] * 4] * 3] * 2
    ]


@pytest.mark.parametrize("values", [0.0, 0.5, np.nan, np.inf])
def test_maps_that_say_nothing_mark_nothing(values):
    found = mark_regions(np.full((2, 8, 8), values), point="attention")
    assert not found.masks.any() and [len(b) for b in found.boxes] == [0, 0] == [len(s) for s in found.scores]
    part_nan = peaks((10, 12))[None]
    part_nan[0, 0, 0] = np.nan
    assert not mark_regions(part_nan, point="attention").masks.any()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_have_regions_or_none(model, value):
    found = localize(model, np.full((1, 48, 40, 3), value))
    assert np.isfinite(found.maps).all() and found.masks.shape == (1, 48, 40)


def test_the_map_that_a_model_has():
    assert default_map(create(attention_maps=4)) == "attention"
    focusnet = create("focusnet2d_tiny", (32, 32, 1))
    assert default_map(focusnet) == "class_map"
    assert "fixations" not in map_names(focusnet) and "priority" in map_names(focusnet)


def test_an_attention_of_several_points_is_a_map():
    hemf = create("hemf_tiny", (64, 64, 3))
    assert "native_attention" in map_names(hemf) and "attention" not in map_names(hemf)
    assert "native_attention" not in map_names(create(attention_maps=4))
    assert not is_of_class(hemf, "native_attention")
    images = uniform(2, 64, 64, 3)
    wanted = native_attention(hemf, images)
    np.testing.assert_array_equal(saliency_maps(hemf, images, point="native_attention"), wanted)
    # Every point counts alike, whatever its scale: each is divided by its mean.
    parts = [saliency_maps(hemf, images, point=name) for name in attention_points(hemf)]
    means = [part.mean(axis=(1, 2), keepdims=True) for part in parts]
    assert len(parts) > 1 and np.ptp([mean.min() for mean in means]) > 1e-3
    twin = np.mean([part / mean for part, mean in zip(parts, means, strict=True)], axis=0)
    np.testing.assert_allclose(wanted, twin, rtol=1e-4)


def centre_of_influence(model, name, cell):
    """The row of the image that a row of cells looks at: the middle of its gradient."""
    tensors = model.tensors(name)
    images = tf.constant(uniform(8, *model.image_shape))
    with tf.GradientTape() as tape:
        tape.watch(images)
        values = tensors(images)[name][:, cell]
        weights = RNG.normal(size=values.shape).astype("float32")
        total = tf.reduce_sum(values * weights)
    strength = np.square(np.abs(tape.gradient(total, images)).sum(axis=(0, 2, 3)))
    return (strength * np.arange(len(strength))).sum() / strength.sum()


@pytest.mark.parametrize(
    ("name", "options", "point"),
    [
        ("dualattendmed_tiny", {"attention_maps": 4}, "attention"),
        ("dualattendmed_tiny", {"attention_maps": 4, "last_stride": 2}, "features"),
        ("dualattendmed_small", {"attention_maps": 4}, "attention"),
        ("focusnet2d_tiny", {}, "features"),
    ],
)
def test_cells_lie_where_they_look(name, options, point):
    """A map is brightest at the pixels that its brightest cell sees; half a cell beside, small lesions are missed."""
    size = 160 if name == "dualattendmed_small" else 96
    shape = (size, 64, 1 if "focusnet" in name else 3)
    model = medkeras.models.create(name, input_shape=shape, num_classes=2, **options)
    cells = model.explain_points[point].tensor.shape[1]
    stride = size // cells
    cell = cells // 2  # Far from the border, whose padding moves the middle.
    one = np.zeros((1, cells, 1, 1))
    one[0, cell] = 1
    rule = model.explain_points[point].rule
    shown = np.average(np.arange(size), weights=resize_maps(one, (size, 1), stride=rule.stride)[0, :, 0, 0])
    assert shown == pytest.approx(centre_of_influence(model, point, cell), abs=stride / 8)


def test_a_strided_map_is_interpolated_between_its_centres():
    maps = uniform(2, 3, 4, 2)
    shown = resize_maps(maps, (22, 30), stride=8)
    for row, column in ((0, 0), (1, 2), (2, 3)):
        np.testing.assert_allclose(shown[:, 8 * row, 8 * column], maps[:, row, column], atol=1e-6)
    np.testing.assert_allclose(shown[:, 4, 8], (maps[:, 0, 1] + maps[:, 1, 1]) / 2, atol=1e-6)
    np.testing.assert_array_equal(shown[:, 17:], np.repeat(shown[:, 16:17], 5, axis=1))


def test_an_explanation_holds_the_attention(model):
    images = uniform(3, 48, 40, 3)
    explanation = explain(model, images)
    np.testing.assert_array_equal(explanation.attention, saliency_maps(model, images, point="attention"))
    np.testing.assert_array_equal(explanation[1:].attention, explanation.attention[1:])
    titles = [ax.get_title() for ax in explanation_figure(explanation).subfigs[0].axes]
    assert titles == ["image", "class map", "attention"]
    assert explain(create("focusnet2d_tiny", (32, 32, 1)), uniform(1, 32, 32, 1)).attention is None


def test_the_figure_shows_what_was_found():
    images, mask = uniform(2, 40, 60, 3), peaks((10, 12)) > 0.5
    found = mark_regions(np.stack([peaks((10, 12)), np.zeros((40, 60))]), point="attention", threshold=0.5)
    figure = localization_figure(images, {"attention": found}, names=["a.png", "b.png"], masks=[mask, None])
    first, second = figure.subfigs
    assert [part.get_suptitle() for part in (first, second)] == ["a.png", "b.png"]
    assert [ax.get_title() for ax in first.axes] == ["image", "attention\nIoU 1.00, Dice 1.00"]
    (box,) = [p for p in first.axes[1].patches if isinstance(p, Rectangle)]
    np.testing.assert_allclose(box.get_bbox().extents, [8.5, 6.5, 15.5, 13.5])
    assert len(first.axes[1].collections) == 2 and not second.axes[1].collections
    assert "no place" in second.axes[1].texts[0].get_text()
    overlay = first.axes[1].images[1]
    assert overlay.get_array()[10, 12] == pytest.approx(1)


def test_the_figure_cuts_a_volume_through_its_lesion():
    mask = np.zeros((8, 10, 12), bool)
    mask[6, 2:4, 9:11] = True
    found = mark_regions(uniform(1, 8, 10, 12), point="attention", threshold=0.9)
    (part,) = np.atleast_1d(localization_figure(uniform(1, 8, 10, 12, 1), {"map": found}, masks=[mask]).subfigs)
    assert len(part.axes) == 6
    assert [ax.get_ylabel() for ax in part.axes[::2]] == ["axial 6", "coronal 2", "sagittal 10"]
    values = np.zeros((1, 8, 10, 12))
    values[0, 3, 8, 1], values[0, 0, 0, 0] = 1, np.nan
    found = mark_regions(values, point="attention")
    (part,) = np.atleast_1d(localization_figure(uniform(1, 8, 10, 12, 1), {"map": found}).subfigs)
    assert [ax.get_ylabel() for ax in part.axes[::2]] == ["axial 3", "coronal 8", "sagittal 1"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: localize(m, uniform(1, 48, 40, 3), threshold=0), "threshold=0"),
        (lambda m: localize(m, uniform(1, 48, 40, 3), point="logits"), "point='logits'"),
        (lambda m: localize(m, uniform(1, 48, 40, 3), smallest=0), "smallest=0"),
        (lambda m: localize(m, uniform(1, 48, 40, 3), target=1), "point='attention', target=1"),
        (lambda m: localize(m, uniform(1, 40, 48, 3)), r"shape \(1, 40, 48, 3\)"),
        (lambda m: localize(m, uniform(0, 48, 40, 3)), r"shape \(0, 48, 40, 3\)"),
        (lambda m: mark_regions(np.zeros((0, 4, 4)), point="attention"), r"shape \(0, 4, 4\)"),
        (lambda m: default_map(TinyNet((16, 16, 1), num_classes=2)), "no map"),
        (lambda m: localization_figure(uniform(1, 4, 4, 1), {}), "no map"),
        (lambda m: figure_of(masks=[np.ones((3, 3), bool)]), r"mask of shape \(3, 3\)"),
        (lambda m: figure_of(names=["a", "b"]), "2 names"),
        (lambda m: figure_of(count=2), r"a of shape \(2, 4, 4\)"),
    ],
)
def test_bad_input(model, call, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        call(model)


def figure_of(count=1, **options):
    found = mark_regions(uniform(count, 4, 4), point="attention")
    return localization_figure(uniform(1, 4, 4, 1), {"a": found}, **options)
