# SPDX-License-Identifier: GPL-2.0-only
"""Objects smaller than a page: the slab allocator SLUB (mm/slub.c).

A cache (`struct kmem_cache`) cuts blocks of pages, its slabs, into objects of one size. Free
objects are chained through a word inside them. Every CPU allocates from one frozen slab of its own
by taking the head of a list; slabs that got objects back wait on the CPU's partial list, then on
the partial list of their node. Full slabs are on no list. A slab is a compound page whose struct
page carries PG_slab and

    word 1  next slab of the CPU's partial list, or the lru of the node's     (next, lru.next)
    word 2  on a CPU's partial list: slabs and free objects up to here        (pages, pobjects)
    word 3  its cache        word 4  first free object                        (slab_cache, freelist)
    word 5  objects in use (bits 0-15), objects (16-30), frozen (31)          (counters)

Here are allocating and freeing; caches are made in `slab_common`. All is hot: `s` is the word index
of a cache, `n` of a kmem_cache_node, `p` of a struct page, objects are word indices (0: none),
sizes are bytes. Objects that guest code follows are linked by direct map addresses. There are no
constructors, no debugging metadata, and no caches per memory cgroup.
"""

from __future__ import annotations

from .cpuset import cpuset_zone_allowed
from .gfp import (
    GFP_ZERO_BIT,
    GFP_ZONEMASK,
    ZONE_TABLE,
)
from .kernel_globals import G_CLOCK, G_GFP_ALLOWED, G_NR_CPU_IDS
from .layout import (
    CPU_BLOCKS,
    CPU_NUMA_NODE,
    CPU_WORDS,
    EMPTY_ZERO_PAGE,
    PAGE_OFFSET,
    SECTION_PAGES,
    VMEMMAP_START,
)
from .list_head import list_add, list_add_tail, list_del
from .mempolicy import mempolicy_slab_node
from .mm_types import (
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PG_ACTIVE,
    PG_HEAD,
    PG_SLAB,
)
from .mmzone import (
    Z_NODE,
    ZONEREF_WORDS,
    ZR_ZONE,
)
from .page_alloc import (
    first_zones_zonelist,
    free_pages,
    gfp_pfmemalloc_flags,
    node_zonelist,
)
from .page_check import compound_order
from .page_frag import compound_head_pfn, pfn_is_valid
from .slab import (
    EINVAL,
    KC_CPU_PARTIAL,
    KC_CPUS,
    KC_DEFRAG_RATIO,
    KC_MIN_PARTIAL,
    KC_OBJECT_SIZE,
    KC_OFFSET,
    KCC_FREELIST,
    KCC_PAGE,
    KCC_PARTIAL,
    KCC_TID,
    KCC_WORDS,
    KCN_NR_PARTIAL,
    KCN_PARTIAL,
    NUMA_NO_NODE,
    POBJECTS_SHIFT,
    SLAB_FROZEN,
    SLAB_INUSE_MASK,
    SLAB_OBJECTS_MASK,
    SLAB_OBJECTS_SHIFT,
)
from .slab_page import allocate_slab, discard_slab, get_node, page_node, page_of_va


def pfmemalloc_match(m: memoryview, cpu: int, p: int, gfp: int) -> bool:
    """False if slab `p` came from the reserves and the request may not use them. Hot."""
    return m[p + P_FLAGS] & PG_ACTIVE == 0 or gfp_pfmemalloc_flags(m, cpu, gfp) != 0


# --- the lists of partial slabs -----------------------------------------------------------------
def add_partial(m: memoryview, n: int, p: int, page_va: int, tail: bool) -> None:
    """Puts slab `p` on its node's partial list. Hot."""
    m[n + KCN_NR_PARTIAL] += 1
    if tail:
        list_add_tail(m, p + P_NEXT, page_va + 8, n + KCN_PARTIAL)
    else:
        list_add(m, p + P_NEXT, page_va + 8, n + KCN_PARTIAL)


