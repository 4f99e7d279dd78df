import itertools
import os

import nibabel
import nrrd
import numpy as np
import pandas as pd
import pytest
import scipy.ndimage

from pipelines.images.decode import common_shape, find_unreadable
from pipelines.sources.volume.file import read_volume_header
from pipelines.sources.volume.grid import ras_grid
from pipelines.sources.volume.resample import resampled_grid
from pipelines.sources.volume.source import open_volume


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, np.diag([1, 2, 3, 1]) if affine is None else affine).to_filename(path)
    return path


def scan(seed=0, shape=(8, 9, 10)):
    return np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16)


def lesion(shape=(8, 9, 10), box=((5, 7), (2, 5), (6, 10))):
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(*ends) for ends in box)] = 3
    return label


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(("ill/p1_a.nii.gz", "ill/p1_b.nii", "well/p2.nrrd")):
        if name.endswith("nrrd"):
            (tmp_path / "scans/well").mkdir()
            space = {"space": "RAS", "space directions": np.diag([1, 2, 3]), "space origin": [0, 0, 0]}
            nrrd.write(str(tmp_path / "scans" / name), scan(i), space)
        else:
            save(tmp_path / "scans" / name, scan(i))
        save(tmp_path / "labels" / name.replace(".nrrd", ".nii").replace(".gz", ""), lesion())
    return tmp_path


def test_a_folder_of_classes(folder):
    (folder / "scans/notes.txt").write_text("beside the classes")
    records = open_volume(str(folder / "scans"), patient_pattern=r"/(p\d)", masks=str(folder / "labels"))
    assert records.name == "scans" and records.rank == 3 and records.task == "binary"
    assert records.table["id"].tolist() == ["ill/p1_a.nii.gz", "ill/p1_b.nii", "well/p2.nrrd"]
    assert records.table["patient"].tolist() == ["p1", "p1", "p2"] and records.labels.tolist() == [0, 0, 1]
    for i in range(3):
        low, high = np.percentile(scan(i), (0.5, 99.5))
        wanted = np.clip((scan(i) - low) / (high - low), 0, 1).T[::-1, ::-1, ::-1]
        np.testing.assert_allclose(records.read(i), wanted, atol=1e-6)
        np.testing.assert_array_equal(records.read_mask(i), lesion().T[::-1, ::-1, ::-1] > 0)
        assert records.read_shape(i) == (*records.read(i).shape, 1) and records.read(i).dtype == np.float32
        assert records.select([i]).read_spacing(0) == (3, 2, 1)  # Depth, height, width.
    assert common_shape(records) == (10, 9, 8, 1) and len(find_unreadable(records)) == 0


def test_pairs_and_their_data_files_are_one_record(tmp_path):
    for name in ("ill", "well"):
        (tmp_path / name).mkdir()
        nibabel.Nifti1Pair(scan(), np.eye(4)).to_filename(tmp_path / name / "a.hdr")
        space = {"space": "LPS", "space directions": np.eye(3), "encoding": "gzip"}
        nrrd.write(str(tmp_path / name / "b.nhdr"), scan(), space)
    records = open_volume(str(tmp_path))
    assert records.table["id"].tolist() == ["ill/a.hdr", "ill/b.nhdr", "well/a.hdr", "well/b.nhdr"]
    # RAS and LPS, stored alike, are one turned against the other.
    np.testing.assert_allclose(records.read(0), records.read(1)[:, ::-1, ::-1])
    before = records.fingerprint(1)
    os.utime(next((tmp_path / "ill").glob("b.raw*")), (1, 1))
    assert records.fingerprint(1) != before


def test_a_table_with_label_volumes(folder):
    table = pd.DataFrame(
        {
            "path": ["scans/ill/p1_a.nii.gz", "scans/well/p2.nrrd"],
            "label": ["ill", "well"],
            "patient": ["1", "2"],
            "mask": ["labels/ill/p1_a.nii", "labels/well/p2.nii"],
            "age": [30, 40],
        }
    )
    table.to_csv(folder / "scans.csv", index=False)
    records = open_volume(str(folder / "scans.csv"), mask_column="mask", window="lung", spacing=(3, 1, 1))
    assert records.class_names == ("ill", "well") and records.table["age"].tolist() == [30, 40]
    image, mask = records.read(1), records.read_mask(1)
    assert image.shape == mask.shape == records.read_shape(1)[:3] == (10, 18, 8)
    assert records.read_spacing(1) == (3, 1, 1)
    assert mask.dtype == bool and mask.sum() == 2 * (lesion() > 0).sum()
    wanted = np.clip((scan(2).astype(np.float32) + 1350) / 1500, 0, 1)
    direct = open_volume(str(folder / "scans.csv"), window=(-600, 1500))
    np.testing.assert_allclose(direct.read(1), wanted.T[::-1, ::-1, ::-1], atol=1e-6)
    assert direct.read_mask is None


