import dataclasses

import cv2
import numpy as np
import pandas as pd
import pytest

from pipelines.images.decode import fit, read_image
from pipelines.images.records import Records
from pipelines.preprocess import (
    PREPROCESSING,
    Clahe,
    FundusCrop,
    FundusNormalize,
    Percentile,
    Square,
    apply,
    name_of,
    parse,
    preprocess,
)
from pipelines.preprocess.disc import Disc, find_disc
from pipelines.preprocess.fundus import _local_average
from pipelines.sources import open_source

STEPS = [kind() for kind in PREPROCESSING.values()]
TYPES = [np.uint8, np.uint16, np.float32]


def as_type(values, dtype):
    """Values in [0, 1] as a stored image of some type."""
    return values.astype(dtype) if dtype == np.float32 else np.rint(values * np.iinfo(dtype).max).astype(dtype)


def retina(shape, disc, *, rng=None, level=0.6, vignette=0.5, haze=0.0, writing=False, dark_side=False):
    """A fundus photograph: a disc that darkens towards its rim, with noise, a notch and what else is asked for."""
    rng = rng or np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - disc.row, columns - disc.column) / disc.radius
    shade = level * (1 - vignette * distance**2) * np.where(dark_side & (columns < disc.column), 0.5, 1)
    image = cv2.GaussianBlur(np.where(distance <= 1, shade, haze), (0, 0), 0.8)
    notch = round(disc.column + 0.75 * disc.radius), round(disc.row - 0.66 * disc.radius)
    cv2.circle(image, notch, round(0.06 * disc.radius), 0.4, -1)
    if writing:
        text = cv2.putText(np.zeros(shape, np.uint8), "OD 7.5", (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
        image = np.maximum(image, text / 255)
    image = np.clip(image + rng.normal(0, 0.01, shape), 0, 1)
    return as_type(np.stack([image, 0.5 * image, 0.2 * image], axis=-1), np.uint8)


def assert_near(disc, wanted, pixels):
    np.testing.assert_allclose(disc, wanted, atol=pixels)


# The contract of every step


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (40, 31), (40, 31, 1), (40, 31, 3), (1, 50, 3)])
def test_every_step_keeps_type_axes_and_range_and_leaves_its_input(step, dtype, shape):
    image = as_type(np.random.default_rng(0).random(shape), dtype)
    before = image.copy()
    changed = step(image)
    assert changed.dtype == dtype and changed.ndim == image.ndim and changed.shape[2:] == image.shape[2:]
    assert changed.max() <= (1 if dtype == np.float32 else np.iinfo(dtype).max) and changed.min() >= 0
    assert step.moves or changed.shape == image.shape
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(step(image), changed)


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_every_step_keeps_a_constant_image_constant(step, value):
    assert np.ptp(step(np.full((24, 24), value, np.float32))) < 1e-6


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4,), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 4), np.int16),
        np.full((4, 4), np.nan),
        np.full((4, 4), 1.5),
    ],
)
def test_what_is_no_image_is_refused(step, image):
    with pytest.raises(ValueError, match="Received"):
        step(image)


@pytest.mark.parametrize("step", [FundusCrop(), FundusNormalize(), Clahe()], ids=str)
def test_steps_for_images_refuse_volumes_and_other_channels(step):
    with pytest.raises(ValueError, match=f"{step.name} takes an image, .*Received: rank 3"):
        step(np.zeros((4, 4, 4), np.uint8), rank=3)
    with pytest.raises(ValueError, match=f"{step.name} takes 1 or 3 channels. Received: 2"):
        step(np.zeros((20, 20, 2), np.uint8))


# Fundus photographs


def test_the_disc_is_found_within_two_pixels():
    rng = np.random.default_rng(0)
    for _ in range(40):
        height, width = rng.integers(120, 400, 2)
        side = min(height, width)
        centre = np.array([height, width]) * rng.uniform(0.45, 0.55, 2)
        disc = Disc(*centre, rng.uniform(0.3, 0.55) * side)
        look = {"level": rng.uniform(0.3, 1), "vignette": rng.uniform(0, 0.6), "haze": rng.choice([0, 0.03])}
        look |= {"writing": bool(rng.integers(2)), "dark_side": bool(rng.integers(2))}
        found = find_disc(retina((height, width), disc, rng=rng, **look))
        assert found is not None, (disc, look)
        assert_near(found, disc, 2)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_disc_of_a_large_image_is_found_to_half_a_pixel_in_every_type(dtype, channels):
    disc = Disc(402.3, 510.8, 340.4)
    image = as_type(retina((800, 1000), disc)[..., :channels] / 255, dtype)
    assert_near(find_disc(image), disc, 0.5)


