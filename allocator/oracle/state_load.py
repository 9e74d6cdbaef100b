# SPDX-License-Identifier: GPL-2.0-only
"""Writing a recorded STATE into guest RAM, so that the allocator carries on from there.

`load_state` builds the whole machine from the STATE alone: memmap with each frame's node and zone,
pageblock bits, nodes, zones, zonelists, pagesets, CPUs and globals; then every free list and
per-cpu list in the recorded order. The zonelists are not copied: `build_all_zonelists` derives
them from the recorded distances, and what it makes is compared with what was recorded.

A STATE does not say how often an allocated page is referenced, nor where one compound page ends
and the next begins. Every page that is on no list gets one reference, compound ranges are cut into
the largest aligned blocks, and reserved, LRU, slab and movable pages get the flags that the STATE
gives them. No request of a RUN frees such a page.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise
from typing import Any

import numpy as np

from machine.errors import ImageError

from ..kernel_data import init_kernel_data
from ..kernel_globals import (
    G_GFP_ALLOWED,
    G_HIGHEST_MEMMAP_PFN,
    G_MAX_LOW_PFN,
    G_MAX_PFN,
    G_MIN_FREE_KBYTES,
    G_MOBILITY_DISABLED,
    G_NODE_RECLAIM_MODE,
    G_NODES_CPU,
    G_NODES_MEMORY,
    G_NODES_ONLINE,
    G_NR_CPU_IDS,
    G_NR_ONLINE_NODES,
    G_NUM_ONLINE_CPUS,
    G_PERCPU_PAGELIST_FRACTION,
    G_TOTALCMA,
    G_TOTALRAM,
    G_TOTALRESERVE,
    G_WATERMARK_SCALE,
)
from ..layout import (
    CPU_BLOCKS,
    CPU_BULK_FREE,
    CPU_CURRENT,
    CPU_EARLY_NODE,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_PRESENT,
    CPU_WORDS,
    DEFAULT_PRIO,
    INIT_TASKS,
    NODE_DATA,
    NODE_DISTANCE,
    PAGE_OFFSET,
    PFN_SECTION_SHIFT,
    SECTION_HAS_MEM_MAP,
    SECTION_IS_ONLINE,
    SECTION_MARKED_PRESENT,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    SECTION_USEMAP,
    TASK,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    TASK_PRIO,
    TASK_WORDS,
    USEMAP_WORDS,
    VMEMMAP_START,
    signed,
    va_of_word,
)
from ..list_head import list_init
from ..mm_types import COUNTS_FREE, COUNTS_ONE, STRUCT_PAGE_SIZE, page_links
from ..mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    PER_CPU_NODESTAT,
    PGLIST_DATA_WORDS,
    PSET_WORDS,
    Z_MANAGED,
)
from ..zonelist import build_all_zonelists
from .guest import RING_BYTES, SCRATCH_BYTES, Guest, replay_memory
from .limits import check_numbers
from .page_flags import mark_pages
from .zone_compare import compare_zonelists
from .zone_load import load_lists, load_node, load_zone

PAGES_PER_SECTION = 1 << PFN_SECTION_SHIFT
GLOBALS = {
    "gfp_allowed_mask": G_GFP_ALLOWED,
    "max_pfn": G_MAX_PFN,
    "max_low_pfn": G_MAX_LOW_PFN,
    "highest_memmap_pfn": G_HIGHEST_MEMMAP_PFN,
    "nr_cpu_ids": G_NR_CPU_IDS,
    "online": G_NUM_ONLINE_CPUS,
    "min_free_kbytes": G_MIN_FREE_KBYTES,
    "watermark_scale_factor": G_WATERMARK_SCALE,
    "totalram": G_TOTALRAM,
    "totalreserve": G_TOTALRESERVE,
    "totalcma": G_TOTALCMA,
    "mobility_disabled": G_MOBILITY_DISABLED,
    "node_reclaim_mode": G_NODE_RECLAIM_MODE,
    "percpu_pagelist_fraction": G_PERCPU_PAGELIST_FRACTION,
}


def present_sections(state: dict[str, Any]) -> list[int]:
    """Section numbers that hold frames with a struct page, from the STATE's page_zone runs."""
    sections: set[int] = set()
    for _, _, start, length in state["page_zone"]:
        sections.update(
            range(start >> PFN_SECTION_SHIFT, (start + length - 1 >> PFN_SECTION_SHIFT) + 1)
        )
    return sorted(sections)