def test_several_labels_and_their_policies(folder):
    (folder / "scans.csv").write_text("path,cyst,mass\nscans/ill/p1_a.nii.gz,1,-1\nscans/well/p2.nrrd,0,\n")
    records = open_volume(str(folder / "scans.csv"), label_columns=["cyst", "mass"], uncertain="ones")
    assert records.task == "multilabel" and records.train_labels[0].tolist() == [1, 1] and records.rank == 3


@pytest.mark.parametrize("codes", ["".join(c) for c in itertools.product("RL", "AP", "SI")] + ["SRA", "PIL", "ASR"])
def test_labels_follow_their_image_whatever_each_is_stored_like(tmp_path, codes):
    affine = np.diag([1, 2, 3, 1])
    image = nibabel.Nifti1Image(scan(), affine)
    label = nibabel.Nifti1Image(lesion(), affine)
    ornt = nibabel.orientations
    way = ornt.ornt_transform(ornt.axcodes2ornt("RAS"), ornt.axcodes2ornt(codes))
    for name in ("ill", "well"):
        for part, stored in (("scans", image), ("labels", label.as_reoriented(way))):
            (tmp_path / part / name).mkdir(parents=True)
            stored.to_filename(tmp_path / part / name / "a.nii")
    options = {"masks": str(tmp_path / "labels"), "spacing": (2.0, 1.5, 0.8), "shape": (12, 10, 9)}
    records = open_volume(str(tmp_path / "scans"), **options)
    plain = open_volume(str(tmp_path / "scans"), **options | {"masks": None})
    np.testing.assert_array_equal(records.read(0), plain.read(0))
    save(tmp_path / "labels/ill/a.nii", lesion())
    wanted = records.read_mask(0)
    np.testing.assert_array_equal(records.read_mask(1), wanted)
    assert wanted.any() and wanted.shape == (12, 10, 9)


def test_a_label_on_a_grid_of_its_own(folder):
    fine = np.repeat(np.repeat(np.repeat(lesion(), 2, 0), 2, 1), 2, 2)[4:, :, :]  # Half the spacing, and cut.
    affine = np.diag([0.5, 1, 1.5, 1])
    affine[:3, 3] = np.array([4, 0, 0]) * [0.5, 1, 1.5] - [0.25, 0.5, 0.75]
    save(folder / "labels/ill/p1_a.nii", fine, affine)
    records = open_volume(str(folder / "scans"), masks=str(folder / "labels"))
    np.testing.assert_array_equal(records.read_mask(0), lesion().T[::-1, ::-1, ::-1] > 0)
    save(folder / "labels/ill/p1_a.nii", lesion(), np.diag([1, 2, 3, 1]) + np.outer([0, 0, 1, 0], [0, 0, 0, 500]))
    with pytest.raises(ValueError, match="labels/ill/p1_a.nii.*do not meet in space"):
        records.read_mask(0)


def test_a_shape_about_the_lesion(folder):
    options = {"masks": str(folder / "labels"), "shape": (5, 5, 3)}
    about_lesion = open_volume(str(folder / "scans"), centre="mask", **options)
    about_middle = open_volume(str(folder / "scans"), **options)
    assert about_lesion.read_mask(0).sum() == (lesion() > 0).sum() > about_middle.read_mask(0).sum()
    whole = open_volume(str(folder / "scans"), masks=str(folder / "labels"))
    inside = about_lesion.read(0)[about_lesion.read_mask(0)]
    np.testing.assert_array_equal(inside, whole.read(0)[whole.read_mask(0)])
    save(folder / "labels/ill/p1_a.nii", lesion() * 0)
    np.testing.assert_array_equal(about_lesion.read(0), about_middle.read(0))


