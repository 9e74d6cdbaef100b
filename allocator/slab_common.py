# SPDX-License-Identifier: GPL-2.0-only
"""Making, shrinking and ending slab caches, and kmalloc() (mm/slab_common.c, mm/slub.c).

`kmem_cache_init` brings the slab allocator up at the first use of it: the two caches that describe
caches allocate themselves from hand-made slabs, then come the kmalloc caches. `kmem_cache_create`
decides, with `slab_sizes`, how objects are laid out and how many slabs CPUs and nodes keep
back. Caches are never merged, as with slab_nomerge, so that each keeps its name.

`s` is the word index of a cache, `name` its name as bytes, sizes are bytes.
"""

from __future__ import annotations

from .gfp import (
    GFP_COMP_BIT,
    GFP_DMA_BIT,
    GFP_KERNEL,
    GFP_NOWAIT,
    GFP_RECLAIMABLE_BIT,
    GFP_ZERO_BIT,
)
from .kernel_globals import (
    G_KMALLOC_CACHES,
    G_KMEM_CACHE,
    G_KMEM_CACHE_NODE,
    G_NR_CPU_IDS,
    G_SLAB_CACHES,
    G_SLAB_STATE,
)
from .layout import (
    CPU_BLOCKS,
    CPU_NUMA_NODE,
    CPU_WORDS,
    NODE_DATA,
    PAGE_OFFSET,
    VMEMMAP_START,
    va_of_word,
    word_of_va,
)
from .list_head import list_add, list_del, list_init
from .mempolicy import alloc_pages_current, has_normal_memory
from .mm_types import P_INDEX, P_MAPPING, P_PRIVATE, PAGE_SIZE
from .mmzone import MAX_NUMNODES, MAX_ORDER
from .page_alloc import alloc_pages_nodemask, free_pages
from .slab import (
    KC_ALIGN,
    KC_CPU_PARTIAL,
    KC_CPU_SLAB,
    KC_CPUS,
    KC_DEFRAG_RATIO,
    KC_FLAGS,
    KC_LIST,
    KC_MIN_PARTIAL,
    KC_NAME,
    KC_NODE,
    KC_OBJECT_SIZE,
    KC_OO,
    KC_REFCOUNT,
    KC_SIZE,
    KCC_TID,
    KCC_WORDS,
    KCN_FULL,
    KCN_NR_PARTIAL,
    KCN_NR_SLABS,
    KCN_PARTIAL,
    KCN_TOTAL_OBJECTS,
    KMEM_CACHE_NODE,
    NUMA_NO_NODE,
    OO_MASK,
    SLAB_CACHE_DMA,
    SLAB_HWCACHE_ALIGN,
    SLAB_INUSE_MASK,
    SLAB_OBJECTS_MASK,
    SLAB_OBJECTS_SHIFT,
    SLAB_RECLAIM_ACCOUNT,
    partial_slabs,
)
from .slab_page import allocate_slab, discard_slab, get_node, page_of_va
from .slab_sizes import calculate_alignment, calculate_sizes, cpu_partial_of, get_order
from .slub import (
    add_partial,
    flush_all,
    flush_cpu_slab,
    kmem_cache_alloc,
    kmem_cache_alloc_node,
    kmem_cache_free,
    remove_partial,
)

ENOMEM = 12
EBUSY = 16

# slab_state
DOWN = 0
PARTIAL = 1
UP = 2

MIN_PARTIAL = 5
MAX_PARTIAL = 10
SHRINK_PROMOTE_MAX = 32
NAME_BYTES = 31

KMALLOC_NORMAL = 0
KMALLOC_RECLAIM = 1
KMALLOC_DMA = 2
KMALLOC_SHIFT_LOW = 3
KMALLOC_SHIFT_HIGH = 13
KMALLOC_INDEXES = KMALLOC_SHIFT_HIGH + 1
KMALLOC_MAX_CACHE_SIZE = 1 << KMALLOC_SHIFT_HIGH
KMALLOC_MAX_SIZE = PAGE_SIZE << (MAX_ORDER - 1)


# --- making caches --------------------------------------------------------------------------------
def init_kmem_cache_node(m: memoryview, n: int) -> None:
    """An empty kmem_cache_node at word `n`."""
    for at in range(KMEM_CACHE_NODE.words):
        m[n + at] = 0
    list_init(m, n + KCN_PARTIAL)
    list_init(m, n + KCN_FULL)


