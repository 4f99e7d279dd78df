"""The shape of JSON: what fits, and how what does not is named."""

import pytest

from pipelines.io.json_shape import MEASURE, NUMBER, mismatch

MAPS = {"maps": {str: {"iou": MEASURE}}, "note?": (None, str)}


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (3, int),
        (3, NUMBER),
        (0.5, NUMBER),
        (True, bool),
        (None, (None, str)),
        ([], [str]),
        ({"maps": {}}, MAPS),
        ({"maps": {"a": {"iou": {"value": None, "low": 1}}}, "note": None, "more": [3]}, MAPS),
        ({}, ({}, {"a": int})),
        ({"a": 1}, ({}, {"a": int})),
        ({"a": "x", "b": 1}, {"a": str, str: int}),
    ],
)
def test_what_fits(value, shape):
    assert mismatch(value, shape) is None


@pytest.mark.parametrize(
    ("value", "shape", "said"),
    [
        ([], {"a": int}, "it must be a table. Received: []"),
        ({}, {"a": int}, "it must have `a`. Received: {}"),
        ({"a": True}, {"a": int}, "`a` must be a whole number. Received: True"),
        ({"a": 0.5}, {"a": int}, "`a` must be a whole number. Received: 0.5"),
        ({"a": True}, {"a": NUMBER}, "`a` must be a number. Received: True"),
        ({"a": "x"}, {"a?": NUMBER}, "`a` must be a number. Received: 'x'"),
        ({"a": [1, "x"]}, {"a": [NUMBER]}, "`a[1]` must be a number. Received: 'x'"),
        ({"a": 3}, {"a": (None, str)}, "`a` must be null or text. Received: 3"),
        ({"a": {"b": 1}}, {"a": (None, {"b": str})}, "`a.b` must be text. Received: 1"),
        ({"a": {"c": 1}}, {"a": ({}, {"b": str})}, "`a` must have `b`. Received: {'c': 1}"),
        ({"a": 1}, {}, "it must be an empty table. Received: {'a': 1}"),
        ({"a": "x", "b": "y"}, {"a": str, str: int}, "`b` must be a whole number. Received: 'y'"),
        ({"maps": {"m": {"iou": {"value": "x"}}}}, MAPS, "`maps.m.iou.value` must be a number or null. Received: 'x'"),
        ({"a": "x" * 99}, {"a": int}, "`a` must be a whole number. Received: '" + "x" * 59 + "..."),
    ],
)
def test_what_does_not_fit_is_named(value, shape, said):
    assert mismatch(value, shape) == said
