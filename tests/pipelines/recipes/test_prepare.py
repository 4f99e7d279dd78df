"""Downloads in their official layouts become class folders with an index, and every file is accounted for."""

import collections
import io
import os
import tarfile
import zipfile

import pandas as pd
import pytest

import phantom_downloads
from phantom_downloads import DOWNLOADS, as_folder, as_tar, as_zip, csv
from pipelines.recipes import load
from pipelines.recipes.prepare import prepare
from pipelines.recipes.published_split import published_split

# Files that are read for their labels.
TABLES = ("train.csv", "messidor_data.csv", "messidor-2.csv", "GroundTruth.csv", "LesionGroupings.csv")
LISTS = {f"DR_grading/{name}.txt" for name in ("train", "valid", "test")}
# Left out, though images of the same name are taken.
LOOKALIKES = ("lesion_segmentation/", "/masks/")


def rejected_of(folder):
    return pd.read_csv(folder / "rejected.csv", dtype=str).set_index("file")["reason"].to_dict()


@pytest.mark.parametrize("name", [name for name in DOWNLOADS if name != "chexpert"])
def test_folder_and_archives_give_the_same_and_every_file_is_accounted_for(name, tmp_path):
    files = DOWNLOADS[name]()
    sources = {
        "folder": as_folder(files, tmp_path / "download"),
        "zip": as_zip(files, tmp_path / "a.zip"),
        "tar": as_tar(files, tmp_path / "a.tar.gz"),
    }
    made = {kind: prepare(name, source, tmp_path / kind) for kind, source in sources.items()}
    for kind in made:
        folder = tmp_path / kind
        pd.testing.assert_frame_equal(made[kind], made["folder"])
        pd.testing.assert_frame_equal(pd.read_csv(folder / "index.csv", dtype=str, keep_default_na=False), made[kind])
        by_name = {path.rpartition("/")[2]: data for path, data in files.items() if not is_lookalike(path)}
        for path in made[kind]["path"]:
            assert (folder / path).read_bytes() == by_name[path.rpartition("/")[2]]
        laid_out = {p.relative_to(folder).as_posix() for p in (folder / "images").rglob("*") if p.is_file()}
        assert laid_out == set(made[kind]["path"])
        tables = {path for path in files if path in LISTS or path.endswith(TABLES) and not is_lookalike(path)}
        taken = {path for path in files if f"images/{label_of(path, made[kind])}/{path.rpartition('/')[2]}" in laid_out}
        taken -= {path for path in files if is_lookalike(path)}
        hidden = {path for path in files if path.rpartition("/")[2].startswith(".")}
        assert set(rejected_of(folder)) == files.keys() - tables - taken - hidden
    assert sorted(made["zip"]["label"].unique()) == sorted(classes_of(name))


def is_lookalike(path):
    return any(part in path for part in LOOKALIKES)


def label_of(path, index):
    labels = dict(zip((p.rpartition("/")[2] for p in index["path"]), index["label"], strict=True))
    return labels.get(path.rpartition("/")[2], "none")


def classes_of(name):
    classes = load(name).layout["classes"]
    return classes.values() if isinstance(classes, dict) else classes


def prepared(name, tmp_path, files=None, **options):
    tmp_path.mkdir(exist_ok=True)
    source = as_zip(DOWNLOADS[name]() if files is None else files, tmp_path / "download.zip")
    return prepare(name, source, tmp_path / "out", **options), rejected_of(tmp_path / "out")


def test_aptos_leaves_the_ungraded_images_out(tmp_path):
    index, rejected = prepared("aptos2019", tmp_path)
    assert list(index) == ["path", "label"] and index["path"][7] == "images/2/000000000007.png"
    assert rejected == dict.fromkeys(
        ["test_images/ffff.png", "test.csv", "sample_submission.csv"], "not part of the data"
    )