def remove_partial(m: memoryview, n: int, p: int) -> None:
    """Takes slab `p` off its node's partial list. Hot."""
    list_del(m, p + P_NEXT)
    m[n + KCN_NR_PARTIAL] -= 1


def deactivate_slab(m: memoryview, cpu: int, s: int, c: int) -> None:
    """Unfreezes the slab of CPU part `c` and puts it where it belongs. Hot."""
    page_va = m[c + KCC_PAGE]
    p = page_of_va(m, page_va)
    n = get_node(m, s, page_node(m, p))
    offset = m[s + KC_OFFSET] >> 3
    tail = m[p + P_INDEX] != 0
    counters = m[p + P_PRIVATE] & ~SLAB_FROZEN
    free = m[p + P_INDEX]
    va = m[c + KCC_FREELIST]
    while va:
        w = ((va - PAGE_OFFSET) >> 3) + offset
        nxt = m[w]
        m[w] = free
        free = va
        counters -= 1
        va = nxt
    m[p + P_INDEX] = free
    m[p + P_PRIVATE] = counters
    m[c + KCC_PAGE] = 0
    m[c + KCC_FREELIST] = 0
    if counters & SLAB_INUSE_MASK == 0 and m[n + KCN_NR_PARTIAL] >= m[s + KC_MIN_PARTIAL]:
        discard_slab(m, cpu, s, (page_va - VMEMMAP_START) >> 6)
    elif free:
        add_partial(m, n, p, page_va, tail)


def unfreeze_partials(m: memoryview, cpu: int, s: int, c: int) -> None:
    """Moves the CPU's partial slabs to their nodes' lists; surplus empty ones are freed. Hot."""
    discard = 0
    va = m[c + KCC_PARTIAL]
    while va:
        p = page_of_va(m, va)
        nxt = m[p + P_NEXT]
        m[c + KCC_PARTIAL] = nxt
        n = get_node(m, s, page_node(m, p))
        m[p + P_PRIVATE] &= ~SLAB_FROZEN
        empty = m[p + P_PRIVATE] & SLAB_INUSE_MASK == 0
        if empty and m[n + KCN_NR_PARTIAL] >= m[s + KC_MIN_PARTIAL]:
            m[p + P_NEXT] = discard
            discard = va
        else:
            add_partial(m, n, p, va, True)
        va = nxt
    while discard:
        va = discard
        discard = m[page_of_va(m, va) + P_NEXT]
        discard_slab(m, cpu, s, (va - VMEMMAP_START) >> 6)


def put_cpu_partial(m: memoryview, cpu: int, s: int, page_va: int, drain: bool) -> None:
    """Puts a frozen slab on the CPU's partial list, moving a full list to the nodes first. Hot."""
    c = s + KC_CPUS + cpu * KCC_WORDS
    old = m[c + KCC_PARTIAL]
    pages = 0
    pobjects = 0
    if old:
        both = m[page_of_va(m, old) + P_PREV]
        pages = both & 0xFFFFFFFF
        pobjects = both >> POBJECTS_SHIFT
        if drain and pobjects > m[s + KC_CPU_PARTIAL]:
            unfreeze_partials(m, cpu, s, c)
            old = 0
            pages = 0
            pobjects = 0
    p = page_of_va(m, page_va)
    counters = m[p + P_PRIVATE]
    pobjects += (counters >> SLAB_OBJECTS_SHIFT & SLAB_OBJECTS_MASK) - (counters & SLAB_INUSE_MASK)
    m[p + P_PREV] = pages + 1 | pobjects << POBJECTS_SHIFT
    m[p + P_NEXT] = old
    m[c + KCC_PARTIAL] = page_va
    if m[s + KC_CPU_PARTIAL] == 0:
        unfreeze_partials(m, cpu, s, c)


