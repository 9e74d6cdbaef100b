# SPDX-License-Identifier: GPL-2.0-only
"""Many operations in one call: bulk allocation, bulk freeing and replay of operation arrays.

A call from Python into the allocator costs more than the allocation itself once the hot path is
compiled. These hot loops take arrays instead: `pfns` and the operation columns are memoryviews of
64-bit integers, never guest RAM.
"""

from __future__ import annotations

from .page_alloc import FREE_DONE, FREE_REFUSED, alloc_pages_nodemask, free_pages
from .spinlock import let_others_go

OP_ALLOC = 0
OP_FREE = 1


def alloc_pages_bulk(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    nid: int,
    nodemask: int,
    pfns: memoryview,
    count: int,
) -> int:
    """Allocates up to `count` blocks into `pfns`, stopping at the first failure; how many. Hot."""
    for i in range(count):
        let_others_go(m, cpu)
        pfn = alloc_pages_nodemask(m, cpu, gfp, order, nid, nodemask)
        if pfn < 0:
            return i
        pfns[i] = pfn
    return count


def free_pages_bulk(m: memoryview, cpu: int, order: int, pfns: memoryview, count: int) -> int:
    """Frees the first `count` blocks of `pfns` in order; how many were really freed. Hot."""
    freed = 0
    for i in range(count):
        let_others_go(m, cpu)
        if free_pages(m, cpu, pfns[i], order) == FREE_DONE:
            freed += 1
    return freed


def repeat_pages(m: memoryview, cpu: int, gfp: int, order: int, nid: int, count: int) -> int:
    """Allocates and frees one block `count` times; how many allocations succeeded. Hot."""
    done = 0
    for _ in range(count):
        let_others_go(m, cpu)
        pfn = alloc_pages_nodemask(m, cpu, gfp, order, nid, 0)
        if pfn >= 0:
            free_pages(m, cpu, pfn, order)
            done += 1
    return done


def replay_pages(
    m: memoryview,
    ops: memoryview,
    cpus: memoryview,
    gfps: memoryview,
    orders: memoryview,
    nids: memoryview,
    masks: memoryview,
    pfns: memoryview,
    count: int,
) -> int:
    """Plays `count` operations; `pfns[i]` receives what operation i got. Hot.

    `ops[i]` is OP_ALLOC, or OP_FREE: then `nids[i]` is the number of the earlier operation whose
    block is freed, and pfns[i] receives free_pages()'s answer (FREE_REFUSED if that operation got
    nothing). Returns the failed allocations.
    """
    failed = 0
    for i in range(count):
        if ops[i] == OP_ALLOC:
            pfn = alloc_pages_nodemask(m, cpus[i], gfps[i], orders[i], nids[i], masks[i])
            pfns[i] = pfn
            if pfn < 0:
                failed += 1
        else:
            pfn = pfns[nids[i]]
            pfns[i] = free_pages(m, cpus[i], pfn, orders[i]) if pfn >= 0 else FREE_REFUSED
    return failed