def test_ddr_has_its_official_splits_and_no_ungradable_image(tmp_path):
    index, rejected = prepared("ddr", tmp_path)
    assert index["split"].value_counts().to_dict() == {"train": 20, "val": 10, "test": 10}
    assert index.loc[index["split"] == "val", "path"].str.contains("007-0001-").all()
    assert sum(reason == "ungradable (grade 5)" for reason in rejected.values()) == 8
    assert rejected["lesion_segmentation/train/image/007-0000-000.jpg"] == "not part of the data"


def test_messidor_keeps_examinations_together_where_the_pairs_are_known(tmp_path, capsys):
    index, rejected = prepared("messidor2", tmp_path)
    assert len(index) == 60 and (index.groupby("patient").size() == 2).all()
    assert rejected == {"IMAGES/blurred.png": "adjudicated_gradable is 0"}
    assert index["label"].tolist()[:4] == ["0", "0", "1", "1"] and set(index["adjudicated_dme"]) == {"0"}
    files = DOWNLOADS["messidor2"]()
    pairs = files.pop("messidor-2.csv").replace(b"left;right\n", b"")  # Without a header.
    bare, _ = prepared("messidor2", tmp_path / "bare", files | {"messidor-2.csv": pairs})
    pd.testing.assert_frame_equal(bare, index)
    alone = prepare("messidor2", as_folder(files, tmp_path / "alone"), tmp_path / "out2", console=console())
    assert "patient" not in alone and "No messidor-2*.csv says which images" in capsys.readouterr().out


def console():
    from rich.console import Console

    return Console()


def test_isic_keeps_lesions_together_or_splits_as_published(tmp_path):
    index, rejected = prepared("isic2018", tmp_path)
    assert list(index) == ["path", "label", "patient", "diagnosis_confirm_type"]
    assert collections.Counter(index.groupby("patient").size()) == {1: 7 * 4, 2: 7}
    assert index["label"].tolist()[:8] == [*phantom_downloads.LESIONS, "MEL"]
    assert {path.rpartition("/")[2] for path in rejected} == {"LICENSE.txt", "ATTRIBUTION.txt"}
    again = prepare("isic2018", tmp_path / "download.zip", tmp_path / "published", split="published")
    counts = again.groupby(["label", "split"]).size().unstack()
    assert (counts == pd.Series({"test": 1, "train": 4, "val": 1})).all(axis=None)
    assert again.drop(columns="split").equals(index)


def test_kvasir_and_covid_ct(tmp_path, capsys):
    index, _ = prepared("kvasir", tmp_path)
    assert list(index) == ["path", "label"] and len(index) == 48
    source = as_folder(DOWNLOADS["covid19_ct"](), tmp_path / "ct")
    covid = prepare("covid19_ct", source, tmp_path / "ct_out", console=console())
    groups = covid.set_index(covid["path"].str.rpartition("/")[2])["patient"]
    assert groups["2020.03.10.20021584-p6-0.png"] == groups["2020.03.10.20021584-p6-2.png"] == "2020.03.10.20021584"
    assert groups["1%2.jpg"] == groups["1%3.jpg"] == "NonCOVID/1" and groups["PIIS0140673623%7.png"] == "PIIS0140673623"
    assert "count as patients of their own" in capsys.readouterr().out.replace("\n", " ")


def test_covid_and_tuberculosis_x_rays_have_no_patients_and_say_so(tmp_path, capsys):
    index, rejected = prepared("covid19_xray", tmp_path)
    assert list(index) == ["path", "label"] and index["label"].value_counts().to_dict() == {
        "COVID": 6,
        "Lung_Opacity": 6,
        "Normal": 6,
        "Viral_Pneumonia": 6,
    }
    masks = {path: reason for path, reason in rejected.items() if "/masks/" in path}
    assert len(masks) == 24 and set(masks.values()) == {"not in the folder images of its class"}
    source = as_folder(DOWNLOADS["tuberculosis_xray"](), tmp_path / "tb")
    index = prepare("tuberculosis_xray", source, tmp_path / "tb_out", console=console())
    assert list(index) == ["path", "label"] and (index["label"] == "Tuberculosis").sum() == 6
    assert "tell a patient" in capsys.readouterr().out.replace("\n", " ")


