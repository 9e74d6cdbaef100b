# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's static data: globals, CPUs and tasks, memblock's tables, rings, templates.

These run first: if the magic number is gone nothing else can be said. The frames that hold the
kernel's own structures are looked at too: none of them may be free.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..gfp import GFP_BITS_MASK, GFP_BOOT_MASK
from ..kernel_globals import (
    G_GFP_ALLOWED,
    G_GUARDPAGE_MINORDER,
    G_HIGHEST_MEMMAP_PFN,
    G_LAYOUT_VERSION,
    G_LOG_HEAD,
    G_MAGIC,
    G_MAX_LOW_PFN,
    G_MAX_PFN,
    G_MEMBLOCK_MEMORY_CNT,
    G_MEMBLOCK_RESERVED_CNT,
    G_MOBILITY_DISABLED,
    G_MOVABLE_ZONE,
    G_NODE_RECLAIM_MODE,
    G_NR_CPU_IDS,
    G_NUM_ONLINE_CPUS,
    G_PERCPU_PAGELIST_FRACTION,
    G_PGD,
    G_STATIC_KEYS,
    G_TRACE_BASE,
    G_TRACE_HEAD,
    G_TRACE_MASK,
    G_TRACE_MASK2,
    G_TRACE_SIZE,
    G_WATERMARK_SCALE,
    KERNEL_BASE,
    KERNEL_MAGIC,
    LAYOUT_VERSION,
)
from ..layout import (
    CPU_BLOCKS,
    CPU_BULK_FREE,
    CPU_CURRENT,
    CPU_EVENTS,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    EMPTY_ZERO_PAGE,
    INIT_TASKS,
    KERNEL_IMAGE_SIZE,
    MEMBLOCK_MAX_REGIONS,
    MEMBLOCK_MEMORY,
    MEMBLOCK_REGION,
    MEMBLOCK_RESERVED,
    PAGE_POISON,
    PFN_SECTION_SHIFT,
    POISON_PAGE,
    RECORD_WORDS,
    TASK_PRIO,
    TASK_WORDS,
    ZONE_NAME_STRINGS,
    va_of_word,
)
from ..mm_types import PAGE_SHIFT
from ..mmzone import MAX_NR_ZONES, NR_CPUS, PGLIST_DATA_WORDS, PSET_WORDS, ZONE_NAMES
from ..trace_events import ALL_EVENTS, ALL_EVENTS2
from ..vm_events import NR_VM_EVENT_ITEMS, VM_EVENT_NAMES
from .frames import MEMMAP_WORDS
from .registry import register

if TYPE_CHECKING:
    from .context import Check

RULES = {
    "magic": "the globals page bears the kernel's magic number and this layout's version",
    "globals": "every switch and size in the globals page is in its range",
    "gfp-allowed": "gfp_allowed_mask is the mask of early boot or all bits",
    "max-pfn": "max_pfn, max_low_pfn and highest_memmap_pfn lie behind the last RAM",
    "cpu-count": "nr_cpu_ids and the number of online CPUs fit the CPU blocks",
    "cpu-current": "every CPU's current is its idle task or a task in RAM",
    "cpu-node": "every CPU belongs to an online node and has a sane preempt count",
    "cpu-bulk-free": "the collecting list of a CPU is empty between two operations",
    "vm-events": "no event counter is negative",
    "memblock": "memblock's regions are in order and do not overlap",
    "trace-ring": "the trace ring is a power of two of records, in RAM, its head not negative",
    "templates": "the zero page is zero and the poison page is poison",
    "zone-names": "the zone name strings are DMA, DMA32, Normal and Movable",
    "own-frames": "frames that hold the kernel's own structures are not free",
    "checkable": "nothing in RAM keeps a rule from being tested",
    "page-tables": "the kernel's page-table root is a page of RAM",
}
KNOWN_KEYS = (1 << 9) - 1
MAX_PRIO = 140
_RANGES = (
    (G_STATIC_KEYS, 0, KNOWN_KEYS, "static_keys"),
    (G_MOBILITY_DISABLED, 0, 1, "page_group_by_mobility_disabled"),
    (G_NODE_RECLAIM_MODE, 0, 7, "node_reclaim_mode"),
    (G_PERCPU_PAGELIST_FRACTION, 0, (1 << 31) - 1, "percpu_pagelist_fraction"),
    (G_WATERMARK_SCALE, 1, 1000, "watermark_scale_factor"),
    (G_MOVABLE_ZONE, 0, MAX_NR_ZONES - 1, "movable_zone"),
    (G_GUARDPAGE_MINORDER, 0, 5, "debug_guardpage_minorder"),
    (G_LOG_HEAD, 0, 1 << 62, "log_head"),
)


