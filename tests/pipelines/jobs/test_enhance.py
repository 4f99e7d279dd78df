"""The enhance job: images of any depth, datasets, an interrupted one that goes on, and one line for bad input."""

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

import ldm_files
import medkeras
from medkeras.super_resolution.enhancement.regions import RegionRule
from medkeras.super_resolution.interpolated import Interpolation
from pipelines.cli.main import main
from pipelines.enhancement.place import window_of
from pipelines.images.decode import fit, read_image
from pipelines.io.run_folder import RunFolder
from pipelines.jobs import enhance as job
from pipelines.jobs.enhance import Enhancement, enhance_run
from pipelines.preprocess import apply
from pipelines.sources import open_source
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from tiny_model import TinyNet
from untrained_run import write_run

NAMES = ("healthy", "lesion")
SMALL = Enhancement(rule=RegionRule(smallest=16), steps=2)


def make_run(path, model, **config):
    config = {"source_options": {"images": 18}, "image_size": 32} | config
    return write_run(TrainConfig(data="phantom", model="vit_tiny", run=str(path), **config), model)


def vit(**options):
    keras.utils.set_random_seed(0)  # Of other weights, the regions may cover a small image whole.
    options = {"patch": 8, "units": 8, "depth": 2, "heads": 2, "hidden": 16, "class_names": NAMES} | options
    return medkeras.models.create("vit_tiny", input_shape=(32, 32, 1), num_classes=2, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "first", vit())


def write_image(path, kind=np.uint8, top=255, shape=(40, 56), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, top + 1, shape).astype(kind))
    return path


def outside(shape, boxes):
    """Where no region is."""
    found = np.ones(shape[:2], bool)
    for top, left, bottom, right in boxes[["top", "left", "bottom", "right"]].to_numpy():
        found[top:bottom, left:right] = False
    return found


@pytest.mark.parametrize(
    ("kind", "top", "shape", "suffix"),
    [
        (np.uint8, 255, (40, 56), ".png"),
        (np.uint16, 4095, (57, 40), ".png"),
        (np.uint16, 65535, (40, 40), ".tif"),
        (np.uint8, 255, (48, 40, 3), ".png"),
        (np.uint16, 4095, (40, 48, 3), ".tif"),
    ],
)
def test_an_image_keeps_its_type_and_what_lies_outside_of_regions(run, tmp_path, kind, top, shape, suffix):
    path = write_image(tmp_path / f"a{suffix}", kind, top, shape)
    table = enhance_run(run.path, [path], tmp_path / "out", upscaler="bicubic", how=SMALL, samples=0)
    before, after = read_image(path), read_image(tmp_path / "out" / table["output"][0])
    boxes = pd.read_csv(tmp_path / "out" / "regions.csv")
    kept = outside(shape, boxes)
    assert (after.dtype, after.shape) == (before.dtype, before.shape) and after.max() <= before.max()
    assert table["regions"][0] == len(boxes) > 0 and kept.any() and not kept.all()
    np.testing.assert_array_equal(after[kept], before[kept])
    assert (after[~kept] != before[~kept]).mean() > 0.5


@pytest.mark.parametrize("value", [0, 4095])
def test_a_constant_image_stays_as_it_is(run, tmp_path, value):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 40), value, np.uint16))
    enhance_run(run.path, [tmp_path / "a.png"], tmp_path / "out", upscaler="bicubic", how=SMALL)
    assert (read_image(tmp_path / "out" / "images" / "a.png") == value).all()


def test_a_folder_keeps_its_order_and_gets_pictures(run, tmp_path):
    for i, name in enumerate(("a/one.png", "a/b/two.bmp", "three.png")):
        write_image(tmp_path / "in" / name, seed=i)
    table = enhance_run(run.path, [tmp_path / "in"], tmp_path / "out", upscaler="lanczos", how=SMALL, samples=2)
    assert table["output"].tolist() == ["images/a/b/two.bmp.png", "images/a/one.png", "images/three.png"]
    assert (table["seconds"] >= 0).all() and table["file"][2] == str(tmp_path / "in" / "three.png")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "enhanced.csv"), table)
    for kind in ("figures", "maps"):
        drawn = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out" / kind).rglob("*.png"))
        assert drawn == [f"{kind}/a/b/two.bmp.png", f"{kind}/a/one.png"]
        assert all(cv2.imread(str(tmp_path / "out" / path)).std() > 10 for path in drawn)


