# SPDX-License-Identifier: GPL-2.0-only
"""Nodes and zones come into being (mm/page_alloc.c, free_area_init_nodes downwards).

For every online node: its pglist_data is entered into NODE_DATA, `zone_sizes` says what each zone
spans and holds, `free_area_init_core` estimates the managed pages (present, less the zone's share
of the memmap, less what is reserved in DMA) and `memmap_init` writes the struct pages. Memoryless
nodes get the same structures with empty zones. Lists, zonelists, watermarks and real pagesets
come later, from `boot_free`, `zonelist`, `wmark` and `pageset`.
"""

from __future__ import annotations

from .boot_context import BootContext, mask_nodes, node_word, nodes_mask
from .deferred_init import pgdat_set_deferred_range, zone_is_deferred
from .kernel_globals import G_NODES_MEMORY, G_NODES_ONLINE, G_NR_ONLINE_NODES
from .layout import (
    BOOT_PAGESETS,
    MEM_SECTION,
    NODE_DATA,
    PFN_SECTION_SHIFT,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    ZONE_NAME_STRINGS,
    va_of_word,
)
from .list_head import list_init
from .memblock import SMP_CACHE_BYTES
from .memmap_init import memmap_init_zone, zero_resv_unavail
from .mm_types import (
    P_FLAGS,
    PAGE_SHIFT,
    PAGE_SIZE,
    STRUCT_PAGE_SIZE,
    STRUCT_PAGE_WORDS,
    ZONEID_MASK,
    ZONEID_PGSHIFT,
)
from .mmzone import (
    FA_WORDS,
    LRUVEC,
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    MIGRATE_TYPES,
    ND_KCOMPACTD_CLASSZONE,
    ND_KSWAPD_CLASSZONE,
    ND_NODE_ID,
    ND_NR_ZONES,
    ND_PRESENT,
    ND_SPANNED,
    ND_START_PFN,
    NR_LRU_LISTS,
    PAGEBLOCK_NR_PAGES,
    PGLIST_DATA,
    PGLIST_DATA_WORDS,
    Z_CONTIGUOUS,
    Z_FREE_AREA,
    Z_INITIALIZED,
    Z_MANAGED,
    Z_NAME,
    Z_NODE,
    Z_PAGESET,
    Z_PGDAT,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    ZONE_NAMES,
    ZONE_WORDS,
)
from .pageset import zone_batchsize
from .pcp import zone_idx
from .printk import mem_range
from .zone_sizes import ZoneRanges


