"""Enhancing what a model looks at: regions of a map, what is cut out, and what is put back."""

import numpy as np
import pytest
from PIL import Image

from medkeras.explain import attention_rollout, class_map
from medkeras.models import ViT, create
from medkeras.super_resolution import LDMUpscaler
from medkeras.super_resolution.enhancement.attention_guided import enhance, importance_maps
from medkeras.super_resolution.enhancement.regions import RegionRule
from medkeras.super_resolution.enhancement.reintegration import cut, reintegrate, resize
from medkeras.super_resolution.interpolated import Interpolation
from tiny_model import TinyNet

RNG = np.random.default_rng(0)
PATCH = (0, 0, 16, 16)
SAMPLING = {"steps": 2, "eta": 1.0, "seed": 1}  # Two regions at a time: one program serves all tests.


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def spots(*cells, size=(14, 14)):
    """A map that is 0 but for some cells."""
    values = np.zeros(size)
    for row, column, value in cells:
        values[row, column] = value
    return values


@pytest.fixture(scope="module")
def upscaler():
    return LDMUpscaler.from_preset("ldm_4x_tiny")


# Regions.


@pytest.mark.parametrize("threshold", [0.3, 0.8, 1.0])
def test_a_threshold_is_a_share_of_the_maps_range(threshold):
    values = uniform(6, 7)
    expected = (values - values.min()) / np.ptp(values) >= threshold
    found = RegionRule(threshold=threshold).cells(5 * values - 3)
    np.testing.assert_array_equal(found, expected)
    if threshold == 0.8:
        np.testing.assert_array_equal(RegionRule().cells(values), expected)


def test_a_quantile_and_a_number_choose_the_highest_cells():
    values = RNG.permutation(196).reshape(14, 14)
    assert set(values[RegionRule(quantile=0.75).cells(values)]) == set(range(147, 196))
    assert set(values[RegionRule(top=5).cells(values)]) == set(range(191, 196))
    assert RegionRule(top=500).cells(values).all()
    assert RegionRule(top=3).cells(spots((0, 0, 1), (4, 4, 1), (5, 5, 1), (9, 9, 1))).sum() == 3


@pytest.mark.parametrize("value", [0.0, 0.3, np.nan, np.inf])
@pytest.mark.parametrize("rule", [{}, {"quantile": 0.5}, {"top": 3}])
def test_a_map_that_says_nothing_chooses_nothing(value, rule):
    assert RegionRule(**rule).regions(np.full((14, 14), value), (448, 448)).shape == (0, 4)


def test_cells_that_touch_are_one_region_and_the_strongest_comes_first():
    values = spots((1, 1, 0.8), (2, 2, 0.9), (10, 11, 1.0))
    # Cells of 32 x 64 pixels: the first region has rows 32 to 96 and columns 64 to 192.
    found = RegionRule(smallest=32).regions(values, (448, 896))
    assert found.tolist() == [[320, 704, 352, 768], [32, 64, 96, 192]]
    assert RegionRule(smallest=32, max_regions=1).regions(values, (448, 896)).tolist() == found[:1].tolist()


@pytest.mark.parametrize("size", [(224, 224), (500, 333), (64, 1000), (40, 30), (14, 14)])
def test_regions_are_multiples_of_the_smallest_and_within_the_image(size):
    for _ in range(20):
        values = RNG.uniform(size=(14, 14)) ** 4
        for top, left, bottom, right in RegionRule(quantile=0.9, smallest=32).regions(values, size):
            for first, last, edge in ((top, bottom, size[0]), (left, right, size[1])):
                assert 0 <= first < last <= edge
                assert (last - first) % 32 == 0 or last - first == edge


