import io
import os
import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.data import get_testdata_file

from dicom_files import item, write_dicom
from pipelines.images.decode import common_shape, find_unreadable, stored_shapes
from pipelines.sources.dicom.header import read_header
from pipelines.sources.dicom.image import read_dicom
from pipelines.sources.dicom.source import open_dicom
from pipelines.sources.pseudonyms import Pseudonyms

SALT = "a salt of this test"
CODE = Pseudonyms(SALT)
HEADER = ["study", "series", "modality", "view", "sex", "manufacturer", "photometric", "burned_in", "age"]
HEADER += ["row_spacing_mm", "column_spacing_mm"]


def make(root, files):
    """Writes one small file per name; each value holds the elements of its header."""
    for name, elements in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_dicom(root / name, **elements)
    return root


def csv_of(root, text):
    (root / "images.csv").write_text(text)
    return str(root / "images.csv")


@pytest.fixture
def real(real_data, tmp_path):
    """All real files in two class folders."""
    for folder in ("nih_wrapped", "pydicom"):
        shutil.copytree(real_data / "dicom" / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.txt"))
    return tmp_path


def test_real_files(real):
    records = open_dicom(str(real), salt=SALT)
    assert (records.class_names, records.rank, len(records)) == (("nih_wrapped", "pydicom"), 2, 14)
    assert list(records.table) == ["id", "patient", "split", *HEADER]
    table = records.table.set_index("id")
    assert table.loc["nih_wrapped/00005869_001_monochrome2_8bit.dcm", "patient"] == CODE("NIH-5869")
    overlay = table.loc["pydicom/examples_overlay.dcm"]
    assert overlay[["modality", "sex", "age", "manufacturer"]].tolist() == ["MR", "M", 58, "SIEMENS"]
    assert overlay["row_spacing_mm"] == overlay["column_spacing_mm"] == pytest.approx(0.72314)
    assert records.read_spacing(table.index.get_loc("pydicom/examples_overlay.dcm")) == pytest.approx(
        (0.72314, 0.72314)
    )
    assert overlay["study"] == CODE("1.2.124.113532.10.122.1.203.20051130.122937.2950157")
    # One patient each: two X-rays twice, the MR in four syntaxes, and six others.
    assert table["patient"].nunique() == 2 + 1 + 6
    assert stored_shapes(records)[0] == (512, 512, 1)
    assert common_shape(records, image_size=64, channels=3) == (64, 64, 3)
    for i in range(14):
        np.testing.assert_array_equal(records.read(i), read_dicom(real / table.index[i]))
        assert records.read(i).reshape(records.read_shape(i)).ndim == 3


def test_no_identifier_is_kept(real):
    """Neither in the table, nor in its CSV, nor where the records are printed."""
    secrets = set()
    for path in real.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID"):
            secrets.add(str(dataset.get(keyword, "")))
        secrets.add(dataset.get("SeriesInstanceUID", ""))
        secrets.update(str(dataset.get("PatientName", "")).split("^"))
    secrets = {secret for secret in secrets if len(secret) > 2}
    assert {"Lestrade", "NIH-5869", "11111111", "021234567"} <= secrets
    records = open_dicom(str(real), salt=SALT)
    csv = io.StringIO()
    records.table.to_csv(csv)
    for text in (csv.getvalue(), records.table.to_string(), repr(records), repr(read_header(path))):
        assert [secret for secret in secrets if secret in text] == []
    assert SALT not in repr(records)


def test_the_salt_makes_the_codes(real):
    first, again, other = (open_dicom(str(real), salt=salt).table for salt in (SALT, SALT, SALT + "!"))
    pd.testing.assert_frame_equal(first, again)
    for column in ("patient", "study", "series"):
        assert not set(first[column]) & set(other[column])
        assert first[column].factorize()[0].tolist() == other[column].factorize()[0].tolist()


def test_the_patient_without_an_id_is_the_study_then_the_image(tmp_path):
    make(
        tmp_path,
        {
            "a/1.dcm": {"PatientID": "", "StudyInstanceUID": "1.2"},
            "a/2.dcm": {"PatientID": "", "StudyInstanceUID": "1.2"},
            "b/3.dcm": {"without": ("PatientID",)},
            "b/4.dcm": {"PatientID": " 17 "},
        },
    )
    table = open_dicom(str(tmp_path), salt=SALT).table
    assert table["patient"].tolist() == [CODE("1.2"), CODE("1.2"), "b/3.dcm", CODE("17")]
    assert table["study"].tolist() == [CODE("1.2"), CODE("1.2"), "", ""]
    named = open_dicom(str(tmp_path), salt=SALT, patient_pattern=r"/(\d)").table
    assert named["patient"].tolist() == [CODE(n) for n in "1234"]


def test_splits_and_files_of_any_name(tmp_path):
    names = ["train/a/1.2.840.10008.1", "train/b/IM0001", "test/a/x.DCM", "test/b/deep/er/y.ima"]
    make(tmp_path, dict.fromkeys(names, {}))
    (tmp_path / "train" / "b" / "DICOMDIR").write_bytes(b"an index")
    (tmp_path / "LICENSE").write_text("beside the classes")
    records = open_dicom(str(tmp_path))
    assert records.table["id"].tolist() == ["test/a/x.DCM", "test/b/deep/er/y.ima", *names[:2]]
    assert records.table["split"].tolist() == ["test", "test", "train", "train"]
    (tmp_path / "train" / "b" / "notes").write_text("not DICOM")
    with pytest.raises(ValueError, match="train/b/notes: not one of .dcm"):
        open_dicom(str(tmp_path))


def test_a_csv(tmp_path):
    make(tmp_path, {f"{i}.dcm": {"PatientID": f"00{i}", "Modality": "DX", "ViewPosition": "PA"} for i in range(4)})
    text = "path,label,PatientID,ward,view\n" + "".join(f"{i}.dcm,{i % 2},00{i},{i + 7},mine\n" for i in range(4))
    records = open_dicom(csv_of(tmp_path, text), salt=SALT)
    assert records.class_names == ("0", "1") and records.labels.tolist() == [0, 1, 0, 1]
    codes = [CODE(f"00{i}") for i in range(4)]
    assert records.table["patient"].tolist() == records.table["PatientID"].tolist() == codes
    assert records.table["ward"].tolist() == [7, 8, 9, 10]
    assert set(records.table["view"]) == {"mine"} and set(records.table["dicom_view"]) == {"PA"}
    np.testing.assert_array_equal(records.read(2), read_dicom(tmp_path / "2.dcm"))


def test_the_patients_of_a_csv_come_first(tmp_path):
    make(tmp_path, {"a.dcm": {}, "b.dcm": {}})
    path = csv_of(tmp_path, "path,x,y,who\na.dcm,1,-1,Eve\nb.dcm,,1,Ida\n")
    records = open_dicom(path, salt=SALT, label_columns=("x", "y"), patient_column="who", uncertain="ones")
    assert records.table["patient"].tolist() == [CODE("Eve"), CODE("Ida")]
    assert records.task == "multilabel" and records.train_labels[0].tolist() == [1, 1]
    with pytest.raises(ValueError, match="leads below"):
        open_dicom(csv_of(tmp_path, "path,label\n../a.dcm,0\nb.dcm,1\n"))


def test_volumes_and_their_frames(tmp_path):
    volume = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    for name in ("a/1.dcm", "b/2.dcm"):
        (tmp_path / name).parent.mkdir()
        write_dicom(tmp_path / name, volume, WindowCenter=12, WindowWidth=24)
    records = open_dicom(str(tmp_path))
    assert (records.rank, records.read(0).shape, records.read_shape(0)) == (3, (2, 3, 4), (2, 3, 4, 1))
    first = open_dicom(str(tmp_path), frame=1)
    assert (first.rank, first.read_shape(0)) == (2, (3, 4, 1))
    assert records.read_spacing(0) is None and first.read_spacing(0) is None  # The file does not say it.
    np.testing.assert_array_equal(first.read(0), records.read(0)[1])
    wider = open_dicom(str(tmp_path), window=(12, 48))
    assert wider.read(0).max() < records.read(0).max()
    assert len({r.fingerprint(0) for r in (records, first, wider)}) == 3
    write_dicom(tmp_path / "b" / "3.dcm")
    with pytest.raises(ValueError, match="pass `frame`. Received: a/1.dcm with 2 frames and b/3.dcm with one frame"):
        open_dicom(str(tmp_path))
    mixed = open_dicom(str(tmp_path), on_error="skip")
    assert find_unreadable(mixed)["id"].tolist() == ["b/3.dcm"]


def test_ages_spacings_and_texts(tmp_path):
    def metadata(**elements):
        return read_header(write_dicom(tmp_path / "a.dcm", **elements)).metadata

    for age, years in (("058Y", 58), ("006M", 0.5), ("026W", 26 * 7 / 365.25), ("095Y", 90), ("000Y", 0)):
        assert metadata(PatientAge=age)["age"] == pytest.approx(years)
    for born, studied, years in (
        ("19500615", "20200614", 69),
        ("19500615", "20200615", 70),
        ("18990101", "2020", None),
    ):
        age = metadata(PatientBirthDate=born, StudyDate=studied)["age"]
        assert age == years if years else np.isnan(age)
    assert metadata(PatientBirthDate="19000101", StudyDate="20200101")["age"] == 90
    assert np.isnan(metadata()["age"]) and np.isnan(metadata()["row_spacing_mm"])
    both = metadata(PixelSpacing=[0.5, 0.25], ImagerPixelSpacing=[9, 9])
    assert (both["row_spacing_mm"], both["column_spacing_mm"]) == (0.5, 0.25)
    assert metadata(ImagerPixelSpacing=[0.1, 0.2])["column_spacing_mm"] == 0.2
    shared = item(PixelMeasuresSequence=item(PixelSpacing=[2, 3]))
    assert metadata(SharedFunctionalGroupsSequence=shared)["row_spacing_mm"] == 2
    texts = metadata(ViewPosition="PA", BurnedInAnnotation="YES", PatientSex="F", Manufacturer=" Two  words\n")
    assert [texts[name] for name in ("view", "burned_in", "sex", "manufacturer")] == ["PA", "YES", "F", "Two words"]


def test_bad_files_are_refused_or_kept_for_the_report(tmp_path):
    make(tmp_path, {"a/1.dcm": {}, "a/2.dcm": {"without": ("Rows",)}, "b/3.dcm": {}, "b/4.dcm": {}})
    (tmp_path / "b" / "5.txt").write_text("text")
    (tmp_path / "b" / "4.dcm").write_bytes((tmp_path / "b" / "4.dcm").read_bytes()[:-9])
    with pytest.raises(ValueError, match="b/5.txt: not one of"):
        open_dicom(str(tmp_path))
    os.remove(tmp_path / "b" / "5.txt")
    with pytest.raises(ValueError, match="a/2.dcm: Rows is missing"):
        open_dicom(str(tmp_path))
    (tmp_path / "b" / "5.txt").write_text("text")
    records = open_dicom(str(tmp_path), on_error="skip", salt=SALT)
    assert records.table["patient"].tolist() == [CODE("P1"), "a/2.dcm", CODE("P1"), CODE("P1"), "b/5.txt"]
    rejected = find_unreadable(records).set_index("id")["reason"]
    assert list(rejected.index) == ["a/2.dcm", "b/4.dcm", "b/5.txt"]
    assert "Rows is missing" in rejected["a/2.dcm"] and "ask for 24 bytes" in rejected["b/4.dcm"]
    assert all(str(tmp_path) in reason for reason in rejected)


def test_nothing_but_bad_files(tmp_path):
    for name in ("a/1.dcm", "b/2.dcm"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no DICOM")
    records = open_dicom(str(tmp_path), on_error="skip")
    assert len(find_unreadable(records)) == 2 and records.table["patient"].equals(records.table["id"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"window": "lungs"}, "`window` must be one of"),
        ({"salt": "short"}, "`salt` must be"),
        ({"frame": 1}, "1.dcm: `frame` must be from 0 to 0. Received: frame=1"),
        ({"label_columns": "x"}, "in a folder are opened without `label_columns`"),
        ({"blank": "ones"}, "without `blank`. Received: blank='ones'"),
        ({"patient_pattern": "("}, "no regular expression"),
    ],
)
def test_bad_options_of_a_folder(tmp_path, options, reason):
    make(tmp_path, {"a/1.dcm": {}, "b/2.dcm": {}})
    with pytest.raises(ValueError, match=reason):
        open_dicom(str(tmp_path), **options)