def alloc_node_data(ctx: BootContext, nid: int) -> None:
    """Memory for a node's pglist_data, on the node if it can be; the node is online from now on."""
    size = -(-PGLIST_DATA_WORDS * 8 // PAGE_SIZE) * PAGE_SIZE
    phys = ctx.alloc(size, SMP_CACHE_BYTES, nid)
    ctx.printk(f"NODE_DATA({nid}) allocated {mem_range(phys, phys + size)}")
    home = ctx.mb.search_pfn_nid(phys >> PAGE_SHIFT)
    if home not in (nid, -1):
        ctx.printk(f"    NODE_DATA({nid}) on node {home}")
    m = ctx.m
    m[NODE_DATA + nid] = va_of_word(phys >> 3)
    m[G_NODES_ONLINE] = nodes_mask([*mask_nodes(m[G_NODES_ONLINE]), nid])
    m[G_NR_ONLINE_NODES] = len(mask_nodes(m[G_NODES_ONLINE]))


def write_zone_names(m: memoryview) -> None:
    """The zone name strings that zone->name points to, two words each."""
    for zid, name in enumerate(ZONE_NAMES):
        raw = name.encode().ljust(16, b"\0")
        for i in range(2):
            m[ZONE_NAME_STRINGS + 2 * zid + i] = int.from_bytes(raw[8 * i : 8 * i + 8], "little")


def pgdat_init_internals(m: memoryview, nd: int) -> None:
    """Empty lists of a node: its LRU lists and the queue of huge pages to split."""
    list_init(m, nd + PGLIST_DATA["split_queue"])
    lruvec = nd + PGLIST_DATA["lruvec"]
    for i in range(NR_LRU_LISTS):
        list_init(m, lruvec + LRUVEC["lists"] + 2 * i)
    m[lruvec + LRUVEC["pgdat"]] = va_of_word(nd)


def calc_memmap_size(spanned: int, present: int) -> int:
    """Pages that a zone's struct pages are reckoned to take (calc_memmap_size)."""
    pages = present if spanned > present + (present >> 4) else spanned
    return -(-pages * STRUCT_PAGE_SIZE // PAGE_SIZE)


def _managed_estimate(ctx: BootContext, zid: int, spanned: int, present: int) -> int:
    """What free_area_init_core() believes will be free in a zone."""
    printk, name = ctx.printk, ZONE_NAMES[zid]
    free, memmap = present, calc_memmap_size(spanned, present)
    if free >= memmap:
        free -= memmap
        if memmap:
            printk.debug(f"  {name} zone: {memmap} pages used for memmap")
    else:
        printk.warn(f"  {name} zone: {memmap} pages exceeds freesize {free}")
    if zid == 0 and free > ctx.dma_reserve:
        free -= ctx.dma_reserve
        printk.debug(f"  {name} zone: {ctx.dma_reserve} pages reserved")
    return free


def free_area_init_core(ctx: BootContext, nd: int, nid: int) -> None:
    """Zones of a node: managed estimate, names and links, empty free lists, struct pages."""
    m = ctx.m
    pgdat_init_internals(m, nd)
    for zid in range(MAX_NR_ZONES):
        z = nd + zid * ZONE_WORDS
        start, spanned, present = m[z + Z_START_PFN], m[z + Z_SPANNED], m[z + Z_PRESENT]
        m[z + Z_MANAGED] = _managed_estimate(ctx, zid, spanned, present)
        m[z + Z_NODE] = nid
        m[z + Z_NAME] = va_of_word(ZONE_NAME_STRINGS + 2 * zid)
        m[z + Z_PGDAT] = va_of_word(nd)
        m[z + Z_PAGESET] = va_of_word(BOOT_PAGESETS)
        if present:
            batch = zone_batchsize(m, z)
            name = ZONE_NAMES[zid]
            ctx.printk.debug(f"  {name} zone: {present} pages, LIFO batch:{batch}")
        if not spanned:
            continue
        m[nd + ND_NR_ZONES] = max(m[nd + ND_NR_ZONES], zid + 1)
        for order in range(MAX_ORDER):
            for mt in range(MIGRATE_TYPES):
                list_init(m, z + Z_FREE_AREA + order * FA_WORDS + 2 * mt)
        m[z + Z_INITIALIZED] = 1
        memmap_init_zone(ctx, spanned, nid, zid, start)


def free_area_init_node(ctx: BootContext, zones: ZoneRanges, nid: int, start_pfn: int) -> None:
    """One node with its zones; `start_pfn` is its lowest frame (0 for a memoryless node)."""
    m = ctx.m
    nd = node_word(m, nid)
    m[nd + ND_NODE_ID] = nid
    m[nd + ND_KSWAPD_CLASSZONE] = MAX_NR_ZONES
    m[nd + ND_START_PFN] = start_pfn
    lo, hi = zones.node_range(nid)
    end = hi << PAGE_SHIFT
    where = mem_range(lo << PAGE_SHIFT, end if end else 1, 16)
    ctx.printk(f"Initmem setup node {nid} {where}")
    total = real_total = 0
    for zid in range(MAX_NR_ZONES):
        z = nd + zid * ZONE_WORDS
        start, spanned = zones.zone_span(nid, zid)
        present = spanned - zones.zone_absent(nid, zid)
        m[z + Z_START_PFN], m[z + Z_SPANNED], m[z + Z_PRESENT] = start, spanned, present
        total += spanned
        real_total += present
    m[nd + ND_SPANNED] = total
    m[nd + ND_PRESENT] = real_total
    ctx.printk.debug(f"On node {nid} totalpages: {real_total}")
    pgdat_set_deferred_range(ctx, nd)
    free_area_init_core(ctx, nd, nid)
    m[nd + ND_KCOMPACTD_CLASSZONE] = max(m[nd + ND_NR_ZONES] - 1, 0)


def free_area_init_nodes(ctx: BootContext, max_low_pfn: int, max_pfn: int) -> ZoneRanges:
    """All online nodes that were found with memory; the ranges serve memoryless ones later."""
    m, printk = ctx.m, ctx.printk
    zones = ZoneRanges(ctx, max_low_pfn)
    _print_zone_ranges(ctx, zones)
    write_zone_names(m)
    zero_resv_unavail(ctx, max_pfn)
    m[G_NODES_MEMORY] = 0
    for nid in mask_nodes(m[G_NODES_ONLINE]):
        mine = zones.of_node(nid)
        if not mine:
            printk.warn(f"Could not find start_pfn for node {nid}")
        free_area_init_node(ctx, zones, nid, mine[0][0] if mine else 0)
        if m[node_word(m, nid) + ND_PRESENT]:
            m[G_NODES_MEMORY] = nodes_mask([*mask_nodes(m[G_NODES_MEMORY]), nid])
    return zones


def init_memory_less_node(ctx: BootContext, zones: ZoneRanges, nid: int) -> None:
    """A node that only has CPUs (or too little memory to count) goes online all the same."""
    alloc_node_data(ctx, nid)
    free_area_init_node(ctx, zones, nid, 0)


def _print_zone_ranges(ctx: BootContext, zones: ZoneRanges) -> None:
    printk = ctx.printk
    printk("Zone ranges:")
    for zid, name in enumerate(ZONE_NAMES[:-1]):
        lo, hi = zones.lowest[zid], zones.highest[zid]
        text = mem_range(lo << PAGE_SHIFT, hi << PAGE_SHIFT, 16) if lo != hi else "empty"
        printk(f"  {name:<8s} {text}")
    printk("Movable zone start for each node")
    for nid in range(MAX_NUMNODES):
        if zones.movable_pfn[nid]:
            printk(f"  Node {nid}: {zones.movable_pfn[nid] << PAGE_SHIFT:#018x}")
    printk("Early memory node ranges")
    for start, end, nid in zones.ranges:
        where = mem_range(start << PAGE_SHIFT, end << PAGE_SHIFT, 16)
        printk(f"  node {nid:3d}: {where}")


def set_zone_contiguous(m: memoryview, z: int) -> None:
    """Sets zone->contiguous if no pageblock of the zone is a hole or another zone's. A zone whose
    struct pages are not all initialised does without: it is a hint that saves looking at blocks."""
    import numpy as np

    if zone_is_deferred(m, z):
        return
    start = m[z + Z_START_PFN]
    end = start + m[z + Z_SPANNED]
    q = np.frombuffer(m, dtype=np.int64)
    block = start & ~(PAGEBLOCK_NR_PAGES - 1)
    first = np.maximum(np.arange(block, end, PAGEBLOCK_NR_PAGES, dtype=np.int64), start)
    last = np.minimum((first | (PAGEBLOCK_NR_PAGES - 1)) + 1, end) - 1
    for pfns in (first, last):
        sections = pfns >> PFN_SECTION_SHIFT
        if not q[SECTION_MEM_MAP + sections * MEM_SECTION.words].all():
            return
        words = q[SECTION_PAGES + sections * MEM_SECTION.words] + pfns * STRUCT_PAGE_WORDS
        zone_ids = q[words + P_FLAGS] >> ZONEID_PGSHIFT & ZONEID_MASK
        if (zone_ids != m[z + Z_NODE] << 2 | zone_idx(m, z)).any():
            return
    m[z + Z_CONTIGUOUS] = 1