def test_a_dataset_becomes_a_source_of_its_own(run, tmp_path):
    enhance_run(run.path, (), tmp_path / "out", upscaler="bicubic", how=SMALL, split="all", samples=0)
    again = open_source(str(tmp_path / "out" / "index.csv"))
    first = load_data(TrainConfig.from_run(run)).records
    assert len(again) == 18 and again.class_names == NAMES
    for split, records in first.items():
        rows = np.flatnonzero(again.table["split"] == split)
        assert again.table["patient"][rows].tolist() == records.table["patient"].tolist()
        np.testing.assert_array_equal(again.labels[rows], records.labels)
        assert np.abs(fit(again.read(rows[0]), (64, 64, 1)) - fit(records.read(0), (64, 64, 1))).mean() < 0.05


class Counting(Interpolation):
    """Counts the images that it enlarges, and stops at one of them as a person would."""

    calls, stop = 0, None

    def upscale(self, images, **options):
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return super().upscale(images, **options)


def test_an_interrupted_enhancement_goes_on(run, tmp_path):
    one, quiet = Enhancement(rule=RegionRule(smallest=16, max_regions=1)), {"samples": 0}
    files = [write_image(tmp_path / "in" / f"{i}.png", seed=i) for i in range(4)]
    whole = Counting()
    enhance_run(run.path, files, tmp_path / "whole", upscaler=whole, how=one, **quiet)
    first, second = Counting(), Counting()
    first.stop = 3
    with pytest.raises(KeyboardInterrupt):
        enhance_run(run.path, files, tmp_path / "parts", upscaler=first, how=one, **quiet)
    table = enhance_run(run.path, files[::-1], tmp_path / "parts", upscaler=second, how=one, **quiet)
    assert (whole.calls, second.calls) == (4, 2) and len(table) == 4
    for i in range(4):
        parts = [(tmp_path / name / "images" / f"{i}.png").read_bytes() for name in ("whole", "parts")]
        assert parts[0] == parts[1]
    write_image(files[1], seed=9)
    enhance_run(run.path, files, tmp_path / "parts", upscaler=(third := Counting()), how=one, **quiet)
    assert third.calls == 1
    with pytest.raises(ValueError, match=r"paste='feathered' \(was 'hard'\)"):
        other = Enhancement(rule=one.rule, paste="feathered")
        enhance_run(run.path, files, tmp_path / "parts", upscaler=third, how=other, **quiet)
    with pytest.raises(ValueError, match=r"upscaler='lanczos' \(was 'bicubic'\)"):
        enhance_run(run.path, files, tmp_path / "parts", upscaler="lanczos", how=one, **quiet)


def test_a_share_of_the_images_is_enhanced_whatever_the_order(run, tmp_path):
    half = Enhancement(rule=RegionRule(smallest=16), fraction=0.5)
    files = [write_image(tmp_path / "in" / f"{i}.png", seed=i) for i in range(8)]
    tables = [
        enhance_run(run.path, given, tmp_path / str(k), upscaler="bicubic", how=half, samples=0)
        for k, given in enumerate((files, files[::-1]))
    ]
    regions = tables[0].set_index("file")["regions"]
    pd.testing.assert_series_equal(regions, tables[1].set_index("file")["regions"][::-1])
    assert 0 < (regions > 0).sum() < 8
    for file, count in regions.items():
        same = (read_image(file) == read_image(tmp_path / "0" / "images" / f"{file[-6:].lstrip('/')}")).all()
        assert same == (count == 0)


@pytest.mark.parametrize("steps", [["square"], ["centre-crop:share=0.5,form=square"], ["square", "centre-crop"], []])
def test_the_map_goes_back_through_the_steps(steps):
    image = np.random.default_rng(0).integers(1, 256, (60, 90), np.uint8)
    changed, (top, left, bottom, right) = window_of(image, steps)
    np.testing.assert_array_equal(changed, apply(image, steps))
    # The window of an image that is padded far enough is the image that the model sees.
    wide = np.pad(image, 100)[100 + top : 100 + bottom, 100 + left : 100 + right]
    np.testing.assert_array_equal(wide, changed)


