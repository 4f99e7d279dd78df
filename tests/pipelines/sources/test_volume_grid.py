import itertools

import nibabel
import numpy as np
import pytest
import scipy.ndimage
from scipy.spatial.transform import Rotation

from pipelines.sources.volume.grey import grey_range, to_grey
from pipelines.sources.volume.grid import Grid, Volume, crop_or_pad, orientation_affine, ras_grid, to_image, to_ras
from pipelines.sources.volume.resample import resample, resampled_grid, sample_nearest

ORIENTATIONS = ["".join(c) for p in itertools.permutations(("RL", "AP", "SI")) for c in itertools.product(*p)]


def oblique(rng, spacing, turn=20):
    """Returns an affine of turned axes, each also permuted and mirrored at random."""
    angles = rng.uniform(-turn, turn, 3)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation @ orientation_affine(str(rng.choice(ORIENTATIONS)), spacing)[:3, :3]
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine


def places(grid):
    """Returns the place of every voxel, `(*shape, 3)` in mm."""
    return np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_one_anatomy_in_48_orientations_is_one_array(codes):
    anatomy = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(anatomy, nibabel.affines.from_matvec(np.diag([1, 2, 3]), [7, 8, 9]))
    ornt = nibabel.orientations
    there = ornt.ornt_transform(ornt.axcodes2ornt("RAS"), ornt.axcodes2ornt(codes))
    stored = image.as_reoriented(there)
    assert nibabel.aff2axcodes(stored.affine) == tuple(codes)
    turned = to_ras(Volume(np.asarray(stored.dataobj), stored.affine))
    np.testing.assert_array_equal(turned.array, anatomy)
    np.testing.assert_allclose(turned.affine, image.affine)
    assert np.allclose(orientation_affine(codes, stored.header.get_zooms())[:3, :3], stored.affine[:3, :3])


@pytest.mark.parametrize("seed", range(20))
def test_oblique_volumes_turn_as_nibabel_turns_them(seed):
    rng = np.random.default_rng(seed)
    image = nibabel.Nifti1Image(rng.random((4, 5, 6)), oblique(rng, rng.uniform(0.5, 3, 3), turn=25))
    wanted = nibabel.as_closest_canonical(image)
    turned = to_ras(Volume(image.get_fdata(), image.affine))
    np.testing.assert_array_equal(turned.array, wanted.get_fdata())
    np.testing.assert_allclose(turned.affine, wanted.affine, atol=1e-9)


def test_colours_turn_with_their_voxels():
    colors = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3))
    volume = Volume(colors, orientation_affine("PSL", (1, 1, 1)))
    for channel in range(3):
        np.testing.assert_array_equal(
            to_ras(volume).array[..., channel], to_ras(Volume(colors[..., channel], volume.affine)).array
        )


def test_the_first_voxel_of_an_image_is_upper_front_right():
    array = np.zeros((3, 4, 5))
    array[-1, -1, -1] = 1  # The voxel farthest to the right, the front and the head.
    assert to_image(array).shape == (5, 4, 3) and to_image(array)[0, 0, 0] == 1
    assert to_image(np.zeros((3, 4, 5, 2))).shape == (5, 4, 3, 2)


@pytest.mark.parametrize("seed", range(30))
def test_a_ramp_in_space_stays_itself_at_any_spacing_and_orientation(seed):
    rng = np.random.default_rng(seed)
    grid = Grid(tuple(rng.integers(6, 14, 3)), oblique(rng, rng.uniform(0.5, 4, 3), turn=90))
    slope, offset = rng.normal(size=3), rng.normal()
    turned = to_ras(Volume(places(grid) @ slope + offset, grid.affine))
    result = resample(turned, rng.uniform(0.4, 6, 3))
    index = np.einsum("ij,...j->...i", np.linalg.inv(turned.affine)[:3, :3], places(result.grid) - turned.affine[:3, 3])
    inside = ((index >= -1e-9) & (index <= np.array(turned.array.shape) - 1 + 1e-9)).all(axis=-1)
    wanted = places(result.grid) @ slope + offset
    assert inside.any()
    np.testing.assert_allclose(result.array[inside], wanted[inside], atol=2e-6 * np.abs(turned.array).max())