@pytest.mark.parametrize("disc", [Disc(100.0, 150.0, 120.0), Disc(100.0, 150.0, 100.0), Disc(90.0, 20.0, 80.0)])
def test_a_disc_cut_by_the_sides_comes_out_round_with_black_beyond(disc):
    image = retina((200, 300), disc, vignette=0.2)
    cropped = FundusCrop(margin=0.1)(image)
    side = 2 * 1.1 * disc.radius + 1
    assert cropped.shape[0] == cropped.shape[1] and abs(cropped.shape[0] - side) <= 2
    assert not cropped[~Disc(side / 2, side / 2, 1.1 * disc.radius + 3).inside(cropped.shape)].any()
    middle = cropped.shape[0] // 2
    np.testing.assert_array_equal(cropped[middle, middle], image[round(disc.row), round(disc.column)])
    again = FundusCrop(margin=0.1)(cropped)
    assert abs(again.shape[0] - cropped.shape[0]) <= 2  # What is cut already stays as it is.


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((100, 100, 3), np.uint8),
        np.full((100, 100, 3), 255, np.uint8),
        np.zeros((1, 1), np.uint8),
        retina((100, 120), Disc(50.0, 60.0, 500.0)),
        np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8),
        cv2.rectangle(np.zeros((100, 140, 3), np.uint8), (20, 20), (110, 80), (200, 90, 40), -1),
    ],
    ids=["black", "white", "1x1", "within the retina", "noise", "rectangle"],
)
def test_without_a_disc_the_image_is_kept_or_refused(image):
    np.testing.assert_array_equal(FundusCrop()(image), image)
    mask = image.reshape(*image.shape[:2], -1)[..., 0] > 0
    np.testing.assert_array_equal(FundusCrop().on_mask(mask, image), mask)
    assert FundusNormalize()(image).shape == image.shape
    for kind in (FundusCrop, FundusNormalize):
        with pytest.raises(ValueError, match="needs a bright disc"):
            kind(absent="raise")(image)


def test_other_images_have_no_disc(real_data):
    files = sorted((real_data / "busi" / "images").rglob("*.png"))[::60]
    files += sorted((real_data / "nih_cxr_1000" / "images").glob("*.png"))[::80]
    images = [read_image(path) for path in files]
    assert len(images) > 20
    assert [find_disc(image if image.ndim == 3 else image[..., None]) for image in images] == [None] * len(images)


@pytest.fixture(scope="module")
def idrid(real_data):
    """Records of real fundus photographs with lesion masks."""
    images = sorted((real_data / "idrid_seg20" / "images").glob("*.jpg"))
    ids = [path.stem for path in images]
    return Records(
        name="idrid",
        task="binary",
        class_names=("no", "yes"),
        table=pd.DataFrame({"id": ids, "patient": ids, "split": ""}),
        labels=np.ones(len(ids), np.int32),
        read=lambda i: read_image(images[i]),
        read_mask=lambda i: read_image(images[i].parents[1] / "masks" / f"{ids[i]}.png") > 0,
    )


def test_real_retinas_of_one_camera_have_one_radius(idrid):
    """Two fields of view were used: within each, every image is measured on its own and must agree."""
    radii = np.sort([find_disc(idrid.read(i)).radius for i in range(len(idrid))])
    wide = radii > 450
    assert wide.sum() == 2 and np.ptp(radii[wide]) < 1 and np.ptp(radii[~wide]) < 1


