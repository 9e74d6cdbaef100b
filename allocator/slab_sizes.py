# SPDX-License-Identifier: GPL-2.0-only
"""How objects of a size are laid out in slabs (calculate_sizes() and its like, mm/slub.c).

Alignment, padding, the place of the free pointer, and the order of the blocks that slabs are cut
from: large enough for a number of objects that grows with the CPUs, small enough to be had, with
little waste at the end. Sizes are bytes. `slab_common` asks once a cache.
"""

from __future__ import annotations

from .gfp import GFP_COMP_BIT, GFP_DMA_BIT, GFP_RECLAIMABLE_BIT
from .kernel_globals import G_GUARDPAGE_MINORDER, G_NR_CPU_IDS
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .mmzone import MAX_ORDER, PAGE_ALLOC_COSTLY_ORDER
from .slab import (
    KC_ALIGN,
    KC_ALLOCFLAGS,
    KC_FLAGS,
    KC_INUSE,
    KC_MAX,
    KC_MIN,
    KC_OBJECT_SIZE,
    KC_OFFSET,
    KC_OO,
    KC_SIZE,
    OO_MASK,
    OO_SHIFT,
    SLAB_CACHE_DMA,
    SLAB_HWCACHE_ALIGN,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_TYPESAFE_BY_RCU,
)

CACHE_LINE = 64
MIN_ALIGN = 8
MAX_OBJS_PER_PAGE = 32767


def calculate_alignment(flags: int, align: int, size: int) -> int:
    """Alignment of a cache's objects (bytes): half a cache line and less for small ones."""
    if flags & SLAB_HWCACHE_ALIGN:
        line = CACHE_LINE
        while size <= line // 2:
            line //= 2
        align = max(align, line)
    return max(align, MIN_ALIGN) + 7 & ~7


def get_order(size: int) -> int:
    """Order of the smallest block that holds `size` bytes."""
    return max((size - 1).bit_length() - PAGE_SHIFT, 0)


def slab_order(size: int, min_objects: int, max_order: int, fraction: int) -> int:
    """Lowest order whose waste is at most 1/`fraction`; above `max_order` if there is none."""
    if PAGE_SIZE // size > MAX_OBJS_PER_PAGE:
        return get_order(size * MAX_OBJS_PER_PAGE) - 1
    order = get_order(min_objects * size)
    while order <= max_order:
        slab = PAGE_SIZE << order
        if slab % size <= slab // fraction:
            break
        order += 1
    return order


def calculate_order(size: int, cpus: int, highest: int) -> int:
    """Block order of slabs for objects of `size` bytes on a machine of `cpus` CPUs, or -1.

    Orders above `highest` (slub_max_order) are for objects that need them. More waste is accepted
    rather than fewer objects, fewer objects rather than a larger block.
    """
    objects = min(4 * (cpus.bit_length() + 1), (PAGE_SIZE << highest) // size)
    while objects > 1:
        for fraction in (16, 8, 4):
            order = slab_order(size, objects, highest, fraction)
            if order <= highest:
                return order
        objects -= 1
    order = slab_order(size, 1, highest, 1)
    if order <= highest:
        return order
    order = slab_order(size, 1, MAX_ORDER, 1)
    return order if order < MAX_ORDER else -1


def cpu_partial_of(size: int) -> int:
    """Free objects that a CPU's partial list may hold (set_cpu_partial)."""
    if size >= PAGE_SIZE:
        return 2
    if size >= 1024:
        return 6
    return 13 if size >= 256 else 30


def calculate_sizes(m: memoryview, s: int) -> bool:
    """Padded size, free pointer offset, orders, gfp flags; False if no block is large enough."""
    flags = m[s + KC_FLAGS]
    size = m[s + KC_OBJECT_SIZE] + 7 & ~7
    m[s + KC_INUSE] = size
    m[s + KC_OFFSET] = 0
    if flags & SLAB_TYPESAFE_BY_RCU:
        # readers may still look at a freed object: its contents stay
        m[s + KC_OFFSET] = size
        size += 8
    align = m[s + KC_ALIGN]
    size = (size + align - 1) // align * align
    m[s + KC_SIZE] = size
    highest = 0 if m[G_GUARDPAGE_MINORDER] else PAGE_ALLOC_COSTLY_ORDER
    order = calculate_order(size, m[G_NR_CPU_IDS], highest)
    if order < 0:
        return False
    gfp = GFP_COMP_BIT if order else 0
    if flags & SLAB_CACHE_DMA:
        gfp |= GFP_DMA_BIT
    if flags & SLAB_RECLAIM_ACCOUNT:
        gfp |= GFP_RECLAIMABLE_BIT
    m[s + KC_ALLOCFLAGS] = gfp
    m[s + KC_OO] = order << OO_SHIFT | (PAGE_SIZE << order) // size
    low = get_order(size)
    m[s + KC_MIN] = low << OO_SHIFT | (PAGE_SIZE << low) // size
    m[s + KC_MAX] = max(m[s + KC_MAX], m[s + KC_OO], key=lambda oo: oo & OO_MASK)
    return m[s + KC_OO] & OO_MASK != 0
