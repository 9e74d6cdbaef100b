# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from allocator.layout import SECTION_MEM_MAP, SECTION_PAGES, VMEMMAP_START, page_va
from allocator.sparse import PMD_SIZE, memory_present, pfn_valid, sparse_init
from tests.allocator.bringup_support import MIB, context

SECTION = 128 * MIB


def test_a_section_belongs_to_the_node_of_its_first_memory() -> None:
    ctx = context(4 * SECTION)
    ctx.mb.add_node(MIB, 63 * MIB, 1)
    ctx.mb.add_node(64 * MIB, SECTION, 0)
    assert memory_present(ctx) == {0: 1, 1: 0}


def test_struct_pages_lie_high_on_their_node_in_two_mib_units() -> None:
    ctx = context(4 * SECTION)
    ctx.mb.add_node(MIB, SECTION - MIB, 0)
    ctx.mb.add_node(2 * SECTION, 2 * SECTION, 1)
    sparse_init(ctx)
    places = dict(ctx.map_vmemmap)
    assert set(places) == {page_va(s << 15) for s in (0, 2, 3)}
    for section, low, high in ((0, MIB, SECTION), (2, 2 * SECTION, 4 * SECTION)):
        phys = places[page_va(section << 15)]
        assert phys % PMD_SIZE == 0
        assert low <= phys
        assert phys + PMD_SIZE <= high
        assert ctx.mb.is_region_reserved(phys, PMD_SIZE)
        assert ctx.m[SECTION_PAGES + 4 * section] == (phys >> 3) - (section << 18)


def test_what_is_left_of_the_buffer_goes_back() -> None:
    ctx = context(4 * SECTION)
    ctx.mb.add_node(MIB, SECTION - MIB - 12345 * 64, 0)
    sparse_init(ctx)
    assert ctx.mb.reserved.total_size() <= PMD_SIZE + 2 * 4096


def test_sections_without_memory_have_no_struct_pages() -> None:
    ctx = context(4 * SECTION)
    ctx.mb.add_node(2 * SECTION, SECTION, 0)
    sparse_init(ctx)
    assert [pfn_valid(ctx.m, s << 15) for s in range(4)] == [False, False, True, False]
    assert ctx.m[SECTION_MEM_MAP + 8] == VMEMMAP_START + 7