def patients_of(index):
    return index.set_index(index["path"].str.rpartition("/")[2])["patient"]


def test_pneumonia_keeps_the_official_test_split_and_numbers_its_patients_anew(tmp_path):
    files = DOWNLOADS["pneumonia_xray"]()
    copies = {path.replace("chest_xray/", "chest_xray/chest_xray/"): data for path, data in files.items()}
    other = {"CellData/OCT/train/NORMAL/NORMAL-1001-1.jpeg": files["chest_xray/train/NORMAL/IM-0115-0001.jpeg"]}
    index, rejected = prepared("pneumonia_xray", tmp_path, files | copies | other)
    assert index["split"].value_counts().to_dict() == {"train": 32, "test": 8}
    patients = patients_of(index)
    assert patients["person1_bacteria_1.jpeg"] == patients["person1_virus_2.jpeg"] == "1"
    assert patients["person1_virus_6.jpeg"] == "test/1" != patients["person2_virus_7.jpeg"]
    assert patients["IM-0115-0001.jpeg"] == patients["IM-0115-0002.jpeg"] == "IM-0115"
    assert index.groupby("patient")["split"].nunique().max() == 1
    assert rejected.pop("CellData/OCT/train/NORMAL/NORMAL-1001-1.jpeg") == "not of chest_xray"
    assert len(rejected) == 40 and all("has the name of chest_xray/" in reason for reason in rejected.values())
    # The names of later versions, whose archive also holds the other data set.
    later = {"IM": "NORMAL", "person": "VIRUS"}
    renamed = {
        f"CellData/chest_xray/{split}/{label}/{later[kind]}-{number}-000{i}.jpeg": files[
            "chest_xray/test/NORMAL/NORMAL2-IM-0001-0001.jpeg"
        ]
        for i in (1, 2)
        for number, split in ((1049278, "train"), (11419, "test"))
        for kind, label in (("IM", "NORMAL"), ("person", "PNEUMONIA"))
    }
    index, _ = prepared("pneumonia_xray", tmp_path / "later", renamed | other)
    assert set(index["patient"]) == {"NORMAL-1049278", "VIRUS-1049278", "test/NORMAL-11419", "test/VIRUS-11419"}


def test_oct_leaves_other_images_of_a_tested_patient_out_of_training(tmp_path):
    files = DOWNLOADS["oct2017"]()
    copy = files["OCT2017 /test/CNV/CNV-3000-1.jpeg"]
    same = {"OCT2017 /train/CNV/CNV-3000-1.jpeg": copy, "OCT2017 /train/DME/DME-3000-7.jpeg": copy}
    index, rejected = prepared("oct2017", tmp_path, files | same)
    assert index["split"].value_counts().to_dict() == {"train": 28, "test": 8}
    assert index.loc[index["path"].str.endswith("CNV-3000-1.jpeg"), "split"].tolist() == ["test"]
    assert index.groupby("patient")["split"].nunique().max() == 1
    assert patients_of(index)["CNV-1000-1.jpeg"] == patients_of(index)["CNV-1000-2.jpeg"] == "1000"
    assert len(rejected) == 6 and set(rejected.values()) == {"its patient is in the test split"}


