"""Uncertain and blank labels: what is known never changes, and the policy fills the labels to train with."""

import numpy as np
import pytest
from scipy.stats import kstest

from pipelines.sources import open_source
from pipelines.sources.table.labels import POLICIES, training_labels

NAN = np.nan
TEXT = "path,cyst,mass\na.png,1,-1\nb.png,-1.0,\nc.png,,0.0\nd.png,0,1.0\n"
KNOWN = np.array([[1, NAN], [NAN, NAN], [NAN, 0], [0, 1]], np.float32)


def opened(folder, text=TEXT, **options):
    (folder / "table.csv").write_text(text)
    return open_source(folder / "table.csv", label_columns=("cyst", "mass"), on_error="skip", **options)


@pytest.mark.parametrize("uncertain", POLICIES)
@pytest.mark.parametrize("blank", POLICIES)
def test_what_is_known_does_not_depend_on_the_policy(tmp_path, uncertain, blank):
    records = opened(tmp_path, uncertain=uncertain, blank=blank)
    np.testing.assert_array_equal(records.labels, KNOWN)
    assert records.class_counts().tolist() == [1, 1]
    assert (records.train_labels is None) == (uncertain == blank == "ignore")
    if records.train_labels is not None:
        known = ~np.isnan(KNOWN)
        np.testing.assert_array_equal(records.train_labels[known], KNOWN[known])
        assert records.train_labels.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"uncertain": "zeros"}, [[1, 0], [0, NAN], [NAN, 0], [0, 1]]),
        ({"uncertain": "ones"}, [[1, 1], [1, NAN], [NAN, 0], [0, 1]]),
        ({"blank": "zeros"}, [[1, NAN], [NAN, 0], [0, 0], [0, 1]]),
        ({"uncertain": "ones", "blank": "zeros"}, [[1, 1], [1, 0], [0, 0], [0, 1]]),
    ],
)
def test_each_policy_fills_its_own_cells(tmp_path, options, expected):
    np.testing.assert_array_equal(opened(tmp_path, **options).train_labels, np.array(expected, np.float32))


@pytest.mark.parametrize(("value", "option", "low", "high"), [(-1, "uncertain", 0.55, 0.85), (NAN, "blank", 0, 0.3)])
def test_smooth_draws_uniformly_from_the_published_range(value, option, low, high):
    labels = np.full((4000, 2), value, np.float32)
    policies = {"uncertain": "ignore", "blank": "ignore"} | {option: "smooth"}
    drawn = training_labels(labels, [f"{i}.png" for i in range(4000)], ("cyst", "mass"), **policies)
    assert drawn.min() >= np.float32(low) and drawn.max() <= np.float32(high)
    assert all(kstest((column - low) / (high - low), "uniform").pvalue > 0.01 for column in drawn.T)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.05
    assert len(np.unique(drawn)) > 7900


def test_what_smooth_draws_follows_from_record_and_label_alone(tmp_path):
    lines = [f"{i}.png,-1," for i in range(20)]
    texts = ["\n".join(["path,cyst,mass", *chosen]) for chosen in (lines, lines[:4:-1])]
    first, second = (opened(tmp_path, text, uncertain="smooth", blank="smooth").train_labels for text in texts)
    np.testing.assert_array_equal(first[:4:-1], second)
    assert len(np.unique(first)) == first.size


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (TEXT.replace("-1.0", "-2"), {}, r"0, 1, -1 \(uncertain\) or blank. Received: '-2' in row 3"),
        (TEXT.replace("0.0", "0.5"), {}, "column mass .*'0.5' in row 4"),
        (TEXT, {"uncertain": "guess"}, "`uncertain` must be one of ignore, zeros, ones, smooth.*'guess'"),
        (TEXT, {"blank": ""}, "`blank` must be one of"),
    ],
)
def test_another_value_or_policy_is_refused(tmp_path, text, options, reason):
    with pytest.raises(ValueError, match=reason):
        opened(tmp_path, text, **options)


def test_a_policy_needs_several_labels(tmp_path):
    (tmp_path / "table.csv").write_text("path,label\na.png,x\nb.png,y\n")
    with pytest.raises(ValueError, match="several labels.*Received: uncertain='ones'"):
        open_source(tmp_path / "table.csv", on_error="skip", uncertain="ones")