def get_partial_node(m: memoryview, cpu: int, s: int, n: int, gfp: int) -> int:
    """Takes slabs of a node for the CPU: the freelist of the first (an address), or 0. Hot."""
    if n == 0 or m[n + KCN_NR_PARTIAL] == 0:
        return 0
    c = s + KC_CPUS + cpu * KCC_WORDS
    head_va = PAGE_OFFSET + ((n + KCN_PARTIAL) << 3)
    taken = 0
    available = 0
    lru = m[n + KCN_PARTIAL]
    while lru != head_va:
        page_va = lru - 8
        p = page_of_va(m, page_va)
        lru = m[p + P_NEXT]
        if not pfmemalloc_match(m, cpu, p, gfp):
            continue
        counters = m[p + P_PRIVATE]
        objects = counters >> SLAB_OBJECTS_SHIFT & SLAB_OBJECTS_MASK
        available += objects - (counters & SLAB_INUSE_MASK)
        remove_partial(m, n, p)
        if taken == 0:
            taken = m[p + P_INDEX]
            m[p + P_INDEX] = 0
            m[p + P_PRIVATE] = objects << SLAB_OBJECTS_SHIFT | objects | SLAB_FROZEN
            m[c + KCC_PAGE] = page_va
        else:
            m[p + P_PRIVATE] = counters | SLAB_FROZEN
            put_cpu_partial(m, cpu, s, page_va, False)
        if m[s + KC_CPU_PARTIAL] == 0 or available > m[s + KC_CPU_PARTIAL] // 2:
            break
    return taken


def get_any_partial(m: memoryview, cpu: int, s: int, gfp: int) -> int:
    """get_partial_node() of the nodes in the order of the policy's zonelist. Hot.

    The modelled clock stands for get_cycles(): now and then other nodes are left alone.
    """
    ratio = m[s + KC_DEFRAG_RATIO]
    if ratio == 0 or m[G_CLOCK] % 1024 > ratio:
        return 0
    high = ZONE_TABLE[gfp & GFP_ZONEMASK]
    zr = first_zones_zonelist(m, node_zonelist(m, mempolicy_slab_node(m, cpu), gfp), high, 0)
    while m[zr + ZR_ZONE]:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        n = get_node(m, s, m[z + Z_NODE])
        if n and m[n + KCN_NR_PARTIAL] > m[s + KC_MIN_PARTIAL]:
            if cpuset_zone_allowed(m, cpu, z, gfp):
                found = get_partial_node(m, cpu, s, n, gfp)
                if found:
                    return found
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high, 0)
    return 0


def get_partial(m: memoryview, cpu: int, s: int, gfp: int, nid: int) -> int:
    """A partly free slab for the CPU: its freelist (an address), or 0. Hot."""
    search = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE] if nid == NUMA_NO_NODE else nid
    found = get_partial_node(m, cpu, s, get_node(m, s, search), gfp)
    if found or nid != NUMA_NO_NODE:
        return found
    return get_any_partial(m, cpu, s, gfp)


# --- allocating ---------------------------------------------------------------------------------
def refill_from_page(m: memoryview, c: int, p: int) -> int:
    """Takes over what was freed to the CPU's own slab from elsewhere (get_freelist). Hot."""
    free = m[p + P_INDEX]
    counters = m[p + P_PRIVATE]
    objects = counters >> SLAB_OBJECTS_SHIFT & SLAB_OBJECTS_MASK
    m[p + P_INDEX] = 0
    m[p + P_PRIVATE] = objects << SLAB_OBJECTS_SHIFT | objects | (SLAB_FROZEN if free else 0)
    if free == 0:
        m[c + KCC_PAGE] = 0
    return free