def early_kmem_cache_node_alloc(m: memoryview, cpu: int, s: int, nid: int) -> bool:
    """Gives the cache of kmem_cache_nodes its own node part out of its first slab; False if there
    are no pages."""
    pfn = allocate_slab(m, cpu, s, GFP_NOWAIT, nid)
    if pfn < 0:
        return False
    n = pfn << 9
    p = page_of_va(m, VMEMMAP_START + (pfn << 6))
    objects = m[s + KC_OO] & OO_MASK
    m[p + P_INDEX] = m[n]
    m[p + P_PRIVATE] = objects << SLAB_OBJECTS_SHIFT | 1
    m[s + KC_NODE + nid] = va_of_word(n)
    init_kmem_cache_node(m, n)
    m[n + KCN_NR_SLABS] = 1
    m[n + KCN_TOTAL_OBJECTS] = objects
    add_partial(m, n, p, VMEMMAP_START + (pfn << 6), False)
    return True


def free_kmem_cache_nodes(m: memoryview, cpu: int, s: int) -> None:
    """Gives back the node parts of a cache."""
    for nid in range(MAX_NUMNODES):
        n = get_node(m, s, nid)
        if n:
            m[s + KC_NODE + nid] = 0
            kmem_cache_free(m, cpu, word_of_va(m[G_KMEM_CACHE_NODE]), n)


def init_kmem_cache_nodes(m: memoryview, cpu: int, s: int) -> bool:
    """A part for every node with memory of a kernel zone; False, and none, without memory."""
    for nid in range(MAX_NUMNODES):
        if m[NODE_DATA + nid] == 0 or not has_normal_memory(m, nid):
            continue
        if m[G_SLAB_STATE] == DOWN:
            if not early_kmem_cache_node_alloc(m, cpu, s, nid):
                return False
            continue
        cache = word_of_va(m[G_KMEM_CACHE_NODE])
        n = kmem_cache_alloc_node(m, cpu, cache, GFP_KERNEL, nid)
        if n == 0:
            free_kmem_cache_nodes(m, cpu, s)
            return False
        init_kmem_cache_node(m, n)
        m[s + KC_NODE + nid] = va_of_word(n)
    return True


