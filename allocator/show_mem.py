# SPDX-License-Identifier: GPL-2.0-only
"""Mem-Info: the kernel's report of where all memory is (lib/show_mem.c, show_free_areas).

Text only, from the counters and lists as they are in RAM now; warn_alloc and the OOM killer print
it, and people ask for it. Nodes may be left out as SHOW_MEM_FILTER_NODES does.
"""

from __future__ import annotations

from collections.abc import Iterator

from .kernel_globals import G_NODES_MEMORY, G_NR_CPU_IDS, G_TOTALCMA
from .layout import CPU_BLOCKS, CPU_ONLINE, CPU_WORDS, NODE_DATA, PAGE_OFFSET
from .list_head import list_empty
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    MIGRATE_TYPES,
    ND_KSWAPD_FAILURES,
    ND_VM_STAT,
    NODE_STAT_NAMES,
    PSET_COUNT,
    PSET_WORDS,
    Z_FREE_AREA,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_PAGESET,
    Z_PRESENT,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_NAMES,
    ZONE_STAT_NAMES,
    ZONE_WORDS,
)

MAX_RECLAIM_RETRIES = 16
TYPE_LETTERS = "UMEHCI"
HPAGE_PMD_NR = 512


def nodes(m: memoryview, mask: int) -> Iterator[tuple[int, int]]:
    """(node id, word index of its pglist_data) of the nodes of `mask` that exist."""
    for nid in range(MAX_NUMNODES):
        if m[NODE_DATA + nid] and mask >> nid & 1:
            yield nid, (m[NODE_DATA + nid] - PAGE_OFFSET) >> 3


def zones(m: memoryview, mask: int) -> Iterator[tuple[int, str, int]]:
    """(node id, zone name, word index) of the populated zones of the nodes of `mask`."""
    for nid, nd in nodes(m, mask):
        for zid in range(MAX_NR_ZONES):
            z = nd + zid * ZONE_WORDS
            if m[z + Z_PRESENT]:
                yield nid, ZONE_NAMES[zid], z


def zone_stat(m: memoryview, z: int, name: str) -> int:
    """A zone counter by its /proc/vmstat name, at least 0 (zone_page_state)."""
    return max(m[z + Z_VM_STAT + ZONE_STAT_NAMES.index(name)], 0)


def node_stat(m: memoryview, nd: int, name: str) -> int:
    """A node counter by its /proc/vmstat name, at least 0 (node_page_state)."""
    return max(m[nd + ND_VM_STAT + NODE_STAT_NAMES.index(name)], 0)


def total_node(m: memoryview, name: str) -> int:
    """A node counter summed over all nodes (global_node_page_state)."""
    at = ND_VM_STAT + NODE_STAT_NAMES.index(name)
    return max(sum(m[nd + at] for _, nd in nodes(m, -1)), 0)


def total_zone(m: memoryview, name: str) -> int:
    """A zone counter summed over all zones (global_zone_page_state)."""
    at = Z_VM_STAT + ZONE_STAT_NAMES.index(name)
    return max(sum(m[z + at] for _, _, z in zones(m, -1)), 0)


