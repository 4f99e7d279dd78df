"""Localisation measures against scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from medkeras.evaluation import bootstrap
from medkeras.evaluation import localization as measures
from medkeras.evaluation.statistics import means

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
    found = measures.evaluate_localization(maps, masks, threshold=best)
    assert found.iou == found.iou_by_threshold[best]
    assert found.dice == found.dice_by_threshold[best]
    assert found.iou.value == max(interval.value for interval in found.iou_by_threshold.values())
    assert found.iou.value > 0.9 and found.pointing.value == 1 and found.images == 20
    assert found.iou.low <= found.iou.value <= found.iou.high
    # exp(-16 / 32) of the peak is the rim of a disc of radius 4.
    assert best == pytest.approx(np.exp(-0.5), abs=0.05)


def test_the_sweep_is_that_of_the_measures_at_each_threshold():
    maps, masks = case(6)
    maps[0], maps[1] = np.zeros((32, 32)), np.full((32, 32), np.nan)
    maps[2] = np.round(maps[2] * 20) / 20  # On the thresholds themselves.
    thresholds = (0.9, 0.05, 0.5, 1.0, 0.35)
    found = measures.evaluate_localization(maps, masks, threshold=0.5, thresholds=thresholds)
    assert list(found.iou_by_threshold) == list(found.dice_by_threshold) == list(thresholds)
    for t in thresholds:
        marked = [measures.binarize(m, t) for m in maps]
        for name, measure in (("iou", measures.iou), ("dice", measures.dice)):
            scores = [measure(*pair) for pair in zip(marked, masks, strict=True)]
            assert getattr(found, f"{name}_by_threshold")[t].value == pytest.approx(np.mean(scores), abs=1e-12)


@pytest.mark.parametrize("groups", [None, np.array(list("abbcccdddd"))])
def test_intervals_are_those_of_the_bootstrap(groups):
    values = RNG.uniform(size=(10, 3))
    found = means.mean_intervals(values, groups=groups, seed=3)
    for interval, column in zip(found, values.T, strict=True):
        expected = bootstrap(lambda _, v: float(v.mean()), column, column, groups=groups, seed=3)
        np.testing.assert_allclose([*vars(interval).values()], [*vars(expected).values()], atol=1e-12)
    alone = means.mean_interval(values[:, 0], groups=groups, seed=3)
    np.testing.assert_allclose([*vars(alone).values()], [*vars(found[0]).values()], atol=1e-12)


def test_what_a_map_that_knows_nothing_would_score():
    maps, masks = case(8)
    found = measures.evaluate_localization([np.ones((32, 32))] * 8, masks, threshold=0.5)
    assert found.area == pytest.approx(np.mean(masks)) == pytest.approx(found.energy.value)
    assert found.area == pytest.approx(found.pointing.value)
    everything = [measures.iou(np.ones((32, 32)), mask) for mask in masks]
    assert found.area == pytest.approx(np.mean(everything))


def published_twin(features, attention, labels, seed):
    """The published steps, image by image."""
    weights = np.random.default_rng(seed).normal(0, 0.01, (3, features.shape[-1]))
    scores = []
    for f, a, label in zip(features, attention, labels, strict=True):
        marked = []
        for m in (a, np.maximum((f * weights[label]).sum(-1), 0)):
            m = (m - m.min()) / (m.max() - m.min() + 1e-12)
            marked.append(m >= np.sort(m.ravel())[int(0.8 * m.size)])
        scores.append((marked[0] & marked[1]).sum() / ((marked[0] | marked[1]).sum() + 1e-8))
    return scores


def test_the_published_score_follows_the_published_steps():
    features, attention = RNG.normal(size=(5, 14, 14, 16)) + 0.3, RNG.normal(size=(5, 14, 14))
    labels = np.array([0, 2, 1, 2, 0])
    scores = measures.random_head_iou(features, attention, labels, seed=4)
    np.testing.assert_allclose(scores, published_twin(features, attention, labels, 4), atol=1e-9)
    # In parts, the same: a class has the same weights whatever other classes are there.
    parts = [
        measures.random_head_iou(features[i : i + 1], attention[i : i + 1], labels[i : i + 1], seed=4) for i in range(5)
    ]
    np.testing.assert_array_equal(scores, np.concatenate(parts))


def test_the_published_score_knows_nothing_of_lesions():
    """Unrelated maps of a fifth each meet by chance: 0.04 in common of 0.36."""
    features, attention = RNG.normal(size=(300, 14, 14, 8)), RNG.normal(size=(300, 14, 14))
    scores = measures.random_head_iou(features, attention, np.zeros(300, int))
    assert scores.mean() == pytest.approx(0.04 / 0.36, abs=0.01)


def test_images_without_a_lesion_are_left_out():
    maps, masks = case()
    with_empty = measures.evaluate_localization(
        [*maps, RNG.random((32, 32))], [*masks, np.zeros((32, 32))], threshold=0.6
    )
    assert with_empty == measures.evaluate_localization(maps, masks, threshold=0.6)


def test_patients_widen_the_interval():
    maps, masks = case()
    maps = [m if i < 10 else np.roll(m, 6, axis=0) for i, m in enumerate(maps)]
    alone = measures.evaluate_localization(maps, masks, threshold=0.6).iou
    grouped = measures.evaluate_localization(maps, masks, threshold=0.6, groups=np.arange(20) // 5).iou
    assert grouped.value == alone.value and grouped.high - grouped.low > alone.high - alone.low


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measures.binarize(np.ones(3), 0), "threshold=0"),
        (lambda: measures.iou(np.ones(3), np.ones(4)), r"\(3,\) and \(4,\)"),
        (lambda: measures.pointing_game(np.ones(3), np.ones(3), tolerance=-1), "tolerance=-1"),
        (lambda: measures.boxes(np.ones(3), smallest=0), "smallest=0"),
        (lambda: measures.evaluate_localization([np.ones(3)], [], threshold=0.5), "1 maps, 0 masks"),
        (lambda: measures.evaluate_localization([np.ones(3)], [np.ones(4)], threshold=0.5), r"\(3,\) and \(4,\)"),
        (lambda: measures.choose_threshold([np.ones(3)], [np.ones(4)]), r"\(3,\) and \(4,\)"),
        (lambda: measures.choose_threshold([np.ones(3)], [np.ones(3)], thresholds=[0.5, 1.2]), r"\[0.5, 1.2\]"),
        (lambda: measures.choose_threshold([np.ones(3)], [np.ones(3)], thresholds=[]), r"\[\]"),
        (lambda: means.mean_intervals(np.ones((3, 1)), groups=[1, 2]), "2"),
        (lambda: measures.random_head_iou(np.ones((1, 4, 4, 2)), np.ones((1, 3, 3)), [0]), r"\(1, 3, 3\)"),
        (lambda: measures.random_head_iou(np.ones((1, 4, 4, 2)), np.ones((1, 4, 4)), [0.5]), "float64"),
        (lambda: measures.evaluate_localization([np.ones(3)], [np.zeros(3)], threshold=0.5), "1 empty masks"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
