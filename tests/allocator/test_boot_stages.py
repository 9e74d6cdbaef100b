# SPDX-License-Identifier: GPL-2.0-only
"""The recorded boots of real 4.20 kernels: from memblock's tables to lists and watermarks."""

from __future__ import annotations

from typing import Any

import pytest

from allocator import kernel_globals as kg
from allocator.boot_context import node_word, online_nodes
from allocator.boot_stages import BootTables
from allocator.mmzone import (
    ND_NOFALLBACK,
    ND_NR_ZONES,
    ND_PRESENT,
    ND_SPANNED,
    ND_START_PFN,
    ND_ZONELISTS,
    PSET_BATCH,
    PSET_HIGH,
    PSET_THRESHOLD,
    Z_CONTIGUOUS,
    Z_DRIFT_MARK,
    Z_FREE_CMA,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NODE,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    Z_WMARK,
)
from allocator.pageblock import get_pageblock_migratetype
from allocator.pageset import zone_pageset
from allocator.zonelist import zonerefs
from machine import BringUpError
from tests.allocator.bringup_support import (
    free_areas,
    recorded_cases,
    reserved_runs,
    staged,
    tables_boot,
    zone,
    zone_runs,
)

CASES = recorded_cases()
SMP_ALTERNATIVES_PAGES = 4
MIB = 1 << 20


@pytest.fixture(params=CASES, ids=[case["name"] for case in CASES])
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def test_recorded_nodes_zones_and_zonelists_follow_from_the_tables(case: dict[str, Any]) -> None:
    k = staged(case)
    k.early0()
    m = k.m
    assert online_nodes(m) == [node["nid"] for node in case["state"]["nodes"]]
    for node in case["state"]["nodes"]:
        nd = node_word(m, node["nid"])
        assert [m[nd + f] for f in (ND_START_PFN, ND_SPANNED, ND_PRESENT, ND_NR_ZONES)] == [
            node[f] for f in ("start", "spanned", "present", "nr_zones")
        ]
        for first, want in zip((ND_ZONELISTS, ND_NOFALLBACK), node["zonelists"], strict=True):
            assert [[m[z + Z_NODE], zid] for z, zid in zonerefs(m, nd + first)] == want
    for want in case["zones"]:
        z = zone(m, want["nid"], want["zid"])
        assert [m[z + f] for f in (Z_START_PFN, Z_SPANNED, Z_PRESENT)] == [
            want[f] for f in ("start", "spanned", "present")
        ]
        if want["managed0"] is not None:
            assert m[z + Z_MANAGED] == want["managed0"]


def test_recorded_free_lists_follow_from_the_tables(case: dict[str, Any]) -> None:
    k = staged(case)
    k.early0()
    k.early1()
    if case["released_early"]:
        k.cma_init_reserved_areas()
    m = k.m
    assert m[kg.G_TOTALRAM] == case["totalram"]
    for want in case["zones"]:
        z = zone(m, want["nid"], want["zid"])
        assert free_areas(m, z) == want["areas"]
        assert m[z + Z_MANAGED] == want["managed1"]
        assert m[z + Z_FREE_PAGES] == want["free1"]
        assert m[z + Z_FREE_CMA] == want["cma1"]
        start, types = want["pageblocks"]
        for i, kind in enumerate(types):
            pfn = start + 512 * i
            if kind != ".":
                assert get_pageblock_migratetype(m, pfn) == int(kind)


@pytest.mark.parametrize("name", ["M1-early", "M2-early", "M3-early"])
def test_recorded_page_zones_and_reserved_frames_agree(name: str) -> None:
    case = next(c for c in CASES if c["name"] == name)
    k = staged(case)
    k.early0()
    k.early1()
    assert zone_runs(k) == case["page_zone"]
    for want in case["zones"]:
        place = (want["nid"], want["zid"], want["start"], want["spanned"])
        assert reserved_runs(k.m, *place) == want["reserved"]


def test_recorded_pagesets_watermarks_and_thresholds_follow(case: dict[str, Any]) -> None:
    k = staged(case)
    k.early0()
    k.early1()
    m = k.m
    zones = [(zone(m, want["nid"], want["zid"]), want) for want in case["zones"]]
    for z, want in zones:
        m[z + Z_MANAGED] = want["managed4"]
    k.setup_per_cpu_pageset()
    for z, want in zones:
        ps = zone_pageset(m, z, 0)
        assert [m[ps + PSET_HIGH], m[ps + PSET_BATCH]] == want["pcp4"]
    if case["late"] is None:
        return
    # the recorded kernel has freed its SMP alternatives (in node 0's DMA32) by then
    m[zone(m, 0, 1) + Z_MANAGED] += SMP_ALTERNATIVES_PAGES
    k.smp_init()
    k.page_alloc_init_late()
    k.init_per_zone_wmark_min()
    k.khugepaged_init()
    assert [m[kg.G_MIN_FREE_KBYTES], m[kg.G_TOTALRESERVE]] == case["late"]
    for z, want in zones:
        got = [m[z + Z_WMARK + i] for i in range(3)]
        got += [m[z + Z_CONTIGUOUS], m[z + Z_DRIFT_MARK]]
        got += [[m[z + Z_LOWMEM_RESERVE + j] for j in range(4)]]
        got += [m[zone_pageset(m, z, 0) + PSET_THRESHOLD]]
        assert got == want["late"]


def test_boot_is_deterministic() -> None:
    images = []
    for _ in range(2):
        k = tables_boot([(1 * MIB, 63 * MIB, 0)], [(16 * MIB, 16 * MIB)])
        k.early0()
        k.early1()
        k.setup_per_cpu_pageset()
        k.run_late()
        images.append((bytes(k.memory.bytes), k.log))
    assert images[0] == images[1]


def test_state_without_memblock_is_refused_with_one_line() -> None:
    with pytest.raises(BringUpError, match="lacks boot tables"):
        BootTables.from_state({"cpus": []})


def test_memoryless_node_with_a_cpu_is_online_and_has_only_fallback_zones() -> None:
    k = tables_boot(
        [(1 * MIB, 63 * MIB, 0), (64 * MIB, 64 * MIB, 2)],
        [(16 * MIB, 8 * MIB)],
        cpu_nodes=[0, 1],
        distances=[[10, 20, 30], [30, 10, 20], [30, 20, 10]],
    )
    k.early0()
    m = k.m
    nd = node_word(m, 1)
    assert zonerefs(m, nd + ND_NOFALLBACK) == []
    assert [m[z + Z_NODE] for z, _ in zonerefs(m, nd + ND_ZONELISTS)] == [2, 0, 0]
    assert m[kg.G_NODES_MEMORY] == 0b101
    assert m[kg.G_NODES_ONLINE] == 0b111