def pcp_count(m: memoryview, z: int, cpu: int) -> int:
    """Pages on `cpu`'s lists of zone `z`."""
    count: int = m[((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS + PSET_COUNT]
    return count


def free_pcp(m: memoryview, z: int) -> int:
    """Pages of zone `z` on the per-cpu lists of all online CPUs."""
    cpus = range(m[G_NR_CPU_IDS])
    online = (cpu for cpu in cpus if m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE])
    return sum(pcp_count(m, z, cpu) for cpu in online)


def totals(m: memoryview, mask: int) -> Iterator[str]:
    """The first lines of show_free_areas(): sums over the machine, in pages."""
    n, g = total_node, total_zone
    pcp = sum(free_pcp(m, z) for _, _, z in zones(m, mask))
    yield (
        f"active_anon:{n(m, 'nr_active_anon')} inactive_anon:{n(m, 'nr_inactive_anon')} "
        f"isolated_anon:{n(m, 'nr_isolated_anon')}"
    )
    yield (
        f" active_file:{n(m, 'nr_active_file')} inactive_file:{n(m, 'nr_inactive_file')} "
        f"isolated_file:{n(m, 'nr_isolated_file')}"
    )
    yield (
        f" unevictable:{n(m, 'nr_unevictable')} dirty:{n(m, 'nr_dirty')} "
        f"writeback:{n(m, 'nr_writeback')} unstable:{n(m, 'nr_unstable')}"
    )
    yield (
        f" slab_reclaimable:{n(m, 'nr_slab_reclaimable')} "
        f"slab_unreclaimable:{n(m, 'nr_slab_unreclaimable')}"
    )
    yield (
        f" mapped:{n(m, 'nr_mapped')} shmem:{n(m, 'nr_shmem')} "
        f"pagetables:{g(m, 'nr_page_table_pages')} bounce:{g(m, 'nr_bounce')}"
    )
    yield f" free:{g(m, 'nr_free_pages')} free_pcp:{pcp} free_cma:{g(m, 'nr_free_cma')}"


NODE_FIELDS = (
    (" active_anon:", "nr_active_anon", 1),
    (" inactive_anon:", "nr_inactive_anon", 1),
    (" active_file:", "nr_active_file", 1),
    (" inactive_file:", "nr_inactive_file", 1),
    (" unevictable:", "nr_unevictable", 1),
    (" isolated(anon):", "nr_isolated_anon", 1),
    (" isolated(file):", "nr_isolated_file", 1),
    (" mapped:", "nr_mapped", 1),
    (" dirty:", "nr_dirty", 1),
    (" writeback:", "nr_writeback", 1),
    (" shmem:", "nr_shmem", 1),
    (" shmem_thp: ", "nr_shmem_hugepages", HPAGE_PMD_NR),
    (" shmem_pmdmapped: ", "nr_shmem_pmdmapped", HPAGE_PMD_NR),
    (" anon_thp: ", "nr_anon_transparent_hugepages", HPAGE_PMD_NR),
    (" writeback_tmp:", "nr_writeback_temp", 1),
    (" unstable:", "nr_unstable", 1),
)


def node_line(m: memoryview, nid: int, nd: int) -> str:
    """One node's counters in kB."""
    text = "".join(
        f"{label}{node_stat(m, nd, name) * unit * 4}kB" for label, name, unit in NODE_FIELDS
    )
    stuck = "yes" if m[nd + ND_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES else "no"
    return f"Node {nid}{text} all_unreclaimable? {stuck}"


def zone_line(m: memoryview, nid: int, name: str, z: int, cpu: int) -> str:
    """One zone's watermarks and counters in kB; local_pcp is that of `cpu`."""

    def kb(stat: str) -> int:
        return zone_stat(m, z, stat) * 4

    marks = [m[z + Z_WMARK + i] * 4 for i in range(3)]
    return (
        f"Node {nid} {name} free:{kb('nr_free_pages')}kB"
        f" min:{marks[0]}kB low:{marks[1]}kB high:{marks[2]}kB"
        f" active_anon:{kb('nr_zone_active_anon')}kB"
        f" inactive_anon:{kb('nr_zone_inactive_anon')}kB"
        f" active_file:{kb('nr_zone_active_file')}kB"
        f" inactive_file:{kb('nr_zone_inactive_file')}kB"
        f" unevictable:{kb('nr_zone_unevictable')}kB"
        f" writepending:{kb('nr_zone_write_pending')}kB"
        f" present:{m[z + Z_PRESENT] * 4}kB managed:{m[z + Z_MANAGED] * 4}kB"
        f" mlocked:{kb('nr_mlock')}kB kernel_stack:{zone_stat(m, z, 'nr_kernel_stack')}kB"
        f" pagetables:{kb('nr_page_table_pages')}kB bounce:{kb('nr_bounce')}kB"
        f" free_pcp:{free_pcp(m, z) * 4}kB local_pcp:{pcp_count(m, z, cpu) * 4}kB"
        f" free_cma:{kb('nr_free_cma')}kB"
    )


def blocks_line(m: memoryview, nid: int, name: str, z: int) -> str:
    """One zone's free blocks by order, with the letters of the types that have some."""
    text = ""
    total = 0
    for order in range(MAX_ORDER):
        area = z + Z_FREE_AREA + order * FA_WORDS
        nr = m[area + FA_NR_FREE]
        total += nr << order
        text += f"{nr}*{4 << order}kB "
        if nr:
            types = [t for t in range(MIGRATE_TYPES) if not list_empty(m, area + 2 * t)]
            text += f"({''.join(TYPE_LETTERS[t] for t in types)}) "
    return f"Node {nid} {name}: {text}= {total * 4}kB"


def show_free_areas(m: memoryview, cpu: int = 0, mask: int = -1) -> Iterator[str]:
    """show_free_areas() for the nodes of `mask`, seen from `cpu`."""
    yield from totals(m, mask)
    for nid, nd in nodes(m, mask):
        yield node_line(m, nid, nd)
    for nid, name, z in zones(m, mask):
        yield zone_line(m, nid, name, z, cpu)
        reserve = (m[z + Z_LOWMEM_RESERVE + i] for i in range(MAX_NR_ZONES))
        yield "lowmem_reserve[]:" + "".join(f" {pages}" for pages in reserve)
    for nid, name, z in zones(m, mask):
        yield blocks_line(m, nid, name, z)
    for nid, _ in nodes(m, m[G_NODES_MEMORY]):
        yield (
            f"Node {nid} hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB"
        )
    yield f"{total_node(m, 'nr_file_pages')} total pagecache pages"
    yield "0 pages in swap cache"
    yield "Swap cache stats: add 0, delete 0, find 0/0"
    yield "Free swap  = 0kB"
    yield "Total swap = 0kB"


def show_mem(m: memoryview, cpu: int = 0, mask: int = -1) -> Iterator[str]:
    """show_mem(): Mem-Info, the free areas and the sums of RAM."""
    yield "Mem-Info:"
    yield from show_free_areas(m, cpu, mask)
    present = sum(m[z + Z_PRESENT] for _, _, z in zones(m, -1))
    managed = sum(m[z + Z_MANAGED] for _, _, z in zones(m, -1))
    yield f"{present} pages RAM"
    yield "0 pages HighMem/MovableOnly"
    yield f"{present - managed} pages reserved"
    yield f"{m[G_TOTALCMA]} pages cma reserved"