def test_regions_lie_where_the_model_looks_after_a_crop(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", vit(), preprocess=("centre-crop:share=0.5,form=own",))
    seen = []

    def corner(model, images, *, name):
        seen.append(images[0])
        return np.tile(np.eye(4)[:1].T @ np.eye(4)[:1], (len(images), 1, 1))  # The first cell alone.

    monkeypatch.setattr(job, "importance_maps", corner)
    path = write_image(tmp_path / "a.png", shape=(160, 256))
    enhance_run(run.path, [path], tmp_path / "out", upscaler="bicubic", how=SMALL, samples=0)
    np.testing.assert_array_equal(seen[0], fit(read_image(path)[40:120, 64:192], (32, 32, 1)))
    assert pd.read_csv(tmp_path / "out" / "regions.csv").iloc[0, 2:].tolist() == [34, 64, 66, 96]


def test_the_command_line_with_diffusion(run, tmp_path, capfd):
    for part, config, model in (
        ("unet", ldm_files.SMALL_UNET, (small := ldm_files.small_upscaler()).unet),
        ("vqvae", ldm_files.SMALL_VQVAE, small.vqvae),
    ):
        ldm_files.write(tmp_path / "ldm", part, config, ldm_files.seeded_arrays(model))
    ldm_files.write_scheduler(tmp_path / "ldm")
    path = write_image(tmp_path / "a.png", np.uint16, 4095)
    command = ["enhance", run.path, path, "--upscaler", tmp_path / "ldm", "--out", tmp_path / "out", "--top-k", 1]
    command += ["--smallest", 16, "--steps", 1, "--eta", 0, "--keep-scale", "--samples", 0]
    assert main([str(word) for word in command]) == 0
    assert "1 images with 1 regions" in capfd.readouterr().out
    large = read_image(tmp_path / "out" / "images" / "a.png")
    assert large.shape == (80, 112) and large.dtype == np.uint16 and large.max() <= 4095


def test_bad_input_is_one_line(run, tmp_path, capfd):
    image, broken = write_image(tmp_path / "a.png"), write_image(tmp_path / "broken.png")
    broken.write_bytes(broken.read_bytes()[:200])
    tiny = write_image(tmp_path / "tiny.png", shape=(3, 40))
    plain = make_run(tmp_path / "plain", TinyNet((32, 32, 1), num_classes=2))
    small, good = ["--smallest", 16], ["--upscaler", "bicubic"]
    for arguments, text in (
        ([tmp_path, image, *good], "A run folder holds config.yaml"),
        ([plain.path, image, *good], "has no explain point"),
        ([run.path, image, *good, "--map", "evidence"], "map='evidence'"),
        ([run.path, image, "--upscaler", "no/where"], "https://huggingface.co/no/where"),
        ([run.path, image, "--upscaler", tmp_path], "unet/config.json"),
        ([run.path, image, *good, "--threshold", 0.5, "--top-k", 2], "threshold=0.5, top=2"),
        ([run.path, image, *good, "--paste", "glue"], "paste='glue'"),
        ([run.path, image, *good, "--fraction", 0], "fraction=0"),
        ([run.path, image, *good, "--split", "test"], "1 paths"),
        ([run.path, *good], "0 paths"),
        ([run.path, *good, "--split", "some"], "split='some'"),
        ([run.path, broken, *good, *small], "broken.png cannot be used"),
        ([run.path, tiny, *good, *small], "an image of 3 x 40 pixels"),
        ([run.path, image, image.parent / "b" / ".." / "a.png", *good], "folders of their own"),
    ):
        out = [] if "--out" in arguments else ["--out", tmp_path / "never"]
        (tmp_path / "b").mkdir(exist_ok=True)
        assert main([str(word) for word in ["enhance", *arguments, *out]]) == 2
        (line,) = [x for x in capfd.readouterr().err.strip().splitlines() if x.startswith("error")]
        assert text in line, line
    assert not (tmp_path / "never" / "images").exists()


def test_a_region_below_what_an_upscaler_takes_is_refused(run, tmp_path):
    upscaler = Interpolation()
    upscaler.smallest = 32
    with pytest.raises(ValueError, match="regions of 32 pixels and more. Received: smallest=16"):
        enhance_run(run.path, [write_image(tmp_path / "a.png")], tmp_path / "out", upscaler=upscaler, how=SMALL)
    assert not RunFolder(tmp_path / "out").path.exists()
