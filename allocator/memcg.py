# SPDX-License-Identifier: GPL-2.0-only
"""Memory control groups: charging kernel pages (mm/memcontrol.c, mm/page_counter.c).

A request with __GFP_ACCOUNT is charged to the current task's group and all its ancestors; a group
at its limit refuses, and the allocator gives the page back. A group has three counters, `memory`,
`memsw` (with swap, legacy hierarchy only) and `kmem` (legacy only), each with usage, limit, high
mark and a count of refusals, in pages. Charges are taken in batches of 32; the surplus stays in the
CPU's stock and serves the next requests of the same group.

Groups lie in the MEM_CGROUPS table; group 0 is the root, which is never charged. Hot: everything
that takes `m` but create and the limits at the end. `memcg` is a word index, `c` a counter's.
"""

from __future__ import annotations

from machine import UsageError

from .gfp import (
    GFP_DIRECT_RECLAIM_BIT,
    GFP_NOFAIL_BIT,
    GFP_NORETRY_BIT,
    GFP_RETRY_MAYFAIL_BIT,
)
from .kernel_globals import (
    G_MEMCG_ON_DFL,
    G_MEMCG_SWAP_ACCOUNT,
    G_MM_INIT_DONE,
    G_NR_CPU_IDS,
    G_STATIC_KEYS,
    KEY_MEMCG_KMEM,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_MEMCG_STOCK,
    CPU_MEMCG_STOCK_PAGES,
    CPU_ONLINE,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    IN_INTERRUPT_MASK,
    MAX_MEM_CGROUPS,
    MEM_CGROUP,
    MEM_CGROUP_WORDS,
    MEM_CGROUPS,
    PAGE_COUNTER,
    PAGE_OFFSET,
    PF_EXITING,
    PF_KTHREAD,
    PF_MEMALLOC,
    TASK_FATAL_SIGNAL,
    TASK_FLAGS,
    TASK_MEMCG,
    TASK_OOM_MM,
)
from .mm_types import P_COUNTS, P_MEMCG, PG_KMEMCG_TYPE
from .mmzone import PAGE_ALLOC_COSTLY_ORDER

ENOMEM = 12
MEMCG_CHARGE_BATCH = 32
MEM_CGROUP_RECLAIM_RETRIES = 5
MAX_CHARGE_ROUNDS = 1000
"""Rounds with progress of one charge before it fails: 4.20 would go on for ever."""
PAGE_COUNTER_MAX = ((1 << 63) - 1) >> 12

PC_USAGE = PAGE_COUNTER["usage"]
PC_MIN = PAGE_COUNTER["min"]
PC_LOW = PAGE_COUNTER["low"]
PC_MAX = PAGE_COUNTER["max"]
PC_PARENT = PAGE_COUNTER["parent"]
PC_WATERMARK = PAGE_COUNTER["watermark"]
PC_FAILCNT = PAGE_COUNTER["failcnt"]
MC_ID = MEM_CGROUP["id"]
MC_REFCNT = MEM_CGROUP["css_refcnt"]
MC_PARENT = MEM_CGROUP["parent"]
MC_EVENTS_MAX = MEM_CGROUP["events_max"]
MC_HIGH = MEM_CGROUP["high"]
MC_MEMORY = MEM_CGROUP["memory"]
MC_MEMSW = MEM_CGROUP["memsw"]
MC_KMEM = MEM_CGROUP["kmem"]
MC_SERIAL_NR = MEM_CGROUP["serial_nr"]
TABLE_END = MEM_CGROUPS + MAX_MEM_CGROUPS * MEM_CGROUP_WORDS
COUNTERS = (MC_MEMORY, MC_MEMSW, MC_KMEM)


def page_counter_charge(m: memoryview, c: int, nr: int) -> None:
    """Charges `nr` pages to counter `c` and its ancestors, whatever their limits. Hot."""
    while True:
        m[c + PC_USAGE] += nr
        m[c + PC_WATERMARK] = max(m[c + PC_WATERMARK], m[c + PC_USAGE])
        if m[c + PC_PARENT] == 0:
            return
        c = (m[c + PC_PARENT] - PAGE_OFFSET) >> 3


def page_counter_uncharge(m: memoryview, c: int, nr: int) -> None:
    """Takes `nr` pages off counter `c` and its ancestors. Hot."""
    while True:
        m[c + PC_USAGE] -= nr
        if m[c + PC_PARENT] == 0:
            return
        c = (m[c + PC_PARENT] - PAGE_OFFSET) >> 3


