"""The types of JSON files: what fits, and how what does not is named."""

from typing import NotRequired

import pytest
from typing_extensions import TypedDict

from pipelines.io.json_types import Measure, mismatch


class A(TypedDict):
    a: int


class Number(TypedDict):
    a: NotRequired[float]


class Text(TypedDict):
    a: str | None


class Inner(TypedDict):
    b: str


class Outer(TypedDict):
    a: Inner | None


class Map(TypedDict):
    iou: Measure


class Maps(TypedDict):
    maps: dict[str, Map]
    note: NotRequired[str | None]


class Names(TypedDict):
    point: str
    printed: int


class Inside(TypedDict):
    a: Names


class Either(TypedDict):
    a: float | list[int]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3, int),
        (3, float),
        (0.5, float),
        (True, bool),
        (None, str | None),
        ([], list[str]),
        ({"maps": {}}, Maps),
        ({"maps": {"a": {"iou": {"value": None, "low": 1}}}, "note": None, "more": [3]}, Maps),
        ({"a": 1}, A),
        ({}, Number),
    ],
)
def test_what_fits(value, kind):
    assert mismatch(value, kind) is None


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ([], A, "it must be a table. Received: []"),
        ({}, A, "it must have `a`. Received: {}"),
        ({"a": True}, A, "`a` must be a whole number. Received: True"),
        ({"a": 0.5}, A, "`a` must be a whole number. Received: 0.5"),
        ({"a": True}, Number, "`a` must be a number. Received: True"),
        ({"a": "x"}, Number, "`a` must be a number. Received: 'x'"),
        ({"a": [1, "x"]}, dict[str, list[float]], "`a[1]` must be a number. Received: 'x'"),
        ({"a": 3}, Text, "`a` must be text or null. Received: 3"),
        ({"a": {"b": 1}}, Outer, "`a.b` must be text. Received: 1"),
        ({"a": {"c": 1}}, Outer, "`a` must have `b`. Received: {'c': 1}"),
        ({"maps": {"m": {"iou": {"value": "x"}}}}, Maps, "`maps.m.iou.value` must be a number or null. Received: 'x'"),
        ({"a": {"point": 1, "printed": "x"}}, Inside, "`a.point` must be text. Received: 1"),
        ({"a": ["x", 1]}, Either, "`a[0]` must be a whole number. Received: 'x'"),
        ({"a": "x"}, Either, "`a` must be a number or a list. Received: 'x'"),
        ({"a": "x" * 99}, A, "`a` must be a whole number. Received: '" + "x" * 59 + "..."),
    ],
)
def test_what_does_not_fit_is_named(value, kind, said):
    assert mismatch(value, kind) == said