def load_state(state: dict[str, Any], *, boot_pagesets: bool = False) -> tuple[Guest, list[str]]:
    """A machine in the recorded STATE, and where our zonelists differ from the recorded ones.

    `boot_pagesets`: the STATE was taken before setup_per_cpu_pageset(), when all zones share one
    pageset a CPU. Raises ImageError for a STATE that contradicts itself.
    """
    check_numbers(state)
    sections = present_sections(state)
    cpus = state["globals"]["nr_cpu_ids"]
    nodes = state["nodes"]
    size = (
        RING_BYTES + SCRATCH_BYTES + len(sections) * (PAGES_PER_SECTION * STRUCT_PAGE_SIZE + 4096)
    )
    per_node = PGLIST_DATA_WORDS + cpus * (MAX_NR_ZONES * PSET_WORDS + PER_CPU_NODESTAT.words)
    size += len(nodes) * (per_node * 8 + 8192)
    memory, arena = replay_memory(state["globals"]["max_pfn"], size)
    init_kernel_data(memory.words)
    guest = Guest(memory, arena.alloc(RING_BYTES + SCRATCH_BYTES, 4096))
    load_globals(guest, state)
    load_cpus(guest, state)
    for section in sections:
        memmap = arena.alloc(PAGES_PER_SECTION * STRUCT_PAGE_SIZE, 4096)
        usemap = arena.alloc(USEMAP_WORDS * 8)
        load_section(guest, section, memmap, usemap)
    load_memmap(guest, state)
    for node in nodes:
        nd = arena.alloc(PGLIST_DATA_WORDS * 8, 4096) >> 3
        guest.m[NODE_DATA + node["nid"]] = va_of_word(nd)
        stats = arena.alloc(cpus * PER_CPU_NODESTAT.words * 8)
        load_node(guest, node, nd, stats >> 3)
    for zone in state["zones"]:
        pagesets = arena.alloc(cpus * PSET_WORDS * 8) >> 3
        load_zone(guest, zone, pagesets, boot_pagesets)
    differences = load_zonelists(guest, state)
    load_lists(guest, state, boot_pagesets)
    return guest, differences


def load_globals(guest: Guest, state: dict[str, Any]) -> None:
    """Globals, node states and distances."""
    m = guest.m
    recorded = state["globals"]
    for name, word in GLOBALS.items():
        m[word] = recorded.get(name, 0)
    online = node_bits(state["nodes"])
    m[G_NODES_ONLINE] = online
    m[G_NR_ONLINE_NODES] = len(state["nodes"])
    m[G_NODES_MEMORY] = node_bits(n for n in state["nodes"] if n["present"])
    guest.q[NODE_DISTANCE : NODE_DISTANCE + MAX_NUMNODES * MAX_NUMNODES] = 20
    for i in range(MAX_NUMNODES):
        m[NODE_DISTANCE + i * MAX_NUMNODES + i] = 10
    for i, row in state["dist"].items():
        for j, distance in row.items():
            if not (i.isdigit() and j.isdigit() and int(i) < 64 and int(j) < 64):
                raise ImageError(f"STATE {state['tag']}: distance of nodes {i!r} and {j!r}")
            m[NODE_DISTANCE + int(i) * MAX_NUMNODES + int(j)] = distance


def node_bits(nodes: Iterable[dict[str, Any]]) -> int:
    """The nodes as a signed bit mask."""
    mask = 0
    for node in nodes:
        mask |= 1 << node["nid"]
    return signed(mask)


def load_cpus(guest: Guest, state: dict[str, Any]) -> None:
    """CPU blocks and one idle task a CPU; every task may use all nodes with memory."""
    m = guest.m
    for cpu in range(state["globals"]["nr_cpu_ids"]):
        block = CPU_BLOCKS + cpu * CPU_WORDS
        task = INIT_TASKS + cpu * TASK_WORDS
        m[block + CPU_CURRENT] = va_of_word(task)
        list_init(m, block + CPU_BULK_FREE)
        m[task + TASK_PRIO] = DEFAULT_PRIO
        m[task + TASK["cpu"]] = cpu
        m[task + TASK_MEMS_ALLOWED] = m[G_NODES_MEMORY]
        m[task + TASK_HARDWALL_MEMS] = m[G_NODES_MEMORY]
    for cpu_record in state["cpus"]:
        block = CPU_BLOCKS + cpu_record["cpu"] * CPU_WORDS
        m[block + CPU_NUMA_NODE] = cpu_record["numa_node"]
        m[block + CPU_EARLY_NODE] = cpu_record["node"]
        m[block + CPU_ONLINE] = cpu_record["online"]
        m[block + CPU_PRESENT] = 1


