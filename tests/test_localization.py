"""Localisation measures against scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from medkeras.evaluation import localization as measures

RNG = np.random.default_rng(0)


def disc(centre, radius, size=32):
    y, x = np.mgrid[:size, :size]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


@pytest.mark.parametrize("shape", [(9, 7), (5, 6, 4)])
def test_overlap_is_that_of_scikit_learn(shape):
    found, mask = RNG.random(shape) < 0.4, RNG.random(shape) < 0.3
    assert measures.iou(found, mask) == pytest.approx(jaccard_score(mask.ravel(), found.ravel()))
    assert measures.dice(found, mask) == pytest.approx(f1_score(mask.ravel(), found.ravel()))


def test_thresholds_are_shares_of_the_range_whatever_the_scale():
    saliency = RNG.random((6, 6))
    plain = measures.binarize(saliency, 0.3)
    np.testing.assert_array_equal(plain, measures.binarize(saliency * 1000 - 7, 0.3))
    assert measures.binarize(saliency, 1.0).sum() == 1


@pytest.mark.parametrize("saliency", [np.zeros((4, 4)), np.full((4, 4), 3.0), np.full((4, 4), np.nan)])
def test_maps_that_say_nothing_mark_nothing(saliency):
    assert not measures.binarize(saliency, 0.5).any()
    mask = disc((2, 2), 1, 4)
    assert measures.iou(measures.binarize(saliency, 0.5), mask) == 0


def test_a_constant_map_points_by_chance():
    mask = disc((2, 2), 1, 4)
    assert measures.pointing_game(np.ones((4, 4)), mask) == pytest.approx(mask.mean())
    assert measures.pointing_game(np.full((4, 4), np.nan), mask) == 0
    assert measures.energy_in_mask(np.zeros((4, 4)), mask) == 0


def test_pointing_within_a_tolerance():
    mask, saliency = disc((10, 10), 3), np.zeros((32, 32))
    saliency[10, 16] = 1  # Three pixels outside.
    assert measures.pointing_game(saliency, mask) == 0
    assert measures.pointing_game(saliency, mask, tolerance=2.9) == 0
    assert measures.pointing_game(saliency, mask, tolerance=3) == 1


def test_energy_is_the_share_inside():
    mask, saliency = disc((10, 10), 3), RNG.random((32, 32)) - 0.2
    inside = np.maximum(saliency, 0)[mask].sum() / np.maximum(saliency, 0).sum()
    assert measures.energy_in_mask(saliency, mask) == pytest.approx(inside)


def test_an_image_without_a_lesion_has_no_score():
    empty, saliency = np.zeros((4, 4), bool), RNG.random((4, 4))
    scores = [
        measures.iou(saliency > 0.5, empty),
        measures.dice(saliency > 0.5, empty),
        measures.pointing_game(saliency, empty),
        measures.energy_in_mask(saliency, empty),
    ]
    assert np.isnan(scores).all()


def test_boxes_of_regions_largest_first():
    found = disc((8, 8), 4) | disc((25, 20), 2)
    found[31, 31] = True
    assert measures.boxes(found).tolist() == [[4, 4, 13, 13], [23, 18, 28, 23], [31, 31, 32, 32]]
    assert len(measures.boxes(found, smallest=5)) == 2
    assert measures.boxes(np.zeros((4, 4))).shape == (0, 4)
    assert measures.boxes(np.ones((2, 3, 4))).tolist() == [[0, 0, 0, 2, 3, 4]]


def case(n=20):
    """Blurred lesions as maps: perfect in place, wrong in extent."""
    centres = RNG.integers(8, 24, (n, 2))
    masks = [disc(c, 4) for c in centres]
    maps = [np.exp(-((np.mgrid[:32, :32] - c[:, None, None]) ** 2).sum(axis=0) / 32) for c in centres]
    return maps, masks


def test_the_threshold_is_that_of_the_best_overlap():
    maps, masks = case()
    best = measures.choose_threshold(maps, masks)
    found = measures.localization(maps, masks, threshold=best)
    assert found.iou.value == max(found.iou_by_threshold.values()) == found.iou_by_threshold[best]
    assert found.iou.value > 0.9 and found.pointing.value == 1 and found.images == 20
    assert found.iou.low <= found.iou.value <= found.iou.high
    # exp(-16 / 32) of the peak is the rim of a disc of radius 4.
    assert best == pytest.approx(np.exp(-0.5), abs=0.05)


def test_images_without_a_lesion_are_left_out():
    maps, masks = case()
    with_empty = measures.localization([*maps, RNG.random((32, 32))], [*masks, np.zeros((32, 32))], threshold=0.6)
    assert with_empty == measures.localization(maps, masks, threshold=0.6)


def test_patients_widen_the_interval():
    maps, masks = case()
    maps = [m if i < 10 else np.roll(m, 6, axis=0) for i, m in enumerate(maps)]
    alone = measures.localization(maps, masks, threshold=0.6).iou
    grouped = measures.localization(maps, masks, threshold=0.6, groups=np.arange(20) // 5).iou
    assert grouped.value == alone.value and grouped.high - grouped.low > alone.high - alone.low


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measures.binarize(np.ones(3), 0), "threshold=0"),
        (lambda: measures.iou(np.ones(3), np.ones(4)), r"\(3,\) and \(4,\)"),
        (lambda: measures.pointing_game(np.ones(3), np.ones(3), tolerance=-1), "tolerance=-1"),
        (lambda: measures.boxes(np.ones(3), smallest=0), "smallest=0"),
        (lambda: measures.localization([np.ones(3)], [], threshold=0.5), "1 maps, 0 masks"),
        (lambda: measures.localization([np.ones(3)], [np.zeros(3)], threshold=0.5), "1 empty masks"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
