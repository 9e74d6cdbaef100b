# SPDX-License-Identifier: GPL-2.0-only
"""Turning on what the debugging boot parameters ask for: poisoning, guard pages, owners, faults.

page_poison= acts from the first freed page; `setup_debug_features` therefore comes before memblock
is freed. Guard pages and page_owner need a page_ext for every frame, which page_ext_init() takes
from the page allocator, section by section on the section's node (mm/page_ext.c), and only then are
their static keys set.
"""

from __future__ import annotations

from machine import BringUpError

from .boot_context import BootContext, mask_nodes, node_word, online_nodes
from .debug_guardpage import PAGE_EXT_WORDS
from .exact import alloc_pages_exact_nid
from .fail_page_alloc import setup_fail_page_alloc
from .gfp import GFP_KERNEL, GFP_NOWARN_BIT, GFP_ZERO_BIT
from .kernel_globals import (
    G_GUARDPAGE_MINORDER,
    G_NODES_MEMORY,
    G_STATIC_KEYS,
    KEY_DEBUG_GUARDPAGE,
    KEY_PAGE_OWNER,
    KEY_PAGE_POISONING,
)
from .layout import MEM_SECTION, PAGES_PER_SECTION, PFN_SECTION_SHIFT, SECTION_PAGE_EXT, va_of_word
from .mm_types import PAGE_SHIFT
from .mmzone import ND_SPANNED, ND_START_PFN
from .page_ext import init_early_allocated_pages
from .sparse import pfn_valid


def setup_debug_features(ctx: BootContext) -> None:
    """Static keys and values of what needs nothing else: poisoning and fault injection."""
    m, params = ctx.m, ctx.params
    if params.page_poison:
        m[G_STATIC_KEYS] |= KEY_PAGE_POISONING
    if params.fail_page_alloc is not None:
        if not setup_fail_page_alloc(m, params.fail_page_alloc):
            ctx.printk.warn("FAULT_INJECTION: failed to parse arguments")


def page_ext_init(ctx: BootContext) -> None:
    """page_ext for all sections if any feature needs it, and those features on.

    Raises BringUpError when memory does not suffice, as the kernel panics."""
    m, params = ctx.m, ctx.params
    guards = params.debug_pagealloc and params.debug_guardpage_minorder > 0
    if not guards and not params.page_owner:
        return
    total = 0
    for nid in mask_nodes(m[G_NODES_MEMORY]):
        nd = node_word(m, nid)
        pfn = m[nd + ND_START_PFN]
        end = pfn + m[nd + ND_SPANNED]
        while pfn < end:
            home = ctx.mb.search_pfn_nid(pfn)
            # a hole counts as the first online node's (early_pfn_to_nid)
            if pfn_valid(m, pfn) and (online_nodes(m)[0] if home < 0 else home) == nid:
                total += _init_section_page_ext(m, pfn, nid)
            pfn = (pfn | (PAGES_PER_SECTION - 1)) + 1
    ctx.printk(f"allocated {total} bytes of page_ext")
    if guards:
        m[G_GUARDPAGE_MINORDER] = params.debug_guardpage_minorder
        m[G_STATIC_KEYS] |= KEY_DEBUG_GUARDPAGE
    if params.page_owner:
        m[G_STATIC_KEYS] |= KEY_PAGE_OWNER
        init_early_allocated_pages(ctx)


def _init_section_page_ext(m: memoryview, pfn: int, nid: int) -> int:
    """page_ext of one section, unless it has it; the bytes taken."""
    w = SECTION_PAGE_EXT + (pfn >> PFN_SECTION_SHIFT) * MEM_SECTION.words
    if m[w]:
        return 0
    size = PAGE_EXT_WORDS * 8 * PAGES_PER_SECTION
    first = alloc_pages_exact_nid(m, 0, nid, size, GFP_KERNEL | GFP_ZERO_BIT | GFP_NOWARN_BIT)
    if first < 0:
        raise BringUpError(f"page_ext: out of memory for the section of pfn {pfn:#x}")
    m[w] = va_of_word(first << PAGE_SHIFT >> 3)
    return size
