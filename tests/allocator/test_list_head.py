# SPDX-License-Identifier: GPL-2.0-only
"""allocator/list_head.py: lists that guest code can follow."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.layout import CPU_BLOCKS, CPU_BULK_FREE, page_va, va_of_word
from allocator.list_head import (
    list_add,
    list_add_tail,
    list_del,
    list_empty,
    list_init,
    list_move,
    va_word,
)
from allocator.mm_types import LIST_POISON1, LIST_POISON2, P_NEXT, P_PREV
from allocator.views import list_pfns
from tests.allocator.machines import boot

KERNEL = boot("2x48M")
M = KERNEL.m
HEAD = CPU_BLOCKS + CPU_BULK_FREE
PFNS = [p.pfn for p in (KERNEL.alloc_pages("GFP_KERNEL", nid=i % 2) for i in range(24)) if p]


def lru(pfn: int) -> int:
    return KERNEL.page(pfn).word + P_NEXT


def lru_va(pfn: int) -> int:
    return page_va(pfn) + 8


def backwards() -> list[int]:
    pfns, va = [], M[HEAD + 1]
    while va != va_of_word(HEAD):
        pfns.append((va - page_va(0)) >> 6)
        va = M[va_word(M, va) + 1]
    return pfns


def test_an_address_of_either_map_leads_back_to_its_word() -> None:
    assert va_word(M, va_of_word(HEAD)) == HEAD
    for pfn in PFNS:
        assert va_word(M, lru_va(pfn)) == lru(pfn)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "tail", "del", "move"]), st.integers(0, 23))))
def test_a_list_is_what_a_python_list_would_be_both_ways(steps: list[tuple[str, int]]) -> None:
    list_init(M, HEAD)
    expected: list[int] = []
    for step, i in steps:
        pfn = PFNS[i]
        if step in ("add", "tail") and pfn not in expected:
            (list_add if step == "add" else list_add_tail)(M, lru(pfn), lru_va(pfn), HEAD)
            expected.insert(0 if step == "add" else len(expected), pfn)
        elif step == "del" and pfn in expected:
            list_del(M, lru(pfn))
            expected.remove(pfn)
            assert (M[lru(pfn)], M[lru(pfn) + 1]) == (LIST_POISON1, LIST_POISON2)
        elif step == "move" and pfn in expected:
            list_move(M, lru(pfn), lru_va(pfn), HEAD)
            expected.remove(pfn)
            expected.insert(0, pfn)
        assert list(list_pfns(M, HEAD)) == expected
        assert backwards() == expected[::-1]
        assert list_empty(M, HEAD) == (not expected)
    list_init(M, HEAD)


def test_guest_pointers_in_a_struct_page_are_where_linux_has_them() -> None:
    list_init(M, HEAD)
    list_add(M, lru(PFNS[0]), lru_va(PFNS[0]), HEAD)
    page = KERNEL.page(PFNS[0])
    assert (M[page.word + P_NEXT], M[page.word + P_PREV]) == (va_of_word(HEAD),) * 2
    list_init(M, HEAD)