@pytest.mark.parametrize(("stored", "spacing"), [(12, 1.0), (13, 0.37), (13, 1.5), (40, 2.0), (40, 5.3), (5, 40.0)])
def test_resampling_is_the_mean_of_the_linear_interpolant(stored, spacing):
    line = np.random.default_rng(stored).random(stored).astype(np.float32)
    result = resample(Volume(line.reshape(1, stored, 1), np.eye(4)), (1, spacing, 1))
    centres = result.affine[1, 3] + spacing * np.arange(result.array.shape[1])
    half = np.clip(np.minimum(centres, stored - 1 - centres), 0, max(spacing - 1, 0) / 2)
    steps = np.linspace(-1, 1, 20001)
    wanted = [np.interp(c + h * steps, np.arange(stored), line).mean() for c, h in zip(centres, half, strict=True)]
    np.testing.assert_allclose(result.array.ravel(), wanted, atol=3e-5)
    assert result.array.shape[1] == max(1, round(stored / spacing))
    assert np.isclose(centres.mean(), (stored - 1) / 2)


def test_resampling_keeps_constants_range_and_middle_and_does_not_alias():
    rng = np.random.default_rng(0)
    affine = oblique(rng, (0.7, 1.3, 4.0))
    constant = resample(Volume(np.full((9, 8, 7), 3, np.int16), affine), (2.1, 0.6, 1.0))
    np.testing.assert_allclose(constant.array, 3, rtol=1e-6)
    np.testing.assert_allclose(places(constant.grid).mean((0, 1, 2)), places(Grid((9, 8, 7), affine)).mean((0, 1, 2)))
    board = np.indices((16, 16, 16)).sum(axis=0) % 2
    coarse = resample(Volume(board, np.eye(4)), 4).array
    np.testing.assert_allclose(coarse, 0.5, atol=1e-6)
    noise = rng.random((12, 12, 12)).astype(np.float32)
    for spacing in (0.4, 1.7, 3.0):
        result = resample(Volume(noise, np.eye(4)), spacing).array
        assert noise.min() - 1e-6 <= result.min() and result.max() <= noise.max() + 1e-6
    same = resample(Volume(noise, np.eye(4)), 1.0)
    np.testing.assert_array_equal(same.array, noise)


def test_finer_grids_agree_with_scipy():
    array = np.random.default_rng(0).random((6, 7, 8))
    result = resample(Volume(array, np.diag([2, 1.5, 3, 1])), (0.8, 0.9, 1.1))
    index = np.moveaxis(places(result.grid) / [2, 1.5, 3], -1, 0)
    np.testing.assert_allclose(
        result.array, scipy.ndimage.map_coordinates(array, index, order=1, mode="nearest"), atol=1e-5
    )


@pytest.mark.parametrize("spacing", [0.5, 1.5, (2.0, 1.0, 0.7), 2.4])
def test_a_sphere_keeps_its_volume(spacing):
    rng = np.random.default_rng(1)
    grid = Grid((40, 60, 24), oblique(rng, (1.0, 0.7, 2.0)))
    middle = places(grid).mean((0, 1, 2)) + [1.3, -0.4, 0.9]
    label = np.linalg.norm(places(grid) - middle, axis=-1) <= 16
    result = resample(Volume(label, grid.affine), spacing, nearest=True)
    assert result.array.dtype == bool
    volume = result.array.sum() * np.prod(result.grid.spacing)
    assert volume == pytest.approx(label.sum() * np.prod(grid.spacing), rel=0.02)
    assert volume == pytest.approx(4 / 3 * np.pi * 16**3, rel=0.02)


@pytest.mark.parametrize("turn", [0, 20])
@pytest.mark.parametrize("seed", range(10))
def test_nearest_looks_up_each_place(seed, turn):
    rng = np.random.default_rng(seed)
    labels = Volume(rng.integers(1, 9, (7, 8, 9)), oblique(rng, (1.1, 2.0, 0.9), turn))
    middle = places(labels.grid).mean((0, 1, 2))
    other = ras_grid(Grid((1, 1, 1), oblique(rng, (0.8, 1.0, 1.2), turn))).affine
    other[:3, 3] = middle - other[:3, :3] @ [5.037, 5.113, 5.271]  # No ties.
    result = sample_nearest(labels, Grid((10, 10, 10), other))
    index = np.floor((places(result.grid) - labels.affine[:3, 3]) @ np.linalg.inv(labels.affine[:3, :3]).T + 0.5)
    inside = ((index >= 0) & (index < labels.array.shape)).all(axis=-1)
    clipped = np.clip(index, 0, np.array(labels.array.shape) - 1).astype(int)
    np.testing.assert_array_equal(result.array, np.where(inside, labels.array[tuple(np.moveaxis(clipped, -1, 0))], 0))
    assert inside.any() and not inside.all()


