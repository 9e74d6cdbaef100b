# SPDX-License-Identifier: GPL-2.0-only
"""Mem-Info: the format of 4.20's show_mem with the numbers that are in RAM."""

from __future__ import annotations

from collections.abc import Callable

from allocator.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from allocator.layout import PAGE_OFFSET
from allocator.mmzone import (
    ND_KSWAPD_FAILURES,
    PSET_BATCH,
    PSET_HIGH,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_PAGESET,
    Z_PGDAT,
    Z_WMARK,
)
from allocator.page_alloc import alloc_pages_nodemask
from allocator.show_mem import show_free_areas, show_mem
from tests.allocator.tiny import NODE_PAGES, Tiny


def test_the_sums_and_lines_of_one_node(tiny_zone: Tiny) -> None:
    m, z = tiny_zone.m, tiny_zone.z
    for i, mark in enumerate((10, 12, 15)):
        m[z + Z_WMARK + i] = mark
    m[z + Z_LOWMEM_RESERVE + 3] = 7
    m[z + Z_MANAGED] = NODE_PAGES - 96
    ps = (m[z + Z_PAGESET] - PAGE_OFFSET) >> 3
    m[ps + PSET_HIGH], m[ps + PSET_BATCH] = 6, 3
    alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0)
    alloc_pages_nodemask(m, 0, GFP_KERNEL, 3, 0, 0)
    lines = list(show_mem(m))
    free = NODE_PAGES - 3 - 8
    assert lines[0] == "Mem-Info:"
    assert lines[6] == f" free:{free} free_pcp:2 free_cma:0"
    assert lines[7] == (
        "Node 0 active_anon:0kB inactive_anon:0kB active_file:0kB inactive_file:0kB "
        "unevictable:0kB isolated(anon):0kB isolated(file):0kB mapped:0kB dirty:0kB writeback:0kB "
        "shmem:0kB shmem_thp: 0kB shmem_pmdmapped: 0kB anon_thp: 0kB writeback_tmp:0kB "
        "unstable:0kB all_unreclaimable? no"
    )
    assert lines[8] == (
        f"Node 0 Normal free:{free * 4}kB min:40kB low:48kB high:60kB active_anon:0kB "
        "inactive_anon:0kB active_file:0kB inactive_file:0kB unevictable:0kB writepending:0kB "
        f"present:{NODE_PAGES * 4}kB managed:{(NODE_PAGES - 96) * 4}kB mlocked:0kB "
        "kernel_stack:0kB pagetables:0kB bounce:0kB free_pcp:8kB local_pcp:8kB free_cma:0kB"
    )
    assert lines[9] == "lowmem_reserve[]: 0 0 0 7"
    assert lines[10].startswith("Node 0 Normal: ")
    assert lines[10].endswith(f"= {free * 4}kB")
    assert lines[11] == (
        "Node 0 hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB"
    )
    assert lines[-4:] == [
        f"{NODE_PAGES} pages RAM",
        "0 pages HighMem/MovableOnly",
        "96 pages reserved",
        "0 pages cma reserved",
    ]


def test_the_blocks_line_names_the_types_that_have_blocks(tiny_zone: Tiny) -> None:
    alloc_pages_nodemask(tiny_zone.m, 0, GFP_KERNEL, 9, 0, 0)
    (line,) = (x for x in show_free_areas(tiny_zone.m) if x.startswith("Node 0 Normal: "))
    assert "0*4kB 0*8kB" in line
    assert "1*2048kB (U) 3*4096kB (M) = 14336kB" in line


def test_nodes_may_be_left_out_and_local_pcp_is_the_cpus(
    tiny_nodes: Callable[[int, int], Tiny],
) -> None:
    tiny = tiny_nodes(2, 2)
    ps = (tiny.m[tiny.zones[1] + Z_PAGESET] - PAGE_OFFSET) >> 3
    tiny.m[ps + PSET_HIGH], tiny.m[ps + PSET_BATCH] = 6, 3
    alloc_pages_nodemask(tiny.m, 0, GFP_KERNEL, 0, 1, 0)
    text = "\n".join(show_free_areas(tiny.m, 0, 0b10))
    assert "Node 0 Normal" not in text
    assert "free_pcp:8kB local_pcp:8kB" in text
    assert "free_pcp:8kB local_pcp:0kB" in "\n".join(show_free_areas(tiny.m, 1, 0b10))


def test_a_node_kswapd_gave_up_on_is_all_unreclaimable(tiny_zone: Tiny) -> None:
    nd = (tiny_zone.m[tiny_zone.z + Z_PGDAT] - PAGE_OFFSET) >> 3
    tiny_zone.m[nd + ND_KSWAPD_FAILURES] = 16
    assert any(line.endswith("all_unreclaimable? yes") for line in show_free_areas(tiny_zone.m))
