# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.cmdline import memparse, simple_strtoull, split_cmdline


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0x1Fg", (0x1F, 4)),
        ("010", (8, 3)),
        ("09", (0, 1)),
        ("0x", (0, 1)),
        ("12ab", (12, 2)),
        ("abc", (0, 0)),
        ("18446744073709551617", (1, 20)),
    ],
)
def test_numbers_follow_simple_strtoull(text: str, want: tuple[int, int]) -> None:
    assert simple_strtoull(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [("4k", (4096, 2)), ("1G@2", (1 << 30, 2)), ("16E", (0, 3)), ("7", (7, 1)), ("M", (0, 1))],
)
def test_memparse_takes_suffixes_and_wraps(text: str, want: tuple[int, int]) -> None:
    assert memparse(text) == want


def test_words_keep_quoted_blanks_together() -> None:
    assert split_cmdline('a  b=1 "c d=e f" g="h i" -- j') == [
        ("a", None),
        ("b", "1"),
        ("c d", "e f"),
        ("g", "h i"),
        ("--", None),
        ("j", None),
    ]