def slab_refill(m: memoryview, cpu: int, s: int, c: int, gfp: int, nid: int) -> int:
    """A freelist for the CPU, of c.page afterwards: its head, or 0. Hot (___slab_alloc)."""
    while True:
        page_va = m[c + KCC_PAGE]
        if page_va:
            p = page_of_va(m, page_va)
            fits = nid == NUMA_NO_NODE or page_node(m, p) == nid
            if not fits or not pfmemalloc_match(m, cpu, p, gfp):
                deactivate_slab(m, cpu, s, c)
            else:
                free = m[c + KCC_FREELIST]
                if free == 0:
                    free = refill_from_page(m, c, p)
                if free:
                    return free
        partial = m[c + KCC_PARTIAL]
        if partial == 0:
            break
        m[c + KCC_PAGE] = partial
        m[c + KCC_PARTIAL] = m[page_of_va(m, partial) + P_NEXT]
    free = get_partial(m, cpu, s, gfp, nid)
    if free:
        return free
    pfn = allocate_slab(m, cpu, s, gfp, nid)
    if pfn < 0:
        return 0
    if m[c + KCC_PAGE]:
        # direct reclaim inside the allocation may have given this CPU a slab
        deactivate_slab(m, cpu, s, c)
        m[c + KCC_TID] += 1
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    free = m[p + P_INDEX]
    m[p + P_INDEX] = 0
    m[c + KCC_PAGE] = VMEMMAP_START + (pfn << 6)
    return free


def slab_alloc_slow(m: memoryview, cpu: int, s: int, gfp: int, nid: int) -> int:
    """An object when the CPU's freelist has none that fits: word index or 0. Hot."""
    c = s + KC_CPUS + cpu * KCC_WORDS
    free = slab_refill(m, cpu, s, c, gfp, nid)
    if free == 0:
        return 0
    x = (free - PAGE_OFFSET) >> 3
    rest = m[x + (m[s + KC_OFFSET] >> 3)]
    m[c + KCC_FREELIST] = rest
    m[c + KCC_TID] += 1
    if not pfmemalloc_match(m, cpu, page_of_va(m, m[c + KCC_PAGE]), gfp):
        # the reserves' slab is for this one object; others shall not get the rest by the way
        deactivate_slab(m, cpu, s, c)
    return x


def clear_words(m: memoryview, x: int, words: int) -> None:
    """Zeroes `words` words from word `x` on. Hot."""
    while words > 512:
        m[x : x + 512] = m[EMPTY_ZERO_PAGE : EMPTY_ZERO_PAGE + 512]
        x += 512
        words -= 512
    m[x : x + words] = m[EMPTY_ZERO_PAGE : EMPTY_ZERO_PAGE + words]


def kmem_cache_alloc(m: memoryview, cpu: int, s: int, gfp: int) -> int:
    """An object of cache `s`: its word index, or 0. __GFP_ZERO clears it. Hot."""
    c = s + KC_CPUS + cpu * KCC_WORDS
    va = m[c]
    if va:
        x = (va - PAGE_OFFSET) >> 3
        m[c] = m[x + (m[s + KC_OFFSET] >> 3)]
        m[c + KCC_TID] += 1
    else:
        x = slab_alloc_slow(m, cpu, s, gfp & m[G_GFP_ALLOWED], NUMA_NO_NODE)
        if x == 0:
            return 0
    if gfp & GFP_ZERO_BIT:
        clear_words(m, x, (m[s + KC_OBJECT_SIZE] + 7) >> 3)
    return x


def kmem_cache_zalloc(m: memoryview, cpu: int, s: int, gfp: int) -> int:
    """kmem_cache_alloc() of a cleared object. Hot."""
    return kmem_cache_alloc(m, cpu, s, gfp | GFP_ZERO_BIT)


def kmem_cache_alloc_node(m: memoryview, cpu: int, s: int, gfp: int, nid: int) -> int:
    """kmem_cache_alloc() of node `nid` (NUMA_NO_NODE: any). Hot."""
    c = s + KC_CPUS + cpu * KCC_WORDS
    va = m[c]
    if va and (nid == NUMA_NO_NODE or page_node(m, page_of_va(m, m[c + KCC_PAGE])) == nid):
        return kmem_cache_alloc(m, cpu, s, gfp)
    x = slab_alloc_slow(m, cpu, s, gfp & m[G_GFP_ALLOWED], nid)
    if x and gfp & GFP_ZERO_BIT:
        clear_words(m, x, (m[s + KC_OBJECT_SIZE] + 7) >> 3)
    return x