def test_one_of_several_frames_and_colours(tmp_path):
    for name in ("ill", "well"):
        save(tmp_path / "series" / name / "a.nii", scan(shape=(4, 5, 6, 2)))
    records = open_volume(str(tmp_path / "series"), frame=1)
    low, high = np.percentile(scan(shape=(4, 5, 6, 2))[..., 1], (0.5, 99.5))
    assert records.read(0).max() == 1 and records.read_shape(0) == (6, 5, 4, 1) and low < high
    with pytest.raises(ValueError, match="a.nii: it has 2 frames; pass frame"):
        open_volume(str(tmp_path / "series")).read(0)
    colors = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3), np.uint8)
    for name in ("ill", "well"):
        save(tmp_path / "colors" / name / "a.nii", colors.view([(c, "u1") for c in "RGB"])[..., 0])
    records = open_volume(str(tmp_path / "colors"))
    np.testing.assert_allclose(records.read(0), colors.swapaxes(0, 2)[::-1, ::-1, ::-1] / 255, atol=1e-6)
    assert open_volume(str(tmp_path / "colors"), spacing=2).read(0).shape[-1] == 3 == records.read_shape(0)[-1]
    with pytest.raises(ValueError, match="a window is for grey volumes"):
        open_volume(str(tmp_path / "colors"), window="lung").read(0)


def test_skip_keeps_bad_files_for_the_report(folder):
    (folder / "scans/ill/p1_b.nii").write_bytes(b"")
    (folder / "scans/well/notes.txt").write_text("not a volume")
    with pytest.raises(ValueError, match="well/notes.txt: not one of .nii"):
        open_volume(str(folder / "scans"))
    records = open_volume(str(folder / "scans"), on_error="skip", masks=str(folder / "labels"))
    rejected = find_unreadable(records)
    assert rejected["id"].tolist() == ["ill/p1_b.nii", "well/notes.txt"]
    assert "zero bytes" in rejected["reason"][0] and str(folder) in rejected["reason"][1]
    (folder / "scans.csv").write_text("path,label\nscans/ill/p1_a.nii.gz,0\nscans/none.nii,1\n../out.nii,1\n")
    with pytest.raises(FileNotFoundError, match="none.nii: no such file, row 3"):
        open_volume(str(folder / "scans.csv"))
    rejected = find_unreadable(open_volume(str(folder / "scans.csv"), on_error="skip"))
    assert rejected["id"].tolist() == ["scans/none.nii", "../out.nii"] and "row 4" in rejected["reason"][1]


def test_the_fingerprint_tells_files_and_options_apart(folder):
    records = open_volume(str(folder / "scans"))
    assert records.fingerprint(0) == open_volume(str(folder / "scans")).fingerprint(0) != records.fingerprint(1)
    assert records.fingerprint(0) != open_volume(str(folder / "scans"), spacing=2).fingerprint(0)
    os.utime(folder / "scans/ill/p1_a.nii.gz", (1, 1))
    assert records.fingerprint(0) != open_volume(str(folder / "scans"), window="lung").fingerprint(0)
    centred = open_volume(str(folder / "scans"), masks=str(folder / "labels"), centre="mask", shape=(3, 3, 3))
    before = centred.fingerprint(0)
    os.utime(folder / "labels/ill/p1_a.nii", (1, 1))
    assert centred.fingerprint(0) != before


@pytest.mark.parametrize(
    "options",
    [
        {"spacing": 0},
        {"spacing": (1, 1)},
        {"shape": (4, 4)},
        {"shape": (4, 4, 10.5)},
        {"centre": "lesion"},
        {"shape": None, "centre": "mask"},
        {"centre": "mask", "shape": (4, 4, 4)},
        {"window": "marrow"},
        {"window": (0, 0)},
        {"percentiles": (90, 10)},
        {"percentiles": 5},
        {"frame": -1},
        {"frame": "first"},
        {"orientation": "LEFT"},
        {"max_voxels": 0},
        {"label_columns": "label"},
        {"root": "/"},
    ],
)
def test_a_bad_option_is_named_before_a_file_is_read(folder, options):
    with pytest.raises(ValueError, match=f"`{list(options)[0]}`.*Received"):
        open_volume(str(folder / "scans"), **options)


def test_a_bad_source_is_named(folder):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_volume(str(folder / "nowhere.csv"))
    with pytest.raises(FileNotFoundError, match="No such folder of masks"):
        open_volume(str(folder / "scans"), masks=str(folder / "nowhere"))
    (folder / "labels/well/p2.nii").unlink()
    with pytest.raises(FileNotFoundError, match="well/p2.nrrd without"):
        open_volume(str(folder / "scans"), masks=str(folder / "labels"))
    (folder / "scans.csv").write_text("path,label\nscans/ill/p1_a.nii.gz,0\nscans/well/p2.nrrd,1\n")
    with pytest.raises(ValueError, match="opened without `masks`"):
        open_volume(str(folder / "scans.csv"), masks=str(folder / "labels"))
    with pytest.raises(ValueError, match="more than `max_voxels`.*Received: max_voxels=800"):
        open_volume(str(folder / "scans"), spacing=0.5, max_voxels=800).read(0)
    with pytest.raises(ValueError, match="more than `max_voxels`"):
        open_volume(str(folder / "scans"), shape=(4, 4, 10**9))