def test_labels_and_images_resample_alike():
    rng = np.random.default_rng(0)
    blob = scipy.ndimage.gaussian_filter(rng.random((20, 24, 30)), 3)
    label = blob > np.median(blob)
    volume = Volume(label, oblique(rng, (1, 1, 1)))
    image, mask = resample(volume, 0.45), resample(volume, 0.45, nearest=True)
    np.testing.assert_array_equal(image.affine, mask.affine)
    sure = np.abs(image.array - 0.5) > 0.4375  # All voxels around say the same by then.
    np.testing.assert_array_equal(mask.array[sure], image.array[sure] > 0.5)


@pytest.mark.parametrize("seed", range(40))
def test_crop_or_pad_takes_what_is_there(seed):
    rng = np.random.default_rng(seed)
    array, shape = rng.random((*rng.integers(1, 9, 3), 2)), tuple(rng.integers(1, 12, 3).tolist())
    centre = rng.uniform(-6, 14, 3) if seed % 2 else None
    result = crop_or_pad(array, shape, centre=centre)
    middle = (np.array(array.shape[:3]) - 1) / 2 if centre is None else centre
    start = np.floor(middle - (np.array(shape) - 1) / 2 + 0.5).astype(int)
    wanted = np.pad(array, [(30, 30)] * 3 + [(0, 0)])
    wanted = wanted[tuple(slice(30 + s, 30 + s + n) for s, n in zip(start, shape, strict=True))]
    np.testing.assert_array_equal(result, wanted)
    assert result.flags.owndata and result.flags.writeable


def test_grey():
    values = np.random.default_rng(0).normal(100, 50, (9, 9, 9))
    low, high = np.percentile(values, (2, 97))
    grey = to_grey(values, *grey_range(values, percentiles=(2, 97)))
    np.testing.assert_allclose(grey, np.clip((values - low) / (high - low), 0, 1), atol=1e-6)
    hounsfield = np.array([-1000, -150, 50, 250, 3000])
    np.testing.assert_allclose(to_grey(hounsfield, *grey_range(hounsfield, window="soft-tissue")), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(to_grey(hounsfield, *grey_range(hounsfield, window=(50, 400))), [0, 0, 0.5, 1, 1])
    spot = np.zeros((20, 20, 20))
    spot[0, 0, 0] = 9  # Below the percentiles, and all that there is.
    assert to_grey(spot, *grey_range(spot)).max() == 1
    assert (to_grey(np.full((2, 2, 2), 7), *grey_range(np.full((2, 2, 2), 7))) == 0).all()


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.diag([1, 1, 0, 1]), "mm long"),
        (np.diag([1, 1, 1e9, 1]), "mm long"),
        (np.diag([1, 1, np.nan, 1]), "finite"),
        (np.diag([1, 1, np.inf, 1]), "finite"),
        (np.diag([1, 1, 1, 2]), "last row"),
        (np.eye(3), "4 x 4"),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "singular"),
    ],
)
def test_a_bad_affine_is_refused(affine, reason):
    with pytest.raises(ValueError, match=f"{reason}.*Received"):
        Grid((2, 2, 2), affine)


@pytest.mark.parametrize(
    "call",
    [
        lambda v: resample(v, 0),
        lambda v: resample(v, (1, 2)),
        lambda v: resample(v, "thin"),
        lambda v: resample(v, float("nan")),
        lambda v: resample(v, 0.01, max_voxels=1000),
        lambda v: resampled_grid(v.grid, -1),
        lambda v: crop_or_pad(v.array, (1, 2)),
        lambda v: crop_or_pad(v.array, (1, 2, 0)),
        lambda v: crop_or_pad(v.array, 3),
        lambda v: crop_or_pad(v.array, (1, 1, 1), centre=(0, np.nan, 0)),
        lambda v: orientation_affine("RAP", (1, 1, 1)),
        lambda v: orientation_affine("RA", (1, 1, 1)),
        lambda v: orientation_affine("XYZ", (1, 1, 1)),
        lambda v: grey_range(v.array, percentiles=(5, 5)),
        lambda v: grey_range(v.array, percentiles=(5,)),
        lambda v: grey_range(v.array, window="marrow"),
        lambda v: Grid((2, 2), np.eye(4)),
    ],
)
def test_a_bad_argument_is_refused(call):
    with pytest.raises(ValueError, match="Received"):
        call(Volume(np.zeros((4, 4, 4)), np.eye(4)))
