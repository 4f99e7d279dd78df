"""Effective receptive fields against the theoretical ones."""

import numpy as np
import pytest

import medkeras
from medkeras.explain import effective_receptive_field, field_radius
from medkeras.models.focusnet.pathways import PATHWAYS

SHAPES = {"focusnet2d_tiny": (28, 28, 1), "focusnet3d_tiny": (16, 16, 16, 1)}


def create(name, **options):
    return medkeras.models.create(name, input_shape=SHAPES[name], num_classes=2, **options)


def theoretical(model, pathway):
    """First and last pixel that the centre unit can see, along one axis: convolutions widen, pools double."""
    block, length = model.get_layer("pathways"), model.image_shape[0]
    stages = block.pathways[pathway]
    grid = length // 2 ** len(stages)
    first = last = (block.pooled or grid) // 2
    if block.pooled:
        first, last = first * grid // block.pooled, (last + 1) * grid // block.pooled - 1
    for stage in reversed(stages):
        first, last = 2 * first, 2 * last + 1
        margin = sum(kernel // 2 for kernel, *_ in stage)
        first, last = first - margin, last + margin
    return max(first, 0), min(last, length - 1)


@pytest.mark.parametrize(
    ("name", "options", "samples"),
    [
        ("focusnet2d_tiny", {"depth": 1}, 64),
        ("focusnet2d_tiny", {"depth": 2}, 16),
        ("focusnet2d_tiny", {"compat": "repaired"}, 64),
        ("focusnet3d_tiny", {"depth": 1}, 16),
        ("focusnet3d_tiny", {"depth": 2}, 4),
    ],
)
def test_nothing_outside_the_theoretical_field(name, options, samples):
    model = create(name, **options)
    for pathway in PATHWAYS:
        field = effective_receptive_field(model, pathway, samples=samples)
        first, last = theoretical(model, pathway)
        inside = np.zeros(field.shape, bool)
        inside[(slice(first, last + 1),) * field.ndim] = True
        assert field.shape == model.image_shape[:-1]
        assert field.max() == 1.0 and field.min() == 0.0
        assert not field[~inside].any()
        if options.get("depth") == 1:  # One convolution deep, the edge itself is reached.
            seen = np.argwhere(field > 0)
            assert (seen.min(), seen.max()) == (first, last)


@pytest.mark.parametrize("name", SHAPES)
def test_the_largest_kernel_sees_widest(name):
    model = create(name, depth=1)
    radius = {p: field_radius(effective_receptive_field(model, p, samples=16)) for p in PATHWAYS}
    assert radius["magno"] > radius["konio"] > radius["parvo"]


def test_the_field_is_the_mean_gradient_of_the_seeded_noise():
    model = create("focusnet2d_tiny")
    field = effective_receptive_field(model, "magno", samples=9, seed=3)
    np.testing.assert_array_equal(field, effective_receptive_field(model, "magno", samples=9, seed=3))
    assert np.abs(field - effective_receptive_field(model, "magno", samples=9, seed=4)).max() > 1e-3
    # Moving one pixel inside the field moves the centre unit, one outside does not.
    maps_of = model.tensors("magno")
    image = np.random.default_rng(0).uniform(size=(1, 28, 28, 1)).astype("float32")
    centre = np.asarray(maps_of(image)["magno"])[0, 3, 3]
    for place, is_seen in ((np.unravel_index(field.argmax(), field.shape), True), ((0, 0), False)):
        moved = image.copy()
        moved[(0, *place)] += 0.5
        change = np.abs(np.asarray(maps_of(moved)["magno"])[0, 3, 3] - centre).max()
        assert (change > 1e-6) == is_seen


def test_a_dead_unit_has_no_field():
    model = create("focusnet2d_tiny")
    for weight in model.get_layer("pathways").weights:
        weight.assign(np.zeros(weight.shape))
    field = effective_receptive_field(model, "parvo", samples=2)
    assert not field.any() and field_radius(field) == 0.0


@pytest.mark.parametrize("rank", [2, 3])
def test_radius_of_a_ball(rank):
    places = np.indices([41] * rank)
    distances = np.sqrt(sum((axis - 20.0) ** 2 for axis in places))
    ball = (distances <= 15).astype("float32")
    assert field_radius(ball, share=1.0) == 15.0
    assert field_radius(ball) == pytest.approx(15 * 0.9 ** (1 / rank), abs=0.3)
    # Scale and place do not matter.
    shifted = np.roll(ball, 4, axis=0) * 7
    assert field_radius(shifted) == pytest.approx(field_radius(ball), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"pathway": "retina"}, "'retina'"),
        ({"pathway": "fixations"}, "pathway='fixations'"),
        ({"pathway": "logits"}, "pathway='logits'"),
        ({"pathway": "magno", "samples": 0}, "samples=0"),
    ],
)
def test_wrong_arguments_state_the_rule(arguments, text):
    model = create("focusnet2d_tiny")
    with pytest.raises(ValueError, match="Received: .*" + text):
        effective_receptive_field(model, **arguments)
    with pytest.raises(ValueError, match="Received: share=0"):
        field_radius(np.ones((3, 3)), share=0)
