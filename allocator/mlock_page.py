# SPDX-License-Identifier: GPL-2.0-only
"""Pages that may not be reclaimed because somebody has locked them in memory (mm/mlock.c).

PG_mlocked says that some area that maps the page is VM_LOCKED; the page then belongs on its node's
unevictable list. Here are the steps that reverse maps need themselves, see `mlock` for the rest.

All hot. `p` is the struct page of a locked page, a head.
"""

from __future__ import annotations

from .layout import CPU_BLOCKS, CPU_EVENTS, CPU_WORDS
from .lru_isolate import isolate_lru_page, putback_lru_page
from .mm_inline import hpage_nr_pages
from .mm_types import P_FLAGS, PG_MLOCKED, PG_UNEVICTABLE
from .mmzone import NR_MLOCK
from .pcp import page_zone
from .vm_events import VM_EVENT_NAMES
from .vmstat import mod_zone_page_state

UNEVICTABLE_PGMLOCKED = CPU_EVENTS + VM_EVENT_NAMES.index("unevictable_pgs_mlocked")
UNEVICTABLE_PGCLEARED = CPU_EVENTS + VM_EVENT_NAMES.index("unevictable_pgs_cleared")
UNEVICTABLE_PGSTRANDED = CPU_EVENTS + VM_EVENT_NAMES.index("unevictable_pgs_stranded")


def mlock_vma_page(m: memoryview, cpu: int, p: int) -> None:
    """A locked area maps the page: marks and counts it, sends it to the unevictable list. Hot."""
    if m[p + P_FLAGS] & PG_MLOCKED:
        return
    m[p + P_FLAGS] |= PG_MLOCKED
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_MLOCK, hpage_nr_pages(m, p))
    m[CPU_BLOCKS + cpu * CPU_WORDS + UNEVICTABLE_PGMLOCKED] += 1
    if isolate_lru_page(m, cpu, p) == 0:
        putback_lru_page(m, cpu, p)


def clear_page_mlock(m: memoryview, cpu: int, p: int) -> None:
    """The last mapping of the page is gone, or it left its file: it is mlocked no more. Hot."""
    if m[p + P_FLAGS] & PG_MLOCKED == 0:
        return
    m[p + P_FLAGS] &= ~PG_MLOCKED
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_MLOCK, -hpage_nr_pages(m, p))
    m[CPU_BLOCKS + cpu * CPU_WORDS + UNEVICTABLE_PGCLEARED] += 1
    if isolate_lru_page(m, cpu, p) == 0:
        putback_lru_page(m, cpu, p)
    elif m[p + P_FLAGS] & PG_UNEVICTABLE:
        m[CPU_BLOCKS + cpu * CPU_WORDS + UNEVICTABLE_PGSTRANDED] += 1
