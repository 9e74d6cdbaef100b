# SPDX-License-Identifier: GPL-2.0-only
"""/proc/meminfo and sysfs' per-node meminfo, to the letter of the kernel.

Sources: meminfo_proc_show() of fs/proc/meminfo.c, node_read_meminfo() of drivers/base/node.c,
si_mem_available() of mm/page_alloc.c, hugetlb_report_meminfo() of mm/hugetlb.c. DirectMap lines are
counted in the guest's own page tables. What does not exist in this kernel (buffers of block
devices, per-cpu chunks, huge page pools) is 0, as on a machine that has none in use.
"""

from __future__ import annotations

from machine import PhysicalMemory
from machine.mmu import ADDRESS, PTE_P, PTE_PS

from ..address_space import (
    ADDRESS_SPACE_WORDS,
    AS_NRPAGES,
    SI_SPACES,
    SWAP_ADDRESS_SPACE_SHIFT,
    SWAP_INFO,
    swap_info,
)
from ..errors import BadRequest
from ..helpers.mmzone import for_each_online_pgdat, for_each_zone, low_wmark_pages
from ..helpers.prog import Prog, words
from ..helpers.vmstat import (
    global_node_page_state,
    global_zone_page_state,
    node_page_state,
    sum_zone_node_page_state,
)
from ..kernel_globals import (
    G_COMMITTED_AS,
    G_NR_SWAP_PAGES,
    G_NR_SWAPFILES,
    G_PGD,
    G_TOTAL_SWAP_PAGES,
    G_TOTALCMA,
    G_TOTALRAM,
    G_TOTALRESERVE,
)
from ..layout import PAGE_OFFSET, unsigned, word_of_va
from ..mmzone import (
    NODE_STAT_NAMES,
    NR_ACTIVE_FILE,
    NR_BOUNCE,
    NR_FREE_CMA_PAGES,
    NR_FREE_PAGES,
    NR_INACTIVE_FILE,
    NR_KERNEL_STACK_KB,
    NR_MLOCK,
    NR_PAGETABLE,
)
from ..views import Node
from .fields import Json, Report, Table, cells
from .symbols import parse_number

VMALLOC_TOTAL_KB = 34359738367
OVERCOMMIT_RATIO = 50
HPAGE_PMD_NR = 512
HUGEPAGE_KB = 2048
_ITEM = {name: i for i, name in enumerate(NODE_STAT_NAMES)}
_PGD_DIRECT_FIRST, _PGD_DIRECT_END = (unsigned(PAGE_OFFSET) >> 39) & 511, 402
"""Top-level slots of the 64 TiB direct map: 273 up to, not including, 402 (vmalloc's first)."""