def test_lesions_stay_on_the_same_retina(idrid):
    """The colours under the mask, pixel by pixel, are those of before: no lesion is lost, even on the rim."""
    cut = preprocess(idrid, ["fundus-crop"])
    for i in range(1, len(idrid), 2):  # Two of them have lesions on the rim.
        image, mask = idrid.read(i), idrid.read_mask(i)
        cropped, moved = cut.read(i), cut.read_mask(i)
        assert moved.dtype == bool and moved.shape == cropped.shape[:2] and mask.any()
        np.testing.assert_array_equal(cropped[moved], image[mask])
        offset = np.argwhere(moved)[0] - np.argwhere(mask)[0]
        np.testing.assert_array_equal(np.argwhere(moved), np.argwhere(mask) + offset)


def test_the_local_average_is_that_of_the_pixels_inside():
    """The twin sums over all pixels with Gaussian weights; the smaller image costs under half a grey level."""
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.random((9, 12, 3)), (240, 180), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    inside = Disc(80.0, 110.0, 100.0).inside(smooth.shape)
    colours = (smooth * inside[..., None]).astype(np.float32)
    for sigma, tolerance in ((3.0, 1e-3), (14.0, 0.5 / 255)):
        average = _local_average(colours, inside, sigma)
        for row, column in ((80, 110), (20, 60), (150, 130), (90, 12)):
            weights = np.exp(-((np.arange(180)[:, None] - row) ** 2) / (2 * sigma**2)) * inside
            weights = weights * np.exp(-((np.arange(240) - column) ** 2) / (2 * sigma**2))
            wanted = np.tensordot(weights, colours, 2) / weights.sum()
            np.testing.assert_allclose(average[row, column], wanted, atol=tolerance)


def test_normalisation_evens_out_the_light_and_keeps_detail():
    disc = Disc(150.0, 200.0, 140.0)
    rows, columns = np.mgrid[:300, :400]
    light = 0.3 + 0.4 * columns / 400
    spots = 0.05 * ((rows % 40 < 4) & (columns % 40 < 4))
    inside = disc.inside((300, 400))
    image = np.where(inside, light + spots, 0).astype(np.float32)
    normal = FundusNormalize()(image)
    assert (normal[~inside] == 0.5).all()
    core = Disc(150.0, 200.0, 130.0).inside((300, 400))
    plain = core & (cv2.dilate(spots, np.ones((31, 31))) == 0)
    np.testing.assert_allclose(normal[plain], 0.5, atol=0.02)
    assert normal[core & (spots > 0)].min() > 0.6
    np.testing.assert_allclose(normal[inside & ~core], 0.5, atol=0.25)  # No bright rim, as a plain blur would make.


def test_normalisation_leaves_out_the_black_of_a_cut_disc(idrid):
    """A black band above the retina neither counts as retina nor brightens what lies below it."""
    cropped = FundusCrop()(idrid.read(0))
    normal = FundusNormalize()(cropped).astype(float)
    middle = cropped.shape[1] // 2
    first = np.flatnonzero(cropped[:, middle].max(axis=-1) > 40)[0]
    assert first > 20 and (np.abs(normal[: first - 2, middle] - 127.5) < 1).all()
    band = normal[first + 3 : first + 20, middle - 100 : middle + 100].mean()
    assert abs(band - 127.5) < 15


# Contrast


def smooth_grey(seed=0, shape=(150, 130)):
    return cv2.resize(np.random.default_rng(seed).random((8, 8)), shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)


@pytest.mark.parametrize(
    "step", [Clahe(), Clahe(clip=4.0, tiles=5), Clahe(clip=0.1, tiles=3), Clahe(clip=1e6, tiles=1)]
)
def test_clahe_of_16_bits_and_floats_is_that_of_opencv(step):
    """OpenCV has it for 8 bits; ours for finer types is within one of its levels."""
    grey = as_type(smooth_grey(), np.uint8)[:150, :120]
    wanted = step(grey).astype(float)
    np.testing.assert_allclose(step(grey.astype(np.uint16) * 257) / 257, wanted, atol=1.01)
    np.testing.assert_allclose(step((grey / 255).astype(np.float32)) * 255, wanted, atol=1.01)
    if not any(size % step.tiles for size in grey.shape):
        opencv = cv2.createCLAHE(step.clip, (step.tiles, step.tiles)).apply(grey)
        np.testing.assert_array_equal(step(grey), opencv)