def test_every_chosen_pixel_lies_in_a_region():
    values, size = RNG.uniform(size=(14, 14)), (333, 517)
    rule = RegionRule(quantile=0.9)
    covered = np.zeros(size, bool)
    for top, left, bottom, right in rule.regions(values, size):
        covered[top:bottom, left:right] = True
    rows, columns = (np.arange(edge) * 14 // edge for edge in size)
    assert covered[rule.cells(values)[rows][:, columns]].all() and not covered.all()


def test_a_region_within_a_stronger_one_is_left_out():
    values = spots((3, 3, 1.0), (3, 5, 0.9))
    assert RegionRule(smallest=64).regions(values, (140, 140)).tolist() == [[3, 3, 67, 67]]
    assert len(RegionRule(smallest=8).regions(values, (140, 140))) == 2


def test_the_map_lies_where_its_window_lies():
    values = spots((1, 0, 1.0), size=(2, 2))
    # A square of 200 around an image of 100 x 200: its lower half has rows 50 to 100 of the image.
    assert RegionRule(smallest=8).regions(values, (100, 200), window=(-50, 0, 150, 200)).tolist() == [[44, 0, 100, 104]]
    # What was chosen beyond the image is no region.
    assert len(RegionRule().regions(spots((0, 0, 1.0), size=(4, 4)), (100, 200), window=(-50, 0, 150, 200))) == 0


# Reintegration.


def test_what_is_cut_is_padded_by_reflection():
    image = uniform(20, 30, 3)
    np.testing.assert_array_equal(cut(image, (4, 6, 12, 22), multiple=8), image[4:12, 6:22])
    np.testing.assert_array_equal(
        cut(image, (0, 0, 20, 30), multiple=32), np.pad(image, [(0, 12), (0, 2), (0, 0)], mode="reflect")
    )
    assert cut(image[:1], (0, 0, 1, 30), multiple=32).shape == (32, 32, 3)


@pytest.mark.parametrize("paste", ["hard", "feathered"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_outside_of_regions_stay_bit_by_bit(paste, channels):
    image, boxes = 4095 * uniform(50, 60, channels), [(0, 0, 16, 16), (20, 30, 36, 62 - 2)]
    parts = [4095 * uniform(64, 64, channels), 4095 * uniform(64, 120, channels)]
    result = reintegrate(image, boxes, parts, factor=4, paste=paste)
    outside = np.ones((50, 60), bool)
    for top, left, bottom, right in boxes:
        outside[top:bottom, left:right] = False
    np.testing.assert_array_equal(result[outside], image[outside])
    assert result.dtype == image.dtype and (result[~outside] != image[~outside]).all()


def test_a_region_is_the_mean_of_what_it_was_enlarged_to():
    image, part = uniform(40, 40, 1), uniform(64, 64, 1)
    means = part.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    result = reintegrate(image, [(8, 4, 24, 20)], [part], factor=4)
    np.testing.assert_allclose(result[8:24, 4:20, 0], means, atol=1e-6)


def test_a_feathered_region_fades_but_not_at_the_border_of_the_image():
    result = reintegrate(
        np.zeros((40, 40, 1)), [(0, 8, 16, 24)], [np.ones((64, 64, 1))], factor=4, paste="feathered", feather=4
    )
    np.testing.assert_allclose(result[0, 8:13, 0], [0.125, 0.375, 0.625, 0.875, 1])
    np.testing.assert_allclose(result[11:16, 16, 0], [1, 0.875, 0.625, 0.375, 0.125])
    assert (result[:12, 12:20] == 1).all()


def test_of_two_regions_the_stronger_lies_on_top():
    parts = [np.full((64, 64, 1), value) for value in (1.0, 2.0)]
    result = reintegrate(np.zeros((30, 30, 1)), [(0, 0, 16, 16), (8, 8, 24, 24)], parts, factor=4)
    assert result[8, 8] == 1 and result[16, 16] == 2


def test_at_the_enlarged_scale_regions_keep_every_pixel():
    image, part = uniform(24, 40, 1), uniform(64, 96, 1)  # Padded from 16 x 20.
    result = reintegrate(image, [(0, 20, 16, 40)], [part], factor=4, keep_scale=True)
    np.testing.assert_array_equal(result[:64, 80:], part[:, :80])
    np.testing.assert_array_equal(result[64:], resize(image, 4)[64:])
    assert result.shape == (96, 160, 1)


@pytest.mark.parametrize(("method", "filter"), [("bicubic", Image.BICUBIC), ("lanczos", Image.LANCZOS)])
@pytest.mark.parametrize("factor", [4, 0.25])
def test_resizing_is_that_of_pillow(method, filter, factor):
    image = uniform(24, 40)
    size = round(40 * factor), round(24 * factor)
    expected = np.asarray(Image.fromarray(image).resize(size, filter))
    np.testing.assert_allclose(resize(image[..., None], factor, method=method)[..., 0], expected, atol=1e-4)


# Both together.


@pytest.mark.parametrize("top", [1, 255, 4095, 65535])
def test_an_image_keeps_its_range_whatever_it_is(top):
    image = np.float32(top) * uniform(40, 40, 1)
    (result,) = enhance([image], [[(4, 4, 36, 36)]], Interpolation(), multiple=32)
    assert image.min() <= result.min() < 0.1 * top and 0.9 * top < result.max() <= image.max()
    # Up by 4 and back by means is nearly what it was: the control of a study.
    smooth = np.float32(top) * np.sin(np.arange(40) / 4)[:, None, None] * np.cos(np.arange(40) / 5)[None, :, None]
    (result,) = enhance([smooth], [[(4, 4, 36, 36)]], Interpolation(), multiple=32)
    assert 0 < np.abs(result - smooth).max() < 0.03 * np.ptp(smooth)


def test_diffusion_sees_the_image_in_its_own_range(upscaler):
    image, box = uniform(40, 40, 1), (8, 8, 24, 24)
    image[0, 0], image[39, 39] = 0, 1
    expected = upscaler.upscale(np.stack([image[8:24, 8:24]] * 2), **SAMPLING)[0]
    (result,) = enhance([4095 * image], [[box]], upscaler, multiple=16, keep_scale=True, batch_size=2, **SAMPLING)
    np.testing.assert_allclose(result[32:96, 32:96], 4095 * expected, atol=0.5)


def test_an_image_is_enhanced_alike_in_any_company(upscaler):
    images = [uniform(40, 40, 1), uniform(64, 48, 1), uniform(40, 40, 1)]
    regions = [[(0, 0, 16, 16), (20, 20, 36, 36)], [(0, 0, 16, 16)], np.zeros((0, 4), int)]
    options = {"multiple": 16, "batch_size": 2, **SAMPLING}
    together = enhance(images, regions, upscaler, **options)
    turned = enhance(images[::-1], regions[::-1], upscaler, **options)
    for i in range(3):
        np.testing.assert_array_equal(together[i], turned[2 - i])
    np.testing.assert_array_equal(enhance(images[:1], regions[:1], upscaler, **options)[0], together[0])
    np.testing.assert_array_equal(together[2], images[2])
    assert not np.array_equal(enhance(images[:1], regions[:1], upscaler, **options | {"seed": 2})[0], together[0])
    with pytest.raises(ValueError, match="takes 8 pixels and more. Received: smallest=4"):
        enhance(images, regions, upscaler, multiple=4)


def test_an_image_of_one_value_stays_as_it_is():
    for value in (0, 4095):
        image = np.full((40, 40, 1), value, "float32")
        (result,) = enhance([image], [[(0, 0, 32, 32)]], Interpolation(), multiple=32)
        np.testing.assert_array_equal(result, image)


# Maps.


def test_maps_are_those_of_the_model():
    model = ViT((32, 48, 3), num_classes=2, units=8, depth=2, heads=2, hidden=16, patch=8)
    images = uniform(2, 32, 48, 3)
    np.testing.assert_array_equal(importance_maps(model, images), attention_rollout(model, images))
    np.testing.assert_array_equal(
        importance_maps(model, images, name="published"), attention_rollout(model, images, mode="published")
    )


def test_a_finer_map_becomes_means_of_cells():
    model = create("focusnet2d_tiny", input_shape=(28, 42, 1), num_classes=2, depth=1, saccades=1)
    images = uniform(1, 28, 42, 1)
    expected = class_map(model, images).reshape(14, 2, 14, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(importance_maps(model, images)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: RegionRule(threshold=0.5, top=3), "threshold=0.5, top=3"),
        (lambda: RegionRule(threshold=0), "threshold=0"),
        (lambda: RegionRule(quantile=1.0), "quantile=1.0"),
        (lambda: RegionRule(smallest=20), "smallest=20"),
        (lambda: RegionRule(max_regions=0), "max_regions=0"),
        (lambda: RegionRule().cells(np.zeros(4)), r"shape \(4,\)"),
        (lambda: RegionRule().regions(spots((0, 0, 1)), (10, 100)), "10 x 100 pixels"),
        (lambda: reintegrate(np.zeros((4, 4)), [], [], factor=4), r"shape \(4, 4\)"),
        (lambda: reintegrate(np.zeros((4, 4, 1), int), [], [], factor=4), "int64"),
        (lambda: reintegrate(np.zeros((4, 4, 1)), [], [], factor=4, paste="glue"), "paste='glue'"),
        (lambda: reintegrate(np.zeros((4, 4, 1)), [], [], factor=4, feather=0), "feather=0"),
        (lambda: reintegrate(np.zeros((4, 4, 1)), [PATCH], [], factor=4), "1 boxes, 0 regions"),
        (lambda: reintegrate(np.zeros((4, 4, 1)), [PATCH], [np.zeros((64, 64, 1))], factor=4), r"\[0, 0, 16, 16\]"),
        (lambda: reintegrate(np.zeros((20, 20, 1)), [PATCH], [np.zeros((32, 64, 1))], factor=4), r"\(32, 64, 1\)"),
        (lambda: Interpolation("nearest"), "method='nearest'"),
        (lambda: enhance([], [], Interpolation(), batch_size=0), "batch_size=0"),
        (
            lambda: importance_maps(TinyNet((16, 16, 1), num_classes=2), uniform(1, 16, 16, 1)),
            "name one of .*occlusion",
        ),
        (lambda: importance_maps(TinyNet((8, 8, 8, 1), num_classes=2), uniform(1, 8, 8, 8, 1)), "no volumes"),
    ],
)
def test_wrong_arguments_state_the_rule(call, text):
    with pytest.raises(ValueError, match=text) as error:
        call()
    assert "Received: " in str(error.value)


def test_rollout_is_what_a_transformer_has():
    model = create("focusnet2d_tiny", input_shape=(28, 28, 1), num_classes=2, depth=1, saccades=1)
    with pytest.raises(ValueError, match="map='rollout'"):
        importance_maps(model, uniform(1, 28, 28, 1), name="rollout")