@pytest.mark.parametrize("name", ["brain1", "breast1"])
def test_real_labels_stay_on_their_lesions(real_data, tmp_path, name):
    folder = real_data / "volumes" / "pyradiomics"
    rows = [f"{name}_image.nrrd,0,{name}_label.nrrd", f"{name}_label.nrrd,1,{name}_label.nrrd"]
    (tmp_path / "scans.csv").write_text("\n".join(["path,label,mask", *rows]))
    image, header = nrrd.read(str(folder / f"{name}_image.nrrd"))
    label = nrrd.read(str(folder / f"{name}_label.nrrd"))[0] > 0
    spacing = np.linalg.norm(header["space directions"], axis=1)
    window = (image.max() / 2, image.max())
    stored = np.clip(image / image.max(), 0, 1)
    options = {"mask_column": "mask", "window": window, "root": str(folder)}
    records = open_volume(str(tmp_path / "scans.csv"), **options)
    assert records.read(0)[records.read_mask(0)].mean() == pytest.approx(stored[label].mean(), rel=1e-4)
    fine = open_volume(str(tmp_path / "scans.csv"), spacing=0.8, **options)
    volume, mask = fine.read(0), fine.read_mask(0)
    grid = resampled_grid(ras_grid(read_volume_header(folder / f"{name}_image.nrrd").grid), 0.8)
    depth, height, width = np.nonzero(mask)
    index = np.array(grid.shape)[:, None] - 1 - np.stack([width, height, depth])
    there = grid.affine[:3, :3] @ index + grid.affine[:3, 3:]
    origin = np.array(header["space origin"])[:, None]
    back = np.linalg.solve(header["space directions"].T, there * [[-1], [-1], [1]] - origin)
    looked_up = scipy.ndimage.map_coordinates(image.astype(np.float64), back, order=1, mode="nearest")
    sure = (np.abs(back - np.round(back)) < 0.499).all(axis=0)  # No ties.
    assert sure.mean() > 0.95 and label[tuple(np.round(back[:, sure]).astype(int))].all()
    if min(spacing) < 0.8:  # What gets coarser is averaged and softer than the look-up.
        assert volume[mask].mean() == pytest.approx(np.clip(looked_up / image.max(), 0, 1).mean(), rel=0.005)
    # Interpolation softens the rim of a lesion, by 5 % for the smaller one.
    assert volume[mask].mean() == pytest.approx(stored[label].mean(), rel=0.06)
    halves = open_volume(str(tmp_path / "scans.csv"), spacing=tuple(spacing[::-1] / 2), **options)
    assert halves.read_mask(0).sum() == 8 * label.sum()
    cut = open_volume(str(tmp_path / "scans.csv"), spacing=0.8, shape=(96, 96, 96), centre="mask", **options)
    around, lesion_there = cut.read(0), cut.read_mask(0)
    assert around.shape == (96, 96, 96) and lesion_there.sum() == mask.sum()
    moved = [around[np.roll(lesion_there, n, axis)].mean() for n in (-5, 5) for axis in (0, 1, 2)]
    assert around[lesion_there].mean() > max(moved)  # These lesions are bright, and what lies around them is darker.


def test_real_volumes_stand_upright(real_data, tmp_path):
    path = real_data / "volumes" / "nibabel" / "anatomical.nii"
    (tmp_path / "scans.csv").write_text(f"path,label\n{path},0\n{path.with_name('example4d.nii.gz')},1\n")
    records = open_volume(str(tmp_path / "scans.csv"), root=str(path.parent), percentiles=(0, 100), frame=0)
    canonical = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    wanted = (canonical - canonical.min()) / np.ptp(canonical)
    np.testing.assert_allclose(records.read(0), wanted.transpose(2, 1, 0)[::-1, ::-1, ::-1], atol=1e-6)


def test_the_head_of_a_real_scan_is_up_and_its_face_in_front(real_data, tmp_path):
    path = real_data / "volumes" / "niivue" / "CT_pitch.nii.gz"
    for name in ("a", "b"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        (tmp_path / "scans" / name / path.name).symlink_to(path)
    bone = open_volume(str(tmp_path / "scans"), spacing=2, window=(128, 255)).read(0) > 0.8
    depth, height, _ = bone.shape
    # The vault is a shell on top and the skull base, with the facial bones before it, lies below.
    assert bone[: depth // 3].sum() < bone[-depth // 3 :].sum()
    below = bone[-depth // 3 :]
    assert below[:, : height // 3].sum() > below[:, -height // 3 :].sum()