def test_chexpert_keeps_frontal_views_with_their_labels_and_patients(tmp_path):
    files = DOWNLOADS["chexpert"]()
    made = {
        kind: prepare("chexpert", pack(files, tmp_path / f"{kind}-download"), tmp_path / kind)
        for kind, pack in (("folder", as_folder), ("zip", lambda f, p: as_zip(f, p.with_suffix(".zip"))))
    }
    index = made["folder"]
    pd.testing.assert_frame_equal(made["zip"], index)
    labels = load("chexpert").layout["classes"]
    assert list(index) == ["path", *labels, "patient", "Sex", "Age", "AP/PA"] and len(index) == 36
    assert index["path"][1] == "images/patient00002/study1/view1_frontal.jpg"
    for path in index["path"]:
        original = files[path.replace("images/", "CheXpert-v1.0-small/train/")]
        assert (tmp_path / "folder" / path).read_bytes() == original
    assert (index["patient"] == index["path"].str.split("/").str[1]).all() and index["patient"].nunique() == 24
    # The columns of the file are in another order, a blank label is absent, and -1 stays.
    assert index.loc[0, "No Finding"] == "1" and index.loc[1, "Enlarged Cardiomediastinum"] == "1"
    assert index.loc[1, "Cardiomegaly"] == index.loc[1, "Lung Opacity"] == "0"
    assert set(index[labels].to_numpy().ravel()) == {"0", "1", "-1"} and (index[labels] == "-1").sum().sum() == 12
    rejected = rejected_of(tmp_path / "folder")
    assert len(rejected) == 36 + 2 and all("lateral" in p or "/valid" in p for p in rejected)
    assert rejected["CheXpert-v1.0-small/train/patient00001/study1/view2_lateral.jpg"] == "Frontal/Lateral is Lateral"


def test_rows_and_images_of_chexpert_that_do_not_fit_are_listed(tmp_path):
    files, top = DOWNLOADS["chexpert"](), "CheXpert-v1.0-small/"
    lines = files[top + "train.csv"].decode().split("\n")
    path, odd = (lines[k].split(",")[0] for k in (1, 9))
    lines[9] = lines[9].replace("1.0", "yes")
    lines += [lines[1], lines[1].replace("patient00001", "patient99999"), lines[1].replace("patient00001", "p1")]
    files[top + "train.csv"] = "\n".join(line for line in lines if line).encode()
    extra = top + "train/patient00001/study7/view1_frontal.jpg"
    index, rejected = prepared("chexpert", tmp_path, files | {extra: files[path]})
    assert len(index) == 35 and index["path"].is_unique
    assert rejected[path] == f"named twice in {top}train.csv; its first row is taken"
    assert rejected[path.replace("patient00001", "patient99999")] == (
        f"named in {top}train.csv, but there is no such image"
    )
    assert rejected[path.replace("patient00001", "p1")] == "its path names no patient"
    assert rejected[odd].endswith("is yes, not 0, 1, -1 or blank")
    assert rejected[extra] == f"no row in {top}train.csv"


# The counts of the specification: train, val, test.
ISIC = {
    "AKIEC": (197, 32, 98),
    "BCC": (309, 51, 154),
    "BKL": (660, 110, 329),
    "DF": (69, 12, 34),
    "MEL": (668, 112, 333),
    "NV": (4023, 671, 2011),
    "VASC": (86, 14, 42),
}
COVID = {"COVID": (210, 52, 87), "NonCOVID": (239, 59, 99)}


@pytest.mark.parametrize(("name", "counts"), [("isic2018", ISIC), ("covid19_ct", COVID)])
def test_the_published_rule_gives_the_published_counts(name, counts):
    labels = [label for label, parts in counts.items() for _ in range(sum(parts))]
    split = published_split(labels, **load(name).published_shares)
    found = collections.Counter(zip(labels, split, strict=True))
    for label, parts in counts.items():
        assert tuple(found[label, part] for part in ("train", "val", "test")) == parts
    assert published_split(labels, **load(name).published_shares) == split
    # Shuffled, and not the first so many.
    first = split[: sum(counts[labels[0]])]
    assert len(set(first[:50])) > 1


