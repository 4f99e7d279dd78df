"""Figures of explanations: what is drawn, where, and on which scale."""

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.patches import Circle, Rectangle

from medkeras.explain import (
    Appearance,
    Explanation,
    Fixations,
    explanation_figure,
    field_radius,
    maps_figure,
    receptive_field_figure,
)
from medkeras.explain.figures.planes import planes_through
from medkeras.explain.receptive_field import centre_of_mass

RNG = np.random.default_rng(0)
TITLES = ["fixations", "priority 1", "priority 2", "class map", "magno", "parvo", "konio"]


def uniform(*shape):
    return RNG.uniform(size=shape).astype("float32")


def explanation(grid, count=2, channels=1, **changes):
    places = uniform(count, 2, len(grid)) * 4 + 3
    found = {
        "images": uniform(count, *grid, channels),
        "class_names": ("healthy", "lesion"),
        "probabilities": np.array([[0.1, 0.9], [0.75, 0.25]], "float32")[:count],
        "fixations": Fixations(places, np.stack([places - 2, places + 2], -1), uniform(count, 2, *grid)),
        "class_map": uniform(count, *grid),
        "pathways": {name: uniform(count, *grid) * 5 for name in TITLES[-3:]},
    }
    return Explanation(**found | changes)


def pixels(figure):
    """The rendered figure, so that drawing really happens."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    file.seek(0)
    return imread(file)


@pytest.mark.parametrize(("grid", "rows"), [((12, 16), 1), ((8, 10, 12), 3)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_each_image_has_its_rows_and_panels(grid, rows, channels):
    names, labels = ["a.png", "b.png"], ["lesion", "lesion"]
    figure = explanation_figure(explanation(grid, channels=channels), names=names, labels=labels)
    assert len(figure.subfigs) == 2
    for part in figure.subfigs:
        assert len(part.axes) == rows * len(TITLES)
        assert [ax.get_title() for ax in part.axes[: len(TITLES)]] == TITLES
        assert all(ax.get_aspect() == 1 for ax in part.axes)
    assert [part.get_suptitle() for part in figure.subfigs] == [
        "a.png   true: lesion   predicted: lesion 0.90",
        "b.png   true: lesion   predicted: healthy 0.75",
    ]
    assert np.ptp(pixels(figure)[..., :3]) > 0.9


def test_what_the_model_lacks_is_left_out():
    bare = explanation((12, 12), count=1, fixations=None, class_map=None, pathways={})
    figure = explanation_figure(bare)
    assert [ax.get_title() for ax in figure.subfigs[0].axes] == ["image"]
    assert figure.subfigs[0].get_suptitle() == "predicted: lesion 0.90"
    without_maps = explanation((12, 12), count=1)
    without_maps = explanation(
        (12, 12),
        fixations=Fixations(without_maps.fixations.places, without_maps.fixations.boxes, None),
        count=1,
    )
    titles = [ax.get_title() for ax in explanation_figure(without_maps).subfigs[0].axes]
    assert titles == [title for title in TITLES if "priority" not in title]
    assert explanation_figure(bare, labels=[""]).subfigs[0].get_suptitle().startswith("true: none")


def test_windows_numbers_and_way_are_where_the_model_looked():
    told = explanation((12, 16), count=1)
    ax = explanation_figure(told).subfigs[0].axes[0]
    windows = [p for p in ax.patches if isinstance(p, Rectangle)]
    for window, box in zip(windows, told.fixations.boxes[0], strict=True):
        (top, bottom), (left, right) = box
        np.testing.assert_allclose(window.get_bbox().extents, [left, top, right, bottom], rtol=1e-5)
    assert [t.get_text() for t in ax.texts if t.get_text()] == ["1", "2"]
    arrows = [t for t in ax.texts if not t.get_text()]
    way = [(7.5, 5.5), *(tuple(place[::-1]) for place in told.fixations.places[0])]
    for arrow, start, end in zip(arrows, way[:-1], way[1:], strict=True):
        np.testing.assert_allclose(arrow.xyann, start, rtol=1e-5)
        np.testing.assert_allclose(arrow.xy, end, rtol=1e-5)


def test_maps_keep_their_scale_and_the_class_map_is_clear_where_nothing_speaks():
    told = explanation((12, 12), count=1)
    told.class_map[0, :6] = 0
    axes = explanation_figure(told).subfigs[0].axes
    for ax, name in zip(axes[4:], TITLES[4:], strict=True):
        (shown,) = ax.images
        assert shown.get_clim() == (0, told.pathways[name].max())
        assert ax.texts[0].get_text() == f"max {told.pathways[name].max():.2g}"
    overlay = axes[3].images[1]
    assert np.all(overlay.get_alpha()[:6] == 0) and overlay.get_alpha()[6:].max() > 0.5
    empty = explanation((12, 12), count=1, class_map=np.zeros((1, 12, 12), "float32"))
    assert "no place" in explanation_figure(empty).subfigs[0].axes[3].texts[0].get_text()


def test_the_lesion_is_outlined_to_the_border_and_no_further():
    mask = np.zeros((12, 16), bool)
    mask[2:5, 10:] = True
    figure = explanation_figure(explanation((12, 16), count=1), masks=[mask])
    ax = figure.subfigs[0].axes[0]
    (outline,) = ax.collections
    left, bottom, right, top = outline.get_datalim(ax.transData).extents
    np.testing.assert_allclose([left, right, bottom, top], [9.5, 15.5, 1.5, 4.5])
    assert ax.get_xlim() == (-0.5, 15.5) and ax.get_ylim() == (11.5, -0.5)
    assert all(not ax.collections for ax in figure.subfigs[0].axes[4:])
    assert not explanation_figure(explanation((12, 16), count=1), masks=[~mask & mask]).subfigs[0].axes[0].collections


def test_a_volume_is_cut_through_the_maximum_or_the_last_fixation():
    told = explanation((8, 10, 12), count=1)
    told.class_map[:] /= 2
    told.class_map[0, 2, 7, 4] = 1.0
    axes = explanation_figure(told).subfigs[0].axes
    slices = [told.images[0, 2, ..., 0], told.images[0, :, 7, :, 0], told.images[0, :, :, 4, 0]]
    for row, expected in enumerate(slices):
        shown = axes[row * len(TITLES)].images[0].get_array()
        np.testing.assert_array_equal(shown, expected)
    assert [axes[row * len(TITLES)].get_ylabel() for row in range(3)] == [
        "axial 2",
        "coronal 7",
        "sagittal 4",
    ]
    asked = dataclasses.replace(told, method="occlusion", maps=np.roll(told.class_map, (1, 1), axis=(1, 3)))
    labels = [ax.get_ylabel() for ax in explanation_figure(asked).subfigs[0].axes]
    assert [label for label in labels if label] == ["axial 3", "coronal 7", "sagittal 5"]
    silent = explanation((8, 10, 12), count=1, class_map=np.zeros((1, 8, 10, 12), "float32"))
    first = np.rint(silent.fixations.places[0, -1, 0]).astype(int)
    assert explanation_figure(silent).subfigs[0].axes[0].get_ylabel() == f"axial {first}"


def extent(ax):
    """Width and height of a panel as it is drawn, in inches."""
    ax.figure.figure.draw_without_rendering()
    box = ax.bbox.transformed(ax.figure.figure.dpi_scale_trans.inverted())
    return box.width, box.height


def test_a_volume_is_drawn_in_its_true_proportions():
    # A ball of 8 mm in voxels of 4 x 2 x 1 mm.
    spacing, grid = (4.0, 2.0, 1.0), (10, 20, 40)
    places = np.stack(np.meshgrid(*(np.arange(n) * d for n, d in zip(grid, spacing, strict=True)), indexing="ij"))
    mask = np.linalg.norm(places - np.array([16, 20, 20])[:, None, None, None], axis=0) <= 8
    figure = maps_figure(
        np.ones((1, *grid, 1)), {"a": mask[None]}, masks=[mask], appearance=Appearance(spacing=spacing)
    )
    axes = figure.subfigs[0].axes
    assert [ax.get_ylabel() for ax in axes[::2]] == ["axial 4", "coronal 10", "sagittal 20"]
    # Its 5, 9 and 17 voxels along depth, height and width, in mm.
    sides = {"axial": (18, 17), "coronal": (20, 17), "sagittal": (20, 18)}
    for ax, (down, across) in zip(axes, np.repeat(list(sides.values()), 2, axis=0), strict=True):
        width, height = extent(ax)
        assert height / width == pytest.approx(1.0, abs=0.01)  # 40 mm to each side.
        (outline,) = ax.collections
        corners = ax.transData.transform(outline.get_datalim(ax.transData).get_points())
        assert np.ptp(corners, axis=0) / (ax.bbox.width / 40) == pytest.approx((across, down), abs=0.1)
    even = maps_figure(np.ones((1, *grid, 1)), {"a": mask[None]}).subfigs[0].axes
    assert [round(np.divide(*extent(ax)), 2) for ax in even[::2]] == [2, 4, 2]


def test_opacity_and_contours():
    told = explanation((12, 12), count=1)
    told.class_map[:] = np.linspace(0, 1, 12)[None, :, None]
    for opacity in (0.0, 0.5):
        ax = explanation_figure(told, appearance=Appearance(opacity=opacity)).subfigs[0].axes[3]
        assert ax.images[1].get_alpha().max() == pytest.approx(opacity) and not ax.collections
    ax = explanation_figure(told, appearance=Appearance(contours=(0.5,))).subfigs[0].axes[3]
    (line,) = ax.collections
    _, top, _, bottom = line.get_datalim(ax.transData).extents
    assert top == pytest.approx(5.5) and bottom == pytest.approx(11.5)  # Half of the maximum, closed at the border.
    assert (
        not explanation_figure(
            explanation((12, 12), class_map=np.zeros((1, 12, 12)), count=1), appearance=Appearance(contours=(0.5,))
        )
        .subfigs[0]
        .axes[3]
        .collections
    )


def test_any_map_and_any_image_can_be_drawn():
    values = np.linspace(-1, 2, 16).reshape(1, 4, 4)
    values[0, 0, 1] = np.nan
    values[0, 0, 2] = np.inf
    image = uniform(1, 4, 4, 2)
    figure = maps_figure(image, {"a": values}, appearance=Appearance(contours=(0.8, 0.3)))
    whole, laid = (ax.images[-1] for ax in figure.subfigs[0].axes)
    np.testing.assert_allclose(whole.get_array(), image[0].mean(axis=-1))  # Neither grey nor of colours.
    expected = np.maximum(values[0], 0) / 2
    expected[0, :3] = 0
    np.testing.assert_allclose(laid.get_array(), expected)
    assert [line.levels.tolist() for line in figure.subfigs[0].axes[1].collections] == [[0.3, 0.8]]


def test_several_maps_of_an_image_stand_side_by_side():
    images, mask = uniform(2, 12, 16, 3), np.zeros((12, 16), bool)
    mask[3:6, 4:9] = True
    figure = maps_figure(
        images, {"a": uniform(2, 12, 16), "b": -uniform(2, 12, 16)}, names=["x", "y"], masks=[mask, None]
    )
    assert [part.get_suptitle() for part in figure.subfigs] == ["x", "y"]
    first, second = ([ax for ax in part.axes] for part in figure.subfigs)
    assert [ax.get_title() for ax in first] == ["image", "a", "b"]
    assert all(len(ax.collections) == 1 for ax in first) and not any(ax.collections for ax in second)
    assert [len(ax.texts) for ax in second] == [0, 0, 1]  # A map that is negative everywhere says so.


def test_a_long_title_is_wrapped_within_the_figure():
    name = "a scan whose name goes on and on_" * 4 + ".png"
    figure = maps_figure(uniform(2, 12, 16, 3), {"a": uniform(2, 12, 16)}, names=[name, "b.png"])
    figure.draw_without_rendering()
    long, short = (part._suptitle for part in figure.subfigs)
    assert "".join(long.get_text().split()) == "".join(name.split()) and short.get_text() == "b.png"
    for title, part in ((long, figure.subfigs[0]), (short, figure.subfigs[1])):
        box = title.get_window_extent()
        assert 0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y0 >= part.axes[0].get_window_extent().y1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opacity": 1.5}, "opacity=1.5"),
        ({"contours": (0.5, 1.0)}, "contours="),
        ({"spacing": (1.0, 0.0)}, "spacing="),
        ({"spacing": (1.0, np.nan)}, "spacing="),
        ({"spacing": (1.0, 1.0, 1.0)}, "each of 2 axes"),
    ],
)
def test_bad_appearance_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        maps_figure(np.ones((1, 8, 8, 1)), {"a": np.ones((1, 8, 8))}, appearance=Appearance(**options))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"maps": {}}, "a map to draw"),
        ({"maps": {"a": np.ones((1, 8, 9))}}, "of shape"),
        ({"names": ["x", "y"]}, "2 names"),
        ({"masks": [np.ones((4, 4), bool)]}, "image grid"),
    ],
)
def test_maps_of_other_images_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        maps_figure(np.ones((1, 8, 8, 1)), **{"maps": {"a": np.ones((1, 8, 8))}} | given)


@pytest.mark.parametrize(("grid", "rows"), [((20, 24), 1), ((12, 14, 16), 3)])
def test_receptive_fields_have_their_radius(grid, rows):
    fields = {name: uniform(*grid) ** 4 for name in ("magno", "parvo", "konio")}
    figure = receptive_field_figure(fields)
    axes = figure.axes[: 3 * rows]
    for column, (name, field) in enumerate(fields.items()):
        radius = field_radius(field)
        assert axes[column].get_title() == f"{name}: radius {radius:.1f} px"
        planes = planes_through(grid, centre_of_mass(field))
        for row, plane in enumerate(planes):
            ax = axes[row * 3 + column]
            (circle,) = (p for p in ax.patches if isinstance(p, Circle))
            down, across = centre_of_mass(field)[list(plane.axes)]
            assert circle.center == (across, down) and circle.radius == radius
            np.testing.assert_array_equal(ax.images[0].get_array(), plane.cut(field))
    assert np.ptp(pixels(figure)[..., :3]) > 0.9


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"names": ["a"]}, "1 names"),
        ({"labels": ["a", "b", "c"]}, "3 labels"),
        ({"masks": [np.ones((3, 3), bool), None]}, r"mask of shape \(3, 3\)"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        explanation_figure(explanation((12, 12)), **options)
    with pytest.raises(ValueError, match="Received: fields={}"):
        receptive_field_figure({})