def test_clahe_does_not_blow_up_the_noise_of_16_bit_images():
    """The limit holds: contrast grows by at most its factor (and rounding), where OpenCV's 16 bits give 39."""
    noise = (20000 + np.random.default_rng(0).normal(0, 300, (256, 256))).astype(np.uint16)
    assert Clahe(clip=2.0)(noise).std() < 4 * noise.std()
    assert cv2.createCLAHE(2.0, (8, 8)).apply(noise).std() > 30 * noise.std()


def test_clahe_with_one_tile_is_monotone_and_fills_the_range():
    grey = smooth_grey().astype(np.float32) * 0.2 + 0.4
    equal = Clahe(clip=1e6, tiles=1)(grey)
    order = np.argsort(grey, axis=None)
    assert (np.diff(equal.ravel()[order]) >= -1e-6).all()
    assert np.ptp(equal) > 0.95 > 4 * np.ptp(grey)


@pytest.mark.parametrize("dtype", TYPES)
def test_clahe_of_colours_changes_the_lightness_alone(dtype):
    hue = np.array([0.8, 0.45, 0.3])
    colours = (0.35 + 0.3 * smooth_grey()[..., None]) * hue
    equal = Clahe(clip=3.0)(as_type(colours, dtype))
    lab = [cv2.cvtColor(x.astype(np.float32), cv2.COLOR_RGB2LAB) for x in (colours, fit(equal, equal.shape))]
    assert lab[1][..., 0].std() > 1.3 * lab[0][..., 0].std()
    assert np.abs(lab[1] - lab[0])[..., 1:].mean() < 1.5  # Of 256; bytes round.


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(30, 20), (30, 20, 3), (9, 30, 20), (9, 30, 20, 2)])
def test_percentile_is_numpys(dtype, shape):
    rank = 3 if shape[0] == 9 else 2
    image = as_type(np.random.default_rng(0).beta(2, 5, shape), dtype)
    low, high = np.percentile(image.astype(float), [5, 90])
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    wanted = np.clip((image.astype(float) - low) / (high - low), 0, 1) * top
    step = Percentile(low=5.0, high=90.0)
    np.testing.assert_allclose(step(image, rank=rank), wanted, atol=1e-5 if top == 1 else 0.5)


# Padding


@pytest.mark.parametrize("fill", ["zero", "edge"])
@pytest.mark.parametrize("shape", [(5, 9), (9, 4, 3), (4, 7, 9), (9, 2, 5, 2), (6, 6)])
def test_square_is_numpys_pad_with_the_content_in_the_middle(fill, shape):
    rank = 3 if shape in ((4, 7, 9), (9, 2, 5, 2)) else 2
    image = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    side = max(shape[:rank])
    widths = [((side - n) // 2, (side - n) - (side - n) // 2) for n in shape[:rank]] + [(0, 0)] * (len(shape) - rank)
    wanted = np.pad(image, widths, mode="edge" if fill == "edge" else "constant")
    np.testing.assert_array_equal(Square(fill=fill)(image, rank=rank), wanted)
    mask = np.ones(shape[:rank], bool)
    np.testing.assert_array_equal(Square(fill=fill).on_mask(mask, image), np.pad(mask, widths[:rank]))


# Names


@pytest.mark.parametrize(
    "step",
    [
        *STEPS,
        FundusCrop(absent="raise"),
        Clahe(clip=0.1 + 0.2, tiles=3),
        Clahe(clip=3),
        Percentile(low=1e-7),
        Square("edge"),
    ],
    ids=str,
)
def test_a_name_gives_the_step_back(step):
    assert parse(name_of(step)) == step and parse(step) is step
    assert name_of(parse(name_of(step))) == name_of(parse(name_of(parse(name_of(step)))))
    for field in dataclasses.fields(step):
        assert f"{field.name}=" in name_of(step)  # A default may change, a config must not.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "one of fundus-crop, fundus-normalize, clahe, percentile, square"),
        ("clache", "one of fundus-crop"),
        ("clahe:", "takes the options clip, tiles"),
        ("clahe:limit=2", "takes the options clip, tiles"),
        ("clahe:clip", "`clip` of clahe is of type float"),
        ("clahe:tiles=2.5", "`tiles` of clahe is of type int"),
        ("clahe:clip=2,clip=3", "stands once"),
        ("clahe:clip=nan", "`clip` must be > 0"),
        ("clahe:clip=inf", "`clip` must be > 0"),
        ("clahe:tiles=0", "`tiles` must be >= 1"),
        ("percentile:low=60,high=40", "low < high"),
        ("percentile:high=101", "low < high"),
        ("square:fill=white", "one of zero, edge"),
        ("fundus-crop:margin=1", "`margin` must be in"),
        ("fundus-crop:absent=skip", "one of keep, raise"),
        ("fundus-normalize:absent=", "one of keep, raise"),
        (None, "a name or one of its types"),
        (lambda image: image, "a name or one of its types"),
    ],
)
def test_an_unknown_name_or_option_lists_the_valid_ones(text, reason):
    with pytest.raises(ValueError, match=f"{reason}.*Received"):
        parse(text)