def test_images_of_a_folder_are_linked_and_repeating_changes_nothing(tmp_path):
    source = as_folder(DOWNLOADS["kvasir"](), tmp_path / "download")
    index = prepare("kvasir", source, tmp_path / "out")
    image = tmp_path / "out" / index["path"][0]
    assert image.samefile(source / "kvasir-dataset/dyed-lifted-polyps/0000.jpg")
    before = {path: os.stat(path).st_ctime_ns for path in (tmp_path / "out/images").rglob("*.jpg")}
    pd.testing.assert_frame_equal(prepare("kvasir", source, tmp_path / "out"), index)
    assert before == {path: os.stat(path).st_ctime_ns for path in (tmp_path / "out/images").rglob("*.jpg")}


def test_where_links_cannot_be_made_images_are_copied(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    source = as_folder(DOWNLOADS["kvasir"](), tmp_path / "download")
    index = prepare("kvasir", source, tmp_path / "out")
    copy, own = tmp_path / "out" / index["path"][0], source / "kvasir-dataset/dyed-lifted-polyps/0000.jpg"
    assert copy.read_bytes() == own.read_bytes() and not copy.samefile(own)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [0, 1, 5, 41, 43])
def test_a_kill_at_any_moment_leaves_what_the_same_command_goes_on_with(moment, tmp_path, monkeypatch):
    source = as_zip(DOWNLOADS["isic2018"](), tmp_path / "a.zip")
    whole = prepare("isic2018", source, tmp_path / "whole")
    replace, left = os.replace, moment

    def dying(old, new):
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        replace(old, new)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Killed):
        prepare("isic2018", source, tmp_path / "killed")
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises((ValueError, FileNotFoundError), match="not complete|without prepared.json"):
        load("isic2018").training(tmp_path / "killed")
    if moment == 5:  # A file cut by the file system, not by us.
        path = next((tmp_path / "killed/images").rglob("*.jpg"))
        path.write_bytes(path.read_bytes()[:-7])
    prepare("isic2018", source, tmp_path / "killed")
    for name in ("index.csv", "rejected.csv", "prepared.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for path in whole["path"]:
        assert (tmp_path / "killed" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()
    assert not list((tmp_path / "killed").rglob(".*"))


def test_what_cannot_be_taken_is_listed_with_its_reason(tmp_path):
    files = DOWNLOADS["aptos2019"]()
    rows = files["train.csv"].decode().split()
    rows += ["missing,1", rows[1], f"{rows[2].split(',')[0]},3", "strange,7", ",2"]
    files["train.csv"] = "\n".join(rows).encode()
    files["train_images/extra.png"] = files["train_images/000000000005.png"]
    files["train_images/strange.png"] = files["train_images/000000000005.png"]
    files["train_images/000000000008.png"] = files["train_images/000000000008.png"][:-30]
    files["train_images/000000000009.png"] = b""
    files["train_images/notes.txt"] = b"notes"
    files["more.zip"] = b"PK"
    files["../../slip.png"] = files["train_images/000000000005.png"]
    files["/absolute.png"] = b"x"
    files["__MACOSX/train_images/._1.png"] = b"x"
    index, rejected = prepared("aptos2019", tmp_path, files)
    assert len(index) == 27 and not (tmp_path.parent / "slip.png").exists()
    assert {name: rejected[name] for name in rejected if not name.startswith(("test", "sample"))} == {
        "download.zip: ../../slip.png": "leads out of its archive",
        "download.zip: /absolute.png": "leads out of its archive",
        "download.zip: more.zip": "an archive within an archive; unpack it first",
        "000000000000": "named twice in train.csv; it is taken once",
        "missing": "named in train.csv, but there is no such image",
        "train.csv": "a row without the name of an image",
        "train_images/000000000001.png": "two rows of train.csv contradict each other",
        "train_images/000000000008.png": "truncated PNG",
        "train_images/000000000009.png": "zero bytes",
        "train_images/extra.png": "no label in train.csv",
        "train_images/notes.txt": "not part of the data",
        "train_images/strange.png": "diagnosis is 7, not one of 0, 1, 2, 3, 4",
    }


def test_a_damaged_file_of_a_zip_and_links_of_a_tar_are_listed(tmp_path):
    files = DOWNLOADS["kvasir"]()
    archive = as_zip(files, tmp_path / "a.zip")
    with zipfile.ZipFile(archive) as opened:
        info = opened.infolist()[3]
    data = bytearray(archive.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0xFF
    archive.write_bytes(data)
    index = prepare("kvasir", archive, tmp_path / "zip")
    assert len(index) == 47 and rejected_of(tmp_path / "zip")[info.filename].startswith("damaged in a.zip")

    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("kvasir-dataset/polyps/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    prepare("kvasir", tmp_path / "a.tar", tmp_path / "tar")
    assert rejected_of(tmp_path / "tar") == {
        "a.tar: kvasir-dataset/polyps/link.jpg": "a link or device, no file",
    }


def test_archives_in_a_folder_count_as_unpacked_there(tmp_path):
    files = DOWNLOADS["isic2018"]()
    parts = collections.defaultdict(dict)
    for path, data in files.items():
        parts[path.split("/")[0]][path] = data
    (tmp_path / "d").mkdir()
    for name, part in parts.items():
        if name.endswith(".csv"):
            (tmp_path / "d" / name).write_bytes(part[name])
        else:
            as_zip(part, tmp_path / "d" / f"{name}.zip")
    whole = prepare("isic2018", as_zip(files, tmp_path / "a.zip"), tmp_path / "whole")
    pd.testing.assert_frame_equal(prepare("isic2018", tmp_path / "d", tmp_path / "out"), whole)
    as_folder({k: v for k, v in files.items() if k.endswith("24306.jpg")}, tmp_path / "d")
    again = prepare("isic2018", tmp_path / "d", tmp_path / "out2")
    pd.testing.assert_frame_equal(again, whole)
    twice = "ISIC2018_Task3_Training_Input.zip: ISIC2018_Task3_Training_Input/ISIC_0024306.jpg"
    assert rejected_of(tmp_path / "out2")[twice] == "a second file of this path"


def test_one_name_in_one_class_is_one_image(tmp_path):
    files = DOWNLOADS["kvasir"]()
    files["copy/polyps/0600.JPG"] = files["kvasir-dataset/polyps/0601.jpg"]
    index, rejected = prepared("kvasir", tmp_path, files)
    assert len(index) == 48
    assert rejected == {"kvasir-dataset/polyps/0600.jpg": "has the name of copy/polyps/0600.JPG, of the same class"}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def without(files, *ends):
    return {path: data for path, data in files.items() if not path.endswith(ends)}


def truth(*rows):
    return {"ISIC2018_Task3_Training_GroundTruth.csv": csv(*rows)}


BAD = {
    "no such path": lambda p: ("kvasir", p / "none", ["No such folder or archive"]),
    "no archive": lambda p: ("kvasir", as_folder({"a.txt": b"x"}, p / "d") / "a.txt", ["one of .zip, .tar"]),
    "truncated zip": lambda p: (
        "kvasir",
        cut(as_zip(DOWNLOADS["kvasir"](), p / "a.zip")),
        ["a.zip", "no whole archive"],
    ),
    "truncated tar": lambda p: (
        "kvasir",
        cut(as_tar(DOWNLOADS["kvasir"](), p / "a.tgz")),
        ["a.tgz", "no whole archive"],
    ),
    "truncated zip in a folder": lambda p: (
        "kvasir",
        cut(as_zip(DOWNLOADS["kvasir"](), as_folder({"x/y": b""}, p / "d") / "a.zip")).parent,
        ["a.zip", "no whole archive"],
    ),
    "parts of an archive": lambda p: (
        "ddr",
        as_folder({"DDR.zip.001": b"x"}, p / "d"),
        ["DDR.zip.001", "joined first"],
    ),
    "another data set": lambda p: ("aptos2019", as_folder(DOWNLOADS["kvasir"](), p / "d"), ["one train.csv", "none"]),
    "a table of other columns": lambda p: (
        "aptos2019",
        as_folder({"train.csv": csv(("id", "grade"), ("a", 1))}, p / "d"),
        ["id_code, diagnosis", "train.csv with id, grade"],
    ),
    "a class folder is missing": lambda p: (
        "kvasir",
        as_folder({k: v for k, v in DOWNLOADS["kvasir"]().items() if "polyps/" not in k}, p / "d"),
        ["without dyed-lifted-polyps, polyps"],
    ),
    "a split is missing": lambda p: (
        "pneumonia_xray",
        as_folder({k: v for k, v in DOWNLOADS["pneumonia_xray"]().items() if "/test/NORMAL" not in k}, p / "d"),
        ["each of NORMAL, PNEUMONIA in train and test", "without test/NORMAL"],
    ),
    "no images": lambda p: ("isic2018", as_folder(without(DOWNLOADS["isic2018"](), "jpg"), p / "d"), ["No image of"]),
    "a class without images": lambda p: (
        "isic2018",
        as_folder(
            DOWNLOADS["isic2018"]()
            | {
                f"ISIC2018_Task3_Training_GroundTruth/{k}": v
                for k, v in truth(("image", *phantom_downloads.LESIONS), ("ISIC_0024306", 1, 0, 0, 0, 0, 0, 0)).items()
            },
            p / "d",
        ),
        ["Every class has images", "NV, BCC"],
    ),
    "two tables": lambda p: (
        "isic2018",
        as_folder(DOWNLOADS["isic2018"]() | truth(("image", *phantom_downloads.LESIONS), ("a", *"1000000")), p / "d"),
        ["The download holds one ISIC2018_Task3_Training_GroundTruth.csv"],
    ),
    "a list is missing": lambda p: (
        "ddr",
        as_folder(without(DOWNLOADS["ddr"](), "valid.txt"), p / "d"),
        ["one DR_grading/valid.txt", "with 0"],
    ),
    "a table that is no text": lambda p: (
        "aptos2019",
        as_folder(DOWNLOADS["aptos2019"]() | {"train.csv": b"\xff\xfe\x00"}, p / "d"),
        ["train.csv", "no UTF-8"],
    ),
    "an unknown recipe": lambda p: ("imagenet", p, ["one of aptos2019", "imagenet"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_download_that_is_not_what_it_should_be_is_refused(case, tmp_path):
    name, source, texts = BAD[case](tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        prepare(name, source, tmp_path / "out")
    for text in texts:
        assert text in str(caught.value)
    assert not (tmp_path / "out/index.csv").exists()


def test_a_folder_with_anything_else_in_it_is_refused(tmp_path):
    source = as_folder(DOWNLOADS["isic2018"](), tmp_path / "d")
    out = tmp_path / "out"

    def refused(text, target=out, **options):
        with pytest.raises(ValueError, match=text):
            prepare("isic2018", source, target, **options)

    refused("lies outside of the download", source / "out")
    refused("grouped, published. Received: split='random'", split="random")
    as_folder({"mine.txt": b"x"}, out)
    refused("out with other files")
    (out / "mine.txt").unlink()
    prepare("isic2018", source, out)
    refused("one recipe and split. Received: split='published'.*'grouped'", split="published")
    (out / "images/NV/mine.jpg").write_bytes(b"x")
    refused("images of this download alone. Received: .*mine.jpg")
    for damaged in ("[", "[]", '{"complete": "yes"}', '{"recipe": 3}'):
        (out / "prepared.json").write_text(damaged)
        refused("Cannot read .*prepared.json: ")
    (tmp_path / "file").write_text("")
    refused("`to` is a folder", tmp_path / "file")
