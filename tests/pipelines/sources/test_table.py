import os

import cv2
import numpy as np
import pytest

from pipelines.images.decode import find_unreadable
from pipelines.sources import open_source


def make(folder, text, images="abcd"):
    for name in images:
        assert cv2.imwrite(str(folder / f"{name}.png"), np.full((8, 8), ord(name), np.uint8))
    path = folder / "table.csv"
    path.write_text(text)
    return path


def rows(*lines):
    return "\n".join(lines) + "\n"


def test_names_patients_splits_and_metadata(tmp_path):
    text = rows(
        "age,path,label,patient,split,site",
        "61,a.png,ill,007,train,x",
        ",b.png,well,007,train,",
        "9,c.png,ill,8,test,y",
    )
    records = open_source(make(tmp_path, text))
    assert records.task == "binary" and records.class_names == ("ill", "well") and records.labels.tolist() == [0, 1, 0]
    assert records.table["patient"].tolist() == ["007", "007", "8"]
    assert records.table["split"].tolist() == ["train", "train", "test"]
    assert records.table.columns.tolist() == ["id", "patient", "split", "age", "site"]
    assert records.table["age"].fillna(-1).tolist() == [61, -1, 9] and records.table["site"].tolist() == [
        "x",
        "",
        "y",
    ]
    assert [records.read(i)[0, 0] for i in range(3)] == [ord(c) for c in "abc"]
    assert records.read_shape(0) == (8, 8, 1)


@pytest.mark.parametrize(
    ("values", "options", "names", "labels"),
    [
        (("2", "10", "1"), {}, ("1", "2", "10"), [1, 2, 0]),
        (("2", "0", "1"), {"class_names": ("x", "y", "z")}, ("x", "y", "z"), [2, 0, 1]),
        (("None", "NA", "None"), {}, ("NA", "None"), [1, 0, 1]),
        (("b", "a", "b"), {"class_names": ("b", "a", "c")}, ("b", "a", "c"), [0, 1, 0]),
    ],
)
def test_label_values(tmp_path, values, options, names, labels):
    lines = [f"{c}.png,{v}" for c, v in zip("abc", values, strict=True)]
    records = open_source(make(tmp_path, rows("image,class", *lines)), **options)
    assert records.class_names == names and records.labels.tolist() == labels


def test_several_label_columns_make_a_multilabel_task(tmp_path):
    path = make(tmp_path, rows("path,cyst,mass", "a.png,1,0", "b.png,,1.0", "c.png,0,NaN"))
    records = open_source(path, label_columns=("cyst", "mass"))
    assert records.task == "multilabel" and records.class_names == ("cyst", "mass")
    np.testing.assert_array_equal(records.labels, np.array([[1, 0], [np.nan, 1], [0, np.nan]], np.float32))
    single = open_source(path, label_columns="cyst", task="multilabel")
    assert single.labels.shape == (3, 1)


def test_root_and_chosen_columns(tmp_path):
    (tmp_path / "images").mkdir()
    text = rows("id,where,what,who,patient", "1,a.png,x,P1,z", "2,b.png,y,P2,z")
    path = make(tmp_path / "images", text).rename(tmp_path / "t.csv")
    records = open_source(
        path, root=str(tmp_path / "images"), path_column="where", label_columns="what", patient_column="who"
    )
    assert records.table["patient"].tolist() == ["P1", "P2"]
    assert records.table["original_id"].tolist() == [1, 2] and records.table["original_patient"].tolist() == [
        "z",
        "z",
    ]


def test_a_byte_order_mark_and_blank_splits_do_no_harm(tmp_path):
    path = make(tmp_path, rows("\ufeffpath,label,split", "a.png,x,", "b.png,y,"))
    assert open_source(path).table["split"].tolist() == ["", ""]


def test_spaces_and_rows_without_values_do_no_harm(tmp_path):
    text = rows(" path , label,", "a.png,ill ,", "", "b.png, well,", ",,", 'c.png," ill",')
    records = open_source(make(tmp_path, text))
    assert records.class_names == ("ill", "well") and records.labels.tolist() == [0, 1, 0]
    assert records.table["column_3"].tolist() == ["", "", ""]
    with pytest.raises(ValueError, match="'well' in row 4 of"):
        open_source(tmp_path / "table.csv", class_names=("ill", "odd"))