def test_bad_options_of_a_csv(tmp_path):
    make(tmp_path, {"a.dcm": {}, "b.dcm": {}})
    path = csv_of(tmp_path, "path,label\na.dcm,0\nb.dcm,1\n")
    with pytest.raises(ValueError, match="in a CSV are opened without `patient_pattern`"):
        open_dicom(path, patient_pattern="(a)")
    with pytest.raises(FileNotFoundError, match="none.csv"):
        open_dicom(str(tmp_path / "none.csv"))
    with pytest.raises(FileNotFoundError, match="c.dcm"):
        open_dicom(csv_of(tmp_path, "path,label\na.dcm,0\nc.dcm,1\n"))


def test_a_limit_of_pixels(tmp_path):
    make(tmp_path, {"a/1.dcm": {}, "b/2.dcm": {}})
    assert len(find_unreadable(open_dicom(str(tmp_path), max_pixels=12))) == 0
    reasons = find_unreadable(open_dicom(str(tmp_path), max_pixels=11))["reason"]
    assert all("at most 11 pixels" in reason for reason in reasons) and len(reasons) == 2


def test_a_film_in_colour(tmp_path):
    for name in ("a/1.dcm", "b/2.dcm"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(get_testdata_file("SC_rgb_rle_2frame.dcm", download=False), tmp_path / name)
    records = open_dicom(str(tmp_path))
    assert (records.rank, records.read_shape(0), records.read(0).shape) == (3, (2, 100, 100, 3), (2, 100, 100, 3))