def si_mem_available(prog: Prog) -> int:
    """Pages that new programs could use without swapping, by the kernel's estimate."""
    low = sum(low_wmark_pages(zone) for zone in for_each_zone(prog))
    available = global_zone_page_state(prog, NR_FREE_PAGES) - words(prog)[G_TOTALRESERVE]
    cache = global_node_page_state(prog, NR_ACTIVE_FILE)
    cache += global_node_page_state(prog, NR_INACTIVE_FILE)
    available += cache - min(cache // 2, low)
    slab = global_node_page_state(prog, _ITEM["nr_slab_reclaimable"])
    slab += global_node_page_state(prog, _ITEM["nr_kernel_misc_reclaimable"])
    available += slab - min(slab // 2, low)
    return max(available, 0)


def direct_pages_count(memory: PhysicalMemory, pgd: int) -> tuple[int, int, int]:
    """Pages of 4 KiB, 2 MiB and 1 GiB that the tables at physical `pgd` map in the direct map.

    Tables outside RAM are passed over; no table is entered twice, so loops end.
    """
    counts = [0, 0, 0]
    seen: set[tuple[int, int]] = set()

    def table(phys: int, level: int, first: int, end: int) -> None:
        if (phys, level) in seen or not memory.is_ram(phys, 4096):
            return
        seen.add((phys, level))
        for entry in memory.words[(phys >> 3) + first : (phys >> 3) + end].tolist():
            if not entry & PTE_P:
                continue
            if level == 0 or (level < 3 and entry & PTE_PS):
                counts[level] += 1
            else:
                table(entry & ADDRESS, level - 1, 0, 512)

    if pgd:
        table(pgd & ADDRESS, 3, _PGD_DIRECT_FIRST, _PGD_DIRECT_END)
    return counts[0], counts[1], counts[2]


def total_swapcache_pages(m: memoryview) -> int:
    """Pages in the swap cache, over all areas."""
    total = 0
    for kind in range(m[G_NR_SWAPFILES]):
        si = swap_info(m, kind)
        spaces = m[si + SI_SPACES]
        slots = m[si + SWAP_INFO["max"]]
        for i in range((slots >> SWAP_ADDRESS_SPACE_SHIFT) + 1 if spaces and slots else 0):
            total += m[word_of_va(spaces) + i * ADDRESS_SPACE_WORDS + AS_NRPAGES]
    return total


def meminfo_kb(prog: Prog, memory: PhysicalMemory) -> dict[str, int]:
    """Every line of /proc/meminfo by name: KiB, or a number of huge pages."""
    m = words(prog)

    def node(name: str) -> int:
        return global_node_page_state(prog, _ITEM[name]) * 4

    def zone(item: int) -> int:
        return global_zone_page_state(prog, item) * 4

    reclaimable, unreclaim = node("nr_slab_reclaimable"), node("nr_slab_unreclaimable")
    swap_cached = total_swapcache_pages(m) * 4
    small, large, giant = direct_pages_count(memory, m[G_PGD])
    lines = {
        "MemTotal": m[G_TOTALRAM] * 4,
        "MemFree": zone(NR_FREE_PAGES),
        "MemAvailable": si_mem_available(prog) * 4,
        "Buffers": 0,
        "Cached": node("nr_file_pages") - swap_cached,
        "SwapCached": swap_cached,
        "Active": node("nr_active_anon") + node("nr_active_file"),
        "Inactive": node("nr_inactive_anon") + node("nr_inactive_file"),
        "Active(anon)": node("nr_active_anon"),
        "Inactive(anon)": node("nr_inactive_anon"),
        "Active(file)": node("nr_active_file"),
        "Inactive(file)": node("nr_inactive_file"),
        "Unevictable": node("nr_unevictable"),
        "Mlocked": zone(NR_MLOCK),
        "SwapTotal": m[G_TOTAL_SWAP_PAGES] * 4,
        "SwapFree": m[G_NR_SWAP_PAGES] * 4,
        "Dirty": node("nr_dirty"),
        "Writeback": node("nr_writeback"),
        "AnonPages": node("nr_anon_pages"),
        "Mapped": node("nr_mapped"),
        "Shmem": node("nr_shmem"),
        "KReclaimable": reclaimable + node("nr_kernel_misc_reclaimable"),
        "Slab": reclaimable + unreclaim,
        "SReclaimable": reclaimable,
        "SUnreclaim": unreclaim,
        "KernelStack": global_zone_page_state(prog, NR_KERNEL_STACK_KB),
        "PageTables": zone(NR_PAGETABLE),
        "NFS_Unstable": node("nr_unstable"),
        "Bounce": zone(NR_BOUNCE),
        "WritebackTmp": node("nr_writeback_temp"),
        "CommitLimit": (m[G_TOTALRAM] * OVERCOMMIT_RATIO // 100 + m[G_TOTAL_SWAP_PAGES]) * 4,
        "Committed_AS": m[G_COMMITTED_AS] * 4,
        "VmallocTotal": VMALLOC_TOTAL_KB,
        "VmallocUsed": 0,
        "VmallocChunk": 0,
        "Percpu": 0,
        "AnonHugePages": node("nr_anon_transparent_hugepages") * HPAGE_PMD_NR,
        "ShmemHugePages": node("nr_shmem_hugepages") * HPAGE_PMD_NR,
        "ShmemPmdMapped": node("nr_shmem_pmdmapped") * HPAGE_PMD_NR,
        "CmaTotal": m[G_TOTALCMA] * 4,
        "CmaFree": zone(NR_FREE_CMA_PAGES),
        "HugePages_Total": 0,
        "HugePages_Free": 0,
        "HugePages_Rsvd": 0,
        "HugePages_Surp": 0,
        "Hugepagesize": HUGEPAGE_KB,
        "Hugetlb": 0,
        "DirectMap4k": small << 2,
        "DirectMap2M": large << 11,
    }
    if giant:
        lines["DirectMap1G"] = giant << 20
    return lines


def format_meminfo(lines: dict[str, int]) -> str:
    """/proc/meminfo's text of name -> KiB (or number of huge pages)."""
    text = ""
    for name, value in lines.items():
        if name.startswith("HugePages_"):
            text += f"{name + ':':<18} {value:5}\n"
        else:
            text += f"{name + ':':<15} {value:8} kB\n"
    return text


def meminfo(prog: Prog, memory: PhysicalMemory) -> Report:
    """The machine's memory in KiB (/proc/meminfo)."""
    lines = meminfo_kb(prog, memory)
    rows = tuple(cells(name, value) for name, value in lines.items() if value)
    table = Table("memory (KiB), lines that are not 0", ("", "KiB"), rows)
    return Report(format_meminfo(lines), dict(lines.items()), (table,))


def node_meminfo_kb(node: Node) -> dict[str, int]:
    """Every line of a node's meminfo by name: KiB, or a number of huge pages."""

    def state(name: str) -> int:
        return node_page_state(node, _ITEM[name]) * 4

    total = sum(zone.managed_pages for zone in node.zones) * 4
    free = sum_zone_node_page_state(node, NR_FREE_PAGES) * 4
    reclaimable, unreclaim = state("nr_slab_reclaimable"), state("nr_slab_unreclaimable")
    return {
        "MemTotal": total,
        "MemFree": free,
        "MemUsed": total - free,
        "Active": state("nr_active_anon") + state("nr_active_file"),
        "Inactive": state("nr_inactive_anon") + state("nr_inactive_file"),
        "Active(anon)": state("nr_active_anon"),
        "Inactive(anon)": state("nr_inactive_anon"),
        "Active(file)": state("nr_active_file"),
        "Inactive(file)": state("nr_inactive_file"),
        "Unevictable": state("nr_unevictable"),
        "Mlocked": sum_zone_node_page_state(node, NR_MLOCK) * 4,
        "Dirty": state("nr_dirty"),
        "Writeback": state("nr_writeback"),
        "FilePages": state("nr_file_pages"),
        "Mapped": state("nr_mapped"),
        "AnonPages": state("nr_anon_pages"),
        "Shmem": state("nr_shmem"),
        "KernelStack": sum_zone_node_page_state(node, NR_KERNEL_STACK_KB),
        "PageTables": sum_zone_node_page_state(node, NR_PAGETABLE) * 4,
        "NFS_Unstable": state("nr_unstable"),
        "Bounce": sum_zone_node_page_state(node, NR_BOUNCE) * 4,
        "WritebackTmp": state("nr_writeback_temp"),
        "KReclaimable": reclaimable + state("nr_kernel_misc_reclaimable"),
        "Slab": reclaimable + unreclaim,
        "SReclaimable": reclaimable,
        "SUnreclaim": unreclaim,
        "AnonHugePages": state("nr_anon_transparent_hugepages") * HPAGE_PMD_NR,
        "ShmemHugePages": state("nr_shmem_hugepages") * HPAGE_PMD_NR,
        "ShmemPmdMapped": state("nr_shmem_pmdmapped") * HPAGE_PMD_NR,
        "HugePages_Total": 0,
        "HugePages_Free": 0,
        "HugePages_Surp": 0,
    }


def format_node_meminfo(nid: int, lines: dict[str, int]) -> str:
    """sysfs' text of one node's lines."""
    text = ""
    for name, value in lines.items():
        if name.startswith("HugePages_"):
            text += f"Node {nid} {name + ':':<16} {value:5}\n"
        else:
            text += f"Node {nid} {name + ':':<15} {value:8} kB\n"
    return text


def node_meminfo(prog: Prog, nid: int) -> Report:
    """One node's memory in KiB (sysfs node/nodeN/meminfo). Raises BadRequest for no such node."""
    for node in for_each_online_pgdat(prog):
        if node.nid == nid:
            lines = node_meminfo_kb(node)
            rows = tuple(cells(name, value) for name, value in lines.items() if value)
            table = Table(f"memory of node {nid} (KiB)", ("", "KiB"), rows)
            data: dict[str, Json] = {"node": nid, **lines}
            return Report(format_node_meminfo(nid, lines), data, (table,))
    raise BadRequest(f"node {nid} is not online")


def meminfo_command(prog: Prog, memory: PhysicalMemory, args: list[str]) -> Report:
    """`meminfo [NODE]`. Raises BadRequest."""
    if len(args) > 1:
        raise BadRequest("meminfo: one node at most")
    return node_meminfo(prog, parse_number(args[0])) if args else meminfo(prog, memory)
