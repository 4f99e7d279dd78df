"""Tiny downloads in the official layouts of the recipes, made of noise, as a folder or an archive."""

import io
import tarfile
import zipfile

import cv2
import numpy as np

GRADES = ("0", "1", "2", "3", "4")
LESIONS = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
KVASIR = (
    "dyed-lifted-polyps",
    "dyed-resection-margins",
    "esophagitis",
    "normal-cecum",
    "normal-pylorus",
    "normal-z-line",
    "polyps",
    "ulcerative-colitis",
)


class Images:
    """Draws images that no two look alike, brighter from class to class."""

    def __init__(self, size=(24, 32)):
        self.rng, self.size = np.random.default_rng(0), size

    def __call__(self, suffix, shade=0):
        image = self.rng.integers(0, 128, (*self.size, 3), np.uint8) + np.uint8(16 * shade)
        return cv2.imencode(suffix, image)[1].tobytes()


def csv(*rows):
    return "\n".join(",".join(map(str, row)) for row in rows).encode() + b"\n"


def aptos2019(each=6):
    image, rows = Images(), [("id_code", "diagnosis")]
    files = {}
    for i in range(5 * each):
        rows.append((f"{i:012x}", i % 5))
        files[f"train_images/{i:012x}.png"] = image(".png", i % 5)
    extra = {
        "test_images/ffff.png": image(".png"),
        "test.csv": csv(("id_code",), ("ffff",)),
        "sample_submission.csv": csv(("id_code", "diagnosis"), ("ffff", 0)),
    }
    return {"train.csv": csv(*rows)} | files | extra


def ddr(each=2):
    image, files = Images(), {}
    for start, (name, count) in enumerate({"train": 2 * each, "valid": each, "test": each}.items()):
        lines = []
        for i in range(6 * count):
            file = f"007-{start:04d}-{i:03d}.jpg"
            lines.append(f"{file} {i % 6}")
            files[f"DR_grading/{name}/{file}"] = image(".jpg", i % 6)
        files[f"DR_grading/{name}.txt"] = "\n".join(lines).encode()
    other = files["DR_grading/train/007-0000-000.jpg"]
    return files | {
        "lesion_segmentation/train/image/007-0000-000.jpg": other,
        "lesion_segmentation/train.txt": b"x 1\n",
    }


