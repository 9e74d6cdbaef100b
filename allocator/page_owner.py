# SPDX-License-Identifier: GPL-2.0-only
"""page_owner=on: who allocated each page, and with which flags (mm/page_owner.c).

A page's page_ext is four words. The first holds the flags (PAGE_EXT_OWNER says that the page is
allocated and the rest means something), then come

    1  order (bits 0-15), last migrate reason (16-31, signed), gfp mask (32-63)
    2  handle: where the request came from. 4.20 keeps a stack-depot handle; here it is whatever
       the requester left in its CPU's `page_owner_site`, the guest RIP of a hypercall
    3  pid of the task that asked

As in 4.20 only the head page of a block is marked at allocation; freeing unmarks every page.
All hot.
"""

from __future__ import annotations

from .debug_guardpage import EXT_FLAGS, PAGE_EXT_OWNER, page_ext_word
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PAGE_OWNER_SITE,
    CPU_WORDS,
    PAGE_OFFSET,
    TASK_PID,
)

EXT_OWNER = 1
EXT_HANDLE = 2
EXT_PID = 3
GFP_SHIFT = 32
REASON_SHIFT = 16
NO_MIGRATE_REASON = 0xFFFF


def set_page_owner(m: memoryview, cpu: int, pfn: int, order: int, gfp: int) -> None:
    """Notes who got the block at `pfn` (__set_page_owner). Hot."""
    ext = page_ext_word(m, pfn)
    if ext < 0:
        return
    block = CPU_BLOCKS + cpu * CPU_WORDS
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    m[ext + EXT_OWNER] = gfp << GFP_SHIFT | NO_MIGRATE_REASON << REASON_SHIFT | order
    m[ext + EXT_HANDLE] = m[block + CPU_PAGE_OWNER_SITE]
    m[ext + EXT_PID] = m[task + TASK_PID]
    m[ext + EXT_FLAGS] |= PAGE_EXT_OWNER


def reset_page_owner(m: memoryview, cpu: int, pfn: int, order: int) -> None:  # noqa: ARG001
    """Forgets the owners of the 2^order pages from `pfn` (__reset_page_owner). Hot."""
    for i in range(pfn, pfn + (1 << order)):
        ext = page_ext_word(m, i)
        if ext >= 0:
            m[ext + EXT_FLAGS] &= ~PAGE_EXT_OWNER


def copy_page_owner(m: memoryview, old: int, new: int) -> None:
    """Gives page `new` the owner of page `old` (PFNs; __copy_page_owner). Hot."""
    src = page_ext_word(m, old)
    dst = page_ext_word(m, new)
    if src < 0 or dst < 0:
        return
    m[dst + EXT_OWNER] = m[src + EXT_OWNER]
    m[dst + EXT_HANDLE] = m[src + EXT_HANDLE]
    m[dst + EXT_PID] = m[src + EXT_PID]
    m[dst + EXT_FLAGS] |= PAGE_EXT_OWNER


def split_page_owner(m: memoryview, pfn: int, order: int) -> None:
    """Makes each page of a split block an owned page of order 0 (__split_page_owner). Hot."""
    ext = page_ext_word(m, pfn)
    if ext < 0:
        return
    m[ext + EXT_OWNER] &= ~0xFFFF
    for i in range(pfn + 1, pfn + (1 << order)):
        copy_page_owner(m, pfn, i)


def set_page_owner_migrate_reason(m: memoryview, pfn: int, reason: int) -> None:
    """Notes why page `pfn` was migrated last (enum migrate_reason). Hot."""
    ext = page_ext_word(m, pfn)
    if ext >= 0:
        w = m[ext + EXT_OWNER]
        m[ext + EXT_OWNER] = (w & ~(0xFFFF << REASON_SHIFT)) | (reason & 0xFFFF) << REASON_SHIFT


def page_owner_of(m: memoryview, pfn: int) -> tuple[int, int, int, int, int]:
    """(order, gfp, migrate reason or -1, handle, pid) of `pfn`; order -1 if it has no owner."""
    ext = page_ext_word(m, pfn)
    if ext < 0 or m[ext + EXT_FLAGS] & PAGE_EXT_OWNER == 0:
        return -1, 0, -1, 0, 0
    w = m[ext + EXT_OWNER]
    reason = w >> REASON_SHIFT & 0xFFFF
    if reason & 0x8000:
        reason -= 0x10000
    return w & 0xFFFF, w >> GFP_SHIFT & 0xFFFFFFFF, reason, m[ext + EXT_HANDLE], m[ext + EXT_PID]
