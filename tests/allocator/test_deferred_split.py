# SPDX-License-Identifier: GPL-2.0-only
"""The queue of huge pages that are only partly in use."""

from __future__ import annotations

from allocator.deferred_split import (
    TRANSHUGE_PAGE_DTOR,
    deferred_list_va,
    deferred_split_huge_page,
    deferred_split_unlink,
    free_compound,
    is_transparent_hugepage,
    prep_transhuge_page,
)
from allocator.layout import va_of_word
from allocator.list_head import list_empty, va_word
from allocator.mm_inline import page_node
from allocator.mm_types import MAPCOUNT_MASK, P_COUNTS, P_PREV
from allocator.mmzone import ND_SPLIT_QUEUE, ND_SPLIT_QUEUE_LEN
from allocator.page_check import compound_order
from tests.allocator.process_support import Lab


def huge(lab: Lab) -> int:
    p = lab.new_page(9)
    prep_transhuge_page(lab.m, p)
    return p


def test_a_huge_page_keeps_its_order_and_gets_its_destructor(lab: Lab) -> None:
    plain, p = lab.new_page(9), huge(lab)
    assert not is_transparent_hugepage(lab.m, plain)
    assert is_transparent_hugepage(lab.m, p)
    assert lab.m[p + 8 + P_PREV] & 0xFF == TRANSHUGE_PAGE_DTOR
    assert compound_order(lab.m, p) == 9


def test_a_huge_page_is_queued_once_and_in_order(lab: Lab) -> None:
    m, pages = lab.m, [huge(lab), huge(lab)]
    nd = page_node(m, pages[0])
    for p in [*pages, pages[0]]:
        deferred_split_huge_page(m, p)
    assert m[nd + ND_SPLIT_QUEUE_LEN] == 2
    assert m[nd + ND_SPLIT_QUEUE] == deferred_list_va(m, pages[0])
    assert m[va_word(m, m[nd + ND_SPLIT_QUEUE])] == deferred_list_va(m, pages[1])
    deferred_split_unlink(m, pages[0])
    deferred_split_unlink(m, pages[0])
    assert m[nd + ND_SPLIT_QUEUE_LEN] == 1
    assert m[nd + ND_SPLIT_QUEUE] == deferred_list_va(m, pages[1])


def test_a_huge_page_that_is_freed_leaves_the_queue(lab: Lab) -> None:
    m, p = lab.m, huge(lab)
    nd = page_node(m, p)
    deferred_split_huge_page(m, p)
    m[p + P_COUNTS] = MAPCOUNT_MASK
    assert free_compound(m, 0, p)
    assert list_empty(m, nd + ND_SPLIT_QUEUE)
    assert m[nd + ND_SPLIT_QUEUE_LEN] == 0
    assert lab.check().sound
    assert m[nd + ND_SPLIT_QUEUE] == va_of_word(nd + ND_SPLIT_QUEUE)
