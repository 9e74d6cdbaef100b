# SPDX-License-Identifier: GPL-2.0-only
"""Asking caches of kernel objects to give some back (mm/vmscan.c shrink_slab, linux/shrinker.h).

Reclaim tells every registered shrinker how hard it presses (`priority`: 12 lightly, 0 all it has).
The shrinker counts what it could free on a node; from that, the cost of making an object again and
what earlier calls left over follows how many to look at, and it is asked for them in batches. What
does not make a batch is remembered per node, so that gentle pressure adds up. A shrinker is told by
a number, as guest RAM has no function pointers: names and inodes (`dcache`), shadow nodes.

Hot: `sh` is the word index of a struct shrinker, counts are objects.
"""

from __future__ import annotations

from .dcache import super_cache_count, super_cache_scan
from .gfp import GFP_KERNEL
from .kernel_globals import G_SHRINKER_CACHEP, G_SHRINKER_LIST
from .layout import MEM_CGROUPS, PAGE_OFFSET, va_of_word, word_of_va
from .list_head import list_add_tail, list_del, list_init
from .mmzone import MAX_NUMNODES
from .shadow_nodes import count_shadow_nodes, scan_shadow_nodes
from .slab import SLAB_PANIC
from .slab_common import kmem_cache_create
from .slub import kmem_cache_free, kmem_cache_zalloc
from .structs import Struct, array, list_head, scalar
from .vm_events import SLABS_SCANNED
from .vmstat import count_vm_events

ENOMEM = 12
SHRINK_BATCH = 128
DEFAULT_SEEKS = 2
SHRINKER_NUMA_AWARE = 1
SHRINK_STOP = -1

SHRINKER_SUPER = 1
SHRINKER_SHADOW = 2

SHRINKER = Struct(
    "shrinker",
    [
        scalar("kind", "int"),
        scalar("batch", "long"),
        scalar("seeks", "int"),
        scalar("flags", "unsigned int"),
        list_head("list"),
        array("nr_deferred", MAX_NUMNODES, "atomic_long_t"),
    ],
)
SH_KIND = SHRINKER["kind"]
SH_BATCH = SHRINKER["batch"]
SH_SEEKS = SHRINKER["seeks"]
SH_FLAGS = SHRINKER["flags"]
SH_LIST = SHRINKER["list"]
SH_NR_DEFERRED = SHRINKER["nr_deferred"]


def shrinker_init(m: memoryview, cpu: int) -> int:
    """Makes the list of shrinkers, once: 0 or -ENOMEM."""
    if m[G_SHRINKER_CACHEP]:
        return 0
    s = kmem_cache_create(m, cpu, b"shrinker", SHRINKER.size, 0, SLAB_PANIC)
    if s == 0:
        return -ENOMEM
    list_init(m, G_SHRINKER_LIST)
    m[G_SHRINKER_CACHEP] = va_of_word(s)
    return 0


def register_shrinker(m: memoryview, cpu: int, kind: int, seeks: int, batch: int) -> int:
    """Adds a shrinker (SHRINKER_ number; batch 0: 128): its word index, or 0 without memory."""
    sh = kmem_cache_zalloc(m, cpu, word_of_va(m[G_SHRINKER_CACHEP]), GFP_KERNEL)
    if sh:
        m[sh + SH_KIND] = kind
        m[sh + SH_SEEKS] = seeks
        m[sh + SH_BATCH] = batch
        m[sh + SH_FLAGS] = SHRINKER_NUMA_AWARE
        list_add_tail(m, sh + SH_LIST, va_of_word(sh + SH_LIST), G_SHRINKER_LIST)
    return sh


def unregister_shrinker(m: memoryview, cpu: int, sh: int) -> None:
    """Takes a shrinker off the list and frees it."""
    list_del(m, sh + SH_LIST)
    kmem_cache_free(m, cpu, word_of_va(m[G_SHRINKER_CACHEP]), sh)


def count_objects(m: memoryview, sh: int, nid: int) -> int:
    """Objects that the shrinker could free on a node. Hot."""
    if m[sh + SH_KIND] == SHRINKER_SUPER:
        return super_cache_count(m, nid)
    return count_shadow_nodes(m, nid)


def scan_objects(m: memoryview, cpu: int, sh: int, nid: int, nr: int, gfp: int) -> int:
    """Has the shrinker look at `nr` objects of a node: how many it freed, or SHRINK_STOP. Hot."""
    if m[sh + SH_KIND] == SHRINKER_SUPER:
        return super_cache_scan(m, cpu, nid, nr, gfp)
    return scan_shadow_nodes(m, cpu, nid, nr)


def shrink_delta(freeable: int, seeks: int, batch: int, priority: int) -> int:
    """What one call adds to the objects to look at. Hot."""
    delta = (freeable >> priority) * 4 // seeks if seeks else freeable // 2
    return max(delta, min(freeable, batch))


def scan_target(freeable: int, deferred: int, delta: int) -> int:
    """How many objects to look at now, left-overs of `deferred` included. Hot.

    A long series of refused calls must not empty the cache at the first that may: half of it at
    most, unless this call alone asks for more; and never more than twice what there is.
    """
    total = deferred + delta
    if delta < freeable // 4:
        total = min(total, freeable // 2)
    return min(total, freeable * 2)


def do_shrink_slab(m: memoryview, cpu: int, sh: int, gfp: int, nid: int, priority: int) -> int:
    """Presses one shrinker: objects freed. Hot."""
    batch = m[sh + SH_BATCH] if m[sh + SH_BATCH] else SHRINK_BATCH
    freeable = count_objects(m, sh, nid)
    if freeable <= 0:
        return 0
    deferred = m[sh + SH_NR_DEFERRED + nid]
    m[sh + SH_NR_DEFERRED + nid] = 0
    delta = shrink_delta(freeable, m[sh + SH_SEEKS], batch, priority)
    total = scan_target(freeable, deferred, delta)
    freed = 0
    scanned = 0
    while total >= batch or total >= freeable:
        nr = min(batch, total)
        got = scan_objects(m, cpu, sh, nid, nr, gfp)
        if got == SHRINK_STOP:
            break
        freed += got
        count_vm_events(m, cpu, SLABS_SCANNED, nr)
        total -= nr
        scanned += nr
        if nr == 0:
            break
    left = deferred + delta - scanned
    if left > 0:
        m[sh + SH_NR_DEFERRED + nid] += left
    return freed


def shrink_slab(m: memoryview, cpu: int, gfp: int, nid: int, memcg: int, priority: int) -> int:
    """Presses all shrinkers on a node: objects freed. Hot.

    Objects are not accounted to memory cgroups, so a `memcg` other than the root has none.
    """
    if m[G_SHRINKER_CACHEP] == 0 or memcg not in (0, MEM_CGROUPS):
        return 0
    freed = 0
    head = PAGE_OFFSET + (G_SHRINKER_LIST << 3)
    va = m[G_SHRINKER_LIST]
    while va != head:
        sh = ((va - PAGE_OFFSET) >> 3) - SH_LIST
        va = m[sh + SH_LIST]
        freed += do_shrink_slab(m, cpu, sh, gfp, nid, priority)
    return freed