def page_counter_try_charge(m: memoryview, c: int, nr: int) -> int:
    """Charges `nr` pages unless a limit forbids it: 0, or the counter that refused. Hot."""
    at = c
    while True:
        new = m[at + PC_USAGE] + nr
        if new > m[at + PC_MAX]:
            m[at + PC_FAILCNT] += 1
            break
        m[at + PC_USAGE] = new
        m[at + PC_WATERMARK] = max(m[at + PC_WATERMARK], new)
        if m[at + PC_PARENT] == 0:
            return 0
        at = (m[at + PC_PARENT] - PAGE_OFFSET) >> 3
    while c != at:
        m[c + PC_USAGE] -= nr
        c = (m[c + PC_PARENT] - PAGE_OFFSET) >> 3
    return at


def do_memsw_account(m: memoryview) -> bool:
    """True if memory+swap is counted: legacy hierarchy with swap accounting. Hot."""
    return m[G_MEMCG_ON_DFL] == 0 and m[G_MEMCG_SWAP_ACCOUNT] != 0


def drain_stock(m: memoryview, cpu: int) -> None:
    """Gives `cpu`'s unused charges back to their group. Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    nr = m[block + CPU_MEMCG_STOCK_PAGES]
    if nr:
        old = (m[block + CPU_MEMCG_STOCK] - PAGE_OFFSET) >> 3
        page_counter_uncharge(m, old + MC_MEMORY, nr)
        if do_memsw_account(m):
            page_counter_uncharge(m, old + MC_MEMSW, nr)
        m[old + MC_REFCNT] -= nr
        m[block + CPU_MEMCG_STOCK_PAGES] = 0
    m[block + CPU_MEMCG_STOCK] = 0


def consume_stock(m: memoryview, cpu: int, memcg: int, nr: int) -> bool:
    """True if `cpu`'s stock had `nr` charges of this group; they are taken then. Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    if nr > MEMCG_CHARGE_BATCH or m[block + CPU_MEMCG_STOCK] != PAGE_OFFSET + (memcg << 3):
        return False
    if m[block + CPU_MEMCG_STOCK_PAGES] < nr:
        return False
    m[block + CPU_MEMCG_STOCK_PAGES] -= nr
    return True


def refill_stock(m: memoryview, cpu: int, memcg: int, nr: int) -> None:
    """Puts `nr` surplus charges into `cpu`'s stock; an overfull stock is drained whole. Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    va = PAGE_OFFSET + (memcg << 3)
    if m[block + CPU_MEMCG_STOCK] != va:
        drain_stock(m, cpu)
        m[block + CPU_MEMCG_STOCK] = va
    m[block + CPU_MEMCG_STOCK_PAGES] += nr
    if m[block + CPU_MEMCG_STOCK_PAGES] > MEMCG_CHARGE_BATCH:
        drain_stock(m, cpu)


def is_descendant(m: memoryview, memcg: int, root: int) -> bool:
    """True if group `memcg` is `root` or below it. Hot."""
    while memcg != root:
        if m[memcg + MC_PARENT] == 0:
            return False
        memcg = (m[memcg + MC_PARENT] - PAGE_OFFSET) >> 3
    return True


def drain_all_stock(m: memoryview, root: int) -> None:
    """Drains every online CPU's stock that belongs to `root` or a group below it. Hot."""
    for cpu in range(m[G_NR_CPU_IDS]):
        block = CPU_BLOCKS + cpu * CPU_WORDS
        if m[block + CPU_ONLINE] and m[block + CPU_MEMCG_STOCK_PAGES]:
            if is_descendant(m, (m[block + CPU_MEMCG_STOCK] - PAGE_OFFSET) >> 3, root):
                drain_stock(m, cpu)


def memcg_margin(m: memoryview, memcg: int) -> int:
    """Pages that the group may still be charged (mem_cgroup_margin). Hot."""
    margin = max(m[memcg + MC_MEMORY + PC_MAX] - m[memcg + MC_MEMORY + PC_USAGE], 0)
    if do_memsw_account(m):
        left = m[memcg + MC_MEMSW + PC_MAX] - m[memcg + MC_MEMSW + PC_USAGE]
        margin = min(margin, max(left, 0))
    return margin


def charge_batch(m: memoryview, memcg: int, nr: int) -> int:
    """Charges memsw and memory together: 0, or the counter that refused. Hot."""
    both = do_memsw_account(m)
    if both:
        over = page_counter_try_charge(m, memcg + MC_MEMSW, nr)
        if over:
            return over
    over = page_counter_try_charge(m, memcg + MC_MEMORY, nr)
    if over and both:
        page_counter_uncharge(m, memcg + MC_MEMSW, nr)
    return over


def force_charge(m: memoryview, memcg: int, nr: int) -> None:
    """Charges beyond the limits: the request may not fail or frees memory soon. Hot."""
    page_counter_charge(m, memcg + MC_MEMORY, nr)
    if do_memsw_account(m):
        page_counter_charge(m, memcg + MC_MEMSW, nr)
    m[memcg + MC_REFCNT] += nr


