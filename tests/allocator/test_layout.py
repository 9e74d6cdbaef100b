# SPDX-License-Identifier: GPL-2.0-only
"""allocator/layout.py and its constants: nothing overlaps, everything is signed and aligned."""

from __future__ import annotations

from itertools import pairwise

from allocator import kernel_globals, layout, mm_types, mmzone, vm_events
from allocator.layout import PAGE_OFFSET, VMEMMAP_START, page_va, signed, unsigned


def test_regions_of_the_kernels_data_do_not_overlap() -> None:
    regions = [
        (kernel_globals.KDATA, kernel_globals.GLOBALS.words),
        (layout.NODE_DATA, mmzone.MAX_NUMNODES),
        (layout.NODE_DISTANCE, mmzone.MAX_NUMNODES**2),
        (layout.CPU_BLOCKS, mmzone.NR_CPUS * layout.CPU_WORDS),
        (layout.INIT_TASKS, mmzone.NR_CPUS * layout.TASK_WORDS),
        (layout.BOOT_PAGESETS, mmzone.NR_CPUS * mmzone.PSET_WORDS),
        (layout.MEM_SECTIONS, layout.NR_MEM_SECTIONS * 4),
        (layout.MEMBLOCK_MEMORY, layout.MEMBLOCK_MAX_REGIONS * 4),
        (layout.MEMBLOCK_RESERVED, layout.MEMBLOCK_MAX_REGIONS * 4),
        (layout.LOG_RING, layout.LOG_RECORDS * layout.RECORD_WORDS),
        (layout.TRACE_RING, layout.TRACE_RECORDS * layout.RECORD_WORDS),
        (layout.EMPTY_ZERO_PAGE, 512),
        (layout.POISON_PAGE, 512),
        (layout.MAILBOXES, mmzone.NR_CPUS * layout.MAILBOX_WORDS),
    ]
    for (start, words), (after, _) in pairwise(regions):
        assert start + words <= after
    assert regions[-1][0] + regions[-1][1] <= layout.KERNEL_END_WORD
    assert layout.KERNEL_IMAGE_SIZE < 8 << 20


def test_pages_that_guests_see_as_pages_are_page_aligned() -> None:
    for word in (layout.EMPTY_ZERO_PAGE, layout.POISON_PAGE, layout.MAILBOXES):
        assert (word << 3) % 4096 == 0


def test_ring_sizes_are_powers_of_two() -> None:
    for records in (layout.LOG_RECORDS, layout.TRACE_RECORDS):
        assert records & (records - 1) == 0


def test_guest_addresses_are_linuxs_and_signed() -> None:
    assert unsigned(PAGE_OFFSET) == 0xFFFF888000000000
    assert unsigned(VMEMMAP_START) == 0xFFFFEA0000000000
    assert unsigned(page_va(0x7FFB)) == 0xFFFFEA00001FFEC0
    assert signed(unsigned(-5)) == -5
    assert VMEMMAP_START > PAGE_OFFSET


def test_struct_page_is_linuxs_64_bytes() -> None:
    page = mm_types.PAGE
    assert page.size == 64
    offsets = {field.name: field.offset * 8 for field in page}
    assert offsets == {
        "flags": 0,
        "lru": 8,
        "mapping": 24,
        "index": 32,
        "private": 40,
        "_counts": 48,
        "mem_cgroup": 56,
    }
    assert mm_types.page_links(1, 2) == 0x0600000000000000
    assert unsigned(mm_types.page_links(63, 3)) == 0xFF00000000000000


def test_zone_and_node_counters_have_the_kernels_number_and_order() -> None:
    assert len(mmzone.ZONE_STAT_NAMES) == 12
    assert mmzone.ZONE_STAT_NAMES[mmzone.NR_FREE_CMA_PAGES] == "nr_free_cma"
    assert len(mmzone.NODE_STAT_NAMES) == 30
    assert mmzone.NODE_STAT_NAMES[mmzone.NR_FILE_DIRTY] == "nr_dirty"
    assert vm_events.VM_EVENT_NAMES[vm_events.PGALLOC + 2] == "pgalloc_normal"
    assert vm_events.VM_EVENT_NAMES[vm_events.PGFREE] == "pgfree"