def check_globals(check: Check) -> None:
    """The globals page."""
    m = check.m
    where = "kernel globals"
    if m[G_MAGIC] != KERNEL_MAGIC or m[G_LAYOUT_VERSION] != LAYOUT_VERSION:
        word = G_MAGIC if m[G_MAGIC] != KERNEL_MAGIC else G_LAYOUT_VERSION
        check.add("magic", where, "no kernel of this layout is there", word)
    for word, low, high, name in _RANGES:
        if not low <= m[word] <= high:
            check.add("globals", where, f"{name} is {m[word]}", word)
    if m[G_GFP_ALLOWED] not in (GFP_BOOT_MASK, GFP_BITS_MASK):
        check.add("gfp-allowed", where, f"gfp_allowed_mask is {m[G_GFP_ALLOWED]:#x}", G_GFP_ALLOWED)
    if m[G_PGD] and (m[G_PGD] & 0xFFF or not check.memory.is_ram(m[G_PGD], 4096)):
        check.add("page-tables", where, f"swapper_pg_dir is {m[G_PGD]:#x}", G_PGD)
    top = max((end for _, end, _ in check.memory_regions), default=m[G_MAX_PFN])
    span = max((zone.end for zone in check.zones), default=0)
    for word, value, name in (
        (G_MAX_PFN, top, "max_pfn"),
        (G_MAX_LOW_PFN, m[G_MAX_PFN], "max_low_pfn"),
        (G_HIGHEST_MEMMAP_PFN, span - 1, "highest_memmap_pfn"),
    ):
        if m[word] != value and not (check.replayed and word == G_HIGHEST_MEMMAP_PFN):
            check.add("max-pfn", where, f"{name} is {m[word]:#x}, RAM says {value:#x}", word)
    for zid, text in enumerate(ZONE_NAMES):
        at = ZONE_NAME_STRINGS + 2 * zid
        raw = check.memory.bytes[at << 3 : (at + 2) << 3].tobytes()
        if raw.rstrip(b"\0") != text.encode() and not check.replayed:
            check.add("zone-names", where, f"the name of zone {zid} is {raw!r}", at)


def check_cpus(check: Check) -> None:
    """CPU blocks and idle tasks."""
    m = check.m
    online = 0
    for cpu in range(check.cpus):
        block, where = CPU_BLOCKS + cpu * CPU_WORDS, f"cpu {cpu}"
        flag = m[block + CPU_ONLINE]
        online += flag == 1
        if flag not in (0, 1):
            check.add("cpu-count", where, f"online is {flag}", block + CPU_ONLINE)
        _check_current(check, cpu, block)
        if m[block + CPU_NUMA_NODE] not in check.nodes:
            text = f"belongs to node {m[block + CPU_NUMA_NODE]}, which is not online"
            check.add("cpu-node", where, text, block + CPU_NUMA_NODE)
        if not 0 <= m[block + CPU_PREEMPT_COUNT] < 1 << 32:
            text = f"preempt_count is {m[block + CPU_PREEMPT_COUNT]}"
            check.add("cpu-node", where, text, block + CPU_PREEMPT_COUNT)
        empty = va_of_word(block + CPU_BULK_FREE)
        for offset in (CPU_BULK_FREE, CPU_BULK_FREE + 1):
            if m[block + offset] != empty:
                check.add(
                    "cpu-bulk-free", where, "its collecting list is not empty", block + offset
                )
        events = check.q[block + CPU_EVENTS : block + CPU_EVENTS + NR_VM_EVENT_ITEMS]
        for item in np.flatnonzero(events < 0).tolist():
            text = f"{VM_EVENT_NAMES[item]} is {int(events[item])}"
            check.add("vm-events", where, text, block + CPU_EVENTS + item)
    if not 1 <= m[G_NR_CPU_IDS] <= NR_CPUS:
        check.add("cpu-count", "kernel globals", f"nr_cpu_ids is {m[G_NR_CPU_IDS]}", G_NR_CPU_IDS)
    if m[G_NUM_ONLINE_CPUS] != online:
        text = f"num_online_cpus is {m[G_NUM_ONLINE_CPUS]}, {online} are online"
        check.add("cpu-count", "kernel globals", text, G_NUM_ONLINE_CPUS)