# --- freeing ------------------------------------------------------------------------------------
def slab_free_slow(m: memoryview, cpu: int, s: int, p: int, page_va: int, x: int) -> None:
    """Frees an object to a slab that is not the CPU's current one. Hot (__slab_free)."""
    prior = m[p + P_INDEX]
    counters = m[p + P_PRIVATE] - 1
    m[x + (m[s + KC_OFFSET] >> 3)] = prior
    m[p + P_INDEX] = PAGE_OFFSET + (x << 3)
    if counters & SLAB_FROZEN:
        m[p + P_PRIVATE] = counters
        return
    if prior == 0 and m[s + KC_CPU_PARTIAL]:
        m[p + P_PRIVATE] = counters | SLAB_FROZEN
        put_cpu_partial(m, cpu, s, page_va, True)
        return
    m[p + P_PRIVATE] = counters
    empty = counters & SLAB_INUSE_MASK == 0
    if not empty and prior:
        return
    n = get_node(m, s, page_node(m, p))
    if empty and m[n + KCN_NR_PARTIAL] >= m[s + KC_MIN_PARTIAL]:
        if prior:
            remove_partial(m, n, p)
        discard_slab(m, cpu, s, (page_va - VMEMMAP_START) >> 6)
    elif prior == 0:
        add_partial(m, n, p, page_va, True)


def slab_free(m: memoryview, cpu: int, s: int, p: int, page_va: int, x: int) -> int:
    """Frees object `x` of slab `p`: 0, or -EINVAL where it is the head of its freelist. Hot."""
    c = s + KC_CPUS + cpu * KCC_WORDS
    va = PAGE_OFFSET + (x << 3)
    if m[c + KCC_PAGE] == page_va:
        if m[c] == va:
            return -EINVAL
        m[x + (m[s + KC_OFFSET] >> 3)] = m[c]
        m[c] = va
        m[c + KCC_TID] += 1
    elif m[p + P_INDEX] == va:
        return -EINVAL
    else:
        slab_free_slow(m, cpu, s, p, page_va, x)
    return 0


def kmem_cache_free(m: memoryview, cpu: int, s: int, x: int) -> int:
    """Frees object `x` of cache `s`: 0, or -EINVAL and no change where it is none of them. Hot."""
    pfn = x >> 9
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    head = m[p + P_NEXT]
    page_va = VMEMMAP_START + (pfn << 6)
    if m[p + P_FLAGS] & PG_SLAB == 0 and head & 1:
        page_va = head - 1
        p = page_of_va(m, page_va)
    if m[p + P_FLAGS] & PG_SLAB == 0 or m[p + P_MAPPING] != PAGE_OFFSET + (s << 3):
        return -EINVAL
    return slab_free(m, cpu, s, p, page_va, x)


def kfree(m: memoryview, cpu: int, x: int) -> int:
    """Frees what kmalloc() gave: 0, or -EINVAL where it did not. 0 is no object. Hot."""
    if x == 0:
        return 0
    if not pfn_is_valid(m, x >> 9):
        return -EINVAL
    pfn = compound_head_pfn(m, x >> 9)
    if pfn < 0:
        return -EINVAL
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if m[p + P_FLAGS] & PG_SLAB:
        s = (m[p + P_MAPPING] - PAGE_OFFSET) >> 3
        return slab_free(m, cpu, s, p, VMEMMAP_START + (pfn << 6), x)
    if m[p + P_FLAGS] & PG_HEAD == 0:
        return -EINVAL
    return 0 if free_pages(m, cpu, pfn, compound_order(m, p)) >= 0 else -EINVAL


def flush_cpu_slab(m: memoryview, cpu: int, s: int) -> None:
    """Takes `cpu`'s slabs of the cache away from it. Hot (__flush_cpu_slab)."""
    c = s + KC_CPUS + cpu * KCC_WORDS
    if m[c + KCC_PAGE]:
        deactivate_slab(m, cpu, s, c)
        m[c + KCC_TID] += 1
    unfreeze_partials(m, cpu, s, c)


def flush_all(m: memoryview, s: int) -> None:
    """flush_cpu_slab() on every CPU. Hot."""
    for cpu in range(m[G_NR_CPU_IDS]):
        flush_cpu_slab(m, cpu, s)