def kmem_cache_open(
    m: memoryview, cpu: int, s: int, name: bytes, sizes: tuple[int, int, int]
) -> bool:
    """Fills in the zeroed cache at word `s`; `sizes`: object size, alignment, flags (bytes)."""
    size, align, flags = sizes
    text = name[:NAME_BYTES].ljust(32, b"\0")
    for i in range(4):
        m[s + KC_NAME + i] = int.from_bytes(text[8 * i : 8 * i + 8], "little", signed=True)
    m[s + KC_OBJECT_SIZE] = size
    m[s + KC_FLAGS] = flags
    m[s + KC_ALIGN] = calculate_alignment(flags, align, size)
    m[s + KC_REFCOUNT] = 1
    if not calculate_sizes(m, s):
        return False
    m[s + KC_MIN_PARTIAL] = min(
        max((m[s + KC_SIZE].bit_length() - 1) // 2, MIN_PARTIAL), MAX_PARTIAL
    )
    m[s + KC_CPU_PARTIAL] = cpu_partial_of(m[s + KC_SIZE])
    m[s + KC_DEFRAG_RATIO] = 1000
    m[s + KC_CPU_SLAB] = va_of_word(s + KC_CPUS)
    for other in range(m[G_NR_CPU_IDS]):
        m[s + KC_CPUS + other * KCC_WORDS + KCC_TID] = other
    return init_kmem_cache_nodes(m, cpu, s)


def kmem_cache_create(
    m: memoryview, cpu: int, name: bytes, size: int, align: int, flags: int
) -> int:
    """A cache of objects of `size` bytes at multiples of `align` (0: 8): its word index, or 0 for a
    size or name that is impossible or without memory (kmem_cache_create)."""
    if m[G_SLAB_STATE] != UP and kmem_cache_init(m, cpu) != 0:
        return 0
    if not 8 <= size <= KMALLOC_MAX_SIZE or not 0 < len(name) <= NAME_BYTES:
        return 0
    return new_cache(m, cpu, name, (size, align, flags))


def new_cache(m: memoryview, cpu: int, name: bytes, sizes: tuple[int, int, int]) -> int:
    """A cache, in the list of all of them."""
    cache = word_of_va(m[G_KMEM_CACHE])
    s = kmem_cache_alloc(m, cpu, cache, GFP_KERNEL | GFP_ZERO_BIT)
    if s == 0:
        return 0
    if not kmem_cache_open(m, cpu, s, name, sizes):
        kmem_cache_free(m, cpu, cache, s)
        return 0
    list_add(m, s + KC_LIST, va_of_word(s + KC_LIST), G_SLAB_CACHES)
    return s


# --- bringing it up -------------------------------------------------------------------------
def kmem_cache_init(m: memoryview, cpu: int) -> int:
    """Brings the slab allocator up, once: 0 or -ENOMEM (where the kernel panics).

    The first two caches are made on a page of their own, then copied into objects of themselves.
    """
    if m[G_SLAB_STATE] == UP:
        return 0
    size = (KC_CPUS + m[G_NR_CPU_IDS] * KCC_WORDS) * 8
    order = get_order(2 * size)
    nid = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    pfn = alloc_pages_nodemask(m, cpu, GFP_KERNEL | GFP_ZERO_BIT, order, nid, 0)
    if pfn < 0:
        return -ENOMEM
    list_init(m, G_SLAB_CACHES)
    nodes, caches = pfn << 9, (pfn << 9) + size // 8
    m[G_KMEM_CACHE_NODE] = va_of_word(nodes)
    m[G_KMEM_CACHE] = va_of_word(caches)
    node_sizes = (KMEM_CACHE_NODE.size, 0, SLAB_HWCACHE_ALIGN)
    if not kmem_cache_open(m, cpu, nodes, b"kmem_cache_node", node_sizes):
        return -ENOMEM
    m[G_SLAB_STATE] = PARTIAL
    if not kmem_cache_open(m, cpu, caches, b"kmem_cache", (size, 0, SLAB_HWCACHE_ALIGN)):
        return -ENOMEM
    for static, pointer in ((caches, G_KMEM_CACHE), (nodes, G_KMEM_CACHE_NODE)):
        s = bootstrap(m, cpu, static, size)
        if s == 0:
            return -ENOMEM
        m[pointer] = va_of_word(s)
    free_pages(m, cpu, pfn, order)
    if not create_kmalloc_caches(m, cpu):
        return -ENOMEM
    m[G_SLAB_STATE] = UP
    return 0


def bootstrap(m: memoryview, cpu: int, static: int, size: int) -> int:
    """Moves a boot cache (`size` bytes at word `static`) into an object; its new place, or 0."""
    s = kmem_cache_alloc(m, cpu, word_of_va(m[G_KMEM_CACHE]), GFP_NOWAIT)
    if s == 0:
        return 0
    for at in range(size >> 3):
        m[s + at] = m[static + at]
    m[s + KC_CPU_SLAB] = va_of_word(s + KC_CPUS)
    flush_cpu_slab(m, cpu, s)
    for nid in range(MAX_NUMNODES):
        n = get_node(m, s, nid)
        if n:
            for page_va in list(partial_slabs(m, n)):
                m[page_of_va(m, page_va) + P_MAPPING] = va_of_word(s)
    list_add(m, s + KC_LIST, va_of_word(s + KC_LIST), G_SLAB_CACHES)
    return s


def kmalloc_name(kind: int, size: int) -> bytes:
    """A kmalloc cache's name: kmalloc-96, kmalloc-rcl-1k, dma-kmalloc-8."""
    prefix = ("kmalloc", "kmalloc-rcl", "dma-kmalloc")[kind]
    text = f"{size >> 10}k" if size >= 1024 else str(size)
    return f"{prefix}-{text}".encode()


def kmalloc_size(index: int) -> int:
    """Object size of the kmalloc cache of an index: 1 is 96, 2 is 192, others powers of two."""
    return {1: 96, 2: 192}.get(index, 1 << index)


def create_kmalloc_caches(m: memoryview, cpu: int) -> bool:
    """All kmalloc caches in the kernel's order; False if memory ran out."""
    order = [3, 4, 5, 6, 1, 7, 2, 8, 9, 10, 11, 12, 13]
    todo = [(KMALLOC_NORMAL, index, 0) for index in order]
    todo += [(KMALLOC_RECLAIM, index, SLAB_RECLAIM_ACCOUNT) for index in order]
    todo += [(KMALLOC_DMA, index, SLAB_CACHE_DMA) for index in sorted(order)]
    for kind, index, flags in todo:
        size = kmalloc_size(index)
        s = new_cache(m, cpu, kmalloc_name(kind, size), (size, 0, flags))
        if s == 0:
            return False
        m[G_KMALLOC_CACHES + kind * KMALLOC_INDEXES + index] = va_of_word(s)
    return True


# --- kmalloc ----------------------------------------------------------------------------------
def kmalloc_slab(m: memoryview, size: int, gfp: int) -> int:
    """The cache that serves kmalloc(size) of up to KMALLOC_MAX_CACHE_SIZE bytes. Hot."""
    if size <= 8:
        index = 3
    elif 64 < size <= 96:
        index = 1
    elif 128 < size <= 192:
        index = 2
    else:
        index = 4
        while 1 << index < size:
            index += 1
    kind = KMALLOC_NORMAL
    if gfp & GFP_DMA_BIT:
        kind = KMALLOC_DMA
    elif gfp & GFP_RECLAIMABLE_BIT:
        kind = KMALLOC_RECLAIM
    return (m[G_KMALLOC_CACHES + kind * KMALLOC_INDEXES + index] - PAGE_OFFSET) >> 3


def kmalloc_node(m: memoryview, cpu: int, size: int, gfp: int, nid: int) -> int:
    """`size` bytes on node `nid` (NUMA_NO_NODE: any): word index or 0. Hot.

    More than two pages come from the page allocator as one compound page.
    """
    if size <= 0 or size > KMALLOC_MAX_SIZE:
        return 0
    if size <= KMALLOC_MAX_CACHE_SIZE:
        return kmem_cache_alloc_node(m, cpu, kmalloc_slab(m, size, gfp), gfp, nid)
    order = 2
    while PAGE_SIZE << order < size:
        order += 1
    if nid == NUMA_NO_NODE:
        pfn = alloc_pages_current(m, cpu, gfp | GFP_COMP_BIT, order)
    else:
        pfn = alloc_pages_nodemask(m, cpu, gfp | GFP_COMP_BIT, order, nid, 0)
    return pfn << 9 if pfn >= 0 else 0


def kmalloc(m: memoryview, cpu: int, size: int, gfp: int) -> int:
    """`size` bytes: word index or 0. Hot."""
    return kmalloc_node(m, cpu, size, gfp, NUMA_NO_NODE)


# --- shrinking and ending ---------------------------------------------------------------------
def kmem_cache_shrink(m: memoryview, cpu: int, s: int) -> int:
    """Gives empty slabs back and puts the fullest first; 0 if no slab is left, else 1."""
    flush_all(m, s)
    left = 0
    for nid in range(MAX_NUMNODES):
        n = get_node(m, s, nid)
        if n == 0:
            continue
        promote: list[list[int]] = [[] for _ in range(SHRINK_PROMOTE_MAX)]
        discard = []
        for page_va in list(partial_slabs(m, n)):
            p = page_of_va(m, page_va)
            objects = m[p + P_PRIVATE] >> SLAB_OBJECTS_SHIFT & SLAB_OBJECTS_MASK
            free = objects - (m[p + P_PRIVATE] & SLAB_INUSE_MASK)
            if free == objects:
                remove_partial(m, n, p)
                discard.append(page_va)
            elif free <= SHRINK_PROMOTE_MAX:
                promote[free - 1].insert(0, page_va)
        for pages in reversed(promote):
            for page_va in reversed(pages):
                p = page_of_va(m, page_va)
                remove_partial(m, n, p)
                add_partial(m, n, p, page_va, False)
        for page_va in reversed(discard):
            discard_slab(m, cpu, s, (page_va - VMEMMAP_START) >> 6)
        left |= m[n + KCN_NR_SLABS] != 0
    return int(left)


def kmem_cache_destroy(m: memoryview, cpu: int, s: int) -> int:
    """Ends a cache: 0, or -EBUSY and the cache stays while it has objects in use."""
    flush_all(m, s)
    for nid in range(MAX_NUMNODES):
        n = get_node(m, s, nid)
        if n == 0:
            continue
        for page_va in list(partial_slabs(m, n)):
            p = page_of_va(m, page_va)
            if m[p + P_PRIVATE] & SLAB_INUSE_MASK == 0:
                remove_partial(m, n, p)
                discard_slab(m, cpu, s, (page_va - VMEMMAP_START) >> 6)
        if m[n + KCN_NR_PARTIAL] or m[n + KCN_NR_SLABS]:
            return -EBUSY
    list_del(m, s + KC_LIST)
    free_kmem_cache_nodes(m, cpu, s)
    kmem_cache_free(m, cpu, word_of_va(m[G_KMEM_CACHE]), s)
    return 0