def reclaim_from_memcg(
    m: memoryview, cpu: int, memcg: int, nr: int, gfp: int, may_swap: int
) -> int:
    """vmscan's try_to_free_mem_cgroup_pages(), which allocates and so stands above this module."""
    from .vmscan import try_to_free_mem_cgroup_pages

    return try_to_free_mem_cgroup_pages(m, cpu, memcg, nr, gfp, may_swap != 0)


def kill_in_memcg(m: memoryview, cpu: int, memcg: int, gfp: int, order: int) -> int:
    """oom_kill's mem_cgroup_out_of_memory(): 1 if somebody's memory is or will be free."""
    from .oom_kill import mem_cgroup_out_of_memory

    return 1 if mem_cgroup_out_of_memory(m, cpu, memcg, gfp, order) else 0


def try_charge(m: memoryview, cpu: int, memcg: int, gfp: int, nr: int) -> int:
    """Charges `nr` pages to a group: 0 or -ENOMEM. Hot (try_charge).

    A batch first, then the exact number. A request that may block reclaims from the group that is
    at its limit, drains the stocks once, and after the retries has one of the group's processes
    killed, if there are any.
    """
    if memcg == MEM_CGROUPS:
        return 0
    batch = max(MEMCG_CHARGE_BATCH, nr)
    retries = MEM_CGROUP_RECLAIM_RETRIES
    drained = False
    rounds = 0
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    while True:
        if consume_stock(m, cpu, memcg, nr):
            return 0
        over = charge_batch(m, memcg, batch)
        if over == 0:
            m[memcg + MC_REFCNT] += batch
            if batch > nr:
                refill_stock(m, cpu, memcg, batch - nr)
            return 0
        if batch > nr:
            batch = nr
            continue
        flags = m[task + TASK_FLAGS]
        dying = m[task + TASK_OOM_MM] | m[task + TASK_FATAL_SIGNAL] | (flags & PF_EXITING)
        if dying or flags & PF_MEMALLOC:
            break
        if gfp & GFP_DIRECT_RECLAIM_BIT == 0:
            if gfp & GFP_NOFAIL_BIT:
                break
            return -ENOMEM
        limit = MEM_CGROUPS + (over - MEM_CGROUPS) // MEM_CGROUP_WORDS * MEM_CGROUP_WORDS
        m[limit + MC_EVENTS_MAX] += 1
        reclaimed = 0
        if m[G_MM_INIT_DONE]:
            may_swap = 0 if over == limit + MC_MEMSW else 1
            reclaimed = reclaim_from_memcg(m, cpu, limit, nr, gfp, may_swap)
        if memcg_margin(m, limit) >= nr:
            continue
        if not drained:
            drain_all_stock(m, limit)
            drained = True
            continue
        if gfp & GFP_NORETRY_BIT == 0:
            if reclaimed and nr <= 1 << PAGE_ALLOC_COSTLY_ORDER and rounds < MAX_CHARGE_ROUNDS:
                rounds += 1
                continue
            if retries > 0:
                retries -= 1
                continue
        if gfp & GFP_NOFAIL_BIT:
            break
        if gfp & (GFP_NORETRY_BIT | GFP_RETRY_MAYFAIL_BIT) or m[G_MM_INIT_DONE] == 0:
            return -ENOMEM
        if nr > 1 << PAGE_ALLOC_COSTLY_ORDER:
            return -ENOMEM
        if rounds < MAX_CHARGE_ROUNDS and kill_in_memcg(m, cpu, limit, gfp, 0):
            rounds += 1
            retries = MEM_CGROUP_RECLAIM_RETRIES
            continue
        return -ENOMEM
    force_charge(m, memcg, nr)
    return 0


def memcg_kmem_charge(
    m: memoryview,
    cpu: int,
    pfn: int,  # noqa: ARG001
    p: int,
    gfp: int,
    order: int,
) -> int:
    """Charges the block at `pfn` (struct page at word `p`) to the current group. Hot.

    0, with the page marked PageKmemcg if it was charged, or -ENOMEM. Interrupts and kernel threads
    are not charged, nor tasks without a group or in the root group.
    """
    block = CPU_BLOCKS + cpu * CPU_WORDS
    if m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK:
        return 0
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    va = m[task + TASK_MEMCG]
    if m[task + TASK_FLAGS] & PF_KTHREAD or va == 0:
        return 0
    memcg = (va - PAGE_OFFSET) >> 3
    if memcg == MEM_CGROUPS:
        return 0
    nr = 1 << order
    rc = try_charge(m, cpu, memcg, gfp, nr)
    if rc:
        return rc
    if m[G_MEMCG_ON_DFL] == 0 and page_counter_try_charge(m, memcg + MC_KMEM, nr):
        page_counter_uncharge(m, memcg + MC_MEMORY, nr)
        if do_memsw_account(m):
            page_counter_uncharge(m, memcg + MC_MEMSW, nr)
        m[memcg + MC_REFCNT] -= nr
        return -ENOMEM
    m[p + P_MEMCG] = va
    m[p + P_COUNTS] &= ~PG_KMEMCG_TYPE
    return 0


