# SPDX-License-Identifier: GPL-2.0-only
"""The shape language: what fits passes, what does not is named by its place."""

from __future__ import annotations

from typing import Any

import pytest

from allocator.oracle.schema import Each, Maybe, Row, check
from machine.errors import ImageError

SHAPE = {"a": int, "b?": [int], "c": [{"d": str}], "e": Each(int), "f": Maybe({"g": int})}
FITTING: dict[str, Any] = {"a": 1, "b": [1], "c": [{"d": "x"}], "e": {"k": 1}, "f": None}


def test_what_fits_passes_with_and_without_optional_parts() -> None:
    check(FITTING, SHAPE, "x")
    check({k: v for k, v in FITTING.items() if k != "b"} | {"f": {"g": 1}, "more": 1}, SHAPE, "x")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"a": "1"}, "x.a"),
        ({"a": True}, "x.a"),
        ({"a": 1.5}, "x.a"),
        ({"b": [1, None]}, r"x.b\[1\]"),
        ({"b": 1}, "x.b"),
        ({"c": [{"d": "x"}, {}]}, r"x.c\[1\]: 'd'"),
        ({"e": {"k": "1"}}, "x.e.k"),
        ({"f": {}}, "x.f: 'g'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ImageError, match=place):
        check(FITTING | change, SHAPE, "x")


def test_a_row_may_be_longer_but_not_shorter() -> None:
    check([1, "a", None], Row((int, str)), "x")
    for short in ([1], [1, 2], 5):
        with pytest.raises(ImageError, match="x"):
            check(short, Row((int, str)), "x")