def test_skip_keeps_missing_files_for_the_report(tmp_path):
    path = make(tmp_path, rows("path,label", "a.png,x", "gone.png,y", "b.png,y"))
    with pytest.raises(FileNotFoundError, match="gone.png: no such file, row 3 of"):
        open_source(path)
    assert find_unreadable(open_source(path, on_error="skip"))["id"].tolist() == ["gone.png"]


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (
            rows("path,label", "a.png,x", "b.png,y"),
            {"label_columns": "grade"},
            "No column grade.*path, label.*label_columns='grade'",
        ),
        (rows("path,label", "a.png,x", "b.png,y"), {"label_columns": ("label", "q")}, "No column q"),
        (rows("path,p", "a.png,1", "b.png,0"), {"label_columns": ("p", "p")}, "all distinct.*'p', 'p'"),
        (rows("path,label", "a.png,x", "b.png,y"), {"patient_column": "who"}, "patient_column='who'"),
        (rows("path,grade", "a.png,x", "b.png,y"), {}, "No column label or class"),
        (rows("where,label", "a.png,x", "b.png,y"), {}, "No column path or image"),
        (rows("path,label", "a.png,x", "a.png,y"), {}, "a.png again in row 3"),
        (rows("path,label", "a.png,x", ",y"), {}, "column path.*row 3"),
        (rows("path,label", "a.png,x", "b.png,"), {}, "column label.*row 3"),
        (rows("path,label,patient", "a.png,x,1", "b.png,y,"), {}, "column patient.*row 3"),
        (rows("path,label", "a.png,x", "b.png,z"), {"class_names": ("x", "y")}, "one of x, y.*'z' in row 3"),
        (rows("path,label", "a.png,x", "b.png,2"), {"class_names": ("x", "y")}, "'2' in row 3"),
        (rows("path,label", "a.png,x", "b.png,x"), {}, "at least two classes"),
        (rows("path,label,split", "a.png,x,train", "b.png,y,dev"), {}, "train, val or test.*'dev' in row 3"),
        (rows("path,label,split", "a.png,x,train", "b.png,y,"), {}, "'' in row 3"),
        (
            rows("path,p,q", "a.png,1,0", "b.png,-2,1"),
            {"label_columns": ("p", "q")},
            r"0, 1, -1 \(uncertain\) or blank.*'-2' in row 3",
        ),
        (rows("path,label", "a.png,x", "./a.png,y"), {}, r"stands in one row.*\./a.png again in row 3"),
        (rows("path,label", "a.png,x,1", "b.png,y,2"), {}, "2 columns, but 3 values in row 2"),
        (rows("path,label,age", "a.png,x,1", "b.png,y"), {}, "3 columns, but 2 values in row 3"),
        (rows("path,label,label", "a.png,x,y", "b.png,y,x"), {}, "two columns are called label"),
        (rows("path,label", "a.png,x", "b.png,y").encode("utf-16-le"), {}, "no UTF-8 text"),
        (rows("path,label"), {}, "no rows"),
        ("", {}, "Cannot read"),
        (rows("path,label", "a.png,x,1,2", "b.png,y", 'c.png,"z'), {}, "Cannot read"),
        ("path,label\na.png,\xff\n".encode("latin-1"), {}, "Cannot read"),
    ],
)
def test_a_bad_table_is_named_on_one_line(tmp_path, text, options, reason):
    path = make(tmp_path, "")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=reason) as error:
        open_source(path, **options)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_source(make(tmp_path, rows("path,label", "a.png,x", "b.png,y")), root=str(tmp_path / "nowhere"))


def test_files_are_looked_up_by_folder_not_one_by_one(tmp_path, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for i in range(50):
            (tmp_path / folder / f"{i}.png").touch()
    lines = [f"{folder}/{i}.png,{i % 2}" for folder in ("one", "two") for i in range(50)]
    (tmp_path / "t.csv").write_text(rows("path,label", *lines))
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert len(open_source(tmp_path / "t.csv")) == 100
    assert len(listed) == 2


def test_nih_chest_xrays(real_data):
    names = ("Atelectasis", "Effusion", "Infiltration", "Pneumonia")
    folder = real_data / "nih_cxr_1000"
    records = open_source(folder / "labels.csv", root=str(folder / "images"), label_columns=names)
    assert len(records) == 1000 and records.task == "multilabel" and records.class_names == names
    assert records.table["patient"].nunique() == 682
    assert records.table["split"].value_counts().to_dict() == {"train": 700, "test": 200, "val": 100}
    assert records.class_counts()[3] == 500
    assert records.read(0).shape == (256, 256) and records.table["age"].dtype.kind == "i"


def test_a_mask_column_gives_lesion_masks(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 5] = 255
    assert cv2.imwrite(str(tmp_path / "lesion.png"), mask)
    text = rows("path,label,outline", "a.png,ill,lesion.png", "b.png,well,gone.png")
    path = make(tmp_path, text)
    with pytest.raises(FileNotFoundError, match="gone.png: no such file, row 3"):
        open_source(path, mask_column="outline")
    records = open_source(path, mask_column="outline", on_error="skip")
    np.testing.assert_array_equal(records.read_mask(0), mask > 0)
    assert "outline" not in records.table
    assert open_source(path).read_mask is None
    with pytest.raises(ValueError, match="No column shade .* Received: mask_column='shade'"):
        open_source(path, mask_column="shade")