def test_a_step_without_a_name_has_none_to_give():
    with pytest.raises(ValueError, match="type of PREPROCESSING"):
        name_of(lambda image: image)


# Records


def test_records_apply_steps_in_order_and_keep_the_rest(tmp_path):
    for name, shape in (("a/1.png", (20, 30)), ("b/2.png", (16, 40))):
        (tmp_path / name).parent.mkdir()
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    records = open_source(tmp_path)
    steps = ["percentile:low=5,high=95", Square("edge"), "clahe:tiles=2"]
    changed = preprocess(records, steps)
    for i in range(2):
        one_by_one = Clahe(tiles=2)(Square("edge")(Percentile(5.0, 95.0)(records.read(i))))
        np.testing.assert_array_equal(changed.read(i), one_by_one)
        np.testing.assert_array_equal(apply(records.read(i), steps), one_by_one)
        names = "+percentile:low=5.0,high=95.0+square:fill=edge+clahe:clip=2.0,tiles=2"
        assert changed.fingerprint(i) == records.fingerprint(i) + names
    assert changed.read_shape is None and changed.read_mask is None and changed.table is records.table
    assert preprocess(records, ["clahe"]).read_shape(1) == (16, 40, 1)
    assert preprocess(records, []) is records
    np.testing.assert_array_equal(changed.select([1]).read(0), changed.read(1))


def test_masks_go_along_in_two_and_three_dimensions():
    for name in ("phantom:binary", "phantom:binary3d"):
        records = open_source(name, images=4, size=16)
        halves = (slice(0, 16),) * (records.rank - 1) + (slice(3, 13),)
        narrow = dataclasses.replace(
            records,
            read=lambda i, r=records, h=halves: r.read(i)[h],
            read_mask=lambda i, r=records, h=halves: r.read_mask(i)[h],
        )
        changed = preprocess(narrow, ["percentile", "square", "percentile"])
        for i in range(4):
            assert changed.read_mask(i).shape == changed.read(i).shape == (16,) * records.rank
            np.testing.assert_array_equal(changed.read_mask(i)[halves], narrow.read_mask(i))
            assert changed.read_mask(i).sum() == narrow.read_mask(i).sum()


def test_a_mask_off_the_grid_is_refused():
    with pytest.raises(ValueError, match="grid of its image"):
        Square().on_mask(np.zeros((4, 5), bool), np.zeros((5, 4, 3), np.uint8))


def test_steps_that_do_not_fit_are_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="clahe takes an image"):
        preprocess(open_source("phantom:binary3d", images=4, size=16), ["clahe"])
    with pytest.raises(ValueError, match="one of fundus-crop"):
        preprocess(open_source("phantom", images=4), ["nothing"])


def test_an_image_that_a_step_refuses_is_named():
    records = open_source("phantom", images=4)
    dark = dataclasses.replace(records, read=lambda i: np.zeros((64, 64), np.uint8))
    changed = preprocess(dark, ["fundus-crop:absent=raise"])
    for read in (changed.read, changed.read_mask):
        with pytest.raises(ValueError, match=f"Cannot preprocess {records.table['id'][2]}: fundus-crop needs"):
            read(2)
