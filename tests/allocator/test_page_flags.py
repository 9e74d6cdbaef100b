# SPDX-License-Identifier: GPL-2.0-only
"""allocator/page_flags.py: node, zone and PG_ bits out of a flags word."""

from __future__ import annotations

from itertools import product

from allocator.mm_types import (
    PAGE_FLAGS_NEW_PAGE,
    PG_HEAD,
    PG_HWPOISON,
    PG_LOCKED,
    PG_LRU,
    page_links,
)
from allocator.page_flags import page_place


def test_place_and_marks_come_back_as_they_were_put_in() -> None:
    for nid, zid, marks in product(
        (0, 1, 31, 32, 63), range(4), (0, PG_LOCKED, PG_LRU | PG_HEAD, PG_HWPOISON)
    ):
        assert page_place(page_links(nid, zid) | marks) == (nid, zid, marks)


def test_bits_between_marks_and_place_are_neither() -> None:
    assert page_place(page_links(3, 2) | 1 << 24 | 1 << 55) == (3, 2, 0)
    assert page_place(-1) == (63, 3, PAGE_FLAGS_NEW_PAGE)
