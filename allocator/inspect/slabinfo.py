# SPDX-License-Identifier: GPL-2.0-only
"""/proc/slabinfo to the letter of the kernel (mm/slab_common.c slab_show, mm/slub.c get_slabinfo).

As with SLUB, what lies free in the CPUs' slabs counts as in use: only slabs on the nodes' partial
lists are asked for free objects.
"""

from __future__ import annotations

from ..helpers.prog import Prog, words
from ..kernel_globals import G_SLAB_STATE
from ..layout import word_of_va
from ..list_head import va_word
from ..mm_types import P_PRIVATE
from ..mmzone import MAX_NUMNODES
from ..slab import (
    KC_NODE,
    KC_OO,
    KC_SIZE,
    KCN_NR_SLABS,
    KCN_TOTAL_OBJECTS,
    OO_MASK,
    OO_SHIFT,
    SLAB_INUSE_MASK,
    SLAB_OBJECTS_MASK,
    SLAB_OBJECTS_SHIFT,
    kmem_cache_name,
    partial_slabs,
    slab_caches,
)
from .fields import Json, Report, Table, cells

HEADER = (
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor>"
    " : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
)


def cache_counts(m: memoryview, s: int) -> tuple[int, int, int]:
    """Objects in use, objects, slabs of a cache."""
    slabs = objects = free = 0
    for nid in range(MAX_NUMNODES):
        va = m[s + KC_NODE + nid]
        if va:
            n = word_of_va(va)
            slabs += m[n + KCN_NR_SLABS]
            objects += m[n + KCN_TOTAL_OBJECTS]
            for page_va in partial_slabs(m, n):
                counters = m[va_word(m, page_va) + P_PRIVATE]
                free += counters >> SLAB_OBJECTS_SHIFT & SLAB_OBJECTS_MASK
                free -= counters & SLAB_INUSE_MASK
    return objects - free, objects, slabs


def slabinfo(prog: Prog) -> Report:
    """All caches, newest first; the header alone before there is a slab allocator."""
    m = words(prog)
    text = HEADER
    data: dict[str, Json] = {}
    rows = []
    for s in slab_caches(m) if m[G_SLAB_STATE] else ():
        name = kmem_cache_name(m, s)
        active, objects, slabs = cache_counts(m, s)
        per_slab, pages = m[s + KC_OO] & OO_MASK, 1 << (m[s + KC_OO] >> OO_SHIFT)
        text += (
            f"{name:<17} {active:6} {objects:6} {m[s + KC_SIZE]:6} {per_slab:4} {pages:4}"
            f" : tunables {0:4} {0:4} {0:4} : slabdata {slabs:6} {slabs:6} {0:6}\n"
        )
        data[name] = {
            "active_objs": active,
            "num_objs": objects,
            "objsize": m[s + KC_SIZE],
            "objperslab": per_slab,
            "pagesperslab": pages,
            "num_slabs": slabs,
        }
        if slabs:
            rows.append(cells(name, active, objects, m[s + KC_SIZE], slabs, slabs * pages))
    columns = ("cache", "in use", "objects", "bytes", "slabs", "pages")
    return Report(text, data, (Table("slab caches with slabs", columns, tuple(rows)),))