def load_section(guest: Guest, section: int, memmap: int, usemap: int) -> None:
    """mem_section's entry of one section; `memmap` and `usemap` are physical addresses."""
    m = guest.m
    at = section << 2
    first = section << PFN_SECTION_SHIFT
    flags = SECTION_MARKED_PRESENT | SECTION_HAS_MEM_MAP | SECTION_IS_ONLINE
    # the kernel stores the vmemmap base itself, encoded; all sections of vmemmap share it
    m[SECTION_MEM_MAP + at] = VMEMMAP_START | flags
    m[SECTION_USEMAP + at] = PAGE_OFFSET + usemap
    m[SECTION_PAGES + at] = (memmap >> 3) - first * (STRUCT_PAGE_SIZE >> 3)


def load_memmap(guest: Guest, state: dict[str, Any]) -> None:
    """Every struct page with its node and zone: one reference; 0 for free pages and holes.

    Frames that belong to no zone's memory (runs of 0:0 outside zone 0:0) stay all zero.
    """
    pfns = state["globals"]["max_pfn"]
    limit = (pfns >> PFN_SECTION_SHIFT) + 1 << PFN_SECTION_SHIFT
    free = np.zeros(limit + 1, dtype=np.int32)
    for zone in state["zones"]:
        for area in zone.get("free_area", []):
            for listed in area["lists"].values():
                starts = frames(listed, limit, state["tag"])
                np.add.at(free, starts, 1)
                np.add.at(free, np.minimum(starts + (1 << area["order"]), limit), -1)
        for pcp in zone.get("pcp", []):
            for pages in pcp["lists"].values():
                starts = frames([page[0] for page in pages], limit, state["tag"])
                free[starts] += 1
                free[starts + 1] -= 1
    is_free = np.cumsum(free[:-1])
    if is_free.max(initial=0) > 1:
        pfn = int(np.argmax(is_free > 1))
        raise ImageError(f"STATE {state['tag']}: frame {pfn:#x} is on two lists")
    home = next((z for z in state["zones"] if (z["nid"], z["zid"]) == (0, 0)), None)
    for nid, zid, start, length in state["page_zone"]:
        cuts = [start, start + length]
        if (nid, zid) == (0, 0) and home is not None:
            # the run may begin or end with holes, which read 0:0 as well
            edges = (home["start"], home["start"] + home["spanned"])
            cuts = sorted({*cuts, *(edge for edge in edges if start < edge < start + length)})
        for first, last in pairwise(cuts):
            hole = (nid, zid) == (0, 0) and not in_zone(home, first)
            used = 0 if hole else COUNTS_ONE
            fill_run(guest, page_links(nid, zid), first, last, is_free, used)
    mark_pages(guest, state)


def in_zone(zone: dict[str, Any] | None, pfn: int) -> bool:
    """True if the zone's span holds the frame."""
    return zone is not None and zone["start"] <= pfn < zone["start"] + zone["spanned"]


def fill_run(guest: Guest, links: int, start: int, end: int, is_free: Any, used: int) -> None:
    """Struct pages of frames [start, end): flags word `links`, counts `used` or those of free."""
    pfn = start
    while pfn < end:
        stop = min(end, ((pfn >> PFN_SECTION_SHIFT) + 1) << PFN_SECTION_SHIFT)
        word = guest.page(pfn)
        rows = guest.q[word : word + (stop - pfn) * 8].reshape(-1, 8)
        rows[:, 0] = links
        rows[:, 6] = np.where(is_free[pfn:stop] > 0, COUNTS_FREE, used)
        pfn = stop


def frames(listed: list[int], limit: int, tag: str) -> Any:
    """Listed frame numbers as an array. Raises ImageError for one outside the memory."""
    starts = np.asarray(listed, dtype=np.int64)
    if starts.size and (starts.min() < 0 or starts.max() >= limit):
        raise ImageError(f"STATE {tag}: a listed frame is outside the memory")
    return starts


def load_zonelists(guest: Guest, state: dict[str, Any]) -> list[str]:
    """Builds the zonelists from the distances; differences from the recorded ones, in words."""
    m = guest.m
    # they were built while a zone's pages still counted as managed, reserved ones too
    managed = {z: m[z + Z_MANAGED] for _, _, z in guest.zones()}
    for z, pages in managed.items():
        m[z + Z_MANAGED] = max(pages, 1)
    build_all_zonelists(m)
    for z, pages in managed.items():
        m[z + Z_MANAGED] = pages
    # 4.20 builds them before any CPU is entered into a node's mask
    guest.m[G_NODES_CPU] = node_bits(n for n in state["nodes"] if n["has_cpu"])
    return list(chain.from_iterable(compare_zonelists(guest, n) for n in state["nodes"]))