def memcg_kmem_uncharge(m: memoryview, cpu: int, p: int, order: int) -> None:  # noqa: ARG001
    """Takes the charge of the block with struct page `p` back (memcg_kmem_uncharge). Hot."""
    va = m[p + P_MEMCG]
    memcg = (va - PAGE_OFFSET) >> 3
    at = memcg - MEM_CGROUPS
    # a pointer that is no group's is left for free_pages_check to report
    if at <= 0 or at >= MAX_MEM_CGROUPS * MEM_CGROUP_WORDS or at % MEM_CGROUP_WORDS:
        return
    nr = 1 << order
    if m[G_MEMCG_ON_DFL] == 0:
        page_counter_uncharge(m, memcg + MC_KMEM, nr)
    page_counter_uncharge(m, memcg + MC_MEMORY, nr)
    if do_memsw_account(m):
        page_counter_uncharge(m, memcg + MC_MEMSW, nr)
    m[p + P_MEMCG] = 0
    m[p + P_COUNTS] |= PG_KMEMCG_TYPE
    m[memcg + MC_REFCNT] -= nr


def memcg_init(m: memoryview) -> int:
    """Sets up the root group and returns its word index."""
    set_up(m, MEM_CGROUPS, 0, 0)
    return MEM_CGROUPS


def set_up(m: memoryview, memcg: int, number: int, parent: int) -> None:
    """Fills a fresh group: no limits, counters linked to those of `parent` (0: none)."""
    for w in range(memcg, memcg + MEM_CGROUP_WORDS):
        m[w] = 0
    m[memcg + MC_ID] = number + 1
    m[memcg + MC_REFCNT] = 1
    m[memcg + MC_HIGH] = PAGE_COUNTER_MAX
    m[memcg + MC_PARENT] = PAGE_OFFSET + (parent << 3) if parent else 0
    for counter in COUNTERS:
        m[memcg + counter + PC_MAX] = PAGE_COUNTER_MAX
        m[memcg + counter + PC_PARENT] = PAGE_OFFSET + ((parent + counter) << 3) if parent else 0


def memcg_create(m: memoryview, parent: int) -> int:
    """Makes a group below `parent` (word index) and turns kernel charging on; its word index.

    Raises:
        UsageError: the table of MAX_MEM_CGROUPS groups is full, or `parent` is no group.
    """
    check_memcg(m, parent)
    for number in range(1, MAX_MEM_CGROUPS):
        memcg = MEM_CGROUPS + number * MEM_CGROUP_WORDS
        if m[memcg + MC_ID] == 0:
            last = max(
                m[at + MC_SERIAL_NR] for at in range(MEM_CGROUPS, TABLE_END, MEM_CGROUP_WORDS)
            )
            set_up(m, memcg, number, parent)
            m[memcg + MC_SERIAL_NR] = last + 1
            m[G_STATIC_KEYS] |= KEY_MEMCG_KMEM
            return memcg
    raise UsageError(f"no room for more than {MAX_MEM_CGROUPS} memory cgroups")


def check_memcg(m: memoryview, memcg: int) -> None:
    """Raises UsageError unless `memcg` is the word index of a live group."""
    at = memcg - MEM_CGROUPS
    inside = 0 <= at < MAX_MEM_CGROUPS * MEM_CGROUP_WORDS and at % MEM_CGROUP_WORDS == 0
    if not inside or m[memcg + MC_ID] == 0:
        raise UsageError(f"word {memcg:#x} is not a memory cgroup")


def memcg_set_max(m: memoryview, memcg: int, counter: int, pages: int) -> bool:
    """Sets a counter's limit in pages (`counter`: MC_MEMORY, MC_MEMSW or MC_KMEM).

    False (the kernel's -EBUSY) if more is in use already.
    """
    check_memcg(m, memcg)
    if counter not in COUNTERS or not 0 <= pages <= PAGE_COUNTER_MAX:
        raise UsageError(f"memory cgroup: no counter {counter} or no limit of {pages} pages")
    if m[memcg + counter + PC_USAGE] > pages:
        return False
    m[memcg + counter + PC_MAX] = pages
    return True