def _check_current(check: Check, cpu: int, block: int) -> None:
    m = check.m
    where, word = f"cpu {cpu}", block + CPU_CURRENT
    task = check.structure(m[word], TASK_WORDS)
    own = INIT_TASKS + cpu * TASK_WORDS
    idle = INIT_TASKS <= task < INIT_TASKS + NR_CPUS * TASK_WORDS
    if task < 0 or (idle and task != own):
        check.add("cpu-current", where, "current is no task that it can run", word)
    elif not 0 <= m[task + TASK_PRIO] < MAX_PRIO:
        text = f"the priority of its task is {m[task + TASK_PRIO]}"
        check.add("cpu-current", where, text, task + TASK_PRIO)


def check_memblock(check: Check) -> None:
    """Both region tables."""
    m = check.m
    for name, count, first in (
        ("memory", G_MEMBLOCK_MEMORY_CNT, MEMBLOCK_MEMORY),
        ("reserved", G_MEMBLOCK_RESERVED_CNT, MEMBLOCK_RESERVED),
    ):
        if not 0 <= m[count] <= MEMBLOCK_MAX_REGIONS:
            check.add("memblock", f"memblock.{name}", f"has {m[count]} regions", count)
            continue
        end = 0
        for i in range(m[count]):
            at = first + i * MEMBLOCK_REGION.words
            base, size = m[at], m[at + 1]
            if base < end or size <= 0 or base + size > 1 << 52:
                text = f"region {i} is [{base:#x}, {base + size:#x})"
                check.add("memblock", f"memblock.{name}", text, at)
                break
            end = base + size


def check_rings(check: Check) -> None:
    """The trace ring and the template pages."""
    m = check.m
    where = "trace ring"
    size, base = m[G_TRACE_SIZE], m[G_TRACE_BASE]
    if not 0 < size <= 1 << 40 or size & (size - 1):
        check.add("trace-ring", where, f"has {size} records", G_TRACE_SIZE)
    elif not check.is_ram(base, size * RECORD_WORDS):
        check.add("trace-ring", where, f"at word {base:#x} is not in RAM", G_TRACE_BASE)
    if m[G_TRACE_HEAD] < 0:
        check.add("trace-ring", where, f"head is {m[G_TRACE_HEAD]}", G_TRACE_HEAD)
    for word, known in ((G_TRACE_MASK, ALL_EVENTS), (G_TRACE_MASK2, ALL_EVENTS2)):
        if m[word] & ~known:
            check.add("trace-ring", where, f"mask is {m[word]:#x}", word)
    poison = int.from_bytes(bytes([PAGE_POISON] * 8), "little", signed=True)
    for first, value, name in (
        (EMPTY_ZERO_PAGE, 0, "zero page"),
        (POISON_PAGE, poison, "poison page"),
    ):
        words = check.q[first : first + 512]
        for i in np.flatnonzero(words != value)[:4].tolist():
            check.add("templates", name, f"word {i} is {int(words[i]):#x}", first + i)


def own_ranges(check: Check) -> Iterator[tuple[int, int, str]]:
    """(first word, words, what) of the structures that the kernel keeps outside its static data."""
    yield KERNEL_BASE >> 3, KERNEL_IMAGE_SIZE >> 3, "the kernel's static data"
    for nid, nd in check.nodes.items():
        yield nd, PGLIST_DATA_WORDS, f"pglist_data of node {nid}"
    for zone in check.zones:
        first = check.pagesets(zone)
        if first >= 0:
            yield first, check.cpus * PSET_WORDS, f"pagesets of {zone.label}"
    for section in check.frames.sections:
        first = check.frames.page_word(section << 15)
        yield first, MEMMAP_WORDS, f"struct pages of section {section}"


def check_own_frames(check: Check) -> None:
    """Nobody may hand out the frames that the allocator itself lives in."""
    frames, free = check.frames, check.free
    for first, words, what in own_ranges(check):
        start, end = first >> PAGE_SHIFT - 3, ((first + words - 1) >> PAGE_SHIFT - 3) + 1
        if free_within(check, start, end):
            for part in frames.spans(start, end):
                bad = np.flatnonzero(free[part]) + part.start
                check.add_frames("own-frames", bad, f"free, but it holds {what}")


def free_within(check: Check, start: int, end: int) -> bool:
    """Whether any of the frames [start, end) is free, or they may lie in several sections."""
    first = check.frames.index(start)
    if first < 0 or start >> PFN_SECTION_SHIFT != end - 1 >> PFN_SECTION_SHIFT:
        return True
    return bool(check.free[first : first + end - start].any())


def run(check: Check) -> None:
    """All rules about static data."""
    check_globals(check)
    check_cpus(check)
    check_memblock(check)
    check_rings(check)
    check_own_frames(check)


register("kernel", RULES, run, rank=10)