def messidor2(each=6):
    image, files = Images(), {}
    rows, pairs = [("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")], ["left;right"]
    for i in range(10 * each):
        name = f"IM{i:06d}.jpg" if i % 3 else f"2005102{i % 10}_{i:05d}_0100_PP.png"
        files[f"IMAGES/{name.replace('jpg', 'JPG')}"] = image("." + name[-3:], i // 2 % 5)
        rows.append((name, f"{i // 2 % 5}.0", 0, 1))
        if i % 2:
            pairs.append(f"{rows[-2][0]};{name}")
    files["IMAGES/blurred.png"] = image(".png")
    rows.append(("blurred.png", "", "", 0))
    return files | {"messidor_data.csv": csv(*rows), "messidor-2.csv": "\n".join(pairs).encode()}


def isic2018(each=6):
    image, folder = Images(), "ISIC2018_Task3_Training_Input"
    rows, groups, files = [("image", *LESIONS)], [("image", "lesion_id", "diagnosis_confirm_type")], {}
    for i in range(7 * each):
        label, name = i % 7, f"ISIC_{24306 + i:07d}"
        rows.append((name, *(f"{float(k == label)}" for k in range(7))))
        # Two images of a lesion, for the first half of each class.
        lesion = f"HAM_{label}{i // 7 // 2 if i // 7 < each // 2 else 50 + i}"
        groups.append((name, lesion, "histopathology"))
        files[f"{folder}/{name}.jpg"] = image(".jpg", label)
    truth = "ISIC2018_Task3_Training_GroundTruth"
    tables = {f"{truth}/{truth}.csv": csv(*rows), "ISIC2018_Task3_Training_LesionGroupings.csv": csv(*groups)}
    return files | tables | {f"{folder}/LICENSE.txt": b"CC", f"{folder}/ATTRIBUTION.txt": b"ISIC"}


def kvasir(each=6):
    image = Images()
    return {
        f"kvasir-dataset/{label}/{k:02d}{i:02d}.jpg": image(".jpg", k)
        for k, label in enumerate(KVASIR)
        for i in range(each)
    }


def covid19_ct(each=14):
    image, files = Images(), {}
    for i in range(each):
        name = f"2020.03.{i // 3 + 10}.20021584-p6-{i}.png" if i < 6 else f"PIIS014067362{i // 2}%{i}.png"
        files[f"CT_COVID/{name}"] = image(".png", 2)
        files[f"CT_NonCOVID/{i // 2}%{i}.jpg"] = image(".jpg", 4)
    return files


def covid19_xray(each=6):
    image, top = Images(), "COVID-19_Radiography_Dataset"
    files = {f"{top}/README.md.txt": b"COVID-19"}
    for k, label in enumerate(("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")):
        files[f"{top}/{label}.metadata.xlsx"] = b"PK"
        for i in range(each):
            files[f"{top}/{label}/images/{label}-{i + 1}.png"] = image(".png", k)
            files[f"{top}/{label}/masks/{label}-{i + 1}.png"] = image(".png")
    return files


def tuberculosis_xray(each=6):
    image, top = Images(), "TB_Chest_Radiography_Database"
    files = {f"{top}/README.md.txt": b"TB"}
    for k, (label, count) in enumerate({"Normal": 2 * each, "Tuberculosis": each}.items()):
        files[f"{top}/{label}.metadata.xlsx"] = b"PK"
        files |= {f"{top}/{label}/{label}-{i + 1}.png": image(".png", 4 * k) for i in range(count)}
    return files


def pneumonia_xray(each=8):
    """As Kaggle's: two images of each patient of train, and the numbers of patients begin anew in test."""
    image, files = Images(), {}
    for i in range(2 * each):
        split = "val" if i >= 2 * each - 2 else "train"
        ill = f"person{i // 2 + 1}_{('bacteria', 'virus')[i % 2]}_{i + 1}.jpeg"
        files[f"chest_xray/{split}/PNEUMONIA/{ill}"] = image(".jpeg", 4)
        files[f"chest_xray/{split}/NORMAL/IM-{115 + i // 2:04d}-{i % 2 + 1:04d}.jpeg"] = image(".jpeg")
    for i in range(each // 2):
        files[f"chest_xray/test/PNEUMONIA/person{i + 1}_virus_{i + 6}.jpeg"] = image(".jpeg", 4)
        files[f"chest_xray/test/NORMAL/NORMAL2-IM-{i + 1:04d}-0001.jpeg"] = image(".jpeg")
    return files | {"chest_xray/.DS_Store": b"x"}


def oct2017(each=6):
    """As Kaggle's, with a blank in the folder's name; a patient of test has other images in train."""
    image, files = Images(), {}
    for k, label in enumerate(("CNV", "DME", "DRUSEN", "NORMAL")):
        for i in range(each):
            files[f"OCT2017 /train/{label}/{label}-{1000 + 10 * k + i // 2}-{i % 2 + 1}.jpeg"] = image(".jpeg", k)
        files[f"OCT2017 /val/{label}/{label}-{2000 + k}-1.jpeg"] = image(".jpeg", k)
        files[f"OCT2017 /train/{label}/{label}-{3000 + k}-2.jpeg"] = image(".jpeg", k)
        files[f"OCT2017 /test/{label}/{label}-{3000 + k}-1.jpeg"] = image(".jpeg", k)
        files[f"OCT2017 /test/{label}/{label}-{3100 + k}-1.jpeg"] = image(".jpeg", k)
    return files


FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)


def chexpert(patients=24):
    """Every patient has a frontal and a lateral view, every second one another study with an uncertain label."""
    image, top, files = Images(), "CheXpert-v1.0-small", {}
    rows = [("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)]
    for i in range(patients):
        for study in range(1 + i % 2):
            marks = ["1.0" if k == i % 14 else "0.0" if k % 3 == 0 else "" for k in range(14)]
            marks[(i + 3) % 14] = "-1.0" if study else marks[(i + 3) % 14]
            for view, side in ((1, "frontal"), (2, "lateral")):
                path = f"{top}/train/patient{i + 1:05d}/study{study + 1}/view{view}_{side}.jpg"
                files[path] = image(".jpg", i % 5)
                rows.append((path, "Female", 40 + i, side.title(), "AP" if view == 1 else "", *marks))
    valid = f"{top}/valid/patient64541/study1/view1_frontal.jpg"
    files |= {valid: image(".jpg"), f"{top}/valid.csv": csv(rows[0], (valid, *rows[1][1:]))}
    return files | {f"{top}/train.csv": csv(*rows)}


DOWNLOADS = {
    f.__name__: f
    for f in (
        aptos2019,
        ddr,
        messidor2,
        isic2018,
        kvasir,
        covid19_ct,
        covid19_xray,
        tuberculosis_xray,
        pneumonia_xray,
        oct2017,
        chexpert,
    )
}


def as_folder(files, path):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(files, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def as_tar(files, path):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
