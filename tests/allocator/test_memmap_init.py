# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from allocator.layout import VMEMMAP_START
from allocator.memmap_init import run_spans, section_spans
from allocator.mm_types import COUNTS_ONE, page_links
from allocator.pageblock import get_pageblock_migratetype
from tests.allocator.bringup_support import MIB, page_word, tables_boot, zone_runs

KERNEL = (16 * MIB, 8 * MIB)


def test_an_initialised_page_points_to_itself_with_one_reference() -> None:
    k = tables_boot([(MIB, 63 * MIB, 0)], [KERNEL])
    k.early0()
    w = page_word(k.m, 5000)
    lru = VMEMMAP_START + 64 * 5000 + 8
    assert k.m[w : w + 8].tolist() == [page_links(0, 1), lru, lru, 0, 0, 0, COUNTS_ONE, 0]


def test_page_zero_is_never_initialised_and_its_block_stays_unmovable() -> None:
    k = tables_boot([(4096, 64 * MIB - 4096, 0)], [KERNEL])
    k.early0()
    assert k.m[page_word(k.m, 0) : page_word(k.m, 0) + 8].tolist() == [0] * 8
    assert [get_pageblock_migratetype(k.m, pfn) for pfn in (0, 512, 1024, 16000)] == [0, 1, 1, 1]


def test_a_later_node_lower_in_memory_takes_the_rest_of_its_section() -> None:
    border = 64 * MIB
    k = tables_boot([(MIB, border - MIB, 1), (border, 128 * MIB, 0)], [KERNEL], cpu_nodes=[0])
    k.early0()
    assert zone_runs(k) == [
        [0, 0, 0, 256],
        [1, 0, 256, 3840],
        [1, 1, 4096, 28672],  # up to the end of the section, 64 MiB of it node 0's
        [0, 1, 32768, 16384],
    ]


def test_an_earlier_node_lower_in_memory_loses_them_again() -> None:
    border = 64 * MIB + 5 * 4096
    k = tables_boot([(MIB, border - MIB, 0), (border, 100 * MIB, 1)], [KERNEL], cpu_nodes=[0])
    k.early0()
    runs = zone_runs(k)
    assert [1, 1, border >> 12, 100 * 256] in runs


def test_memory_of_another_node_inside_a_span_is_left_out() -> None:
    part = 32 * MIB
    memory = [(MIB, part - MIB, 0), (part, part, 1), (2 * part, part, 0), (3 * part, part, 1)]
    k = tables_boot(memory, [KERNEL])
    k.early0()
    assert [run[0] for run in zone_runs(k)[2:]] == [1, 0, 1]


def test_spans_are_cut_at_sections_and_skip_holes() -> None:
    k = tables_boot([(MIB, 127 * MIB, 0), (256 * MIB, 64 * MIB, 0)], [KERNEL])
    k.early0()
    spans = list(section_spans(k.m, 100, 70000))
    assert spans == [(100, 32768), (65536, 70000)]


def test_threads_do_all_the_work_once() -> None:
    done: list[tuple[int, int]] = []
    spans = [(i << 20, (i + 1) << 20) for i in range(9)]
    run_spans(done.append, spans)
    assert sorted(done) == spans
